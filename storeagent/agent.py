"""The daemon: one link, one doorbell and one core, in one process per home.

Owns the loop that carries events from the link and the doorbell into the core and what comes out of
it onto the link, and what a batch that fails leads to. Must not know what any message means.

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
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from buskit.daemon import ended_by_signals
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
from storeagent.errors import OutboxFull
from storeagent.home_lock import only_one
from storeagent.hooks import Hooks
from storeagent.keys import DeviceKey, read_key, tls_settings
from storeagent.mending import clear_suspicion, is_suspected
from storeagent.own_database import OwnDatabase, damage_behind
from storeagent.own_names import own_version
from storeagent.settings import AgentSettings, read_agent_settings
from storeagent.status_teller import StatusTeller
from storeagent.work import zone_of

_POLL_SECONDS = 1.0
"""How often it looks for what other processes wrote without ringing, and for its own stop."""
_LIMITS = GatheringLimits(
    batch_events=500,
    batch_bytes=4 * 1024 * 1024,
    waiting_messages=100_000,
    waiting_bytes=32 * 1024 * 1024,
)


def run_agent(home: Path, *, quiet: bool = False) -> None:
    """Run the daemon of a home until SIGTERM or SIGINT; needs the main thread.

    Raises:
        AlreadyRunning: Another process does so already.
        DaemonError: Whether one does cannot be found out.
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
        with ended_by_signals(agent.on_signal):
            agent.run()


def _quiet(_: str) -> None:
    pass


def _new_id() -> str:
    return os.urandom(16).hex()


class AgentProcess:
    """The daemon's loop, made to run once."""

    def __init__(
        self,
        home: Path,
        settings: AgentSettings,
        key: DeviceKey,
        *,
        say: Callable[[str], None],
        chance: random.Random | None = None,
    ) -> None:
        """Prepare; nothing is opened before `run`.

        Args:
            home: The device's.
            settings: Of the home.
            key: Likewise.
            say: Tells whoever reads the log.
            chance: The source of jitter.
        """
        self._home = home
        self._settings = settings
        self._key = key
        self._signing_key = key.signing_key
        self._say = say
        self._inbound = Gathering(_LIMITS)
        self._random = chance or random.Random()  # noqa: S311 - jitter, no secret
        self._trouble = DiskTrouble(say=say, draw=self._random.random)
        self._teller = StatusTeller(home, say=say, monotonic=time.monotonic, wall_clock=time.time)
        self._status = self._teller.status
        self._own = OwnDatabase(
            home,
            limits=settings.limits,
            status=self._status,
            say=say,
            wall_clock=time.time,
            new_id=_new_id,
        )
        self._stopping = False
        self._held: list[Event] = []
        self._damage = ""
        self._arrivals = 0
        self._changes = -1
        self._hooks: Hooks | None = None

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Stop soon; safe inside a signal handler."""
        self._stopping = True
        self._inbound.ring()

    def run(self) -> None:
        """Work until a signal comes.

        Raises:
            DatabaseError: The database cannot be opened at the start, or it is damaged and another
                one cannot be begun.
        """
        remove_unfinished(self._home, now_at=time.time())
        self._database = self._own.open()
        try:
            self._core = self._make_core(self._database, process=None)
            self._own.look_back(self._database)
            self._teller.begin(self._core.memory.welcome_at(), self._settings.silence_seconds)
            bye = self._publication(self._core.bye())
            loop = LinkLoop("link")
            self._link = Link(
                self._link_settings(bye), deliver=self._inbound.put, random=self._random, loop=loop
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

    def _round(self) -> None:
        """Wait for something, take all that is there, save it, send what follows from it."""
        events = self._next_events()
        if not self._stopping:
            self._step(events, time.monotonic())

    def _step(self, events: list[Event], now: float) -> None:
        if self._trouble.is_there:
            self._held += [event for event in events if isinstance(event, Linked | Unlinked)]
            if self._trouble.waits(now):
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
        if due is not None and not self._trouble.is_there:
            patience = min(patience, max(0.0, due - time.monotonic()))
        events: list[Event] = []
        for one in self._inbound.take(patience):
            self._translate(one, events)
        return events

    def _translate(self, event: Gathered, events: list[Event]) -> None:
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
            case Rung():
                events.append(Rang())
            case _:
                pass  # Published: the round sends what waits for room

    def _handle(self, events: list[Event], now: float) -> None:
        try:
            if self._trouble.must_reopen:
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
            self._bear(error, now)
            return
        self._trouble.over()
        if self._core.last_welcome_at != welcome_at:
            self._teller.heard(now)
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
        self._trouble.pause(error, now)
        self._carrier.forget()

    def _bear(self, error: Exception, now: float) -> None:
        """Go on after a batch that failed: with the database opened anew, or with another one."""
        why = damage_behind(self._database, error)
        if why and self._trouble.suspicions:
            self._mend(why, now)
            return
        if isinstance(error, DatabaseError | sqlite3.DatabaseError):
            # A few reads that failed look like damage to SQLite: only a second look tells.
            self._trouble.suspicions = int(bool(why))
            self._trouble.must_reopen = True
            error = explained(error, self._database.what, self._database.path)
        self._pause(error, now)

    def _reopen(self) -> None:
        """Open the database anew.

        Raises:
            DatabaseError: It cannot be used yet; everything is as it was.
            sqlite3.Error: Likewise.
        """

        def begin(database: Database) -> AgentCore:
            # What led here may be an entry, which is looked at only when it is sent.
            database.check(but_sums_of=() if self._trouble.suspicions else LOGS)
            return self._make_core(database, process=self._core.process)

        self._database, self._core = self._trouble.reopen(self._database, self._own.reopen, begin)
        self._look_at_all()

    def _look_at_all(self) -> None:
        """What is known of arrivals and changes belongs to another database."""
        self._arrivals = 0
        self._changes = -1

    # --- when the database is damaged ------------------------------------------------------------

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
        close_quietly(self._database)
        try:
            self._database = self._own.open_another(why)
            self._damage = ""
            self._core = self._make_core(self._database, process=self._core.process)
        except (DatabaseError, sqlite3.Error, OutboxFull) as error:
            self._damage = why
            self._pause(error, now)
            return
        self._trouble.begin_anew()
        self._look_at_all()
        if self._link.connected:
            self._held.append(Linked())
        self._trouble.retry_now(now)
        self._start_hooks()

    # --- odds and ends ---------------------------------------------------------------------------

    def _start_hooks(self) -> None:
        if self._settings.hook is not None:
            self._hooks = Hooks(self._home, self._settings.hook, say=self._say)
            self._hooks.start()

    def _make_core(self, database: Database, *, process: Process | None) -> AgentCore:
        settings = self._settings
        return AgentCore(
            database,
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
        bell.listen(loop, self._inbound.ring)
        return bell

    def _tell_status(self, *, at_once: bool = False) -> None:
        failure = self._link.failure
        self._status.failure = "" if failure is None else str(failure)
        self._status.problem = self._trouble.problem
        self._teller.tell(lambda: zone_of(self._core.facts.timezone), at_once=at_once)
