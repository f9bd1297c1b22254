"""HQ's end of the bus without MQTT, threads or a clock: the protocol married to the ledger.

Owns one rule above all: a batch of events is one transaction (group commit), and acknowledgements,
answers and new records leave only after its commit. Must not know links, processes or files. The
hub drives it with a real link, simulations with a ledger in memory.

Invariants:
- Nothing that arrives can raise: what cannot be used is put aside, and good messages beside it take
  effect.
- What commands wrote into the ledger is published from the channel logs, in the order of writing.
  The place up to which that surely happened is saved late and never early: after a crash some
  records go out twice, which costs their readers one comparison each.
- When something raises all the same (the disk), nothing of the batch is kept or sent. The same desk
  goes on once the disk takes writes again, after being told of the link again; with a database that
  had to be opened anew comes a new desk.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from buskit.database import Database
from buswire import frame
from buswire.cursors import Cursor, Misfit, advance, fit
from buswire.errors import WireError
from buswire.messages import (
    LOGS,
    Ack,
    AnyMessage,
    Bye,
    Heads,
    Hello,
    Hub,
    Log,
    Nudge,
    Records,
    Welcome,
)
from buswire.names import identifier
from buswire.topics import Identity, Topics
from hqconsole.answering import Answering
from hqconsole.audience import Organisation
from hqconsole.ledger import channels, devices, directives, forgotten, organisation
from hqconsole.ledger.arrivals import Arrivals
from hqconsole.ledger.devices import Device
from hqconsole.ledger.progress import published_no, save_published_no
from hqconsole.ledger.troubles import put_aside
from hqconsole.timing import DeskTiming

# --- events and what is to be done after a batch -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Linked:
    """The link is up and the hub's subscriptions stand."""


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The link is gone."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message arrived."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, or a command has written into the ledger."""


Event = Linked | Unlinked | Heard | Tick


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this; when it gets lost, the protocol sends it again by itself."""

    topic: str
    payload: bytes
    retain: bool = False


class _Batch:
    """One transaction at work: opened when something is to be saved, with what is to be sent."""

    def __init__(self, desk: "Desk", now: float, at: float) -> None:
        self._desk = desk
        self.now = now
        self.at = at
        self.out: list[Publish] = []
        self.acks: dict[tuple[Identity, Log], Cursor] = {}
        self.hellos = 0
        self._stack = ExitStack()
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, with a write transaction open on it."""
        if self._connection is None:
            self._connection = self._stack.enter_context(self._desk.ledger.write())
        return self._connection

    @property
    def writes(self) -> bool:
        """Whether anything opened the transaction."""
        return self._connection is not None


class Desk:
    """HQ's side of the protocol, for the life of one hub process."""

    def __init__(
        self,
        ledger: Database,
        topics: Topics,
        *,
        draw: Callable[[], float],
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
        timing: DeskTiming | None = None,
        run: str | None = None,
    ) -> None:
        """Begin unconnected, from what the ledger says.

        Args:
            ledger: Where everything is; the desk is its only protocol writer.
            topics: The topic tree.
            draw: A random number in [0, 1).
            new_id: A random 128-bit id in hex.
            wall_clock: Unix time; only recorded and compared with expiry dates.
            timing: Waits and bounds.
            run: This hub process, if it had a desk before; drawn if not.
        """
        self.ledger = ledger
        self.topics = topics
        self.run = run or new_id()
        self.timing = timing or DeskTiming()
        self._draw = draw
        self._new_id = new_id
        self._wall_clock = wall_clock
        self._linked = False
        self.since_at = wall_clock()
        self._sure_no = self._sent_no = published_no(ledger.connection)
        self._saved_no = self._sure_no
        self._sent: deque[tuple[float, int]] = deque()
        self._heads_at = 0.0
        self._nudge_at = 0.0
        self._want_at: float | None = None
        self._expiry_at: float | None = None
        self._more_to_publish = False
        self._nudged: dict[Identity, float] = {}
        self._told: dict[Identity, Cursor] = {}
        self._roster_version = -1
        self._organisation: Organisation | None = None
        self._organisation_version = -1

    # --- the one way in --------------------------------------------------------------------------

    def handle(self, events: Sequence[Event], now: float) -> list[Publish]:
        """Take a batch of events; what it returns may be sent, because all of it is committed.

        Args:
            events: In the order in which they happened.
            now: Monotonic time in seconds.

        Raises:
            DatabaseError: Nothing of the batch is kept or sent; see above.
        """
        with _Batch(self, now, self._wall_clock()) as batch:
            for event in events:
                match event:
                    case Heard():
                        self._hear(batch, event)
                    case Linked():
                        self._link_up(batch)
                    case Unlinked():
                        self._link_down()
            self._do_what_is_due(batch)
            if batch.writes and self._sure_no != self._saved_no:
                save_published_no(batch.connection, self._sure_no)
                self._saved_no = self._sure_no
        if self._linked:
            for (identity, log), cursor in batch.acks.items():
                self._tell(batch, identity, Ack(run=self.run, log=log, cursor=cursor))
            self._publish_new(batch)
        return batch.out

    def next_at(self, now: float) -> float:
        """When `handle` has something to do again, if nothing else happens."""
        if not self._linked:
            return now + self.timing.nudge_seconds
        times = [self._heads_at, self._nudge_at]
        if self._more_to_publish:
            times.append(now)
        if self._want_at is not None:
            times.append(self._want_at)
        if self._expiry_at is not None:
            times.append(now + max(0.0, self._expiry_at - self._wall_clock()))
        return max(now, min(times))

    def farewell(self) -> Publish:
        """What the hub says when it goes, and what its will says for it."""
        message = Hub(run=self.run, up=False, since_at=self.since_at)
        return Publish(self.topics.hq, frame.encode(message), retain=True)

    def greeting(self) -> Publish:
        """What the hub says when it comes: retained, so that devices hear of a new run."""
        count = devices.count_there(self.ledger.connection)
        message = Hub(
            run=self.run,
            up=True,
            since_at=self.since_at,
            spread_seconds=round(count / self.timing.hellos_per_second, 1),
        )
        return Publish(self.topics.hq, frame.encode(message), retain=True)

    # --- the link --------------------------------------------------------------------------------

    def _link_up(self, batch: _Batch) -> None:
        self._linked = True
        self._heads_at = batch.now
        self._nudge_at = batch.now + self.timing.nudge_seconds
        self._want_at = batch.now + self.timing.want_seconds
        batch.out.append(self.greeting())

    def _link_down(self) -> None:
        """What was sent a moment ago may have died with the link: it is sent again."""
        self._linked = False
        self._sent_no = self._sure_no
        self._sent.clear()

    def _publish_new(self, batch: _Batch) -> None:
        while self._sent and self._sent[0][0] + self.timing.sure_seconds <= batch.now:
            self._sure_no = self._sent.popleft()[1]
        new = channels.unpublished(
            self.ledger.connection, self._sent_no, most=self.timing.publish_records
        )
        for channel, message in new.messages:
            batch.out.append(Publish(self.topics.down(channel), frame.encode(message)))
        self._more_to_publish = bool(new.messages)
        if new.through_no != self._sent_no:
            self._sent_no = new.through_no
            self._sent.append((batch.now, new.through_no))

    def _tell(self, batch: _Batch, identity: Identity, message: AnyMessage) -> None:
        batch.out.append(Publish(self.topics.to(identity), frame.encode(message)))

    # --- what is due -----------------------------------------------------------------------------

    def _do_what_is_due(self, batch: _Batch) -> None:
        self._expiry_at = directives.next_expiry(self.ledger.connection)
        if self._expiry_at is not None and self._expiry_at <= batch.at:
            directives.expire_due(
                batch.connection,
                organisation=self._present_organisation,
                at=batch.at,
                new_id=self._new_id,
            )
            self._expiry_at = directives.next_expiry(batch.connection)
        if not self._linked:
            return
        if batch.now >= self._heads_at:
            self._heads_at = batch.now + self.timing.heads_seconds
            for region, heads in channels.heads_by_region(self.ledger.connection).items():
                message = Heads(run=self.run, heads=heads)
                batch.out.append(Publish(self.topics.heads(region), frame.encode(message)))
        self._nudge_moved(batch)
        self._ask_for_forgotten(batch)
        if batch.now >= self._nudge_at:
            self._nudge_at = batch.now + self.timing.nudge_seconds
            self._sweep(batch)
            self._nudge_late(batch)

    def _ask_for_forgotten(self, batch: _Batch) -> None:
        """Make one device at a time send up what the ledger does not know and stores speak of.

        Only a welcome can say what HQ wants, and the next beat may be minutes away.
        """
        if self._want_at is None:
            if not batch.writes:
                return
        elif batch.now < self._want_at:
            return
        self._want_at = None
        if forgotten.any_waiting(self.ledger.connection):
            self._want_at = batch.now + self.timing.want_seconds
            for directive_id, device_no, identity in forgotten.next_to_ask(
                self.ledger.connection, at=batch.at, most=50
            ):
                forgotten.ask(batch.connection, directive_id, device_no, at=batch.at)
                self._nudge(batch, identity, "HQ lacks a directive", 0.0)

    def _sweep(self, batch: _Batch) -> None:
        silent_since = batch.at - self.timing.offline_seconds
        if devices.anyone_silent(self.ledger.connection, since=silent_since):
            devices.sweep(batch.connection, silent_since=silent_since)

    def _nudge_late(self, batch: _Batch) -> None:
        """Make devices ask that are there and have not receipted what they should have."""
        late = devices.there_without_receipt(
            self.ledger.connection,
            issued_before=batch.at - self.timing.nudge_seconds,
            most=int(self.timing.hellos_per_second * self.timing.nudge_seconds / 4),
        )
        for waiting in late:
            self._nudge(batch, waiting.identity, "work without a receipt", 10.0)

    def _nudge_moved(self, batch: _Batch) -> None:
        """Make devices ask whose channel set is not what they were told last."""
        version = organisation.roster_version(self.ledger.connection)
        if version == self._roster_version:
            return
        self._roster_version = version
        present = organisation.set_versions(self.ledger.connection)
        for identity, told in self._told.items():
            if present.get(identity.store) != told:
                self._nudge(batch, identity, "the roster changed", 0.0)

    def _nudge(self, batch: _Batch, identity: Identity, reason: str, spacings: float) -> None:
        spacing = spacings * self.timing.nudge_spacing_seconds
        if batch.now - self._nudged.get(identity, -1e18) >= spacing:
            self._nudged[identity] = batch.now
            self._tell(batch, identity, Nudge(reason=reason))

    def _present_organisation(self) -> Organisation:
        """The organisation as of this batch; read again after every change of the roster."""
        version = organisation.roster_version(self.ledger.connection)
        if self._organisation is None or version != self._organisation_version:
            self._organisation = organisation.organisation(self.ledger.connection)
            self._organisation_version = version
        return self._organisation

    # --- what devices say ------------------------------------------------------------------------

    def _hear(self, batch: _Batch, event: Heard) -> None:
        try:
            address = self.topics.parse(event.topic)
            if address.identity is None or address.kind != "from":
                return
            message = frame.decode(event.payload)
        except WireError as error:
            self._put_aside(batch, event, str(error))
            return
        identity = address.identity
        place = organisation.place_of(self.ledger.connection, identity.store)
        if place is None:
            self._put_aside(batch, event, f"store {identity.store} is not in the roster")
            return
        device = devices.find(self.ledger.connection, identity, place)
        match message:
            case Hello():
                if device is None:
                    if reason := _misnamed(identity):
                        self._put_aside(batch, event, reason)
                        return
                    device = devices.register(
                        batch.connection, identity, place, message, at=batch.at
                    )
                if device is None:
                    self._put_aside(batch, event, "more devices than a store may have")
                    return
                self._on_hello(batch, device, message)
            case Records():
                if device is None:
                    self._nudge(batch, identity, "say hello first", 1.0)
                else:
                    self._on_records(batch, device, message, event)
            case Bye():
                if device is not None:
                    devices.note_bye(batch.connection, device.no, message.run)
            case _:
                self._put_aside(batch, event, f"a {type(message).__name__} from a device")

    def _put_aside(self, batch: _Batch, event: Heard, reason: str) -> None:
        put_aside(
            batch.connection,
            source=event.topic,
            reason=reason,
            payload=event.payload,
            at=batch.at,
        )

    def _on_records(self, batch: _Batch, device: Device, message: Records, event: Heard) -> None:
        log = next((name for name in LOGS if name == message.log), None)
        if log is None:
            self._put_aside(batch, event, f"records of a log {message.log[:40]!r}")
            return
        connection = batch.connection
        cursor, heard_head = devices.uplink(connection, device.no, log)
        ids = [record.id for record in message.records]
        outcome = fit(cursor, message.after, ids)
        if outcome is Misfit.GAP:
            self._nudge(batch, device.identity, f"a gap in {log}", 1.0)
            return
        if outcome is not Misfit.DUPLICATE:
            self._arrivals(batch).save(device, message.records[outcome:])
            cursor = advance(message.after, ids)
            devices.save_uplink(
                connection,
                device.no,
                log,
                cursor,
                heard_head=max(heard_head, cursor.seq),
                pending=None,
            )
            devices.note_heard(connection, device.no, at=batch.at)
        batch.acks[device.identity, log] = cursor

    def _arrivals(self, batch: _Batch) -> Arrivals:
        return Arrivals(
            batch.connection,
            organisation=self._present_organisation,
            new_id=self._new_id,
            at=batch.at,
        )

    # --- hello and its answer --------------------------------------------------------------------

    def _on_hello(self, batch: _Batch, device: Device, hello: Hello) -> None:
        batch.hellos += 1
        if batch.hellos > self.timing.hellos_per_batch:
            late = (batch.hellos - self.timing.hellos_per_batch) / self.timing.hellos_per_second
            self._welcome_later(batch, device, hello, 1.0 + late)
            return
        self._told[device.identity] = device.place.set_version
        answering = Answering(
            batch.connection,
            device,
            hello,
            run=self.run,
            at=batch.at,
            new_id=self._new_id,
            timing=self.timing,
        )
        for message in answering.messages():
            self._tell(batch, device.identity, message)

    def _welcome_later(self, batch: _Batch, device: Device, hello: Hello, seconds: float) -> None:
        message = Welcome(
            nonce=hello.nonce, run=self.run, at=batch.at, mode="later", later_seconds=seconds
        )
        self._tell(batch, device.identity, message)


def _misnamed(identity: Identity) -> str:
    """Why a device that HQ has not heard of cannot be called so; empty if it can."""
    try:
        right = identifier(identity.device, "device")
    except WireError as error:
        return str(error)
    return "" if right == identity.device else f"device {identity.device!r} is not in normal form C"
