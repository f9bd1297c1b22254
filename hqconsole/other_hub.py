"""Two hubs on one broker, such as a ledger and its copy: which one stays.

Owns that decision; pure. Must not know links.

The one that was there first stays. What an older one said may be a recording of a hub that is long
gone: one that is there answers this run's greeting by its name, and only that makes this hub go.
"""

from enum import Enum, auto

from buswire.messages import Hub


class Answer(Enum):
    """What to do about another run's word."""

    NOTHING = auto()
    """It is no news."""
    GREET = auto()
    """Say that this run is here, so that its word is the topic's last."""
    GREET_IT = auto()
    """The same, by its name: it is younger and must hear that it was heard."""
    GO = auto()
    """It is older, and there."""


def answer_to(said: Hub, *, retained: bool, run: str, since_at: float) -> Answer:
    """Decide about what was said on `hq`, by whoever has this head office's keys.

    Args:
        said: What it was.
        retained: Whether the broker had kept it from before.
        run: This hub's.
        since_at: Since when this run is there.
    """
    if said.run == run:
        return Answer.NOTHING
    if retained:
        return Answer.NOTHING  # the last word of one that may be long gone
    if not said.up:  # a will that came late must not stay as the last word
        return Answer.GREET
    if (said.since_at, said.run) > (since_at, run):
        return Answer.GREET_IT
    return Answer.GO if said.heard == run else Answer.GREET
