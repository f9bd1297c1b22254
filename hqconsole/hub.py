"""The hub: one link, one doorbell and one desk, in one process per ledger.

Owns the loop that carries what arrives into the desk and what the desk says onto the link, and what
a batch that fails leads to. Must not know what any message means, but for one: another live run on
`hq`.

Invariants:
- One hub per ledger: it holds `hub.lock` as long as it runs, and a second one is refused.
- Of two hubs on one broker (a copied ledger), the one that was there first stays: the other sees a
  live run that is older than itself and steps down.
- The main thread owns ledger and desk; the link's thread only hands over.
- What has gathered is one batch, one transaction; then it is sent (group commit).
- What brokers and devices go by is kept up to date beside the batches: the access file at once when
  a command rings, HQ's keys within a second of their change.
- While the disk takes nothing, the link stays up, what arrives is dropped (devices send it again),
  and the hub tries again by itself.
"""

import contextlib
import os
import random
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from buskit.daemon import ended_by_signals, only_one
from buskit.database import (
    Database,
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseError,
    DatabaseForeign,
    DatabaseFull,
    DatabaseNewer,
)
from buskit.database_errors import explained
from buskit.disk_trouble import DiskTrouble, close_quietly
from buskit.doorbell import Doorbell
from buskit.files import remove_unfinished
from buskit.gathering import Gathered, Gathering, GatheringLimits, Rung
from buskit.link import (
    Connected,
    Disconnected,
    Link,
    LinkLoop,
    LinkSettings,
    Publication,
    Received,
    Subscribed,
)
from buskit.terminal import narrate
from buswire import frame
from buswire.errors import WireError
from buswire.messages import Hub as HubMessage
from hqconsole import hub_identity, keyring, tls
from hqconsole.access_file import AccessFileKeeper, AccessFileWriter
from hqconsole.desk import Desk, Event, Heard, Linked, Publish, Tick, Unlinked
from hqconsole.errors import HqError
from hqconsole.home import HUB_LOCK_NAME, HqSettings, read_hq_settings
from hqconsole.hub_link import LinkTeller
from hqconsole.key_watch import KeyWatch
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.soundness import require_sound
from hqconsole.other_hub import Answer, answer_to
from hqconsole.timing import DeskTiming

_POLL_SECONDS = 1.0
"""How often it looks for what commands wrote without ringing, and for its own stop."""
_LIMITS = GatheringLimits(
    # Verified one by one, they take half a second or so: a revocation must not wait for longer.
    batch_events=1000,
    batch_bytes=8 * 1024 * 1024,
    waiting_messages=50_000,
    waiting_bytes=256 * 1024 * 1024,
)
_SUSPICIONS_MOST = 2
"""So often in a row the ledger may look damaged before that is believed."""


class HubError(HqError):
    """The hub cannot run, or not any longer."""


class HubRunningError(HubError):
    """Another hub has this ledger."""


def run_hub(home: Path, *, quiet: bool = False, timing: DeskTiming | None = None) -> None:
    """Run the hub of a home until SIGTERM or SIGINT; needs the main thread.

    Raises:
        HubRunningError: Another process has this ledger's hub.
        DaemonError: Whether one has cannot be found out.
        HubError: An older hub is at work on the broker.
        HomeError: There are no settings.
        KeyringError: HQ's keys are gone, or none is here that may sign.
        SecretError: Others can read a key or the hub's token.
        DatabaseError: The ledger cannot be opened, or is damaged.
    """
    settings = read_hq_settings(home)

    def running(by: str) -> HubRunningError:
        return HubRunningError(
            f"a hub is running for {home} already{by}",
            hint="one ledger has one hub; stop that one first",
        )

    with only_one(home / HUB_LOCK_NAME, running):
        hub = HubProcess(home, settings, say=_quiet if quiet else narrate, timing=timing)
        with ended_by_signals(hub.on_signal):
            hub.run()


def _quiet(_: str) -> None:
    pass


class HubProcess:
    """The daemon's loop, made to run once."""

    def __init__(
        self,
        home: Path,
        settings: HqSettings,
        *,
        say: Callable[[str], None],
        timing: DeskTiming | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """Prepare; nothing is opened before `run`.

        Args:
            home: HQ's.
            settings: Of the home.
            say: Tells whoever reads the log.
            timing: In place of that of the settings.
            chance: The source of jitter.
        """
        self._home = home
        self._settings = settings
        self._say = say
        self._timing = timing or settings.timing
        self._inbound = Gathering(_LIMITS)
        self._waiting: deque[Publication] = deque()
        self._random = chance or random.Random()  # noqa: S311 - jitter, no secret
        self._trouble = DiskTrouble(say=say, draw=self._random.random)
        self._stopping = False
        self._failure: HubError | None = None
        self._changes = -1
        self._linked = False
        self._teller = LinkTeller(home, wall_clock=time.time)

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Stop soon; safe inside a signal handler."""
        self._stopping = True
        self._inbound.ring()

    def run(self) -> None:
        """Work until a signal comes, or until an older hub shows up.

        Raises:
            HubError: An older hub is at work on the broker.
            KeyringError: HQ's keys cannot be used.
            SecretError: A key or the token cannot be used.
            DatabaseError: The ledger cannot be opened at the start, or is damaged.
        """
        for folder in (self._home, self._home / keyring.FOLDER_NAME):
            remove_unfinished(folder, now_at=time.time())
        self._ledger = open_ledger(self._home)
        try:
            require_sound(self._ledger)
            root = self._settings.root
            keys = hub_identity.prepare(self._home, self._ledger, root=root, at=time.time())
            self._key_watch = KeyWatch(self._home, keys, say=self._say, at=time.time())
            self._access = AccessFileKeeper(
                AccessFileWriter(self._home, root, mutual_tls=tls.is_mutual(self._home)),
                say=self._say,
                monotonic=time.monotonic,
            )
            self._desk = self._make_desk(self._ledger, run=None)
            bye = self._publication(self._desk.farewell())
            loop = LinkLoop("link")
            self._link = Link(
                self._link_settings(bye),
                deliver=self._inbound.put,
                random=self._random,
                loop=loop,
            )
            bell = self._open_doorbell(loop)
            self._tell_link()
            self._link.start()
            self._say(f"the hub runs in {self._home}")
            try:
                while not self._stopping:
                    self._round()
            finally:
                # Not what was left as the will: HQ may sign with another key by now.
                bye = self._publication(self._desk.farewell())
                self._link.stop(bye if self._failure is None else None)
                loop.stop()
                if bell is not None:
                    bell.close()
        except Exception as error:
            self._ledger.tell(error)
            raise
        finally:
            close_quietly(self._ledger)
        if self._failure is not None:
            raise self._failure
        self._say("the hub has stopped")

    def _round(self) -> None:
        """Wait for something, take all that is there, save it, send what follows from it."""
        events = self._next_events()
        if not self._stopping:
            self._step(events, time.monotonic())

    def _step(self, events: list[Event], now: float) -> None:
        if self._trouble.is_there:
            if self._trouble.waits(now):
                return
            events = [Linked() if self._linked else Unlinked()]
        self._look_at_keys(now)
        if events or self._others_wrote() or self._desk.next_at(now) <= now:
            self._handle(events or [Tick()], now)
        self._access.attend(self._ledger, self._desk.clock_at)
        self._pump()
        self._tell_link()

    def _next_events(self) -> list[Event]:
        patience = _POLL_SECONDS
        if not self._trouble.is_there:
            now = time.monotonic()
            patience = min(patience, max(0.0, self._desk.next_at(now) - now))
        events: list[Event] = []
        for one in self._inbound.take(patience):
            self._translate(one, events)
        return events

    def _translate(self, event: Gathered, events: list[Event]) -> None:
        match event:
            case Received(topic, payload, retained):
                if topic == self._settings.topics.hq:
                    self._hear_hub(payload, retained=retained)
                else:
                    events.append(Heard(topic, payload))
            case Connected(address):
                self._say(f"connected to {address}")
                self._waiting.clear()
                filters = self._settings.topics.filters_of_hub()
                self._link.subscribe([(one, self._settings.qos) for one in filters])
            case Subscribed(_, refused):
                if refused:
                    self._say(f"the broker refuses: {', '.join(refused)}")
                self._linked = True
                events.append(Linked())
            case Disconnected(reason):
                self._say(f"the connection is gone: {reason}")
                self._waiting.clear()
                self._linked = False
                events.append(Unlinked())
            case Rung():
                events.append(Tick())
            case _:
                pass  # Published: the round sends what waits for room

    def _hear_hub(self, payload: bytes, *, retained: bool) -> None:
        """Another run on `hq` has said something."""
        try:
            message = frame.read(payload, self._settings.topics.hq, self._key_watch.keys.key_of)
        except WireError:
            return  # nobody who has this head office's keys has said it
        if not isinstance(message, HubMessage):
            return
        run, since_at = self._desk.run, self._desk.since_at
        match answer_to(message, retained=retained, run=run, since_at=since_at):
            case Answer.GREET:
                self._greet()
            case Answer.GREET_IT:
                self._greet(message.run)
            case Answer.GO:
                self._failure = HubError(
                    "another hub, older than this one, is at work on this broker",
                    hint="give each ledger its own root: link.root in hq.toml",
                )
                self._stopping = True

    def _greet(self, heard: str = "") -> None:
        # It counts devices; where the ledger cannot be read, `_handle` finds that out as well.
        with contextlib.suppress(sqlite3.Error):
            self._waiting.append(self._publication(self._desk.greeting(heard)))

    def _handle(self, events: list[Event], now: float) -> None:
        try:
            if self._trouble.must_reopen:
                self._reopen()
                events = [Linked() if self._linked else Unlinked()]
            outgoing = self._desk.handle(events, now)
            self._changes = self._ledger.changes_by_others()
        except (DatabaseFull, DatabaseBusy) as error:
            self._pause(error, now)
            return
        except (DatabaseError, sqlite3.DatabaseError) as error:
            self._bear(explained(error, self._ledger.what, self._ledger.path), now)
            return
        self._trouble.over()
        if dropped := self._inbound.dropped():
            self._say(f"{dropped} messages were too many at once; devices send them again")
        self._waiting.extend(self._publication(publish) for publish in outgoing)
        self._pump()

    def _pump(self) -> None:
        """Send what waits, as far as there is room; what goes out makes more."""
        while self._waiting:
            if self._link.publish(self._waiting[0]) is None:
                if not self._link.connected:
                    self._waiting.clear()
                return
            self._waiting.popleft()

    def _others_wrote(self) -> bool:
        with contextlib.suppress(sqlite3.Error):
            return self._ledger.changes_by_others() != self._changes
        return True

    # --- what others go by -----------------------------------------------------------------------

    def _tell_link(self) -> None:
        """Write down whether the broker is there, for who looks at what the ledger says."""
        failure = self._link.failure
        self._teller.tell(None if self._linked else "" if failure is None else str(failure))

    def _look_at_keys(self, now: float) -> None:
        if self._key_watch.look(now, self._desk.clock_at(now), self._desk.take_keys):
            # Devices forget keys: a will, or a greeting kept by the broker, that an old one signed
            # would one day be no word of HQ's to them.
            self._link.renew(self._publication(self._desk.farewell()))

    # --- when the disk fails ---------------------------------------------------------------------

    def _pause(self, error: Exception, now: float) -> None:
        """Take nothing for a while; the link stays up."""
        self._trouble.pause(error, now)
        self._waiting.clear()

    def _bear(self, error: Exception, now: float) -> None:
        """Open the ledger anew some time later, if that may help.

        Raises:
            DatabaseError: It is damaged, or not for this program.
            sqlite3.Error: It is no matter of the disk.
        """
        if isinstance(error, DatabaseForeign | DatabaseNewer):
            raise error
        if not isinstance(error, DatabaseError | sqlite3.OperationalError):
            raise error
        if isinstance(error, DatabaseDamaged):
            # A single read that failed looks the same to SQLite.
            self._trouble.suspicions += 1
            if self._trouble.suspicions > _SUSPICIONS_MOST:
                raise error
        self._trouble.must_reopen = True
        self._pause(error, now)

    def _reopen(self) -> None:
        """Open the ledger anew.

        Raises:
            DatabaseError: It cannot be used yet; everything is as it was.
            sqlite3.Error: Likewise.
        """

        def begin(ledger: Database) -> Desk:
            if self._trouble.suspicions:
                ledger.check()
            return self._make_desk(ledger, run=self._desk.run)

        self._ledger, self._desk = self._trouble.reopen(
            self._ledger, lambda: open_ledger(self._home), begin
        )
        self._changes = -1

    # --- odds and ends ---------------------------------------------------------------------------

    def _make_desk(self, ledger: Database, *, run: str | None) -> Desk:
        return Desk(
            ledger,
            self._settings.topics,
            keyring=self._key_watch.keys,
            draw=self._random.random,
            new_id=lambda: os.urandom(16).hex(),
            wall_clock=time.time,
            timing=self._timing,
            limits=self._settings.limits,
            run=run,
            certificate=hub_identity.certificates(self._home),
            confirm=self._settings.confirms,
        )

    def _link_settings(self, will: Publication) -> LinkSettings:
        shown = hub_identity.ensure(self._home, self._ledger)
        settings = self._settings
        return LinkSettings(
            addresses=settings.brokers,
            client_id=shown.client_id(self._desk.run),
            username=settings.username or shown.name,
            password=settings.password if settings.username else shown.token,
            keepalive_seconds=settings.keepalive_seconds,
            backoff_most_seconds=settings.reconnect_most_seconds,
            will=will,
            tls=hub_identity.tls_settings(self._home, shown.name, ca_file=settings.ca_file),
        )

    def _publication(self, publish: Publish) -> Publication:
        return Publication(
            publish.topic, publish.payload, qos=self._settings.qos, retain=publish.retain
        )

    def _open_doorbell(self, loop: LinkLoop) -> Doorbell | None:
        """Listen for rings on the link's loop; without a doorbell the slow look finds it all."""
        try:
            bell = Doorbell.open(self._home)
        except OSError as error:
            self._say(f"no doorbell, directives go out a little later: {error}")
            return None
        bell.listen(loop, self._inbound.ring)
        return bell
