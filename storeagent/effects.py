"""How HQ's words take effect on a device: each record once, in whatever order they come.

Owns the rules; `inbox` and `outbox` own the rows, `telling` what goes up for it, `reminders`
what the clock brings. Must not know cursors, nonces or anything else
of how the words came. Runs inside a transaction that somebody else opens and commits.

The rules, each of which lost or invented work when it was left out:

- A record whose id took effect before is passed over.
- A directive record is a *new word* of HQ: what HQ had closed opens again by it. What this device
  itself said is not undone by anything: `done` and `cannot` close a delivery here for good.
- A withdrawal wins also when it comes first. When HQ issues or shows again what it withdrew, it has
  forgotten the withdrawal (its ledger is an older copy), and gets it back.
- A change of state may come before its directive, because they travel on different channels; it
  waits for it. A directive on the same channel is younger than the change, and drops it.
- A snapshot outranks what is saved, except withdrawals and the device's own statements. What it
  does not name is not gone but unsure: HQ is asked. Records that HQ appended after it made the
  snapshot may have come before it: the cursors go back behind them, and so must the memory of
  them, or what they said would be undone by the snapshot for good.
- What HQ has forgotten is sent up as it was received, with the seal by which HQ knows it for its
  own, unless that is on its way already.
- Where `carefully` is set, a record that makes this program fail is put aside alone. It counts as
  taken, and the rest of its log goes on; HQ hears of it.
- HQ is told that a withdrawal is on this disk, and how far the work was here; once for each role.
- HQ hears of what was refused when it happens first, and when its count gets another digit: a
  flood of forgeries must fill no outbox.
"""

import contextlib
import functools
from collections.abc import Callable

import msgspec

from buskit.defects import is_defect, told
from buswire.device import Learn, Reset, Take
from buswire.errors import WireError
from buswire.messages import (
    HQ_KINDS,
    RECORD_BYTES_LIMIT,
    Answer,
    Cancel,
    Directive,
    Record,
    Remind,
    SnapshotItem,
    StateChange,
    decode_data,
)
from buswire.states import CLOSED_BY_HQ, STORE_RANK, State, higher, is_open
from buswire.topics import Channel
from storeagent.delivery import Delivery, terms_of
from storeagent.errors import OutboxFull
from storeagent.inbox import Inbox
from storeagent.memory import Lost, Memory
from storeagent.outbox import Outbox
from storeagent.refusals import Refusal
from storeagent.reminders import Reminders
from storeagent.telling import Telling

CANNOT = "this version cannot process it"
"""What is said of something that made this program fail."""


class Effects:
    """Applies the machine's effects to the rows."""

    def __init__(
        self,
        inbox: Inbox,
        outbox: Outbox,
        memory: Memory,
        *,
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
        store_clock: Callable[[], float] | None = None,
    ) -> None:
        """Work on these tables of one database.

        Args:
            inbox: The deliveries.
            outbox: The uplink logs.
            memory: The protocol's place.
            new_id: A random 128-bit id in hex.
            wall_clock: Unix time as this device believes it.
            store_clock: The same as far as HQ has mended it; reminders go by it.
        """
        self._inbox = inbox
        self._memory = memory
        self._wall_clock = wall_clock
        self._store_clock = store_clock or wall_clock
        self._telling = Telling(inbox, outbox, new_id=new_id, wall_clock=wall_clock)
        self.reminders = Reminders(inbox, memory, unusable=self._cannot_remind)
        self.carefully = False

    # --- what the machine asks for ---------------------------------------------------------------

    def take(self, effect: Take) -> None:
        """Save the effects of a channel's next records, and the cursor behind them."""
        first = effect.cursor.seq - len(effect.records) + 1
        for seq, record in enumerate(effect.records, first):
            if self._inbox.take_id(record.id, str(effect.channel), seq):
                self._alone(
                    functools.partial(self._take_record, record, effect.channel),
                    functools.partial(self._trouble, record=record, channel=effect.channel),
                )
        self._memory.keep_cursor(effect.channel, effect.cursor)

    def reset(self, effect: Reset) -> None:
        """Save a snapshot."""
        for channel, cursor in self._memory.cursors().items():
            # Records that overtook the snapshot on its way come again, and count again.
            head = effect.cursors.get(channel)
            if head is not None and head.seq < cursor.seq:
                self._inbox.forget_taken(str(channel), after=head.seq)
        self._memory.keep_set(effect.set_version, effect.cursors)
        self._memory.keep_facts(effect.facts)
        self._inbox.forget_early()
        items = [
            (item, directive)
            for item in effect.items
            if (directive := self._directive(item.data, source="a snapshot")) is not None
        ]
        self._inbox.mark_unsure_unless({(directive.id, item.role) for item, directive in items})
        for item, directive in items:
            self._alone(
                functools.partial(self._take_item, item, directive),
                functools.partial(self._unusable, bytes(item.data), source="a snapshot"),
            )

    def learn(self, effect: Learn) -> None:
        """Save HQ's answers about unsure work, and send up what it has forgotten."""
        asked = self._inbox.next_asked() if effect.answers else 0
        for answer in effect.answers:
            delivery = self._inbox.delivery(answer.work.directive, answer.work.role)
            if delivery is not None and delivery.unsure:
                delivery.asked = asked
                self._learn_answer(delivery, answer)
        for directive in effect.want:
            for delivery in self._inbox.deliveries(directive):
                if self._telling.original(delivery):
                    self._inbox.save(delivery)
            self._telling.cancel_back(directive)
        if effect.forgot:
            # A directive that HQ does not show any more would never bring its cancel back.
            for directive in self._inbox.cancels():
                self._telling.cancel_back(directive)
        now = self._wall_clock()
        for log, entries in effect.lost.items():
            if entries:
                self._memory.keep_lost(Lost(log, entries, now))

    def strange(self, what: str, *, source: str, detail: str = "") -> None:
        """Keep aside something that is not even a record."""
        self._inbox.put_aside(what, source=source, detail=detail, at=self._wall_clock())

    def refuse(self, refusal: Refusal) -> None:
        """Count what is not HQ's word, or no word at all, and tell HQ now and then."""
        what, source, detail, new = refusal
        times = self._inbox.put_aside(
            what, source=source, detail=detail, at=self._wall_clock(), times=new
        )
        if times == new or len(str(times)) > len(str(times - new)):
            # That HQ hears of it is no reason to stop the rest when not even the reserve has room.
            with contextlib.suppress(OutboxFull):
                self._telling.trouble(
                    f"refused: {what}",
                    detail=f"on {source[:300]}, {times} so far: {detail[:1000]}",
                )

    # --- records ---------------------------------------------------------------------------------

    def _take_record(self, record: Record, channel: Channel) -> None:
        if len(bytes(record.data)) > RECORD_BYTES_LIMIT:
            self._trouble(f"a {record.kind} record over the limit", record=record, channel=channel)
            return
        try:
            said = decode_data(record.kind, record.data, HQ_KINDS)
        except WireError as error:
            self._trouble(str(error), record=record, channel=channel)
            return
        match said:
            case Directive():
                self._take_directive(said, bytes(record.data), record.seal, channel)
            case Cancel():
                self._take_cancel(said, bytes(record.data), record.seal, channel.role)
            case StateChange():
                self._take_change(said, bytes(record.data), channel)
            case Remind():
                delivery = self._inbox.delivery(said.directive, channel.role)
                if delivery is not None:
                    at = self._store_clock()
                    self.reminders.by_hand(delivery, text=said.text, by=said.reminded_by, at=at)

    def _take_directive(
        self, directive: Directive, data: bytes, seal: str, channel: Channel
    ) -> None:
        role = channel.role
        withdrawn = self._inbox.cancel(directive.id) is not None
        delivery = self._inbox.delivery(directive.id, role)
        if delivery is not None and seal:
            self._inbox.save_directive(directive, data, seal)
        if delivery is None:
            delivery = self._insert(directive, data, seal, role, State.DELIVERED)
            early = self._inbox.release_early(directive.id, role)
            if early is not None and early[0] != str(channel):
                self._change(delivery, decode_data("state", early[1], HQ_KINDS))
            if withdrawn:
                # It is shown to nobody, and was not before.
                self._telling.withdrawn(directive.id, role, State.PENDING)
                self._withdraw(delivery)
            else:
                self._telling.delivered(delivery)
            self._inbox.save(delivery)
        elif not withdrawn and delivery.closed_by_hq and not delivery.settled_here:
            self._reopen(delivery, State.DELIVERED, data)
            # Unless what closed it, on another channel or in an answer, is younger: HQ is asked.
            delivery.unsure = True
            self._telling.delivered(delivery)
            self._inbox.save(delivery)
        elif delivery.unsure:
            # HQ's word that it is there is younger than whatever it may answer to our question.
            delivery.unsure = False
            self._inbox.save(delivery)
        if withdrawn:
            self._telling.cancel_back(directive.id)

    def _take_cancel(self, cancel: Cancel, data: bytes, seal: str, role: str) -> None:
        self._inbox.hold_cancel(cancel.directive, role, data, seal)
        for delivery in self._inbox.deliveries(cancel.directive):
            self._telling.withdrawn(delivery.directive, delivery.role, delivery.stood)
            self._withdraw(delivery, by=cancel.cancelled_by, why=cancel.reason)
            self._inbox.save(delivery)
        # HQ withdraws it for each role that had it: where it did not come, it never will.
        self._telling.withdrawn(cancel.directive, role, State.PENDING)

    def _take_change(self, change: StateChange, data: bytes, channel: Channel) -> None:
        delivery = self._inbox.delivery(change.directive, channel.role)
        if delivery is None:
            early = self._inbox.release_early(change.directive, channel.role)
            if early is not None and not _outranks(
                change, decode_data("state", early[1], HQ_KINDS)
            ):
                channel, data = Channel.parse(early[0]), early[1]
            self._inbox.hold_early(change.directive, channel.role, str(channel), data)
        elif self._change(delivery, change):
            self._inbox.save(delivery)

    def _change(self, delivery: Delivery, change: StateChange) -> bool:
        """Let HQ's word on where a delivery stands take effect; whether that changed anything."""
        if change.state in CLOSED_BY_HQ:
            # What the store finished, HQ counted before it closed the rest.
            if not delivery.todo:
                return False
            self._close(delivery, change.state, by=change.changed_by)
            return True
        if delivery.closed_by_hq:
            # HQ counts what was said in time and arrived late. What expired may also have been
            # complete before, and that came here later, on another channel.
            was_complete = delivery.state is State.EXPIRED and not is_open(
                change.state, delivery.needs
            )
            if change.state not in {State.DONE, State.CANNOT} and not was_complete:
                return False
            delivery.closed_by_hq = False
            delivery.state = change.state
        elif STORE_RANK[change.state] > STORE_RANK[delivery.state]:
            delivery.state = change.state
        else:
            return False
        delivery.changed_at = change.changed_at
        delivery.changed_by = change.changed_by
        delivery.reason, delivery.code = change.reason, change.code
        return True

    # --- snapshots and answers -------------------------------------------------------------------

    def _take_item(self, item: SnapshotItem, directive: Directive) -> None:
        data, seal = bytes(item.data), item.seal
        delivery = self._inbox.delivery(directive.id, item.role)
        if delivery is not None and seal:
            self._inbox.save_directive(directive, data, seal)
        if self._inbox.cancel(directive.id) is not None:
            if delivery is None:
                self._telling.withdrawn(directive.id, item.role, State.PENDING)
                self._insert(directive, data, seal, item.role, State.CANCELLED)
            self._telling.cancel_back(directive.id)
            return
        state = State.DELIVERED if item.state is State.PENDING else item.state
        if delivery is None:
            delivery = self._insert(directive, data, seal, item.role, state)
        elif state in CLOSED_BY_HQ:
            if not delivery.settled_here:
                self._close(delivery, state)
        elif delivery.closed_by_hq:
            self._reopen(delivery, state, data)
        else:
            delivery.state = higher(state, delivery.said)
        delivery.unsure = False
        if delivery.open and delivery.remind_at is None:
            self.reminders.go_on(delivery, terms_of(data), self._store_clock())
        if item.state is State.PENDING:
            self._telling.delivered(delivery)
        self._inbox.save(delivery)

    def _learn_answer(self, delivery: Delivery, answer: Answer) -> None:
        match answer.verdict:
            case "gone":
                delivery.unsure = False
                if delivery.settled_here:
                    pass
                elif answer.state in CLOSED_BY_HQ:
                    self._close(delivery, answer.state)
                else:
                    delivery.state = higher(delivery.state, answer.state)
                    if delivery.open:  # HQ does not wait for it, whatever it needs by our copy
                        self._close(delivery, State.REMOVED)
            case "open":
                delivery.unsure = False
            case "unknown":
                self._telling.original(delivery)
            case "wait":
                pass
        self._inbox.save(delivery)

    # --- moving a delivery -----------------------------------------------------------------------

    def _insert(
        self, directive: Directive, data: bytes, seal: str, role: str, state: State
    ) -> Delivery:
        now = self._wall_clock()
        self._inbox.save_directive(directive, data, seal)
        delivery = Delivery(
            directive=directive.id,
            role=role,
            needs=directive.needs,
            state=state,
            closed_by_hq=state in CLOSED_BY_HQ,
            received_at=now,
            changed_at=now,
        )
        self.reminders.begin(delivery, terms_of(data), self._store_clock())
        self._inbox.insert(delivery)
        return delivery

    def _close(self, delivery: Delivery, state: State, *, by: str = "", why: str = "") -> None:
        if state is State.CANCELLED:  # it may also be in an answer that HQ withdrew it
            self._telling.withdrawn(delivery.directive, delivery.role, delivery.stood)
        delivery.state = state
        delivery.closed_by_hq = True
        delivery.unsure = False
        delivery.changed_at = self._wall_clock()
        delivery.changed_by = by
        delivery.reason = why
        delivery.code = ""

    def _withdraw(self, delivery: Delivery, *, by: str = "", why: str = "") -> None:
        # What another device of the store finished, HQ counted before it withdrew.
        if not delivery.settled_here and delivery.state not in {State.DONE, State.CANNOT}:
            self._close(delivery, State.CANCELLED, by=by, why=why)

    def _reopen(self, delivery: Delivery, state: State, data: bytes) -> None:
        delivery.closed_by_hq = False
        delivery.state = higher(state, delivery.said)
        delivery.changed_at = self._wall_clock()
        delivery.changed_by = delivery.reason = delivery.code = ""
        self.reminders.begin(delivery, terms_of(data), self._store_clock())
        self._inbox.arrive_again(delivery)

    def _alone(self, do: Callable[[], None], give_up: Callable[[str], None]) -> None:
        """Do it; where this program fails on it, undo it and say so instead."""
        if not self.carefully:
            do()
            return
        try:
            with self._inbox.undone_alone():
                do()
        except Exception as error:
            if isinstance(error, OutboxFull) or not is_defect(error):
                raise
            give_up(f"{CANNOT}: {told(error)}")

    # --- what cannot be used ---------------------------------------------------------------------

    def _directive(self, data: msgspec.Raw, *, source: str) -> Directive | None:
        try:
            directive: Directive = decode_data("directive", data, HQ_KINDS)
        except WireError as error:
            self._unusable(bytes(data), str(error), source=source)
            return None
        return directive

    def _unusable(self, data: bytes, what: str, *, source: str) -> None:
        text = data[:500].decode("utf-8", "replace")
        self.strange(what, source=source, detail=text)
        self._telling.trouble(what, detail=text)

    def _trouble(self, what: str, *, record: Record, channel: Channel) -> None:
        text = bytes(record.data)[:500].decode("utf-8", "replace")
        self.strange(what, source=str(channel), detail=text)
        self._telling.trouble(what, detail=text, record=record.id)

    def _cannot_remind(self, delivery: Delivery, what: str) -> None:
        what = f"{CANNOT}, its reminders: {what}"
        self.strange(what, source=f"work {delivery.number}", detail=delivery.directive)
        self._telling.trouble(what, detail=delivery.directive)


def _outranks(later: StateChange, earlier: StateChange) -> bool:
    """Which of two changes that wait for their directive counts; as `Effects._change` has it."""
    if later.state in CLOSED_BY_HQ:
        return earlier.state not in {State.DONE, State.CANNOT}
    if earlier.state in CLOSED_BY_HQ:
        return later.state in {State.DONE, State.CANNOT}
    return STORE_RANK[later.state] >= STORE_RANK[earlier.state]
