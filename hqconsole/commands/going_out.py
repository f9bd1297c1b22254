"""What the verbs say and ask about how a directive goes out."""

import re

import click

from hqconsole.commands.common import span_seconds
from hqconsole.lifecycle import DirectiveState
from hqconsole.rollout import Gate

_RATE = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*(?:/|per)?\s*(s|sec|m|min|minute|h|hour|d|day)?")
_PER_HOUR = {"s": 3600.0, "m": 60.0, "h": 1.0, "d": 1 / 24}


def per_hour(text: str) -> float:
    """Read a rate as people write it: 500/h, 20/min; a number alone is an hour's.

    Raises:
        UsageError: It is none.
    """
    match = _RATE.fullmatch(text.strip().lower())
    rate = 0.0 if match is None else float(match[1]) * _PER_HOUR[(match[2] or "h")[0]]
    if not rate > 0:
        raise click.UsageError(f"{text!r} is no rate; write 500/h or 20/min")
    return rate


def asked_gate(
    done_percent: float | None, cannot_percent: float | None, within: str | None
) -> Gate | None:
    """The gate that the options say, or None when they say nothing."""
    if done_percent is None and cannot_percent is None and within is None:
        return None
    usual = Gate()
    return Gate(
        done_percent=usual.done_percent if done_percent is None else done_percent,
        cannot_percent=usual.cannot_percent if cannot_percent is None else cannot_percent,
        within_seconds=None if within is None else span_seconds(within),
    )


def out_words(state: str, short_id: str, why: str = "") -> str:
    """What happens next with a directive that was let go, or not yet."""
    match DirectiveState(state):
        case DirectiveState.DRAFT:
            return f"it is a draft and nobody hears of it: hq submit {short_id} lets it go"
        case DirectiveState.WAITING:
            return f"{why or 'it needs approval'}; somebody else runs: hq approve {short_id}"
        case DirectiveState.SCHEDULED:
            change = f"hq schedule {short_id} WHEN, or hq cancel {short_id}"
            return f"it goes out at its time; before that: {change}"
        case DirectiveState.ROLLING:
            return f"its first wave is out; hq pause {short_id} holds the others back"
        case DirectiveState.PAUSED:
            return f"it is paused: hq resume {short_id} lets it go on"
        case _:
            return "it is out"
