"""What was refused and is not counted on the disk yet.

Owns when it is counted there: the first at once, more of them some seconds later or with whatever
else is saved, so that a flood of forgeries does not keep the disk writing. Must not know why
something is refused, nor the database.
"""

from typing import NamedTuple

_PAUSE_SECONDS = 10.0


class Refusal(NamedTuple):
    """So many messages that were refused for one reason."""

    what: str
    source: str
    detail: str
    """Of the first of them."""
    times: int


class Refusals:
    """Counts in memory; few words, so it stays small."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._waiting: dict[tuple[str, str], Refusal] = {}
        self._due_at = float("-inf")

    @property
    def due_at(self) -> float | None:
        """When they should be saved, in monotonic seconds; None without any."""
        return self._due_at if self._waiting else None

    def add(self, what: str, *, source: str, detail: str) -> None:
        """Count one more."""
        before = self._waiting.get((what, source), Refusal(what, source, detail, 0))
        self._waiting[what, source] = before._replace(times=before.times + 1)

    def waiting(self) -> list[Refusal]:
        """What is to be saved; `saved` is owed after the commit."""
        return list(self._waiting.values())

    def saved(self, now: float) -> None:
        """All that was waiting is saved; nothing to do where nothing was."""
        if self._waiting:
            self._waiting.clear()
            self._due_at = now + _PAUSE_SECONDS
