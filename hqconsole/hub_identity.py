"""Who the hub is towards brokers: its name, its token and, where they are wanted, certificates.

Owns `<home>/hub.key`, the token; only its hash is in the ledger, from where the access file has it.
Where certificates come from is `tls`.
"""

import functools
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from buskit.database import Database
from buskit.link_settings import TlsSettings
from buskit.secrets import SecretMissing, new_token, read_secret, write_secret
from buswire.access import HUB_PREFIX, token_hash
from hqconsole import keyring, tls
from hqconsole.access_file import AccessFileWriter
from hqconsole.enrolling import IssueCertificate
from hqconsole.keyring import Keyring
from hqconsole.ledger import access

TOKEN_NAME = "hub.key"  # noqa: S105 - the name of a file


class HubIdentity(NamedTuple):
    """What the hub shows when it connects."""

    name: str
    token: str

    def client_id(self, run: str) -> str:
        """Its MQTT client id, of its own for each run.

        With a common one two hubs would throw each other off the broker again and again, and
        neither would ever hear of the other.
        """
        return f"{self.name}/{run[:16]}"


def ensure(home: Path, ledger: Database) -> HubIdentity:
    """The hub's name and token; a token is made where there is none, idempotent.

    Raises:
        SecretError: The token cannot be written, or others can read it.
        DatabaseError: Its hash cannot be kept.
    """
    path = home / TOKEN_NAME
    try:
        token = read_secret(path).decode("ascii", "replace").strip()
    except SecretMissing:
        token = new_token()
        write_secret(path, token.encode() + b"\n")
    if access.hub_token_hash(ledger.connection) != token_hash(token):
        with ledger.write() as connection:
            access.save_hub_token_hash(connection, token_hash(token))
    return HubIdentity(HUB_PREFIX + access.hub_id(ledger.connection), token)


def prepare(home: Path, ledger: Database, *, root: str, at: float) -> Keyring:
    """Make what a head office needs before a broker and a hub can run: keys, token, access file.

    For `hq init`, `hq up` and a hub in a home from before there were keys; idempotent.

    Raises:
        KeyringMissing: The home had keys, and they are gone.
        BusError: Something cannot be written or read; with the hint.
    """
    pinned = access.recovery_key(ledger.connection)
    keys = Keyring.load(home) if keyring.exists(home) or pinned else keyring.create(home, at=at)
    if pinned not in {"", keys.recovery}:
        raise keyring.KeyringError(
            f"the keys in {home / keyring.FOLDER_NAME} are of another head office than the ledger",
            hint="put back the keys that belong to this ledger; where they are lost for good,"
            " hq restore a copy of the ledger once more: it is these keys' from then on",
        )
    if not pinned:
        with ledger.write() as connection:
            access.save_recovery_key(connection, keys.recovery)
    ensure(home, ledger)
    AccessFileWriter(home, root, mutual_tls=tls.is_mutual(home)).refresh(ledger, at)
    return keys


def certificates(home: Path) -> IssueCertificate | None:
    """What makes a device's client certificate when it joins; None where brokers want none."""
    if not tls.is_mutual(home):
        return None
    return functools.partial(tls.issue_client_certificate, home)


def tls_settings(home: Path, name: str, *, ca_file: str | None) -> TlsSettings | None:
    """How the hub's link trusts a broker, and what it shows; None for the system's CAs alone.

    Args:
        home: HQ's home.
        name: The hub's name, for its own certificate.
        ca_file: The CA that the settings name, if they do.

    Raises:
        TlsError: A certificate is wanted and cannot be made.
    """
    own = tls.hub_tls(home, name)
    if ca_file:
        return replace(own or TlsSettings(), ca_file=Path(ca_file))
    return own
