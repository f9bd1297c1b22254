"""Head office: the ledger's disk, the hub's process as the daemon runs it, and commands.

Drives `Desk` as it ships. Commands (`issue`, `cancel`, the roster) write the ledger beside the hub,
whether it runs or not, and ring it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from buskit.database import Database
from buswire.signing import PublicKey
from buswire.topics import Identity
from hqconsole.audience import Selector, select
from hqconsole.desk import Desk, DeskTiming, Event, Heard, Linked, Tick, Unlinked
from hqconsole.ledger import directives, enrolment, organisation, waves, withdrawing
from hqconsole.ledger.directives import Draft, Issued, Plan, Wave, Written
from hqconsole.rollout import parts
from hqconsole.store_row import StoreRow
from tests.simulation.disks import Killed

if TYPE_CHECKING:
    from tests.simulation.network import Session
    from tests.simulation.world import World

TIMING = DeskTiming(
    heads_seconds=6.0,
    nudge_seconds=6.0,
    nudge_spacing_seconds=1.0,
    offline_seconds=50.0,
    sure_seconds=4.0,
    hellos_per_second=20.0,
    hellos_per_batch=12,
    replay_records=30,
    replay_bytes=6_000,
    page_bytes=1_500,
    publish_records=20,
)
CLIENT_ID = "hub"
_NO_TOKEN = "0" * 64
"""The simulation's broker asks for none."""


class HeadOffice:
    """The ledger and the hub."""

    def __init__(self, world: World, image: bytes) -> None:
        self.world = world
        self.put_in_disk(image)
        self.desk: Desk | None = None
        self.session: Session | None = None
        self._inbound: list[Event] = []
        self._round_planned = False
        self._due_at: float | None = None
        self._die_after_commit = False
        self._will_key = ""
        self._life = 0

    @property
    def ledger(self) -> Database:
        """The ledger as it is at present."""
        return self.disk.database

    # --- the process -----------------------------------------------------------------------------

    def start(self, *, run: str | None = None) -> None:
        """The hub starts; with `run` as the process that it was, on a machine put back whole."""
        if self.desk is not None:
            return
        try:
            self.desk = self.disk.run(lambda: self.make_desk(run))
        except Killed:
            self.come_back_later()
            return
        self._begin_life()

    def _begin_life(self) -> None:
        self._life += 1
        self._inbound = []
        self._due_at = None
        self._plan_connect(0.3)

    def make_desk(self, run: str | None) -> Desk:
        """A hub's protocol on the ledger as it is."""
        timeline = self.world.timeline
        return Desk(
            self.ledger,
            self.world.topics,
            keyring=self.world.keys,
            draw=timeline.random.random,
            new_id=timeline.new_id,
            wall_clock=timeline.wall_clock,
            timing=TIMING,
            run=run,
        )

    def kill(self) -> None:
        """The hub dies as with SIGKILL."""
        self.desk = None
        self._life += 1
        self._die_after_commit = False
        self._inbound = []
        self.disk.be_well()
        if self.session is not None:
            self.session.vanish()
            self.session = None

    def kill_soon(self, *, before_commit: bool) -> None:
        """The hub dies at its next commit, or between that and what it sends after it."""
        if before_commit:
            self.disk.kill_at_commit()
        else:
            self._die_after_commit = True

    def put_back(self, image: bytes) -> None:
        """The ledger becomes this older copy; the hub must not run."""
        assert self.desk is None
        self.put_in_disk(image)

    def put_in_disk(self, image: bytes) -> None:
        """Begin with the content of this image."""
        self.disk = self.world.disks.ledger(image)
        self.disk.died = self.come_back_later

    def _plan_connect(self, most_seconds: float) -> None:
        life, timeline = self._life, self.world.timeline

        def connect() -> None:
            if self.desk is None or self._life != life or self.session is not None:
                return
            will = self.desk.farewell()
            self._will_key = self._signing_key()
            session = self.world.network.connect(
                CLIENT_ID, self._receive, self._lost, (will.topic, will.payload, will.retain)
            )
            if session is None:
                self._plan_connect(1.5)
                return
            self.session = session

            def subscribed() -> None:
                if self.session is session:
                    self._gather(Linked())

            session.subscribe(self.world.topics.filters_of_hub(), subscribed)

        timeline.after(timeline.between(0.05, most_seconds), connect)

    def _lost(self) -> None:
        self.session = None
        self._gather(Unlinked())
        self._plan_connect(1.5)

    def _receive(self, topic: str, payload: bytes) -> None:
        self._gather(Heard(topic, payload))

    # --- the daemon's loop -----------------------------------------------------------------------

    def ring(self) -> None:
        """A command has written into the ledger."""
        self._gather(Tick())

    def _gather(self, event: Event) -> None:
        if self.desk is None:
            return
        self._inbound.append(event)
        if not self._round_planned:
            self._round_planned = True
            timeline = self.world.timeline
            timeline.after(0.05 * timeline.random.random(), self._round)

    def _round(self) -> None:
        self._round_planned = False
        desk, now = self.desk, self.world.timeline.now
        if desk is None:
            return
        events, self._inbound = self._inbound, []
        try:
            outgoing = self.disk.run(lambda: desk.handle(events, now))
        except Killed:
            self.world.counts["hub killed before a commit"] += 1
            self.come_back_later()
            return
        if self._die_after_commit and outgoing:
            self.world.counts["hub killed behind a commit"] += 1
            self.come_back_later()
            return
        if self.session is not None:
            for one in outgoing:
                if "/to/" in one.topic:
                    self.world.oracle.answered(one.payload)
                self.session.publish(one.topic, one.payload, retain=one.retain)
        self._renew_will()
        self._plan_due()

    def _renew_will(self) -> None:
        """What lies at the broker, to be said later, must bear a key that is trusted then."""
        if self.session is not None and self._will_key != self._signing_key():
            self.session.hang_up()
            self._lost()

    def _signing_key(self) -> str:
        return self.world.keys.signing(self.world.timeline.wall_clock()).id

    def next_at(self, now: float) -> float:
        """When the hub has something to do if nothing happens."""
        assert self.desk is not None
        return self.desk.next_at(now)

    def _plan_due(self) -> None:
        now, life = self.world.timeline.now, self._life
        due = max(self.next_at(now), now + 0.001)
        if self._due_at is not None and now < self._due_at <= due:
            return

        def wake() -> None:
            if self._due_at == due:
                self._due_at = None
            if self._life == life:
                self._gather(Tick())

        self._due_at = due
        self.world.timeline.at(due, wake)

    def come_back_later(self) -> None:
        """Die now, start again some time later."""
        self.kill()
        timeline = self.world.timeline
        timeline.after(timeline.between(0.2, 6.0), self.start)

    # --- commands --------------------------------------------------------------------------------

    def command(self, do: Callable[[], object]) -> object:
        """Let an operator's command write the ledger; what fails for the hub spares it."""
        result = self.disk.quietly(do)
        if self.world.timeline.chance(0.8):
            self.ring()
        return result

    def issue(self, draft: Draft, selector: Selector) -> tuple[Issued, frozenset[tuple[str, str]]]:
        """Issue a directive; what it is, and its frozen audience."""
        timeline = self.world.timeline

        def do() -> tuple[Issued, frozenset[tuple[str, str]]]:
            with self.ledger.write() as connection:
                present = organisation.organisation(connection)
                mailboxes = select(selector, present)
                issued = directives.issue(
                    connection,
                    draft,
                    mailboxes,
                    present,
                    at=timeline.wall_clock(),
                    new_id=timeline.new_id,
                )
            return issued, frozenset((one.store, one.role) for one in mailboxes)

        return self.command(do)  # type: ignore[return-value]

    def issue_in_parts(
        self, draft: Draft, selector: Selector
    ) -> tuple[Written, frozenset[tuple[str, str]]]:
        """Write a directive down that goes out by itself, by and by."""
        timeline = self.world.timeline
        starts = [timeline.between(0.0, 12.0) for _ in range(3)]
        rate = 3600.0 if timeline.chance(0.2) else None

        def do() -> tuple[Written, frozenset[tuple[str, str]]]:
            at = timeline.wall_clock()
            with self.ledger.write() as connection:
                present = organisation.organisation(connection)
                mailboxes = select(selector, present)
                first_store = min(one.store for one in mailboxes)
                cut = parts(mailboxes, [first_store], [50.0])
                written = directives.write(
                    connection,
                    draft,
                    Plan(rate_per_hour=rate),
                    [
                        Wave(label, there, at + after)
                        for (label, there), after in zip(cut, sorted(starts), strict=False)
                    ],
                    at=at,
                    new_id=timeline.new_id,
                )
                waves.begin(
                    connection,
                    written.no,
                    by="operator",
                    at=at,
                    new_id=timeline.new_id,
                    organisation=lambda: present,
                )
            return written, frozenset((one.store, one.role) for one in mailboxes)

        return self.command(do)  # type: ignore[return-value]

    def cancel(self, directive: str) -> None:
        """Withdraw a directive."""
        timeline = self.world.timeline

        def do() -> None:
            with self.ledger.write() as connection:
                withdrawing.cancel(
                    connection,
                    directives.find(connection, directive),
                    reason="a mistake",
                    by="operator",
                    organisation=organisation.organisation(connection),
                    at=timeline.wall_clock(),
                    new_id=timeline.new_id,
                )

        self.command(do)

    def save_roster(self, stores: Iterable[StoreRow]) -> None:
        """Make the roster this list."""
        timeline = self.world.timeline

        def do() -> None:
            with self.ledger.write() as connection:
                organisation.save_roster(
                    connection, stores, at=timeline.wall_clock(), new_id=timeline.new_id
                )

        self.command(do)

    def assign_roles(self, store: str, device: str, roles: list[str] | None) -> None:
        """Set which roles a device serves."""
        timeline = self.world.timeline

        def do() -> None:
            with self.ledger.write() as connection:
                organisation.assign_roles(
                    connection,
                    store,
                    device,
                    roles,
                    new_id=timeline.new_id,
                )

        self.command(do)

    def let_in(self, identity: Identity, key: PublicKey, roles: Sequence[str]) -> None:
        """A device joins, anew if it was there.

        Raises:
            HqError: Its store is not in the roster.
        """
        timeline = self.world.timeline

        def do() -> None:
            with self.ledger.write() as connection:
                enrolment.activate(
                    connection,
                    identity,
                    list(roles) or None,
                    public=key,
                    token_hash=_NO_TOKEN,
                    at=timeline.wall_clock(),
                    new_id=timeline.new_id,
                )

        self.command(do)

    def put_out(self, identity: Identity) -> None:
        """A device is revoked.

        Raises:
            HqError: It is not known.
        """
        timeline = self.world.timeline

        def do() -> None:
            with self.ledger.write() as connection:
                enrolment.revoke(
                    connection, identity, at=timeline.wall_clock(), by="operator", why="lost"
                )

        self.command(do)

    def key_of(self, identity: Identity) -> str | None:
        """The id of the key that counts for a device; None where none does."""
        row = self.ledger.connection.execute(
            "SELECT key_id FROM device JOIN device_key ON device_key.no = key_no"
            " JOIN store ON store.no = store_no"
            " WHERE store.id = ? AND device.name = ? AND device.state = 'active'",
            identity,
        ).fetchone()
        return None if row is None else str(row[0])

    def keys_changed(self) -> None:
        """The hub reads its keys again."""
        if self.desk is not None:
            self.desk.take_keys(self.world.keys)
            self.ring()
