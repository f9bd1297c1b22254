"""Checks what HQ makes of what stores said: each answer is counted where it belongs, and counts.

A receipt that is kept and signed proves nothing as long as somebody can file it under another
directive, or put the delivery back to where it stood before. So each receipt and each reply is held
against the directive and the mailbox that it names, and each delivery against the receipts of its
mailbox: it never stands behind one of them.

What the ledger alone cannot tell is left alone: when something arrived is HQ's word, and whether a
device served a role on that day is the operators'.
"""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from buswire.messages import Directive, Original, Receipt, Reply
from buswire.states import CLOSED_BY_HQ, SAYABLE, STORE_RANK, Needs, State, is_open
from buswire.topics import ANY_ROLE
from hqconsole.ledger.deliveries import ARRIVED_LATE, STATE_OF
from hqconsole.ledger.verification_context import Context, MisfitError
from hqconsole.lifecycle import LIVE, DirectiveState

SAID = (
    "SELECT arrival.no, arrival.device_no, arrival.kind, outcome, arrival.directive_no,"
    " arrival.mailbox_no, delivery.state, late, message_no, data_at, data_bytes, data FROM arrival"
    " LEFT JOIN delivery ON delivery.directive_no = arrival.directive_no"
    " AND delivery.mailbox_no = arrival.mailbox_no"
    " WHERE arrival.kind IN ('receipt', 'reply') ORDER BY arrival.no"
)
ORIGINALS = (
    "SELECT message_no, data_at, data_bytes, data FROM arrival WHERE kind = 'original' ORDER BY no"
)
ADOPTED = "SELECT id FROM directive WHERE adopted_at IS NOT NULL"
WAITS = "SELECT 1 FROM waiting WHERE directive_id = ? AND arrival_no = ?"

Texts = Callable[[int | None, int, int, bytes], bytes]
"""Given message, place, length and own data of an arrival, what it said."""

_STRAY = "stray"
_TOO_LATE = "too late"
_NOT_ITS_ROLE = "not its role"
_NOT_SAYABLE = "not a store's state"
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "receipt": msgspec.json.Decoder(Receipt),
    "reply": msgspec.json.Decoder(Reply),
}
_originals = msgspec.json.Decoder(Original)
_directives = msgspec.json.Decoder(Directive)


class _Known(NamedTuple):
    no: int
    needs: Needs
    issued: bool
    """Whether it is neither expired nor withdrawn."""
    archived: bool
    """Whether its deliveries have left."""


class _Arrival(NamedTuple):
    what: str
    no: int
    device_no: int
    outcome: str | None
    directive_no: int | None
    mailbox_no: int | None
    state: State | None
    """Of the delivery that it is filed under, if there is one."""
    late: int | None


class Answers:
    """All receipts and replies, one after the other."""

    def __init__(self, context: Context, texts: Texts) -> None:
        """Check in this walk; its devices must be known to it."""
        self._context = context
        self._connection: sqlite3.Connection = context.connection
        self._texts = texts
        self._directives: Mapping[str, _Known] = {
            directive_id: _Known(
                no,
                Needs(needs),
                state in LIVE | {DirectiveState.COMPLETED},
                directive_id in context.archived,
            )
            for no, directive_id, needs, state in self._connection.execute(
                "SELECT no, id, needs, state FROM directive WHERE issued_at > 0"
            )
        }
        self._mailboxes: Mapping[tuple[int, str], int] = {
            (store_no, role): no
            for no, store_no, role in self._connection.execute(
                "SELECT no, store_no, role FROM mailbox"
            )
        }

    def check(self) -> None:
        """Each is filed where it belongs, and each delivery is as far as they say.

        Raises:
            MisfitError: One is not.
        """
        for row in self._connection.execute(SAID):
            no, device_no, kind, outcome, directive_no, mailbox_no, code, late, *place = row
            what = f"arrival {no}, a {kind} of {self._context.name(device_no)}"
            state = None if code is None else STATE_OF[code]
            arrival = _Arrival(what, no, device_no, outcome, directive_no, mailbox_no, state, late)
            try:
                text = self._texts(*place)
                text.decode()  # as `decode_data` reads it
                said = _decoders[kind].decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                said = None
            if said is None or self._is_beside(kind, outcome, said):
                if directive_no is not None:
                    raise MisfitError(
                        "answer", what, "it is counted, and what was signed does not count"
                    )
                continue
            known = self._filed(arrival, said)
            # The delivery of one whose directive has left is in the archive.
            if kind == "receipt" and known is not None and not known.archived:
                self._check_effect(arrival, said, known)
        if not self._context.is_archive:
            self._check_adopted()

    def _check_adopted(self) -> None:
        """What HQ took back, a store has sent up: else its audience could be cut down at will."""
        adopted = {directive_id for (directive_id,) in self._connection.execute(ADOPTED)}
        if not adopted:
            return
        for place in self._connection.execute(ORIGINALS):
            try:
                text = self._texts(*place)
                text.decode()
                original = _originals.decode(text)
                if original.kind == "directive":
                    adopted.discard(_directives.decode(original.data).id)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
        for directive_id in sorted(adopted):
            raise MisfitError(
                "directive",
                f"directive {directive_id[:8]}",
                "it is called taken back from a store, and none has sent it up",
            )

    def _is_beside(self, kind: str, outcome: str | None, said: Any) -> bool:
        """Whether it has no effect by what it says, or by the role that it is for."""
        if outcome == _NOT_ITS_ROLE:
            return bool(said.role != ANY_ROLE)
        return kind == "receipt" and said.state not in SAYABLE

    def _filed(self, arrival: _Arrival, said: Any) -> _Known | None:
        """The directive that it is about; None where HQ has forgotten that one."""
        known = self._directives.get(said.directive)
        if known is None:
            waits = self._connection.execute(WAITS, (said.directive, arrival.no)).fetchone()
            if arrival.directive_no is not None or waits is None:
                raise MisfitError(
                    "answer",
                    arrival.what,
                    f"it answers directive {said.directive[:8]}, which is not there and which"
                    " nobody waits for: the directive was taken out",
                )
            return None
        if arrival.directive_no != known.no:
            raise MisfitError(
                "answer",
                arrival.what,
                f"it answers directive {said.directive[:8]} and is not filed under it",
            )
        store_no = self._context.devices[arrival.device_no][1]
        if arrival.mailbox_no not in {None, self._mailboxes.get((store_no, said.role))}:
            raise MisfitError(
                "answer",
                arrival.what,
                f"it is for the role {said.role} and is filed under another mailbox",
            )
        return known

    def _check_effect(self, arrival: _Arrival, said: Receipt, known: _Known) -> None:
        state, outcome = arrival.state, arrival.outcome
        if state is None:
            if outcome != _STRAY:
                raise MisfitError(
                    "answer",
                    arrival.what,
                    f"it says {said.state}, and there is no delivery that is so",
                )
            return
        if known.issued and ((arrival.late or 0) & ARRIVED_LATE or outcome == _TOO_LATE):
            raise MisfitError(
                "answer",
                arrival.what,
                "it is called late, and its directive is neither over nor withdrawn",
            )
        if state in CLOSED_BY_HQ:
            # What reaches the need before HQ closes it leaves nothing to close; after, it is told.
            ignored = outcome is None and state is not State.REMOVED
            fits = not (ignored and not is_open(said.state, known.needs))
        else:
            # What came too late stays without effect when another device's earlier word, which
            # arrives after it, moves the delivery on again.
            behind = STORE_RANK[state] < STORE_RANK[said.state]
            fits = not behind or outcome == _TOO_LATE
        if not fits or outcome == _STRAY:
            raise MisfitError(
                "answer",
                arrival.what,
                f"it says {said.state}, and the delivery is {state}: it was put back",
            )
