"""The demo's last page: what was accepted, against what took effect.

The count begins from a journal that is kept beside the bus: what the commands said that they had
accepted. What is missing in the ledger is lost; what is there more often than accepted is twice.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Journal:
    """What was accepted, as the commands answered."""

    directives: dict[str, int] = field(default_factory=dict)
    """Id and size of audience."""
    alerts: int = 0
    replies: int = 0
    report_rows: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """The figures, and whether they are right."""

    rows: Sequence[Mapping[str, Any]]
    lost: int
    twice: int


def prove(
    journal: Journal,
    directives: Mapping[str, Mapping[str, Any]],
    *,
    arrived: Mapping[str, int],
    shown: Mapping[str, Sequence[str]],
    light: Mapping[str, Any],
) -> Proof:
    """Compare the journal with what the ledger and the devices show.

    Args:
        journal: What was accepted.
        directives: What the ledger says of each directive, by id.
        arrived: How many alerts, replies and report rows the ledger has.
        shown: For each real agent, the ids of all directives that it shows.
        light: The light devices' totals.
    """
    lost = twice = 0
    rows: list[Mapping[str, Any]] = []
    for directive_id, issued in journal.directives.items():
        known = directives.get(directive_id)
        if known is None:
            lost += issued
            continue
        states = known["states"]
        read = sum(states[name] for name in ("read", "in_progress", "cannot", "done"))
        rows.append(
            {
                "title": known["title"],
                "issued": issued,
                "delivered": read + states["delivered"],
                "read": read,
                "done": states["done"],
                "cannot": states["cannot"],
                "needs": known["needs"],
                "open": known["open"],
            }
        )
        lost += known["open"] + max(0, issued - known["known"])
        twice += max(0, known["known"] - issued)
    for name, accepted in (
        ("alerts", journal.alerts),
        ("replies", journal.replies),
        ("report rows", journal.report_rows),
    ):
        lost += max(0, accepted - arrived[name])
        twice += max(0, arrived[name] - accepted)
    for ids in shown.values():
        twice += sum(count - 1 for count in Counter(ids).values())
    twice += int(light.get("twice", 0))
    lost += int(light.get("unacknowledged", 0))
    return Proof(rows, lost, twice)
