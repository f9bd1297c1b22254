"""The broker's side of TLS: one context from files, or an error that says what is wrong with them.

Owns which versions are spoken and what the files must be like. Whether a client without a
certificate may connect is not decided here: one is asked for when there is a client CA, and the
authenticator demands it.
"""

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from broker.errors import ListenError


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """Where the broker's certificate is.

    Attributes:
        certificate: PEM: the broker's certificate, then those between it and the CA.
        key: PEM, without a password; nobody else may be able to read it.
        client_ca: PEM: the CAs whose client certificates are believed; None asks for none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Make the context for accepting connections: TLS 1.2 and later.

    Raises:
        ListenError: A file is missing, is not what it should be, or can be read by others.
    """
    _refuse_key_open_to_others(files.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Clients of the bus keep their connections, so tickets would be made for nothing; and a
    # certificate is always shown anew.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except OSError as error:
        raise ListenError(
            f"certificate {files.certificate} with key {files.key}: {_cause(error)}",
            hint="'hq tls init' makes both",
        ) from error
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except OSError as error:
            raise ListenError(
                f"client CA {files.client_ca}: {_cause(error)}",
                hint="it is a PEM file; 'hq tls init' makes one",
            ) from error
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal, in the middle of a service's start.
    raise ListenError(
        "the key file is encrypted, and nobody is there to type its password",
        hint="decrypt it into a file of mode 600: openssl pkey -in KEY -out NEW",
    )


def _refuse_key_open_to_others(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise ListenError(
            f"key {key}: {error.strerror or error}", hint="'hq tls init' makes one"
        ) from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ListenError(
            f"others can read the key {key} (mode {stat.S_IMODE(mode):o}), so it is not secret",
            hint=f"chmod 600 {key}",
        )


def _cause(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "they do not belong together"
        return f"it cannot be read as PEM ({error.reason or error})"
    return error.strerror or str(error)
