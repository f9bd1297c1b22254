"""What joining does to a home: the draft before it, and everything that is saved after it.

Owns the order in which the files of a device that joins are written, so that it can be killed at
any moment and the same command goes on. Must not know links or commands.

The order: home and database, then the draft, then the question. After the answer: what the link
needs, the settings, HQ's keys in the database, then the key file, which makes it true, and at last
the draft goes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from buskit.files import write_atomically
from buskit.link_settings import TlsSettings
from buskit.secrets import SecretMissing, new_seed, new_token, read_secret, write_secret
from buswire.errors import WireError
from buswire.joining import Bundle
from buswire.signing import fingerprint
from buswire.topics import Identity, Topics
from buswire.trust import Trusted
from storeagent.database import database_path, open_agent_database
from storeagent.hearing import further
from storeagent.joining import Draft, JoinError, draw_draft
from storeagent.keys import (
    DeviceKey,
    peek_key,
    seed_of,
    write_certificates,
    write_key,
)
from storeagent.memory import Memory
from storeagent.settings import DRAFT_NAME, parse_settings
from storeagent.setup import make_device_home, planned_settings, save_settings

_CA_NAME = "join.pem"

_decoder = msgspec.json.Decoder(Draft)


class JoinHome:
    """The home of a device while it joins."""

    def __init__(
        self,
        home: Path,
        bundle: Bundle,
        *,
        brokers: Sequence[str] | None = None,
        hook: str | None = None,
    ) -> None:
        """Look at what is there; nothing is changed.

        Args:
            home: Its folder, which may not exist.
            bundle: What HQ made for this device.
            brokers: Other addresses than those of the bundle.
            hook: The command that runs when work arrives.

        Raises:
            JoinError: The home is that of another device.
            BusError: The bundle or the settings have something in them that cannot be.
        """
        self.bundle = bundle
        self.identity = Identity(bundle.store, bundle.device)
        self.settings: dict[str, Any] = planned_settings(
            home,
            self.identity,
            roles=bundle.roles or None,
            brokers=brokers or bundle.brokers or None,
            root=Topics(bundle.root).root,
            hook=hook,
        )
        self.path = home
        self._there = there = peek_key(home)
        self.joined_before = there is not None and there.bundle == bundle.id
        """Whether this very bundle was used here; then there is nothing to ask."""
        if there is not None and (there.identity, there.root) != (self.identity, bundle.root):
            raise JoinError(
                f"{home} is the home of {there.identity} below {there.root}, "
                f"and the bundle is for {self.identity} below {bundle.root}",
                hint="name another place with --home, or move that folder away",
            )

    @property
    def brokers(self) -> tuple[str, ...]:
        """Where to ask."""
        return parse_settings(self.settings).brokers

    @property
    def fingerprint(self) -> str:
        """Of the key that the device has; empty without one."""
        return "" if self._there is None else fingerprint(self._there.signing_key.public)

    def make(self) -> None:
        """Make the home and its database; idempotent.

        Raises:
            BusError: They cannot be made.
        """
        self.path = make_device_home(self.path)

    def prepare(self) -> Draft:
        """Draw and save what is to be asked for; the same again for the same bundle.

        Raises:
            BusError: Something cannot be written, or the draft cannot be read.
        """
        if self.bundle.ca:
            write_atomically(self.path / _CA_NAME, self.bundle.ca.encode())
        draft = self._draft()
        if draft is None or draft.bundle != self.bundle.id:
            draft = draw_draft(self.bundle, seed=new_seed(), token=new_token())
            write_secret(self.path / DRAFT_NAME, msgspec.json.encode(draft))
        return draft

    @property
    def trust(self) -> Trusted:
        """HQ's keys to begin with: the bundle's, or what this home has learned since it was made.

        A bundle may be older than a recovery. Who has stolen the key of before and carries the
        messages must not lead a device back that knows better. Needs `make`.
        """
        trust = self.bundle.trust
        if self._there is not None:
            trust = further(trust, self._there.trust)
        with open_agent_database(database_path(self.path)) as database:
            return further(trust, Memory(database).trust())

    def tls(self) -> TlsSettings | None:
        """What the link needs to ask; the certificates in force stay as they are."""
        return TlsSettings(ca_file=self.path / _CA_NAME) if self.bundle.ca else None

    def finish(self, draft: Draft, *, certificate: str, trust: Trusted | None = None) -> None:
        """Make the device what HQ has accepted; said again after a crash, it goes on.

        Args:
            draft: What was asked with.
            certificate: For TLS, where the broker wants one; empty otherwise.
            trust: HQ's keys as the joining has left them; those it began with if not given.

        Raises:
            BusError: Something cannot be written; say the command again.
        """
        bundle, home = self.bundle, self.path
        trust = trust or self.trust
        seed = seed_of(draft.seed)
        write_certificates(home, ca=bundle.ca, certificate=certificate, seed=seed)
        save_settings(home, self.settings)
        with open_agent_database(database_path(home)) as database, database.write():
            # The key file has what counts; what was learned under another recovery key is void.
            Memory(database).keep_trust(None)
        write_key(
            home,
            DeviceKey(
                store=bundle.store,
                device=bundle.device,
                root=bundle.root,
                seed=draft.seed,
                token=draft.token,
                trust=trust,
                bundle=bundle.id,
            ),
        )
        self.drop_draft()

    def drop_draft(self) -> None:
        """Forget what was drawn and not accepted, and what is not needed any more; idempotent."""
        for name in (DRAFT_NAME, _CA_NAME):
            (self.path / name).unlink(missing_ok=True)

    def _draft(self) -> Draft | None:
        path = self.path / DRAFT_NAME
        try:
            return _decoder.decode(read_secret(path))
        except SecretMissing:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, WireError) as error:
            raise JoinError(
                f"{path} is broken: {error}", hint=f"remove {path}, and ask for another bundle"
            ) from error
