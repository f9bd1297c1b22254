"""The client's side of TLS, as a link needs it: whom to trust, and bytes in, bytes out.

Owns the trust in certificates and the encryption of one connection. Must not know sockets, clocks
of ours, or what is encrypted. What goes wrong is put into words by `tls_errors`.

Invariants:
- The peer has a certificate for the very name or IP address of its URL, signed by a CA we trust,
  or nothing is ever sent to it. OpenSSL judges that, nobody here.
- TLS 1.2 at least, and no renegotiation: what is written never has to wait for something to read.
- With a private CA dates are not looked at. The CA's one purpose is this bus and it ends with its
  key; a till whose battery is dead wakes up in 1970 and must get in to hear what time it is.
- Nothing is kept here but what the other side has still to hear or to complete: at most one record
  of 16 KiB is waited for, and a handshake is bounded by OpenSSL.
"""

import contextlib
import ipaddress
import ssl

from buskit.errors import KitError
from buskit.link_settings import LinkSettings, LinkSettingsError, TlsSettings
from buskit.secrets import read_secret
from buskit.tls_errors import CertificateRefused, TlsError, closed_early, explained, refusal

# X509_V_FLAG_NO_CHECK_TIME in OpenSSL's x509_vfy.h; X509_VERIFY_PARAM_set_flags(3): "suppresses
# checking the validity period of certificates and CRLs against the current time". Python's ssl
# passes flags on as they are and has no name for this one.
_NO_CHECK_TIME = 0x200000
_PIECE_BYTES = 64 * 1024


class Tls:
    """What a link keeps from one attempt to the next. Making it reads files; attempts read none."""

    def __init__(self, settings: TlsSettings) -> None:
        """Read the files.

        Raises:
            LinkSettingsError: One of them is missing, is not what it should be, or is a key that
                others can read.
        """
        self._settings = settings
        self._context = _context(settings)
        if settings.certificate_file is not None:
            _load_certificate(self._context, settings)
        # For a second look at what was refused: its dates and names are not judged, so that they
        # can be told. No connection comes of it.
        self._look_context = _context(settings)
        self._look_context.check_hostname = False
        self._look_context.verify_flags |= _NO_CHECK_TIME

    def client(self, host: str) -> "TlsClient":
        """Return a new connection to the host of that name or IP address."""
        return TlsClient(self._context, host, self._settings)

    def look(self, host: str, refused: CertificateRefused) -> "TlsClient":
        """Return a connection that ends with the handshake and then says more of a refusal.

        It raises `CertificateShown` from `receive`; whatever else happens to it means no more than
        `refused` itself.
        """
        return TlsClient(self._look_context, host, self._settings, refused=refused)


def tls_of(settings: LinkSettings) -> Tls | None:
    """Return what the encrypted addresses need; None where there are none.

    Raises:
        LinkSettingsError: See `Tls`.
    """
    if not any(address.tls for address in settings.parsed_addresses()):
        return None
    return Tls(settings.tls or TlsSettings())


class TlsClient:
    """One connection. Send what `leaving` returns after each call, pass on all that arrives.

    Attributes:
        is_open: Whether the peer has proved who it is; nothing may be sent before.
        ended: Whether the peer has said that nothing more will come.
        received: What has arrived and was not taken yet; the caller takes from its front.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        host: str,
        settings: TlsSettings,
        *,
        refused: CertificateRefused | None = None,
    ) -> None:
        """Prepare a connection.

        Args:
            context: Whom to trust.
            host: The name or IP address that the peer must have a certificate for.
            settings: What the context was made of.
            refused: Where only a second look is wanted: what the first has led to.
        """
        self._arriving = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._arriving, self._leaving, server_hostname=certificate_name(host)
        )
        self._host = host
        self._settings = settings
        self._refused = refused
        self._heard = False
        self._heard_inside = False
        self.is_open = False
        self.ended = False
        self.received = bytearray()

    def begin(self) -> None:
        """Say hello to the peer."""
        self._shake_hands()

    def receive(self, data: bytes) -> None:
        """Take in what has arrived.

        Raises:
            TlsError: The connection is over; why, in words. What `leaving` still has tells the
                peer.
        """
        self._heard = True
        self._arriving.write(data)
        if not self.is_open:
            self._shake_hands()
        while self.is_open and not self.ended:
            try:
                piece = self._tls.read(_PIECE_BYTES)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                piece = b""
            except ssl.SSLError as error:
                raise self._explain(error) from error
            self.ended = not piece
            self._heard_inside = self._heard_inside or not self.ended
            self.received += piece

    def send(self, data: bytes | bytearray) -> None:
        """Encrypt all of `data`.

        Raises:
            TlsError: The connection is over; why, in words.
        """
        try:
            with memoryview(data) as view:
                done = 0
                while done < len(view):  # one record at a time
                    done += self._tls.write(view[done:])
        except ssl.SSLError as error:
            raise self._explain(error) from error

    def close(self) -> None:
        """Say that nothing more will come; what the peer sends can still be received."""
        # That the peer has not said so, too, is no error; nor that the connection is over.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    def leaving(self) -> bytes:
        """Return what is owed to the peer by now; it is the caller's from then on."""
        return self._leaving.read()

    def silence(self) -> str:
        """Return what it means when the peer closes the connection now; "" for nothing special."""
        if self._heard_inside:
            return ""
        shows = self._settings.certificate_file is not None
        return closed_early(heard=self._heard, is_open=self.is_open, shows_certificate=shows)

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise self._explain(error) from error
        if self._refused is not None:
            raise refusal(self._refused, self._host, self._tls.getpeercert() or {})
        self.is_open = True

    def _explain(self, error: ssl.SSLError) -> TlsError:
        return self._refused or explained(error, self._host, self._settings)


def certificate_name(host: str) -> str:
    """Return how a host is named in certificates: no zone after an IP address, no final dot."""
    address = host.partition("%")[0]
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(address))
    return host.removesuffix(".")  # RFC 6066, section 3: without a trailing dot


def _context(settings: TlsSettings) -> ssl.SSLContext:
    """Return who is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificates and names
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.hostname_checks_common_name = False  # RFC 9525, section 2: not the place for a name
    file = settings.ca_file
    if file is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise LinkSettingsError(
            f"{file} holds no CA certificate in PEM form",
            hint="head office has it in tls/ca.pem of its home: hq tls show",
        ) from error
    except OSError as error:
        raise LinkSettingsError(
            f"the CA's certificate {file} cannot be read: {error.strerror or error}",
            hint="head office has it in tls/ca.pem of its home: hq tls show",
        ) from error
    # Whatever is in the file is meant, also where its own signer is not in it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    return context


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    """Load what we show of ourselves."""
    certificate, key = settings.certificate_file, settings.key_file or settings.certificate_file
    if certificate is None or key is None:
        return
    try:
        certificate.open("rb").close()
    except OSError as error:
        raise LinkSettingsError(
            f"our certificate {certificate} cannot be read: {error.strerror or error}",
            hint="a device gets it when it joins: storeagent join BUNDLE",
        ) from error
    try:
        read_secret(key)
    except KitError as error:
        raise LinkSettingsError(str(error), hint=error.hint or "see key_file") from error

    def no_password() -> str:
        raise LinkSettingsError(
            f"the key {key} is encrypted",
            hint=f"take the password off: openssl pkey -in {key} -out KEY, then chmod 600 KEY",
        )

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"the key {key} is not the one of the certificate {certificate}"
        else:
            reason = f"{certificate} and {key} are not a certificate and its key in PEM form"
        raise LinkSettingsError(reason, hint="both are made together: name the pair") from error
