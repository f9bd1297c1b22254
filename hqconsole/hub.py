"""The hub: one link, one doorbell and one desk, in one process per ledger.

Owns the loop that carries what arrives into the desk and what the desk says onto the link, and what
happens when the disk fails or another hub shows up. Must not know what any message means, but for
one: another live run on `hq`.

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
import queue
import random
import signal
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

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
from buskit.doorbell import Doorbell
from buskit.link import (
    Connected,
    Disconnected,
    Link,
    LinkEvent,
    LinkLoop,
    LinkSettings,
    Publication,
    Received,
    Subscribed,
)
from buskit.locks import FileLock, LockBusy
from buskit.terminal import narrate
from buswire import frame
from buswire.errors import BusError, WireError
from buswire.messages import Hub as HubMessage
from hqconsole import hub_identity, keyring, tls
from hqconsole.access_file import AccessFileError, AccessFileWriter
from hqconsole.desk import Desk, Event, Heard, Linked, Publish, Tick, Unlinked
from hqconsole.errors import HqError
from hqconsole.home import HUB_LOCK_NAME, HqSettings, read_hq_settings
from hqconsole.hub_link import LinkTeller
from hqconsole.keyring import Keyring
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.soundness import require_sound
from hqconsole.timing import DeskTiming

_POLL_SECONDS = 1.0
"""How often it looks for what commands wrote without ringing, and for its own stop."""
_BATCH_EVENTS = 1000
"""Verified one by one, they take half a second or so: a revocation must not wait for longer."""
_BATCH_BYTES = 8 * 1024 * 1024
_GATHERED_LIMIT = 50_000
"""More messages than this wait: the rest is dropped, and devices send it again."""
_RETRY_FIRST_SECONDS = 1.0
_RETRY_MOST_SECONDS = 30.0
_SUSPICIONS_MOST = 2
"""So often in a row the ledger may look damaged before that is believed."""


class HubError(HqError):
    """The hub cannot run, or not any longer."""


class HubRunningError(HubError):
    """Another hub has this ledger."""


class _Rung:
    """Somebody rang, or the hub is to look around."""


_RUNG = _Rung()


def run_hub(home: Path, *, quiet: bool = False, timing: DeskTiming | None = None) -> None:
    """Run the hub of a home until SIGTERM or SIGINT; needs the main thread.

    Raises:
        HubRunningError: Another process has this ledger's hub.
        HubError: An older hub is at work on the broker.
        HomeError: There are no settings.
        KeyringError: HQ's keys are gone, or none is here that may sign.
        SecretError: Others can read a key or the hub's token.
        DatabaseError: The ledger cannot be opened, or is damaged.
    """
    settings = read_hq_settings(home)
    with _only_one(home):
        hub = HubProcess(home, settings, say=(lambda _: None) if quiet else narrate, timing=timing)
        previous = {
            number: signal.signal(number, hub.on_signal)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            hub.run()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    lock = FileLock(home / HUB_LOCK_NAME)
    try:
        lock.acquire(1.0)  # a command that asks whether a hub runs holds it for a moment
    except LockBusy as busy:
        by = "" if busy.pid is None else f" (process {busy.pid})"
        raise HubRunningError(
            f"a hub is running for {home} already{by}",
            hint="one ledger has one hub; stop that one first",
        ) from busy
    try:
        yield
    finally:
        lock.release()
        lock.close()


def _close_quietly(ledger: Database) -> None:
    """Close what failed; that this fails as well is nothing new."""
    with contextlib.suppress(DatabaseError, sqlite3.Error):
        ledger.close()


class HubProcess:
    """The daemon's loop, made to run once."""

    def __init__(
        self,
        home: Path,
        settings: HqSettings,
        *,
        say: Callable[[str], None],
        timing: DeskTiming | None = None,
    ) -> None:
        """Prepare; nothing is opened before `run`."""
        self._home = home
        self._settings = settings
        self._say = say
        self._timing = timing or settings.timing
        self._inbound: queue.SimpleQueue[LinkEvent | _Rung] = queue.SimpleQueue()
        self._waiting: deque[Publication] = deque()
        self._random = random.Random()  # noqa: S311 - jitter, no secret
        self._stopping = False
        self._failure: HubError | None = None
        self._retry_at: float | None = None
        self._retries = 0
        self._dropped = 0
        self._must_reopen = False
        self._suspicions = 0
        self._changes = -1
        self._linked = False
        self._access_at = 0.0
        self._access_trouble = ""
        self._keys_at = 0.0
        self._signer = ""
        self._teller = LinkTeller(home, wall_clock=time.time)

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Stop soon; safe inside a signal handler."""
        self._stopping = True
        self._inbound.put(_RUNG)

    def run(self) -> None:
        """Work until a signal comes, or until an older hub shows up.

        Raises:
            HubError: An older hub is at work on the broker.
            KeyringError: HQ's keys cannot be used.
            SecretError: A key or the token cannot be used.
            DatabaseError: The ledger cannot be opened at the start, or is damaged.
        """
        self._ledger = open_ledger(self._home)
        try:
            require_sound(self._ledger)
            root = self._settings.root
            self._keys = hub_identity.prepare(self._home, self._ledger, root=root, at=time.time())
            self._keys_stamp = keyring.stamp(self._home)
            self._access = AccessFileWriter(self._home, root, mutual_tls=tls.is_mutual(self._home))
            self._desk = self._make_desk(run=None)
            self._signer = self._keys.signing(time.time()).id
            bye = self._publication(self._desk.farewell())
            loop = LinkLoop("link")
            self._link = Link(
                self._link_settings(bye),
                deliver=self._gather,
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
            _close_quietly(self._ledger)
        if self._failure is not None:
            raise self._failure
        self._say("the hub has stopped")

    # --- the link's thread -----------------------------------------------------------------------

    def _gather(self, event: LinkEvent) -> None:
        if isinstance(event, Received) and self._inbound.qsize() > _GATHERED_LIMIT:
            self._dropped += 1
            return
        self._inbound.put(event)

    # --- the main thread -------------------------------------------------------------------------

    def _round(self) -> None:
        """Wait for something, take all that is there, save it, send what follows from it."""
        events = self._next_events()
        if not self._stopping:
            self._step(events, time.monotonic())

    def _step(self, events: list[Event], now: float) -> None:
        if self._retry_at is not None:
            if now < self._retry_at:
                return
            events = [Linked() if self._linked else Unlinked()]
        self._look_at_keys(now)
        if events or self._others_wrote() or self._desk.next_at(now) <= now:
            self._handle(events or [Tick()], now)
        self._write_access_file()
        self._pump()
        self._tell_link()

    def _next_events(self) -> list[Event]:
        patience = _POLL_SECONDS
        if self._retry_at is None:
            now = time.monotonic()
            patience = min(patience, max(0.0, self._desk.next_at(now) - now))
        events: list[Event] = []
        size_bytes = 0
        try:
            first = self._inbound.get(timeout=patience)
            while True:
                if isinstance(first, Received):
                    size_bytes += len(first.payload)
                self._translate(first, events)
                if len(events) >= _BATCH_EVENTS or size_bytes >= _BATCH_BYTES:
                    break
                first = self._inbound.get_nowait()
        except queue.Empty:
            pass
        return events

    def _translate(self, event: LinkEvent | _Rung, events: list[Event]) -> None:
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
            case _Rung():
                events.append(Tick())
            case _:
                pass  # Published: the round sends what waits for room

    def _hear_hub(self, payload: bytes, *, retained: bool) -> None:
        """Another run on `hq`: the older of two live ones stays.

        What an older one said may be a recording of a hub that is long gone. One that is there
        answers this run's greeting by its name; only that makes this hub go.
        """
        try:
            message = frame.read(payload, self._settings.topics.hq, self._keys.key_of)
        except WireError:
            return  # nobody who has this head office's keys has said it
        if not isinstance(message, HubMessage) or message.run == self._desk.run:
            return
        if retained:
            return  # the last word of one that may be long gone
        if not message.up:  # a will that came late must not stay as the last word
            self._greet()
        elif (message.since_at, message.run) > (self._desk.since_at, self._desk.run):
            self._greet(message.run)
        elif message.heard == self._desk.run:
            self._failure = HubError(
                "another hub, older than this one, is at work on this broker",
                hint="give each ledger its own root: link.root in hq.toml",
            )
            self._stopping = True
        else:
            self._greet()

    def _greet(self, heard: str = "") -> None:
        # It counts devices; where the ledger cannot be read, `_handle` finds that out as well.
        with contextlib.suppress(sqlite3.Error):
            self._waiting.append(self._publication(self._desk.greeting(heard)))

    def _handle(self, events: list[Event], now: float) -> None:
        try:
            if self._must_reopen:
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
        if self._retry_at is not None:
            self._retry_at, self._retries = None, 0
            self._say("the disk works again")
        if self._dropped:
            self._say(f"{self._dropped} messages were too many at once; devices send them again")
            self._dropped = 0
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
        """Take HQ's keys when a command has changed them, and go on with the one that signs."""
        if now < self._keys_at:
            return
        self._keys_at = now + _POLL_SECONDS
        found = keyring.stamp(self._home)
        if found != self._keys_stamp:
            self._keys_stamp = found
            self._take_keys()
        signer = self._keys.signing(self._desk.clock_at(now)).id
        if signer != self._signer:
            self._signer = signer
            self._say(f"the key {signer[:8]} signs")
            # Devices forget keys: a will, or a greeting kept by the broker, that an old one signed
            # would one day be no word of HQ's to them.
            self._link.renew(self._publication(self._desk.farewell()))

    def _take_keys(self) -> None:
        try:
            self._keys = Keyring.load(self._home)
        except BusError as error:
            self._say(f"HQ's keys stay what they were: {error}")
            return
        self._desk.take_keys(self._keys)

    def _write_access_file(self) -> None:
        """Bring the access file up to date; a failure is told once and tried again."""
        now = time.monotonic()
        if now < self._access_at:
            return
        try:
            if self._access.refresh(self._ledger, self._desk.clock_at(now)):
                # While a whole chain joins it is due all the time; a fifth of the time will do.
                took_seconds = time.monotonic() - now
                self._access_at = now + min(_POLL_SECONDS, 5 * took_seconds)
        except (AccessFileError, DatabaseError, sqlite3.Error) as error:
            self._access_at = now + _POLL_SECONDS
            if str(error) != self._access_trouble:
                self._access_trouble = str(error)
                self._say(str(error))
        else:
            self._access_trouble = ""

    # --- when the disk fails ---------------------------------------------------------------------

    def _pause(self, error: Exception, now: float) -> None:
        wait = min(_RETRY_MOST_SECONDS, _RETRY_FIRST_SECONDS * 2**self._retries)
        self._retries = min(self._retries + 1, 30)
        self._retry_at = now + wait * (0.5 + 0.5 * self._random.random())
        self._waiting.clear()
        hint = getattr(error, "hint", None)
        self._say(f"cannot save: {error}{f' ({hint})' if hint else ''}; trying again")

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
            self._suspicions += 1
            if self._suspicions > _SUSPICIONS_MOST:
                raise error
        self._must_reopen = True
        self._pause(error, now)

    def _reopen(self) -> None:
        """Open the ledger anew, since nobody knows what a failing disk has kept.

        The old connection is closed last. As long as one is open, SQLite's index of the write-ahead
        log says which transactions count. Without it a transaction whose sync failed would be read
        back from the system's cache, and taken for one that is on the disk.

        Raises:
            DatabaseError: It cannot be used yet; everything is as it was.
            sqlite3.Error: Likewise.
        """
        before = self._ledger, self._desk
        self._ledger = open_ledger(self._home)
        try:
            if self._suspicions:
                self._ledger.check()
            self._desk = self._make_desk(run=self._desk.run)
        except BaseException:
            _close_quietly(self._ledger)
            self._ledger, self._desk = before
            raise
        _close_quietly(before[0])
        self._must_reopen = False
        self._suspicions = 0
        self._changes = -1

    # --- odds and ends ---------------------------------------------------------------------------

    def _make_desk(self, *, run: str | None) -> Desk:
        return Desk(
            self._ledger,
            self._settings.topics,
            keyring=self._keys,
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

        def rang(_events: int) -> None:
            if bell.wait(0):
                self._inbound.put(_RUNG)

        loop.call(lambda: loop.watch(bell.fileno(), 1, rang))  # 1 is EVENT_READ
        return bell
