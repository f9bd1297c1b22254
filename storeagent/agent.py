"""The daemon: one link, one doorbell and one core, in one process per home.

Owns the loop that carries events from the link and the doorbell into the core and what comes out of
it onto the link, and what happens when the disk fails. Must not know what any message means.

Invariants:
- The main thread owns database and core. The link's thread only hands over.
- What has gathered is one batch, one transaction; then it is sent.
- A damaged database is set aside, at the start or whenever it is found to be, and the daemon goes
  on with another one (`mending`).
- While the disk takes nothing, the link stays up, what arrives is dropped (the protocol asks for it
  again), and the daemon tries again by itself.
"""

import contextlib
import os
import queue
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from buswire.device import Process
from buswire.messages import LOGS
from storeagent.carrier import Carrier
from storeagent.core import (
    AgentCore,
    Event,
    Heard,
    Linked,
    Publish,
    Rang,
    Unlinked,
)
from storeagent.database import database_path, open_agent_database
from storeagent.errors import AgentError, OutboxFull
from storeagent.hooks import Hooks
from storeagent.keys import DeviceKey, read_key, tls_settings
from storeagent.memory import Memory
from storeagent.mending import clear_suspicion, file_id, is_suspected, mend, report
from storeagent.outbox import Outbox
from storeagent.own_names import own_version
from storeagent.settings import LOCK_NAME, AgentSettings, read_agent_settings
from storeagent.silence import Silence, not_heard_words
from storeagent.status import DaemonStatus, read_status, write_status
from storeagent.work import zone_of

_POLL_SECONDS = 1.0
"""How often it looks for what other processes wrote without ringing, and for its own stop."""
_BATCH_EVENTS = 500
_BATCH_BYTES = 4 * 1024 * 1024
_GATHERED_BYTES_LIMIT = 32 * 1024 * 1024
_STATUS_SECONDS = 1.0
_RETRY_FIRST_SECONDS = 1.0
_RETRY_MOST_SECONDS = 30.0
_SECOND_LOOK_SECONDS = 0.5
"""At the start, between two looks at a database that seems to be damaged."""


class AlreadyRunning(AgentError):  # noqa: N818 - it names what was found
    """Another daemon serves this home."""


class _Rung:
    """Somebody rang, or the daemon is to look around."""


_RUNG = _Rung()


def run_agent(home: Path, *, quiet: bool = False) -> None:
    """Run the daemon of a home until SIGTERM or SIGINT; needs the main thread.

    Raises:
        AlreadyRunning: Another process does so already.
        KeyFileError: The device has not joined.
        SecretError: Others can read its key.
        HomeError: There are no settings.
        SettingsError: They cannot be.
        DatabaseError: The database cannot be opened.
    """
    settings = read_agent_settings(home)
    with only_one(home):
        key = read_key(home, settings.identity, settings.root)
        agent = AgentProcess(home, settings, key, say=_quiet if quiet else narrate)
        previous = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, agent.on_signal)
        try:
            agent.run()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _quiet(_: str) -> None:
    pass


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home as its daemon for the length of a block.

    Raises:
        AlreadyRunning: Another process does so already.
        AgentError: The lock cannot be opened.
    """
    lock = FileLock(home / LOCK_NAME)
    try:
        lock.acquire(1.0)  # a command that asks for the status holds it for a moment
    except LockBusy as busy:
        by = "" if busy.pid is None else f" (process {busy.pid})"
        raise AlreadyRunning(
            f"an agent is running for {home} already{by}",
            hint="stop that one first; two devices need two homes",
        ) from busy
    except OSError as error:
        raise AgentError(
            f"{lock.path} cannot be opened: {error.strerror or error}",
            hint="look at the rights of that folder",
        ) from error
    try:
        yield
    finally:
        lock.release()
        lock.close()


def _new_id() -> str:
    return os.urandom(16).hex()


def _close_quietly(database: Database) -> None:
    """Close what failed; that this fails as well is nothing new."""
    with contextlib.suppress(DatabaseError, sqlite3.Error):
        database.close()


class AgentProcess:
    """The daemon's loop, made to run once."""

    def __init__(
        self, home: Path, settings: AgentSettings, key: DeviceKey, *, say: Callable[[str], None]
    ) -> None:
        """Prepare; nothing is opened before `run`."""
        self._home = home
        self._settings = settings
        self._key = key
        self._signing_key = key.signing_key
        self._say = say
        self._inbound: queue.SimpleQueue[LinkEvent | _Rung] = queue.SimpleQueue()
        self._gathered_bytes = 0
        self._gathered_guard = threading.Lock()
        self._random = random.Random()  # noqa: S311 - jitter, no secret
        self._stopping = False
        self._status = DaemonStatus(pid=os.getpid(), started_at=time.time())
        self._status_said: DaemonStatus | None = None
        self._status_at = 0.0
        self._retry_at: float | None = None
        self._retries = 0
        self._held: list[Event] = []
        self._must_reopen = False
        self._suspected = False
        self._damage = ""
        self._arrivals = 0
        self._changes = -1
        self._hooks: Hooks | None = None

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Stop soon; safe inside a signal handler."""
        self._stopping = True
        self._inbound.put(_RUNG)

    def run(self) -> None:
        """Work until a signal comes.

        Raises:
            DatabaseError: The database cannot be opened at the start, or it is damaged and another
                one cannot be begun.
        """
        before = read_status(self._home)
        self._status.file, self._status.heads = before.file, before.heads
        self._database = self._open()
        try:
            self._core = self._make_core(process=None)
            self._look_back(before)
            self._begin_silence(before)
            bye = self._publication(self._core.bye())
            loop = LinkLoop("link")
            self._link = Link(
                self._link_settings(bye), deliver=self._gather, random=self._random, loop=loop
            )
            self._carrier = Carrier(self._link, qos=self._settings.qos)
            bell = self._open_doorbell(loop)
            self._start_hooks()
            self._link.start()
            self._say(f"{self._settings.identity} runs in {self._home}")
            try:
                while not self._stopping:
                    self._round()
            finally:
                if self._hooks is not None:
                    self._hooks.stop()
                self._link.stop(bye)
                loop.stop()
                if bell is not None:
                    bell.close()
                self._status.connected = False
                self._tell_status(at_once=True)
        finally:
            self._database.close()
        self._say(f"{self._settings.identity} has stopped")

    # --- the link's thread -----------------------------------------------------------------------

    def _gather(self, event: LinkEvent) -> None:
        if isinstance(event, Received):
            with self._gathered_guard:
                if self._gathered_bytes > _GATHERED_BYTES_LIMIT:
                    return  # the database does not keep up; the protocol asks for it again
                self._gathered_bytes += len(event.payload)
        self._inbound.put(event)

    # --- the main thread -------------------------------------------------------------------------

    def _round(self) -> None:
        """Wait for something, take all that is there, save it, send what follows from it."""
        events = self._next_events()
        if not self._stopping:
            self._step(events, time.monotonic())

    def _step(self, events: list[Event], now: float) -> None:
        if self._retry_at is not None:
            self._held += [event for event in events if isinstance(event, Linked | Unlinked)]
            if now < self._retry_at:
                self._tell_status()
                return
            if self._damage:
                self._mend(self._damage, now)
                return
            events, self._held = [*self._held, Rang()], []
        if is_suspected(self._home):
            self._look_for_damage(now)
        due = self._core.next_at()
        if events or self._others_wrote() or (due is not None and due <= now):
            self._handle(events, now)
        self._carrier.pump(now)
        self._tell_status()

    def _next_events(self) -> list[Event]:
        """Wait for events, at most until the core or the next look around is due."""
        due = self._core.next_at()
        patience = _POLL_SECONDS
        if due is not None and self._retry_at is None:
            patience = min(patience, max(0.0, due - time.monotonic()))
        events: list[Event] = []
        size_bytes = 0
        try:
            first = self._inbound.get(timeout=patience)
        except queue.Empty:
            return events
        while True:
            if isinstance(first, Received):
                size_bytes += len(first.payload)
            self._translate(first, events)
            if len(events) >= _BATCH_EVENTS or size_bytes >= _BATCH_BYTES:
                break
            try:
                first = self._inbound.get_nowait()
            except queue.Empty:
                break
        if size_bytes:
            with self._gathered_guard:
                self._gathered_bytes -= size_bytes
        return events

    def _translate(self, event: LinkEvent | _Rung, events: list[Event]) -> None:
        match event:
            case Received(topic, payload):
                events.append(Heard(topic, payload))
            case Connected(address):
                self._say(f"connected to {address}")
                self._carrier.connected()
                self._status.connected, self._status.address = True, address
                self._status.refused = ()
                events.append(Linked())
            case Disconnected(reason):
                self._say(f"the connection is gone: {reason}")
                self._carrier.forget()
                self._status.connected = False
                events.append(Unlinked())
            case Subscribed(granted, refused):
                self._carrier.subscribed(refused, time.monotonic())
                before = set(self._status.refused)
                if new := sorted(set(refused) - before):
                    self._say(f"the broker refuses: {', '.join(new)}")
                self._status.refused = tuple(sorted(before.union(refused) - set(granted)))
            case _Rung():
                events.append(Rang())
            case _:
                pass  # Published: the round sends what waits for room

    def _handle(self, events: list[Event], now: float) -> None:
        try:
            if self._must_reopen:
                self._reopen()
                if self._link.connected and not any(isinstance(one, Linked) for one in events):
                    events = [Linked(), *events]  # the new core does not know it
            welcome_at = self._core.last_welcome_at
            outgoing = self._core.handle(events, now)
            self._changes = self._database.changes_by_others()
            self._status.heads = self._core.outbox.heads()
        except (DatabaseFull, DatabaseBusy, OutboxFull) as error:
            self._pause(error, now)
            return
        except (DatabaseForeign, DatabaseNewer):
            raise
        except Exception as error:
            why = self._damage_behind(error)
            if why and self._suspected:
                self._mend(why, now)
            elif isinstance(error, DatabaseError | sqlite3.DatabaseError):
                # A few reads that failed look like damage to SQLite: only a second look tells.
                self._suspected = bool(why)
                self._must_reopen = True
                self._pause(explained(error, self._database.what, self._database.path), now)
            else:
                self._pause(error, now)
            return
        if self._retry_at is not None:
            self._retry_at, self._retries = None, 0
            self._say("the disk works again")
            self._status.problem = ""
        if self._core.last_welcome_at != welcome_at:
            self._status.last_welcome_at = time.time()
            self._silence.heard(now)
        if self._core.arrivals != self._arrivals:
            self._arrivals = self._core.arrivals
            if self._hooks is not None:
                self._hooks.wake()
        self._carrier.carry(outgoing, now)

    def _others_wrote(self) -> bool:
        """Whether another process has written since the last batch, in case nobody rang."""
        with contextlib.suppress(sqlite3.Error):
            return self._database.changes_by_others() != self._changes
        return True

    # --- when the disk fails ---------------------------------------------------------------------

    def _pause(self, error: Exception, now: float) -> None:
        """Take nothing for a while; the link stays up."""
        wait = min(_RETRY_MOST_SECONDS, _RETRY_FIRST_SECONDS * 2**self._retries)
        self._retries = min(self._retries + 1, 30)
        self._retry_at = now + wait * (0.5 + 0.5 * self._random.random())
        hint = getattr(error, "hint", None)
        problem = f"{error} ({hint})" if hint else str(error)
        if self._status.problem != problem:
            self._say(f"cannot save: {problem}; trying again")
        self._status.problem = problem
        self._carrier.forget()

    def _reopen(self) -> None:
        """Open the database anew, since nobody knows what a failing disk has kept.

        The old connection is closed last. As long as one is open, SQLite's index of the write-ahead
        log says which transactions count. Without it a transaction whose sync failed would be read
        back from the system's cache, and taken for one that is on the disk.

        Raises:
            DatabaseError: It cannot be used yet; everything is as it was.
            sqlite3.Error: Likewise.
        """
        before = self._database, self._core
        self._database = open_agent_database(database_path(self._home))
        try:
            # What led here may be an entry, which is looked at only when it is sent.
            self._database.check(but_sums_of=() if self._suspected else LOGS)
            self._core = self._make_core(process=self._core.process)
        except BaseException:
            _close_quietly(self._database)
            self._database, self._core = before
            raise
        _close_quietly(before[0])
        self._must_reopen = self._suspected = False
        self._arrivals = 0
        self._changes = -1

    # --- when the database is damaged ------------------------------------------------------------

    def _open(self) -> Database:
        """Open the database and look at all of it; a damaged one is set aside for a new one.

        Raises:
            DatabaseError: It cannot be opened, or not be set aside.
        """
        clear_suspicion(self._home)
        try:
            return self._open_sound()
        except DatabaseDamaged:
            time.sleep(_SECOND_LOOK_SECONDS)  # a few reads that failed look like damage to SQLite
        try:
            return self._open_sound()
        except DatabaseDamaged as damaged:
            return self._open_another(str(damaged))

    def _open_sound(self) -> Database:
        """Open the database and look at all of it.

        Raises:
            DatabaseError: It cannot be opened, or is damaged.
        """
        database = open_agent_database(database_path(self._home))
        try:
            database.check(but_sums_of=LOGS)
        except BaseException:
            _close_quietly(database)
            raise
        return database

    def _open_another(self, why: str) -> Database:
        self._say(why)
        mended = mend(
            self._home,
            limits=self._settings.limits,
            why=why,
            at=time.time(),
            new_id=_new_id,
            heads=self._status.heads,
        )
        self._say(f"{mended.words()}; what head office has comes back from there")
        database = open_agent_database(database_path(self._home))
        self._status.file = file_id(Memory(database))
        self._status.heads = Outbox(database).heads()
        self._damage = ""
        return database

    def _damage_behind(self, error: Exception) -> str:
        """What is damaged, if that led to an error; empty if not."""
        try:
            self._database.explain(error)
            if isinstance(error, DatabaseDamaged):
                # A single read that failed looks the same to SQLite: the whole file must tell.
                self._database.check()
        except DatabaseDamaged as damaged:
            return str(damaged)
        except (DatabaseError, sqlite3.Error):
            return ""  # the disk fails, and what is on it may be unharmed
        return ""

    def _look_for_damage(self, now: float) -> None:
        """Look at all of the database, since a command has found damage in it."""
        clear_suspicion(self._home)
        try:
            self._database.check()
        except DatabaseDamaged as damaged:
            self._mend(str(damaged), now)
        except (DatabaseError, sqlite3.Error) as error:
            self._pause(error, now)

    def _mend(self, why: str, now: float) -> None:
        """Set the database aside and go on with another one; the link stays up."""
        if self._hooks is not None:
            self._hooks.stop()
        _close_quietly(self._database)
        try:
            self._database = self._open_another(why)
            self._core = self._make_core(process=self._core.process)
        except (DatabaseError, sqlite3.Error, OutboxFull) as error:
            self._damage = why
            self._pause(error, now)
            return
        self._must_reopen = self._suspected = False
        self._arrivals = 0
        self._changes = -1
        if self._link.connected:
            self._held.append(Linked())
        self._retry_at = now
        self._start_hooks()

    def _look_back(self, before: DaemonStatus) -> None:
        """Tell HQ when entries are gone that were here when the last daemon ran."""
        heads = self._core.outbox.heads()
        self._status.file, self._status.heads = file_id(self._core.memory), heads
        gone = sum(max(0, head - heads.get(log, 0)) for log, head in before.heads.items())
        if before.file != self._status.file or not gone:
            return
        words = (
            f"the database is an older one than the last daemon had: the latest {gone} entries are"
            " gone, and those that head office has not acknowledged may be lost"
        )
        self._say(words)
        with self._database.write():
            report(
                self._core.outbox,
                "its database is an older one",
                words,
                at=time.time(),
                new_id=_new_id(),
            )

    # --- odds and ends ---------------------------------------------------------------------------

    def _start_hooks(self) -> None:
        if self._settings.hook is not None:
            self._hooks = Hooks(self._home, self._settings.hook, say=self._say)
            self._hooks.start()

    def _make_core(self, *, process: Process | None) -> AgentCore:
        settings = self._settings
        return AgentCore(
            self._database,
            settings.identity,
            settings.topics,
            key=self._signing_key,
            trust=self._key.trust,
            draw=self._random.random,
            new_id=_new_id,
            wall_clock=time.time,
            roles=settings.roles,
            version=own_version(),
            timing=settings.timing,
            limits=settings.limits,
            process=process,
        )

    def _link_settings(self, will: Publication) -> LinkSettings:
        settings = self._settings
        return LinkSettings(
            addresses=settings.brokers,
            client_id=str(settings.identity),
            username=settings.username or str(settings.identity),
            password=settings.password or self._key.token,
            keepalive_seconds=settings.keepalive_seconds,
            backoff_most_seconds=settings.reconnect_most_seconds,
            will=will,
            tls=tls_settings(self._home, settings.ca_file),
        )

    def _publication(self, publish: Publish) -> Publication:
        return Publication(publish.topic, publish.payload, qos=self._settings.qos)

    def _open_doorbell(self, loop: LinkLoop) -> Doorbell | None:
        """Listen for rings on the link's loop; without a doorbell the slow look finds it all."""
        try:
            bell = Doorbell.open(self._home)
        except OSError as error:
            self._say(f"no doorbell, entries are found a little later: {error}")
            return None

        def rang(_events: int) -> None:
            if bell.wait(0):
                self._inbound.put(_RUNG)

        loop.call(lambda: loop.watch(bell.fileno(), 1, rang))  # 1 is EVENT_READ
        return bell

    def _begin_silence(self, before: DaemonStatus) -> None:
        """Take over from the process before this one since when head office is not heard."""
        last_at = before.last_welcome_at
        self._status.last_welcome_at = (
            self._core.memory.welcome_at() if last_at is None else last_at
        )
        self._status.silent = before.silent
        self._silence = Silence(
            self._settings.silence_seconds, now=time.monotonic(), silent=before.silent
        )

    def _look_for_silence(self) -> None:
        """Say when head office falls silent, and when it is heard again."""
        if not self._silence.look(time.monotonic()):
            return
        self._status.silent = self._silence.silent
        if not self._silence.silent:
            self._say("HQ is heard again")
            return
        last_at = self._status.last_welcome_at
        zone = zone_of(self._core.facts.timezone)
        self._say(not_heard_words(last_at, now_at=time.time(), zone=zone))

    def _tell_status(self, *, at_once: bool = False) -> None:
        """Write down how things are, when that has changed, and not too often."""
        self._look_for_silence()
        failure = self._link.failure
        self._status.failure = "" if failure is None else str(failure)
        now = time.monotonic()
        if not at_once and now < self._status_at + _STATUS_SECONDS:
            return
        if self._status != self._status_said:
            # With the disk full it cannot be said; then the command sees the full disk itself.
            with contextlib.suppress(OSError):
                write_status(self._home, self._status)
                self._status_said = replace(self._status)
            self._status_at = now
