"""The agent without MQTT, threads or a clock: the protocol's machine married to the database.

Owns one rule above all: a batch of events is one transaction, and what is to be sent leaves only
after its commit. Must not know links, processes or files. The daemon drives it with a real link,
simulations and the fleet drive it with ":memory:" databases.

Invariants:
- The effects of one call of the machine are in the database before the next call, because the
  machine reads the database.
- A batch that has nothing to save opens no write transaction: beats and idle ticks cost no disk.
- When anything raises, nothing of the batch is kept, the machine is made anew from what is saved,
  and the protocol repeats what was lost.
- Nothing that arrives can raise: what is refused is counted, and good messages beside it take
  effect. Of what HQ did not sign nothing else is saved. Where this program itself fails on a
  message, the batch is tried again one by one, and what fails again is put aside (`defects`).
- HQ's keys are those of the last commit: a chain that was followed is saved with what it came with.
"""

import contextlib
from collections.abc import Callable, Sequence

from buskit.database import Database
from buskit.defects import EXPLAINED_SECONDS, is_defect, told
from buswire import frame
from buswire.cursors import Cursor
from buswire.device import (
    DeviceMachine,
    Doubt,
    Effect,
    Learn,
    Listen,
    Process,
    Reset,
    Saved,
    Send,
    Strange,
    Take,
    Timing,
)
from buswire.messages import Bye, Hello, Log, Records, StoreFacts, Welcome
from buswire.signing import SigningKey
from buswire.topics import Identity, Topics
from buswire.trust import Trusted
from buswire.uplink import Settled
from storeagent.ageing import grow_older
from storeagent.core_batch import Batch, Window
from storeagent.core_clock import CoreClock
from storeagent.core_words import (
    Event,
    Heard,
    Linked,
    Outgoing,
    Publish,
    Rang,
    Subscribe,
    Unlinked,
)
from storeagent.effects import CANNOT, Effects
from storeagent.errors import OutboxFull
from storeagent.hearing import Hearing, Refused, further
from storeagent.inbox import Inbox
from storeagent.limits import Limits
from storeagent.memory import ASK_ANEW, Memory
from storeagent.outbox import Outbox
from storeagent.own_names import own_machine
from storeagent.refusals import Refusal, Refusals

__all__ = [
    "AgentCore",
    "Event",
    "Heard",
    "Linked",
    "Outgoing",
    "Publish",
    "Rang",
    "Subscribe",
    "Unlinked",
]

_UNJUDGED_LIMIT = 200
"""How many messages of unknown keys wait for HQ to tell whether the keys are its own."""
_WONDER_MOST_SECONDS = 120.0


class AgentCore:
    """One device's protocol over one open database; single-threaded like the database."""

    def __init__(
        self,
        database: Database,
        identity: Identity,
        topics: Topics,
        *,
        key: SigningKey,
        trust: Trusted,
        draw: Callable[[], float],
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
        roles: Sequence[str] = (),
        version: str = "",
        timing: Timing | None = None,
        limits: Limits | None = None,
        process: Process | None = None,
    ) -> None:
        """Begin unconnected from what the database has.

        Args:
            database: Open; stays the caller's to close, after the core is not used any more.
            identity: Which device of which store this is.
            topics: How the topics are spelt.
            key: What this device signs with.
            trust: HQ's keys as they were pinned when the device joined; what it has learned since
                is in the database.
            draw: A random number in [0, 1).
            new_id: A random 128-bit id in hex.
            wall_clock: Unix time as this device believes it.
            roles: What the device was set up to serve.
            version: The agent's version, for HQ's lists.
            timing: The machine's waits.
            limits: What may be kept.
            process: Of the core before this one, where a core is made anew in one process; without
                it this is the first core of a process, and counts as its start.

        Raises:
            DatabaseError: The database cannot be read, or not written.
            WireError: One of HQ's keys is none.
        """
        self.database = database
        self.identity = identity
        self.topics = topics
        self._draw = draw
        self._new_id = new_id
        self._wall_clock = wall_clock
        self._roles = tuple(roles)
        self._version = version
        self._timing = timing
        self.outbox = Outbox(database, limits)
        self.inbox = Inbox(database)
        self.memory = Memory(database)
        self._clock = CoreClock(self.inbox, self.memory, wall_clock)
        self._effects = Effects(
            self.inbox,
            self.outbox,
            self.memory,
            new_id=new_id,
            wall_clock=wall_clock,
            store_clock=self._clock.time,
        )
        self._clock.bind(self._effects.reminders)
        self._desk = Window(self.inbox, self.outbox)
        self._own_topic = topics.from_(identity)
        self._filters: tuple[str, ...] = ()
        self._key = key
        self._pinned = trust
        self._hearing = Hearing(identity, topics, trust)
        self._unjudged: list[Refused] = []
        self._refusals = Refusals()
        self._wonder_at = -1e18
        self._wonders = 0
        self._link_is_up = False
        self._relink = False
        self._explained_at = float("-inf")
        self._last_welcome_at: float | None = None
        self._welcome_unsaved: float | None = None
        self.arrivals = 0
        """Rises with each committed batch that may have brought work, or a reminder of some."""
        self.process = self._begin_process(process)
        self._load()

    # --- driving it ------------------------------------------------------------------------------

    def handle(self, events: Sequence[Event], now: float) -> list[Outgoing]:
        """Take a batch of events, in one transaction, and return what is due after it.

        Call it also with `Rang` when `next_at` has come or the outbox was written.

        Args:
            events: What happened, in order; may be empty.
            now: Monotonic seconds.

        Raises:
            DatabaseError: Nothing of the batch was kept; the core is fit for another try, unless
                it was `DatabaseFailed`: then the database must be opened anew, and a core made
                on it.
            OutboxFull: As above; even the reserve is used up.
            Exception: A defect that no message is to blame for. As above.
        """
        try:
            return self._handle(events, now)
        except Exception as error:
            if not events or isinstance(error, OutboxFull) or not is_defect(error):
                raise
            if now >= self._explained_at + EXPLAINED_SECONDS:
                self.database.explain(error)  # damage, whatever it looked like
                self._explained_at = now
        outgoing = []
        for event in events:
            try:
                outgoing += self._handle([event], now, carefully=True)
            except Exception as error:
                if isinstance(error, OutboxFull) or not is_defect(error):
                    raise
                if not isinstance(event, Heard):
                    raise
                self._give_up(event, error)
        return outgoing + self._handle([], now)

    def _handle(
        self, events: Sequence[Event], now: float, *, carefully: bool = False
    ) -> list[Outgoing]:
        outgoing: list[Outgoing] = []
        self._effects.carefully = carefully
        self._clock.begin(now)
        anew = False
        for event in events:
            if isinstance(event, Linked | Unlinked):
                self._link_is_up = isinstance(event, Linked)
        arrivals = False
        try:
            with Batch(self.database) as batch:
                if self._stale:
                    self._load()
                if self._relink:
                    self._relink = False
                    if self._link_is_up and not any(isinstance(e, Linked) for e in events):
                        self._apply(self._machine.linked(now), batch, outgoing)
                for event in events:
                    match event:
                        case Heard(topic, payload):
                            arrivals |= self._hear(topic, payload, now, batch, outgoing)
                        case Linked():
                            self._apply(self._machine.linked(now), batch, outgoing)
                        case Unlinked():
                            self._machine.unlinked()
                        case Rang():
                            if self.memory.number(ASK_ANEW):
                                batch.begin()
                                self.memory.doubt_set()
                                self.memory.keep(ASK_ANEW, 0)
                                anew = True
                if not carefully:
                    self._apply(self._machine.tick(now), batch, outgoing)
                    arrivals |= self._clock.work(batch)
                self._save_along(now, batch)
        except BaseException:
            self.reload()
            raise
        if batch.begun:
            self._welcome_unsaved = None
            self._refusals.saved(now)
        self.arrivals += arrivals
        if anew:
            self.reload()  # HQ shows all open work again
        return outgoing if self._link_is_up else []

    def _give_up(self, heard: Heard, error: Exception) -> None:
        """Put a message aside that this program cannot process, and tell HQ."""
        shown = heard.payload[:300].decode("utf-8", "replace")
        with self.database.write():
            self._effects.refuse(
                Refusal(f"{CANNOT}: {told(error)}", heard.topic[:300], shown, times=1)
            )

    def next_at(self) -> float | None:
        """When `handle` has something to do if nothing else happens; may be past, or None."""
        if self._relink:
            return 0.0 if self._link_is_up else self._clock.next_at()
        times = (self._machine.next_at(), self._refusals.due_at, self._clock.next_at())
        return min((at for at in times if at is not None), default=None)

    def reload(self) -> None:
        """Throw the machine away and make it anew from what is saved; idempotent.

        The next `handle` takes up the link again. Where nothing can be read now, it also loads: the
        old machine believes to have what was not kept, and must not be asked again.
        """
        self._relink = self._stale = True
        self._machine.unlinked()
        # The error that led here is what the caller must see, not one more of the same disk.
        with contextlib.suppress(Exception):
            self._load()

    def bye(self) -> Publish:
        """What to send before going, and what to leave as the will."""
        return self._publish(Bye(run=self.process.run))

    @property
    def welcomed(self) -> bool:
        """Whether HQ has answered on this connection."""
        return self._machine.welcomed

    @property
    def last_welcome_at(self) -> float | None:
        """When HQ last answered, by the monotonic clock of `handle`; None if not yet."""
        return self._last_welcome_at

    @property
    def facts(self) -> StoreFacts:
        """What HQ says about this store; reads nothing."""
        return self._facts

    @property
    def trusted(self) -> Trusted:
        """HQ's keys that are trusted now."""
        return self._hearing.trusted

    # --- inside ----------------------------------------------------------------------------------

    def _begin_process(self, process: Process | None) -> Process:
        """Count the start of a process, and give the database its id if it has none."""
        starts = self.memory.number("starts")
        if process is None:
            process = Process(run=self._new_id(), start=starts + 1, machine=own_machine())
        new = not self.memory.text("install")
        other = self._version != self.memory.text("version")
        if new or starts < process.start or other:
            with self.database.write():
                if other:
                    self.memory.keep("version", self._version)
                    if not new and self.inbox.aside_count():
                        self.memory.doubt_set()  # this version may be able to use it
                if new:
                    self.memory.keep("install", self._new_id())
                self.memory.keep("starts", max(starts, process.start))
        return process

    def _load(self) -> None:
        self._hearing.trust(further(self._pinned, self.memory.trust()))
        facts = self.memory.facts()
        acked = self.outbox.acked()
        machine = DeviceMachine(
            Saved(
                install=self.memory.text("install"),
                set_version=self.memory.set_version(),
                cursors=self.memory.cursors(),
                acked=acked,
                region=facts.region,
            ),
            self._desk,
            process=self.process,
            hq_key=lambda: self._hearing.newest,
            draw=self._draw,
            new_id=self._new_id,
            wall_clock=self._wall_clock,
            roles=self._roles,
            version=self._version,
            timing=self._timing,
        )
        self._machine = machine
        self._acked: dict[Log, tuple[Cursor, int]] = acked
        self._facts: StoreFacts = facts
        self._lost: dict[Log, int] = {lost.log: lost.entries for lost in self.memory.lost()}
        self._clock.plan_anew()
        self._stale = False

    def _hear(
        self, topic: str, payload: bytes, now: float, batch: Batch, outgoing: list[Outgoing]
    ) -> bool:
        """Take one message; whether it may have brought work."""
        nonce = self._machine.nonce
        try:
            word = self._hearing.read(topic, payload, nonce=nonce, filters=self._filters)
        except Refused as refused:
            self._refuse(refused, now, batch)
            return False
        if word is None:
            return False
        message = word.message
        if word.trust is not None:
            self._learn_trust(word.trust, batch)
        answer = message if isinstance(message, Welcome) and message.nonce == nonce else None
        if answer is not None:
            self._clock.heard(answer)
        effects = self._machine.heard(message, now)
        self._apply(effects, batch, outgoing)
        if self._machine.last_welcome_at is not None:
            self._last_welcome_at = self._machine.last_welcome_at
        if answer is not None:
            if answer.mode != "later":
                self._welcome_unsaved = self._wall_clock()  # for the next batch that writes anyway
            self._judge()
            is_news = any(isinstance(effect, Learn) for effect in effects)
            if is_news and self.memory.is_new_day(answer.at):
                batch.begin()
                grow_older(self.inbox, self.outbox, self.memory, answer.at)
        return any(isinstance(effect, Take | Reset) for effect in effects)

    def _refuse(self, refused: Refused, now: float, batch: Batch) -> None:
        """Count what is refused; where HQ may have changed its key, ask HQ first."""
        if refused.leads_on is not None:
            self._learn_trust(refused.leads_on, batch)
        if refused.key_id:
            if now >= self._wonder_at:
                # HQ tells its keys in each welcome: one that stays unknown is no reason to hurry.
                self._wonder_at = now + min(_WONDER_MOST_SECONDS, 2.0**self._wonders)
                self._wonders = min(self._wonders + 1, 10)
                self._machine.wonder(now, "signed with a key not known here")
            if len(self._unjudged) < _UNJUDGED_LIMIT:
                self._unjudged.append(refused)
                return
        self._refusals.add(refused.what, source=refused.source, detail=refused.detail)

    def _judge(self) -> None:
        """HQ has told its keys: what came with others was not its word."""
        waiting, self._unjudged = self._unjudged, []
        for refused in waiting:
            if not self._hearing.trusts(refused.key_id):
                self._refusals.add(refused.what, source=refused.source, detail=refused.detail)

    def _save_along(self, now: float, batch: Batch) -> None:
        """Save what waits for the next batch that saves something, if it is one or must be."""
        due_at = self._refusals.due_at
        if due_at is not None and now >= due_at:
            batch.begin()
        if not batch.begun:
            return
        for refusal in self._refusals.waiting():
            self._effects.refuse(refusal)
        if self._welcome_unsaved is not None:
            self.memory.keep("welcome_at", self._welcome_unsaved)
        self._clock.save_along()

    def _learn_trust(self, trusted: Trusted, batch: Batch) -> None:
        batch.begin()
        self.memory.keep_trust(trusted)
        self._hearing.trust(trusted)
        self._wonder_at, self._wonders = -1e18, 0

    def _publish(self, message: Hello | Records | Bye) -> Publish:
        return Publish(self._own_topic, frame.encode(message, self._own_topic, self._key))

    def _apply(self, effects: Sequence[Effect], batch: Batch, outgoing: list[Outgoing]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    outgoing.append(self._publish(message))
                case Listen(region, channels):
                    filters = self.topics.filters_of_device(self.identity, region, channels)
                    self._filters = filters
                    outgoing.append(Subscribe(filters))
                case Take():
                    batch.begin()
                    self._effects.take(effect)
                case Reset():
                    batch.begin()
                    self._effects.reset(effect)
                    self._facts = effect.facts
                    self._clock.plan_anew()
                    # Of what was taken away and given back in between, the broker has ended the
                    # subscriptions, and the set of channels looks the same.
                    down = tuple(self.topics.down(channel) for channel in effect.cursors)
                    again = tuple(one for one in self._filters if one in down)
                    if again:
                        outgoing.append(Subscribe(self._filters, again))
                case Learn():
                    self._learn(effect, batch)
                case Settled(log, cursor, position):
                    self._settle(effect, log, cursor, position, batch)
                case Doubt():
                    batch.begin()
                    self.memory.doubt_set()
                case Strange(what):
                    batch.begin()
                    self._effects.strange(what, source="HQ")

    def _learn(self, effect: Learn, batch: Batch) -> None:
        """Save what a welcome says, where it is not what is saved already."""
        # HQ repeats it, with smaller numbers as this log grows, until the log has passed it.
        lost = {log: n for log, n in effect.lost.items() if n > self._lost.get(log, 0)}
        renewed = effect.facts != self._facts and effect.facts != StoreFacts()
        if effect.answers or effect.want or lost or effect.forgot:
            batch.begin()
            self._effects.learn(
                Learn(effect.answers, effect.want, effect.facts, lost, effect.forgot)
            )
            self._lost.update(lost)
        if renewed:
            batch.begin()
            # The region of the subscriptions is the one of the latest snapshot.
            facts = StoreFacts(
                name=effect.facts.name, region=self._facts.region, timezone=effect.facts.timezone
            )
            if facts != self._facts:
                self.memory.keep_facts(facts)
                self._facts = facts
                self._clock.plan_anew()

    def _settle(
        self, effect: Settled, log: Log, cursor: Cursor, position: int, batch: Batch
    ) -> None:
        if self._acked.get(log) == (cursor, position):
            return
        batch.begin()
        self.outbox.settle(effect)
        self.outbox.prune(log)
        self._acked[log] = (cursor, position)
