"""What staff say about work: each statement changes inbox and outbox in one transaction.

Owns the statements' rules: nothing said moves a delivery backwards, and nothing is said twice.
Must not know MQTT, nor whether a daemon runs: the daemon sends what it finds in the outbox.

Everything a method has accepted is durable when it returns.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from buskit.database import Database
from buswire.errors import WireError
from buswire.messages import Receipt, Reply, StoreFacts, encode_data
from buswire.phrases import phrase
from buswire.states import STORE_RANK, State
from storeagent.delivery import Delivery, Item
from storeagent.errors import InvalidEntry, NoSuchWork
from storeagent.inbox import Inbox
from storeagent.limits import Limits
from storeagent.memory import Memory
from storeagent.scripts import Recorded, Scripts, check_line, random_id


class Outcome(enum.Enum):
    """What a statement about a delivery did."""

    SAID = "said"
    """It is recorded and goes to HQ."""
    ALREADY = "already"
    """The delivery is already as far; nothing was recorded."""
    FOR_THE_RECORD = "for the record"
    """HQ had closed the delivery; what was said goes to HQ as evidence, and changes nothing."""
    CLOSED = "closed"
    """HQ had closed the delivery; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Said:
    """The outcome, and the delivery as it is now."""

    outcome: Outcome
    delivery: Delivery


class Statements(Scripts):
    """Says things on behalf of the people, and of the scripts, at one device."""

    def __init__(
        self,
        database: Database,
        *,
        wall_clock: Callable[[], float],
        new_id: Callable[[], str] = random_id,
        limits: Limits | None = None,
    ) -> None:
        """Work on this database, which the caller opens and closes.

        Args:
            database: Open.
            wall_clock: Unix time as this device believes it.
            new_id: A random 128-bit id in hex.
            limits: What may be kept.
        """
        super().__init__(database, wall_clock=wall_clock, new_id=new_id, limits=limits)
        self.inbox = Inbox(database)

    # --- about work ------------------------------------------------------------------------------

    def read(self, directive: str, role: str, *, by: str = "") -> Said:
        """Say that somebody has read it; raises as `done`."""
        return self._say(directive, role, State.READ, by=by)

    def start(self, directive: str, role: str, *, by: str = "") -> Said:
        """Say that the work has begun; raises as `done`."""
        return self._say(directive, role, State.IN_PROGRESS, by=by)

    def done(self, directive: str, role: str, *, by: str = "", note: str = "") -> Said:
        """Say that the work is done.

        Raises:
            NoSuchWork: No such delivery is here.
            InvalidEntry: A text is too long.
            OutboxFull: Too much waits for HQ. Nothing was recorded.
            DatabaseError: See `Database.write`. Nothing was recorded, except perhaps after
                `DatabaseFailed`.
        """
        return self._say(directive, role, State.DONE, by=by, note=note)

    def cannot(
        self, directive: str, role: str, *, reason: str = "", code: str = "", by: str = ""
    ) -> Said:
        """Say that the store cannot do it, and why; raises as `done`.

        Args:
            directive: Which.
            role: Of which mailbox.
            reason: Why, in the store's own words; needed where HQ offers no reasons.
            code: One of those that HQ offers for this directive; needed where it does.
            by: Who says it.
        """
        self._require(directive, role)
        codes = [one.code for one in self.inbox.terms(directive).reasons]
        if codes and code not in codes:
            raise InvalidEntry(
                phrase("{code!r} is none of head office's reasons", code=code[:40])
                if code
                else phrase("a reason is needed, one of head office's"),
                hint=phrase("choose one: --code {codes}", codes=" | ".join(codes)),
            )
        if code and not codes:
            raise InvalidEntry(
                phrase("head office offers no reasons for this one"),
                hint=phrase("say why in your own words: --reason TEXT"),
            )
        if not code and not reason.strip():
            raise InvalidEntry(
                phrase("a reason is needed"), hint=phrase("say why, in a line: --reason TEXT")
            )
        return self._say(directive, role, State.CANNOT, by=by, reason=reason, code=code)

    def reply(self, directive: str, role: str, *, text: str, by: str = "") -> Recorded:
        """Answer in the directive's thread; raises as `done`. Each call is a new answer."""
        if not text.strip():
            raise InvalidEntry(phrase("the reply is empty"))
        check_line(phrase("the name of who says it"), by)
        record_id = self._new_id()
        data = _encoded(Reply(directive=directive, role=role, text=text, by=by))
        with self._database.write():
            self._require(directive, role)
            self.outbox.refuse_when_disk_low()
            self.outbox.add("act", record_id, "reply", data, said_at=self._wall_clock())
        return Recorded(record_id, new=True)

    def find(self, reference: str) -> Item:
        """The one delivery that a person means: by its number, or by the beginning of its id.

        Raises:
            NoSuchWork: There is none, or several.
        """
        reference = reference.strip().lower().removeprefix("#")
        found: list[Item] = []
        if reference.isdecimal() and len(reference) <= 9:
            found = self.inbox.items_with_number(int(reference))
        if not found and len(reference) >= 4 and all(c in "0123456789abcdef" for c in reference):
            found = self.inbox.items_with_prefix(reference)
        if not found:
            raise NoSuchWork(
                phrase("there is no work {reference!r} here", reference=reference[:40]),
                hint=phrase("see the numbers: storeagent inbox (or with --all)"),
            )
        if len(found) > 1:
            raise NoSuchWork(
                phrase(
                    "{reference!r} means several: {which}",
                    reference=reference[:40],
                    which=", ".join(
                        f"{item.delivery.number} ({item.delivery.role})" for item in found
                    ),
                ),
                hint=phrase("use the number: storeagent inbox --all"),
            )
        return found[0]

    def facts(self) -> StoreFacts:
        """What HQ says about this store."""
        return Memory(self._database).facts()

    # --- inside ----------------------------------------------------------------------------------

    def _say(
        self,
        directive: str,
        role: str,
        state: State,
        *,
        by: str,
        reason: str = "",
        code: str = "",
        note: str = "",
    ) -> Said:
        check_line(phrase("the name of who says it"), by)
        check_line(phrase("the reason"), reason)
        data = _encoded(
            Receipt(
                directive=directive,
                role=role,
                state=state,
                by=by,
                reason=reason,
                note=note,
                code=code,
            )
        )
        # Looking first spares a write when there is nothing to say.
        outcome, delivery = self._judge(directive, role, state)
        if outcome in {Outcome.ALREADY, Outcome.CLOSED}:
            return Said(outcome, delivery)
        with self._database.write():
            outcome, delivery = self._judge(directive, role, state)
            if outcome in {Outcome.ALREADY, Outcome.CLOSED}:
                return Said(outcome, delivery)
            self.outbox.refuse_when_disk_low()
            now = self._wall_clock()
            self.outbox.add("act", self._new_id(), "receipt", data, said_at=now)
            if outcome is Outcome.SAID:
                delivery.state = delivery.said = state
                delivery.changed_at = now
                delivery.changed_by = by
                delivery.reason = reason
                delivery.code = code
                self.inbox.save(delivery)
        return Said(outcome, delivery)

    def _judge(self, directive: str, role: str, state: State) -> tuple[Outcome, Delivery]:
        delivery = self._require(directive, role)
        if delivery.closed_by_hq:
            # The delivery itself stays as HQ left it: if HQ opens it again, it is to be done again.
            if state in {State.DONE, State.CANNOT}:
                return Outcome.FOR_THE_RECORD, delivery
            return Outcome.CLOSED, delivery
        if STORE_RANK[state] <= STORE_RANK[delivery.state]:
            return Outcome.ALREADY, delivery
        return Outcome.SAID, delivery

    def _require(self, directive: str, role: str) -> Delivery:
        delivery = self.inbox.delivery(directive, role)
        if delivery is None:
            raise NoSuchWork(
                phrase(
                    "directive {directive!r} is not here for the role {role!r}",
                    directive=directive[:32],
                    role=role[:64],
                ),
                hint=phrase("see what is here: storeagent inbox --all"),
            )
        return delivery


def _encoded(data: Receipt | Reply) -> bytes:
    try:
        return encode_data(data)
    except WireError as error:
        raise InvalidEntry(str(error), hint=error.hint) from None
