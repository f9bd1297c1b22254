"""The judge: what must hold while things go wrong, and what must be so when all is quiet again.

Reads both sides' databases with its own SQL and compares them with the journal; shares no rule with
the code that it judges.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

from buswire import frame
from buswire.messages import Hello, Welcome
from buswire.signing import PublicKey
from buswire.states import STORE_RANK, State
from buswire.topics import Identity
from hqconsole import gate, hearing
from hqconsole.ledger.arrivals import DEFECT
from hqconsole.ledger.deliveries import STATE_OF
from hqconsole.ledger.evidence import DATA
from storeagent.effects import CANNOT
from storeagent.hearing import Hearing, Word
from tests.simulation import agreement
from tests.simulation.captured import STOLEN
from tests.simulation.machine import TIMING
from tests.simulation.timeline import WALL_CLOCK_START

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

HELLOS_PER_MINUTE = 70
"""The most of one device, whatever happens to it."""
HELLOS_PER_MINUTE_WHEN_CALLED = 130
"""The most of one device that somebody calls and calls: the machine's least spacing."""
HQ = "HQ"
_CLOSED_HERE = {State.DONE, State.CANNOT}


class Oracle:
    """Watches one world and judges it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults: list[str] = []
        self._hellos: defaultdict[str, list[float]] = defaultdict(list)
        self.calm_at = 0.0
        world.network.watchers.append(self._watch)
        self._answered: set[str] = set()
        self._said_first: dict[str, float] = {}
        self._said_last: dict[str, float] = {}
        self._runs: defaultdict[Identity, list[str]] = defaultdict(list)
        self._run_of: dict[str, tuple[Identity, str, bool]] = {}

    # --- watching --------------------------------------------------------------------------------

    def _watch(self, topic: str, payload: bytes) -> None:
        now = self.world.timeline.now
        parts = topic.split("/")
        if parts[2] == "from" and b'"kind":"hello"' in payload[:160]:
            self._hellos[topic].append(now)
            self._note_hello(topic, payload)

    def _note_hello(self, topic: str, payload: bytes) -> None:
        hello = frame.decode_text(payload.partition(b"\n")[2])
        identity = self.world.topics.parse(topic).identity
        assert isinstance(hello, Hello)
        assert identity is not None
        self._run_of[hello.nonce] = identity, hello.run, bool(hello.challenge)
        self._said_first.setdefault(hello.run, self.world.timeline.now)
        self._said_last[hello.run] = self.world.timeline.now
        ids = [PublicKey.parse(entry.key).id for entry in self.world.keys.entries]
        behind = ids[::-1].index(hello.hq_key) if hello.hq_key in ids else 0
        self.world.counts["hellos from two keys behind"] += behind >= 2

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within, whatever HQ or a device believes must have been said, there and so."""
        read, let_in = Hearing.read, hearing.admit
        said = self.world.network.said

        def read_and_judge(self_: Hearing, topic: str, payload: bytes, **more: Any) -> Word | None:
            word = read(self_, topic, payload, **more)
            if word is not None and (topic, payload.partition(b"\n")[2]) not in said:
                self._fault(f"a device believes what nobody said: {topic} {payload[200:400]!r}")
            return word

        def admit_and_judge(
            connection: Any, identity: Identity, topic: str, payload: bytes
        ) -> gate.Admitted:
            admitted = let_in(connection, identity, topic, payload)
            if identity.device == STOLEN:
                return admitted  # whoever took it has its key
            if (topic, payload.partition(b"\n")[2]) not in said:
                self._fault(f"HQ believes what nobody said: {topic} {payload[150:400]!r}")
            if payload.split(b" ")[1].decode() != self.world.hq.key_of(identity):
                self._fault(f"HQ listens to a key of {identity} that does not count")
            return admitted

        with (
            mock.patch.object(Hearing, "read", read_and_judge),
            mock.patch.object(hearing, "admit", admit_and_judge),
        ):
            yield

    def answered(self, payload: bytes) -> None:
        """HQ sends something to one device: each hello is answered once at most."""
        message = frame.decode_text(payload.partition(b"\n")[2])
        if not isinstance(message, Welcome) or message.mode == "later":
            return
        if message.nonce in self._answered:
            self._fault(f"HQ answers the hello {message.nonce[:6]} a second time")
        self._answered.add(message.nonce)
        if message.nonce not in self._run_of:
            return  # a thief's, or one that was noticed as forged
        identity, run, proves = self._run_of[message.nonce]
        before = self._runs[identity][-1:]
        if before != [run]:
            if before and not proves and self._is_over(identity, run, before[0]):
                self._fault(f"HQ takes the word of a run of {identity} that is over")
            self._runs[identity].append(run)

    def _is_over(self, identity: Identity, run: str, other: str) -> bool:
        """Whether a run ended before another one began, as HQ could have known by their starts."""
        journal = self.world.journal
        if identity in journal.cloned | journal.lost_disks or journal.put_back_whole[identity]:
            return False  # starts are not in the order of time there
        return self._said_last[run] < self._said_first[other]

    def forget_runs(self, identity: Identity | None = None) -> None:
        """HQ does not know any more who spoke: a new key, or an older ledger."""
        if identity is None:
            self._runs.clear()
            self._answered.clear()
        else:
            self._runs.pop(identity, None)

    def looked_at(self, machine: Machine) -> None:
        """A batch of this machine is committed: what is new in its list?"""
        disk = machine.disk
        shown: dict[tuple[str, str], int] = disk.__dict__.setdefault("shown", {})
        last = max(shown.values(), default=0)
        for directive, role, arrival in disk.database.connection.execute(
            "SELECT directive, role, arrival FROM delivery WHERE arrival > ? ORDER BY arrival",
            (last,),
        ):
            if (directive, role) in shown:
                self.world.counts["deliveries shown again"] += 1
                if not self.world.scenario.reopens:
                    self._fault(f"{machine.identity} shows {directive[:6]}/{role} a second time")
            shown[directive, role] = arrival

    def calm_begins(self) -> None:
        """The last fault is over."""
        self.calm_at = self.world.timeline.now

    def _fault(self, what: str) -> None:
        self.faults.append(what)

    # --- judging ---------------------------------------------------------------------------------

    def disagreements(self) -> list[str]:
        """What is not yet as it must be when all is quiet."""
        return [
            *agreement.disagreements(self.world),
            *self._entries(),
            *self._directives(),
            *self._withdrawals(),
            *self._states(),
        ]

    def judge(self, *, rest_seconds: float) -> None:
        """Compare everything with everything.

        Args:
            rest_seconds: For so long nothing should have happened but beats.

        Raises:
            AssertionError: With all that does not hold.
        """
        self.faults += [
            *self.world.journal.vanished,
            *self.disagreements(),
            *self._wipes(),
            *self._storms(rest_seconds),
            *self._clones(),
            *self._defects(),
        ]
        self.world.counts.update(self.world.journal.died())
        assert not self.faults, "\n  " + "\n  ".join(self.faults[:30])

    def _entries(self) -> Iterator[str]:
        arrived = Counter(
            (store, device, id_.hex())
            for store, device, id_ in self.world.hq.ledger.connection.execute(
                "SELECT store.id, device.name, arrival.id FROM arrival"
                " JOIN device ON device.no = device_no JOIN store ON store.no = store_no"
            )
        )
        yield from self._never_said()
        for (identity, record_id), entry in self.world.journal.entries.items():
            times = arrived[identity.store, identity.device, record_id]
            if times == 0 and not entry.died:
                yield f"{entry.kind} {record_id[:6]} of {identity} at {entry.at:.1f} is lost"
            if times > 1:
                yield f"{entry.kind} {record_id[:6]} of {identity} is there {times} times"
        for key, parts, parts_here in self.world.hq.ledger.connection.execute(
            "SELECT key, parts, parts_here FROM report"
        ):
            if parts_here > parts:
                yield f"{key}: {parts_here} of {parts} parts"

    def _never_said(self) -> Iterator[str]:
        """Whatever HQ has of a device was said there, in these words."""
        for store, device, id_, kind, data in self.world.hq.ledger.connection.execute(
            f"SELECT store.id, device.name, arrival.id, arrival.kind, {DATA} FROM arrival"
            " JOIN device ON device.no = device_no JOIN store ON store.no = store_no"
            " WHERE arrival.kind NOT IN ('original', 'trouble', 'withdrawn')"
        ):
            entry = self.world.journal.entries.get((Identity(store, device), id_.hex()))
            if entry is not None and entry.data != bytes(data):
                yield f"{kind} {id_.hex()[:6]} of {store}.{device} was said otherwise"
            if entry is None and device != STOLEN and b'"state":"delivered"' not in data:
                yield f"{kind} {id_.hex()[:6]} of {store}.{device} was never said: {data[:200]!r}"

    def _directives(self) -> Iterator[str]:
        connection = self.world.hq.ledger.connection
        issued = self.world.journal.directives
        held = [(HQ, connection)]
        held += [(str(one.identity), one.disk.database.connection) for one in self.world.machines]
        for where, database in held:
            for (directive,) in database.execute("SELECT id FROM directive"):
                if directive not in issued:
                    yield f"{where} has the directive {directive[:6]}, which nobody issued"
            column = "directive_id" if where == HQ else "directive"
            for (directive,) in database.execute(f"SELECT {column} FROM cancel"):
                if directive not in issued or issued[directive].cancelled_at is None:
                    yield f"{where} has a withdrawal of {directive[:6]}, which nobody withdrew"
        known = dict(connection.execute("SELECT id, state FROM directive"))
        withdrawn = {row[0] for row in connection.execute("SELECT directive_id FROM cancel")}
        twice = connection.execute("SELECT id FROM directive GROUP BY id HAVING count(*) > 1")
        for (directive,) in twice:
            yield f"directive {directive[:6]} is there twice"
        for issue in self.world.journal.directives.values():
            state = known.get(issue.id)
            if state is None:
                # What was withdrawn, and whose withdrawal HQ has, nobody needs any more.
                if not issue.died and issue.id not in withdrawn:
                    yield f"directive {issue.id[:6]} of {issue.at:.1f} is lost"
                continue
            if issue.cancelled_at is not None and not issue.cancel_died and state != "cancelled":
                yield f"directive {issue.id[:6]} was withdrawn and is {state}"
            if state in {"scheduled", "rolling"}:
                yield f"directive {issue.id[:6]} is {state} and all its times have come"
            if issue.cancelled_at is None and state == "cancelled":
                yield f"nobody withdrew directive {issue.id[:6]}"
            if issue.draft.expires_at is not None and state == "issued":
                yield f"directive {issue.id[:6]} did not expire"

    def _withdrawals(self) -> Iterator[str]:
        """Whoever says that it took a withdrawal took one that there is."""
        for directive, store, device in self.world.hq.ledger.connection.execute(
            f"SELECT json_extract({DATA}, '$.directive'), store.id, device.name FROM arrival"
            " JOIN device ON device.no = device_no JOIN store ON store.no = store_no"
            " WHERE arrival.kind = 'withdrawn' AND outcome IS NULL"
        ):
            issue = self.world.journal.directives.get(directive)
            if device != STOLEN and (issue is None or issue.cancelled_at is None):
                yield f"{store}.{device} took a withdrawal of {directive[:6]} that nobody made"

    def _states(self) -> Iterator[str]:
        """Where deliveries stand is what was said about them, no more and no less."""
        world = self.world
        said: defaultdict[tuple[str, tuple[str, str]], list[tuple[State, float, bool]]]
        said = defaultdict(list)
        for one in world.journal.statements:
            said[one.directive, one.mailbox].append((one.state, one.entry.at, one.entry.died))
        for directive, closed_at, store, role, code in world.hq.ledger.connection.execute(
            "SELECT directive.id, delivery.changed_at, store.id, role, delivery.state FROM delivery"
            " JOIN directive ON directive.no = directive_no"
            " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no"
        ):
            issue = world.journal.directives.get(directive)
            if issue is None:
                continue
            name = f"{directive[:6]} for {store}/{role}"
            if (store, role) not in issue.audience and not issue.forgotten:
                yield f"{name} was not in the audience"
            state = STATE_OF[code]
            about = said.get((directive, (store, role)), [])
            if state in STORE_RANK:
                least = max((STORE_RANK[s] for s, _, died in about if not died), default=0)
                most = max(
                    (STORE_RANK[s] for s, _, _ in about), default=STORE_RANK[State.DELIVERED]
                )
                closing = issue.draft.expires_at is not None or issue.cancelled_at is not None
                if not closing and STORE_RANK[state] < least:
                    yield f"{name} is {state}, more was said"
                if STORE_RANK[state] > max(most, STORE_RANK[State.DELIVERED]):
                    yield f"{name} is {state}, nobody said so"
            elif closed_at is not None and not issue.forgotten:
                slack = 2.0 + 4 * world.scenario.delay_most_seconds
                in_time = [
                    s
                    for s, at, died in about
                    if not died and s in _CLOSED_HERE and at < closed_at - WALL_CLOCK_START - slack
                ]
                if in_time and not world.journal.ledgers_put_back:
                    yield f"{name} is {state}, {in_time[0]} was said in time"
        for issue in world.journal.directives.values():
            if not issue.forgotten:
                yield from self._audience(issue.id, issue.audience)

    def _audience(self, directive: str, audience: frozenset[tuple[str, str]]) -> Iterator[str]:
        sent, planned = (
            set(
                self.world.hq.ledger.connection.execute(
                    f"SELECT store.id, role FROM {table} JOIN directive ON directive.no ="
                    " directive_no JOIN mailbox ON mailbox.no = mailbox_no"
                    " JOIN store ON store.no = store_no WHERE directive.id = ?",
                    (directive,),
                )
            )
            for table in ("delivery", "planned")
        )
        if audience - sent - planned:
            yield f"the audience of {directive[:6]} has lost mailboxes"
        if sent & planned:
            yield f"mailboxes of {directive[:6]} have it and are yet to get it"
        over = "SELECT 1 FROM directive WHERE id = ? AND state IN ('cancelled', 'expired')"
        if planned and not self.world.hq.ledger.connection.execute(over, (directive,)).fetchone():
            yield f"{len(planned)} mailboxes never got {directive[:6]}"

    def _wipes(self) -> Iterator[str]:
        """When HQ had heard of entries that died, it says so."""
        for wipe in self.world.journal.wipes:
            if self.world.journal.ledgers_put_back:
                continue
            dead = wipe.heard_of - {
                row[0].hex()
                for row in self.world.hq.ledger.connection.execute("SELECT id FROM arrival")
            }
            told = self.world.hq.ledger.connection.execute(
                "SELECT count(*) FROM incident JOIN device ON device.no = incident.device_no"
                " JOIN store ON store.no = store_no WHERE kind = 'entries may be lost'"
                " AND store.id = ? AND device.name = ? AND at >= ?",
                (*wipe.identity, wipe.at + WALL_CLOCK_START),
            ).fetchone()[0]
            if dead and not told:
                yield f"{wipe.identity} was wiped, {len(dead)} entries died, and HQ is silent"
            elif told:
                self.world.counts["losses reported"] += 1

    def _clones(self) -> Iterator[str]:
        """Two machines of one identity that take turns are told of, and nobody else is."""
        journal = self.world.journal
        told = {
            Identity(*row)
            for row in self.world.hq.ledger.connection.execute(
                "SELECT store.id, device.name FROM incident"
                " JOIN device ON device.no = incident.device_no"
                " JOIN store ON store.no = store_no WHERE incident.kind = 'cloned device'"
            )
        }
        self.world.counts["clones told of"] += len(told)
        for identity in told - journal.cloned:
            if journal.put_back_whole[identity] < 2:
                yield f"{identity} was never cloned, and HQ says so"
        for identity, runs in self._runs.items():
            turns = any(
                runs[at] == runs[at + 2] and runs[at + 1] == runs[at + 3]
                for at in range(len(runs) - 3)
            )
            if turns and identity not in told:
                yield f"{identity} is there twice, and HQ is silent"
            self.world.counts["clones that took turns"] += turns

    def _defects(self) -> Iterator[str]:
        """Neither side's program failed on anything; both would go on, and only tell."""
        for (detail,) in self.world.hq.ledger.connection.execute(
            "SELECT detail FROM incident WHERE kind = ?", (DEFECT,)
        ):
            yield f"HQ's program failed: {detail}"
        for machine in self.world.machines:
            for what, detail in machine.disk.database.connection.execute(
                "SELECT what, detail FROM aside WHERE instr(what, ?)", (CANNOT,)
            ):
                yield f"the program of {machine.identity} failed: {what}: {detail[:200]}"

    def _storms(self, rest_seconds: float) -> Iterator[str]:
        end = self.world.timeline.now
        called = self.world.captured is not None
        most = HELLOS_PER_MINUTE_WHEN_CALLED if called else HELLOS_PER_MINUTE
        for topic, times in self._hellos.items():
            first = 0
            for last, at in enumerate(times):
                while times[first] < at - 60.0:
                    first += 1
                if last - first >= most:
                    yield f"{topic}: {last - first} hellos in the minute before {at:.0f}"
                    break
            at_rest = sum(at > end - rest_seconds for at in times)
            if at_rest > 1 + rest_seconds / (0.8 * TIMING.beat_seconds):
                yield f"{topic}: {at_rest} hellos in {rest_seconds:.0f} s at rest"
