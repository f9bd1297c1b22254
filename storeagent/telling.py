"""What a device says to HQ by itself: what it has, what HQ forgot, and what it cannot use.

Owns that nothing of it is on its way twice. What people and scripts say is `statements` and
`scripts`; when it is to be said, `effects` knows. Runs inside a transaction that somebody else
opens and commits. All of it may use the outbox's reserve.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from buswire.errors import WireError
from buswire.messages import Original, Receipt, Trouble, Withdrawn, encode_data
from buswire.states import State, higher
from storeagent.delivery import Delivery
from storeagent.inbox import Inbox
from storeagent.outbox import Outbox


class Telling:
    """The device's own words, in one open database. Each method raises OutboxFull."""

    def __init__(
        self,
        inbox: Inbox,
        outbox: Outbox,
        *,
        new_id: Callable[[], str],
        wall_clock: Callable[[], float],
    ) -> None:
        """Work on these tables.

        Args:
            inbox: The deliveries.
            outbox: The uplink logs.
            new_id: A random 128-bit id in hex.
            wall_clock: Unix time as this device believes it.
        """
        self._inbox = inbox
        self._outbox = outbox
        self._new_id = new_id
        self._wall_clock = wall_clock

    def delivered(self, delivery: Delivery) -> None:
        """Tell HQ that it is on this disk, unless that is on its way; the caller owes a `save`."""
        delivery.said = higher(delivery.said, State.DELIVERED)
        if not self._on_its_way(delivery.receipt_position):
            delivery.receipt_position = self._enqueue(
                "receipt",
                Receipt(directive=delivery.directive, role=delivery.role, state=State.DELIVERED),
            )

    def withdrawn(self, directive: str, role: str, was: State) -> None:
        """Tell HQ that its withdrawal is on this disk; of each mailbox once, the first counts.

        Once also after copies, snapshots and doubled records, as long as withdrawals are kept.

        Args:
            directive: Which.
            role: Of which mailbox.
            was: How far the work was here.
        """
        if self._inbox.note_withdrawn(directive, role):
            self._enqueue("withdrawn", Withdrawn(directive=directive, role=role, was=was))

    def original(self, delivery: Delivery) -> bool:
        """Send HQ a directive that it forgot; whether the row changed, then a `save` is owed."""
        if self._on_its_way(delivery.original_position):
            return False
        data = self._inbox.directive_data(delivery.directive)
        if data is None:
            return False
        seal = self._inbox.directive_seal(delivery.directive)
        delivery.original_position = self._send_up("directive", delivery.role, data, seal)
        return True

    def cancel_back(self, directive: str) -> None:
        """Send HQ a withdrawal that it forgot, if it is held here and not on its way."""
        held = self._inbox.cancel(directive)
        if held is not None and not self._on_its_way(held.original_position):
            position = self._send_up("cancel", held.role, held.data, held.seal)
            self._inbox.note_cancel_sent(directive, position)

    def trouble(self, what: str, *, detail: str, record: str = "") -> None:
        """Tell HQ of something that could not be used."""
        self._enqueue("trouble", Trouble(what=what[:500], record=record, detail=detail))

    # --- inside ----------------------------------------------------------------------------------

    def _send_up(
        self, kind: Literal["directive", "cancel"], role: str, data: bytes, seal: str
    ) -> int:
        original = Original(kind=kind, role=role, data=msgspec.Raw(data), seal=seal)
        try:
            return self._enqueue("original", original)
        except WireError as error:
            # Only a directive of an HQ that does not keep to its own limit is so long.
            self._inbox.put_aside(
                f"an original cannot go up: {error}",
                source=f"the outbox, {kind}",
                detail=data[:200].decode("utf-8", "replace"),
                at=self._wall_clock(),
            )
            return 0

    def _on_its_way(self, position: int) -> bool:
        return position > 0 and self._outbox.is_pending("act", position)

    def _enqueue(self, kind: str, data: msgspec.Struct) -> int:
        return self._outbox.add(
            "act",
            self._new_id(),
            kind,
            encode_data(data),
            said_at=self._wall_clock(),
            reserve=True,
        ).position
