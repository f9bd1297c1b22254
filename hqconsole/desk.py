"""HQ's end of the bus without MQTT, threads or a clock: the protocol married to the ledger.

Owns one rule above all: a batch of events is one transaction (group commit), and acknowledgements,
answers and new records leave only after its commit. Must not know links, processes or files. The
hub drives it with a real link, simulations with a ledger in memory.

Invariants:
- Nothing that arrives can raise: what cannot be used is put aside, and good messages beside it take
  effect.
- Nothing is believed that the device's key did not sign for this topic (`gate`), and nothing leaves
  unsigned. Directives and cancels leave with HQ's seal: whatever opens a transaction seals first
  what commands wrote, so there is nothing unsealed that could be sent.
- A hello is answered only if it is said now (`runs`), and no device gets more than its share
  (`timing.HubLimits`).
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
from buswire.signing import ForgeryError, check_seal, key_of_seal, seal
from buswire.topics import Identity, Topics
from buswire.trust import KeyEntry, chain_after
from hqconsole.answering import Answering
from hqconsole.audience import Organisation
from hqconsole.bounds import Allowance
from hqconsole.gate import Admitted, Refusal, admit
from hqconsole.keyring import HqKeys
from hqconsole.ledger import (
    channels,
    device_runs,
    devices,
    directives,
    forgotten,
    organisation,
)
from hqconsole.ledger.arrivals import Arrivals
from hqconsole.ledger.devices import Device
from hqconsole.ledger.evidence import Evidence
from hqconsole.ledger.progress import published_no, save_published_no
from hqconsole.ledger.troubles import put_aside, record_standing_incident, report_aside
from hqconsole.runs import Ruling, Run, Verdict, alternates_with, judge_run
from hqconsole.timing import DeskTiming, HubLimits

TOO_MUCH_KEPT = "too much kept"
CLONED = "cloned device"
_REPEATS_BEFORE_PROOF = 3
"""So many hellos in a row that seem to be repeats: the machine may have been put back whole."""
_CHALLENGES_PER_DEVICE = 4
_CHAINS_KEPT = 100

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
            self._desk.seal_all(self._connection, self.at)
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
        keyring: HqKeys,
        draw: Callable[[], float],
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
        timing: DeskTiming | None = None,
        limits: HubLimits | None = None,
        run: str | None = None,
    ) -> None:
        """Begin unconnected, from what the ledger says.

        Args:
            ledger: Where everything is; the desk is its only protocol writer.
            topics: The topic tree.
            keyring: HQ's keys; `take_keys` when they changed.
            draw: A random number in [0, 1).
            new_id: A random 128-bit id in hex.
            wall_clock: Unix time; only recorded and compared with expiry dates.
            timing: Waits and bounds.
            limits: What one device may take.
            run: This hub process, if it had a desk before; drawn if not.
        """
        self.ledger = ledger
        self.topics = topics
        self.run = run or new_id()
        self.timing = timing or DeskTiming()
        self.limits = limits or HubLimits()
        self.take_keys(keyring)
        self._hellos = Allowance(self.limits.hellos_per_minute)
        self._replays = Allowance(self.limits.replay_bytes_per_minute)
        self._challenges: dict[int, dict[str, str]] = {}
        self._repeats: dict[int, int] = {}
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

    # --- keys and seals --------------------------------------------------------------------------

    def take_keys(self, keyring: HqKeys) -> None:
        """HQ's keys are these from now on."""
        self._keys = keyring
        self._chains: dict[str, list[KeyEntry]] = {}
        self._seals_doubted = bool(keyring.stolen)

    def seal_all(self, connection: sqlite3.Connection, at: float) -> None:
        """Seal what commands wrote, in the transaction that was opened a moment ago."""
        if self._seals_doubted:
            for key_id in self._keys.stolen:
                channels.unseal(connection, key_id)
            self._seals_doubted = False
        key = self._keys.signing(at)
        channels.seal_all(connection, lambda kind, data: seal(key, kind, data))

    def _check_seal(self, kind: str, data: bytes, found: str) -> None:
        """Make sure that HQ sealed this.

        Raises:
            ForgeryError: It did not, or with a key that was stolen since.
        """
        key = self._keys.key_of(key_of_seal(found))
        if key is None:
            raise ForgeryError(
                f"a {kind} with a seal that is not HQ's" if found else f"a {kind} without a seal"
            )
        check_seal(key, kind, data, found)

    def _chain_after(self, newest: str) -> list[KeyEntry]:
        chain = self._chains.get(newest)
        if chain is None:
            if len(self._chains) >= _CHAINS_KEPT:
                self._chains.clear()
            chain = self._chains[newest] = chain_after(self._keys.entries, newest)
        return chain

    def _signed(
        self, topic: str, message: AnyMessage, at: float, *, retain: bool = False
    ) -> Publish:
        return Publish(topic, frame.encode(message, topic, self._keys.signing(at)), retain=retain)

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
        return self._signed(self.topics.hq, message, self._wall_clock(), retain=True)

    def greeting(self) -> Publish:
        """What the hub says when it comes: retained, so that devices hear of a new run."""
        count = devices.count_there(self.ledger.connection)
        message = Hub(
            run=self.run,
            up=True,
            since_at=self.since_at,
            spread_seconds=round(count / self.timing.hellos_per_second, 1),
        )
        return self._signed(self.topics.hq, message, self._wall_clock(), retain=True)

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
            batch.out.append(self._signed(self.topics.down(channel), message, batch.at))
        self._more_to_publish = bool(new.messages) or new.unsealed
        if new.through_no != self._sent_no:
            self._sent_no = new.through_no
            self._sent.append((batch.now, new.through_no))

    def _tell(self, batch: _Batch, identity: Identity, message: AnyMessage) -> None:
        batch.out.append(self._signed(self.topics.to(identity), message, batch.at))

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
        if self._seals_doubted or channels.any_unsealed(self.ledger.connection):
            _ = batch.connection  # whatever opens it seals
        if not self._linked:
            return
        if batch.now >= self._heads_at:
            self._heads_at = batch.now + self.timing.heads_seconds
            for region, heads in channels.heads_by_region(self.ledger.connection).items():
                message = Heads(run=self.run, heads=heads)
                batch.out.append(self._signed(self.topics.heads(region), message, batch.at))
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
        except WireError as error:
            self._put_aside(batch, event, str(error))
            return
        if address.identity is None or address.kind != "from":
            return
        try:
            said = admit(self.ledger.connection, address.identity, event.topic, event.payload)
        except Refusal as refusal:
            self._refuse(batch, event, refusal)
            return
        match said.message:
            case Hello() as hello:
                self._on_hello(batch, said.device, hello)
            case Records() as records:
                self._on_records(batch, said, records, event)
            case Bye(run=run):
                devices.note_bye(batch.connection, said.device.no, run)
            case other:
                self._put_aside(batch, event, f"a {type(other).__name__} from a device")

    def _refuse(self, batch: _Batch, event: Heard, refusal: Refusal) -> None:
        if refusal.kind is None:
            self._put_aside(batch, event, str(refusal))
            return
        report_aside(
            batch.connection,
            refusal.kind,
            source=refusal.source,
            reason=str(refusal),
            payload=event.payload,
            at=batch.at,
            device_no=refusal.device_no,
        )

    def _put_aside(self, batch: _Batch, event: Heard, reason: str) -> None:
        put_aside(
            batch.connection,
            source=event.topic,
            reason=reason,
            payload=event.payload,
            at=batch.at,
        )

    def _on_records(self, batch: _Batch, said: Admitted, message: Records, event: Heard) -> None:
        device = said.device
        log = next((name for name in LOGS if name == message.log), None)
        if log is None:
            self._put_aside(batch, event, f"records of a log {message.log[:40]!r}")
            return
        cursor, heard_head = devices.uplink(self.ledger.connection, device.no, log)
        ids = [record.id for record in message.records]
        outcome = fit(cursor, message.after, ids)
        if outcome is Misfit.GAP:
            self._nudge(batch, device.identity, f"a gap in {log}", 1.0)
            return
        if outcome is not Misfit.DUPLICATE:
            evidence = _evidence(said, message, event.topic)
            if not self._has_room(batch, device, evidence):
                return
            connection = batch.connection
            self._arrivals(batch).save(device, message.records[outcome:], evidence)
            cursor = advance(message.after, ids)
            devices.save_uplink(
                connection,
                device.no,
                log,
                cursor,
                heard_head=max(heard_head, cursor.seq),
                pending=None,
            )
            devices.note_heard(connection, device.no, at=batch.at, kept_bytes=evidence.kept_bytes)
        batch.acks[device.identity, log] = cursor

    def _has_room(self, batch: _Batch, device: Device, evidence: Evidence) -> bool:
        """Whether this much more may be kept of the device; without, it is not acknowledged."""
        allowed = device.allowed_bytes
        if allowed is None:
            allowed = self.limits.kept_bytes
        if device.kept_bytes + evidence.kept_bytes <= allowed:
            return True
        record_standing_incident(
            batch.connection,
            TOO_MUCH_KEPT,
            at=batch.at,
            device_no=device.no,
            kept_bytes=device.kept_bytes,
            allowed_bytes=allowed,
        )
        return False

    def _arrivals(self, batch: _Batch) -> Arrivals:
        return Arrivals(
            batch.connection,
            organisation=self._present_organisation,
            new_id=self._new_id,
            at=batch.at,
            check_seal=self._check_seal,
        )

    # --- hello and its answer --------------------------------------------------------------------

    def _on_hello(self, batch: _Batch, device: Device, hello: Hello) -> None:
        if not self._may_ask(batch, device, hello):
            return
        known = device_runs.of_device(self.ledger.connection, device.no)
        challenge = self._challenges.get(device.no, {}).get(hello.run)
        proved = challenge is not None and hello.challenge == challenge
        ruling = judge_run(hello, known, device.run, proved=proved)
        if ruling.verdict is not Verdict.TAKE:
            self._doubt(batch, device, hello, ruling.verdict)
            return
        self._note_run(batch, device, hello, known, ruling)
        if wait_seconds := self._replays.wait_seconds(device.no, 1, batch.now):
            self._welcome_later(batch, device, hello, wait_seconds)
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
            keys=self._chain_after(hello.hq_key),
        )
        sent = len(batch.out)
        for message in answering.messages():
            self._tell(batch, device.identity, message)
        size_bytes = sum(len(one.payload) for one in batch.out[sent + 1 :])
        self._replays.spend(device.no, size_bytes, batch.now)

    def _may_ask(self, batch: _Batch, device: Device, hello: Hello) -> bool:
        """Whether the hello is to be looked at; who says too many is told once, then ignored."""
        wait_seconds = self._hellos.wait_seconds(device.no, 1, batch.now)
        if wait_seconds:
            if self._hellos.left(device.no, batch.now) >= 0:
                self._hellos.spend(device.no, 1, batch.now)
                self._welcome_later(batch, device, hello, 60.0)
            return False
        self._hellos.spend(device.no, 1, batch.now)
        batch.hellos += 1
        if batch.hellos > self.timing.hellos_per_batch:
            late = (batch.hellos - self.timing.hellos_per_batch) / self.timing.hellos_per_second
            self._welcome_later(batch, device, hello, 1.0 + late)
            return False
        return True

    def _doubt(self, batch: _Batch, device: Device, hello: Hello, verdict: Verdict) -> None:
        """Drop a repeat; make the device prove that it is there where it may be one."""
        if verdict is Verdict.REPEAT:
            repeats = self._repeats[device.no] = self._repeats.get(device.no, 0) + 1
            if repeats % _REPEATS_BEFORE_PROOF:
                return
        challenges = self._challenges.setdefault(device.no, {})
        if hello.run not in challenges:
            while len(challenges) >= _CHALLENGES_PER_DEVICE:
                del challenges[next(iter(challenges))]
            challenges[hello.run] = self._new_id()
        nudge = Nudge(reason="prove that you are there", challenge=challenges[hello.run])
        self._tell(batch, device.identity, nudge)

    def _note_run(
        self, batch: _Batch, device: Device, hello: Hello, known: dict[str, Run], ruling: Ruling
    ) -> None:
        self._repeats.pop(device.no, None)
        if device.no in self._challenges:
            self._challenges[device.no].pop(hello.run, None)
        device_runs.note(
            batch.connection,
            device.no,
            hello,
            at=batch.at,
            new=hello.run not in known,
            came_back=ruling.came_back,
        )
        other = alternates_with(known, device.run, ruling)
        if other is not None:
            this = known[hello.run]
            record_standing_incident(
                batch.connection,
                CLONED,
                at=batch.at,
                device_no=device.no,
                runs=[
                    {"run": other.run, "machine": other.machine, "heard_at": other.last_at},
                    {"run": this.run, "machine": hello.machine, "heard_at": batch.at},
                ],
            )

    def _welcome_later(self, batch: _Batch, device: Device, hello: Hello, seconds: float) -> None:
        message = Welcome(
            nonce=hello.nonce,
            run=self.run,
            at=batch.at,
            mode="later",
            later_seconds=round(seconds, 1),
            keys=self._chain_after(hello.hq_key),
        )
        self._tell(batch, device.identity, message)


def _evidence(said: Admitted, message: Records, topic: str) -> Evidence:
    assert said.device.key_no is not None, "who is admitted has a key"
    return Evidence(
        key_no=said.device.key_no,
        topic=topic,
        log=message.log,
        after=message.after,
        records=len(message.records),
        signature=said.envelope.signature,
        text=said.envelope.text,
    )
