"""HQ's end of the bus without MQTT, threads or a clock: the protocol married to the ledger.

Owns one rule above all: a batch of events is one transaction (group commit), and acknowledgements,
answers and new records leave only after its commit. Must not know links, processes or files. The
hub drives it with a real link, simulations with a ledger in memory.

Invariants:
- Nothing that arrives can raise: what cannot be used is put aside, and good messages beside it take
  effect. Where this program itself fails on a message, the batch is tried again one by one, and
  what fails again is put aside (`buskit.defects`).
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

from collections import deque
from collections.abc import Callable, Sequence

from buskit.database import Database
from buskit.defects import EXPLAINED_SECONDS, is_defect, told
from buswire.messages import Ack, Heads, Hub
from buswire.topics import Topics
from hqconsole.attending import Attendant
from hqconsole.batch import Batch, Event, Heard, Linked, Nudges, Publish, Tick, Unlinked
from hqconsole.enrolling import IssueCertificate
from hqconsole.hearing import Hearing
from hqconsole.hellos import Hellos
from hqconsole.keyring import HqKeys
from hqconsole.ledger import channels, devices, forgotten, organisation, search_index
from hqconsole.ledger.arrivals import DEFECT
from hqconsole.ledger.organisation import PresentOrganisation
from hqconsole.ledger.progress import published_no, save_published_no
from hqconsole.ledger.troubles import record_standing_incident
from hqconsole.notary import Notary
from hqconsole.timekeeping import Timekeeping
from hqconsole.timing import DeskTiming, HubLimits

__all__ = ["Desk", "DeskTiming", "Event", "Heard", "Linked", "Publish", "Tick", "Unlinked"]


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
        certificate: IssueCertificate | None = None,
        confirm: bool = False,
    ) -> None:
        """Begin unconnected, from what the ledger says.

        Args:
            ledger: Where everything is; the desk is its only protocol writer.
            topics: The topic tree.
            keyring: HQ's keys; `take_keys` when they changed.
            draw: A random number in [0, 1).
            new_id: A random 128-bit id in hex.
            wall_clock: Unix time as this machine believes it; see `steady_clock`.
            timing: Waits and bounds.
            limits: What one device may take.
            run: This hub process, if it had a desk before; drawn if not.
            certificate: Makes client certificates, where brokers want them of devices.
            confirm: Whether an operator is to compare the fingerprint of each key that joins.
        """
        self.ledger = ledger
        self.topics = topics
        self.run = run or new_id()
        self.timing = timing or DeskTiming()
        self.limits = limits or HubLimits()
        self._notary = Notary(keyring, topics)
        self._nudges = Nudges(self.timing.nudge_spacing_seconds)
        self._organisation = PresentOrganisation(ledger.connection)
        self._timekeeping = Timekeeping(ledger, wall_clock)
        self._hellos = Hellos(
            self._notary,
            run=self.run,
            new_id=new_id,
            timing=self.timing,
            limits=self.limits,
            timekeeping=self._timekeeping,
        )
        self._hearing = Hearing(
            topics,
            self._notary,
            self._hellos,
            self._nudges,
            self._organisation,
            new_id=new_id,
            limits=self.limits,
            certificate=certificate,
            confirm=confirm,
        )
        self._attendant = Attendant(
            self._organisation, settling_seconds=self.timing.settling_seconds, new_id=new_id
        )
        self._draw = draw
        self._new_id = new_id
        self._linked = False
        self.since_at = self._timekeeping.clock.told_at
        self._sure_no = self._sent_no = published_no(ledger.connection)
        self._saved_no = self._sure_no
        self._sent: deque[tuple[float, int]] = deque()
        self._heads_at = 0.0
        self._index_at = 0.0
        self._nudge_at = 0.0
        self._want_at: float | None = None
        self._due_at: float | None = None
        self._more_to_publish = False
        self._roster_version = -1
        self._explained_at = float("-inf")

    # --- the one way in --------------------------------------------------------------------------

    def handle(self, events: Sequence[Event], now: float) -> list[Publish]:
        """Take a batch of events; what it returns may be sent, because all of it is committed.

        Args:
            events: In the order in which they happened.
            now: Monotonic time in seconds.

        Raises:
            DatabaseError: Nothing of the batch is kept or sent; see above.
        """
        try:
            return self._handle(events, now)
        except Exception as error:
            self._attendant.begin_again()  # what it did in that batch is undone
            if not is_defect(error):
                raise
            if now >= self._explained_at + EXPLAINED_SECONDS:
                self.ledger.explain(error)  # damage, whatever it looked like
                self._explained_at = now
        out: list[Publish] = []
        self._roster_version = -1  # whoever was to be asked because of a change is asked again
        for event in events:
            try:
                out += self._handle([event], now, carefully=True)
            except Exception as error:
                if not isinstance(event, Heard) or not is_defect(error):
                    raise
                with self._batch(now, carefully=True) as batch:
                    self._hearing.give_up(batch, event, error)
        try:
            return out + self._handle([], now)
        except Exception as error:
            if not is_defect(error):
                raise
            self._attendant.begin_again()
            with self._batch(now, carefully=True) as batch:
                record_standing_incident(
                    batch.connection,
                    DEFECT,
                    at=batch.at,
                    device_no=None,
                    source="what is due",
                    reason=told(error),
                    times=1,
                )
        return out

    def _batch(self, now: float, *, carefully: bool) -> Batch:
        at = self.clock_at(now)
        return Batch(self.ledger, self._notary, self.topics, now=now, at=at, carefully=carefully)

    def _handle(
        self, events: Sequence[Event], now: float, *, carefully: bool = False
    ) -> list[Publish]:
        with self._batch(now, carefully=carefully) as batch:
            for event in events:
                match event:
                    case Heard():
                        self._hearing.hear(batch, event)
                    case Linked():
                        self._link_up(batch)
                    case Unlinked():
                        self._link_down(batch.at)
            if not carefully:
                self._do_what_is_due(batch)
                self._timekeeping.attend(batch)
            if batch.writes and self._sure_no != self._saved_no:
                save_published_no(batch.connection, self._sure_no)
                self._saved_no = self._sure_no
        if batch.writes:
            self._notary.settle()
        if self._linked:
            for (identity, log), cursor in batch.acks.items():
                batch.tell(identity, Ack(run=self.run, log=log, cursor=cursor))
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
        if self._due_at is not None:
            times.append(now + max(0.0, self._due_at - self.clock_at(now)))
        return max(now, min(times))

    def clock_at(self, now: float) -> float:
        """Unix time as HQ goes by it, at this monotonic time."""
        return self._timekeeping.clock.at(now)

    def take_keys(self, keyring: HqKeys) -> None:
        """HQ's keys are these from now on."""
        self._notary.take_keys(keyring)

    def farewell(self) -> Publish:
        """What the hub says when it goes, and what its will says for it."""
        return self._publish_hub(Hub(run=self.run, up=False, since_at=self.since_at))

    def greeting(self, heard: str = "") -> Publish:
        """What the hub says when it comes: retained, so that devices hear of a new run.

        Args:
            heard: The run of another hub that it answers, if it does.
        """
        count = devices.count_there(self.ledger.connection)
        return self._publish_hub(
            Hub(
                run=self.run,
                up=True,
                since_at=self.since_at,
                spread_seconds=round(count / self.timing.hellos_per_second, 1),
                heard=heard,
            )
        )

    def _publish_hub(self, message: Hub) -> Publish:
        topic = self.topics.hq
        return Publish(
            topic, self._notary.sign(topic, message, self._timekeeping.clock.told_at), retain=True
        )

    # --- the link --------------------------------------------------------------------------------

    def _link_up(self, batch: Batch) -> None:
        self._linked = True
        self._attendant.hear(batch.at)
        self._heads_at = batch.now
        self._nudge_at = batch.now + self.timing.nudge_seconds
        self._want_at = batch.now + self.timing.want_seconds
        batch.out.append(self.greeting())

    def _link_down(self, at: float) -> None:
        """What was sent a moment ago may have died with the link: it is sent again."""
        self._linked = False
        self._attendant.hear_nothing(at)
        self._sent_no = self._sure_no
        self._sent.clear()

    def _publish_new(self, batch: Batch) -> None:
        while self._sent and self._sent[0][0] + self.timing.sure_seconds <= batch.now:
            self._sure_no = self._sent.popleft()[1]
        new = channels.unpublished(
            self.ledger.connection, self._sent_no, most=self.timing.publish_records
        )
        for channel, message in new.messages:
            batch.say(self.topics.down(channel), message)
        self._more_to_publish = bool(new.messages) or new.unsealed
        if new.through_no != self._sent_no:
            self._sent_no = new.through_no
            self._sent.append((batch.now, new.through_no))

    # --- what is due -----------------------------------------------------------------------------

    def _do_what_is_due(self, batch: Batch) -> None:
        self._due_at = self._attendant.attend(batch)
        self._index(batch)
        if self._notary.is_waited_for(self.ledger.connection):
            _ = batch.connection  # whatever opens the transaction has that attended to
        if not self._linked:
            return
        if batch.now >= self._heads_at:
            self._heads_at = batch.now + self.timing.heads_seconds
            for region, heads in channels.heads_by_region(self.ledger.connection).items():
                message = Heads(run=self.run, heads=heads)
                batch.say(self.topics.heads(region), message)
        self._nudge_moved(batch)
        self._ask_for_forgotten(batch)
        if batch.now >= self._nudge_at:
            self._nudge_at = batch.now + self.timing.nudge_seconds
            self._sweep(batch)
            self._nudge_late(batch)

    def _index(self, batch: Batch) -> None:
        """Index a piece of what was said for `hq search`, which does the rest if it comes first."""
        if batch.now < self._index_at:
            return
        self._index_at = batch.now + self.timing.index_seconds
        if search_index.behind(batch.reading):
            search_index.catch_up(batch.connection)

    def _ask_for_forgotten(self, batch: Batch) -> None:
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
                self._nudges.nudge(batch, identity, "HQ lacks a directive", 0.0)

    def _sweep(self, batch: Batch) -> None:
        silent_since = batch.at - self.timing.offline_seconds
        if devices.anyone_silent(self.ledger.connection, since=silent_since):
            devices.sweep(batch.connection, silent_since=silent_since)
        stale_at = batch.at - forgotten.STALE_SECONDS
        if forgotten.any_stale(self.ledger.connection, before_at=stale_at):
            forgotten.forget_stale(batch.connection, before_at=stale_at)

    def _nudge_late(self, batch: Batch) -> None:
        """Make devices ask that are there and have not receipted what they should have."""
        late = devices.there_without_receipt(
            self.ledger.connection,
            issued_before=batch.at - self.timing.nudge_seconds,
            most=int(self.timing.hellos_per_second * self.timing.nudge_seconds / 4),
        )
        for waiting in late:
            self._nudges.nudge(batch, waiting.identity, "work without a receipt", 10.0)

    def _nudge_moved(self, batch: Batch) -> None:
        """Make devices ask whose channel set is not what they were told last."""
        version = organisation.roster_version(self.ledger.connection)
        if version == self._roster_version:
            return
        self._roster_version = version
        present = organisation.set_versions(self.ledger.connection)
        for identity, last in self._hellos.told.items():
            if present.get(identity.store) != last:
                self._nudges.nudge(batch, identity, "the roster changed", 0.0)
