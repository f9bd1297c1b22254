"""How long head office has not been heard, and in which words that is said.

Owns when a device counts as cut off from HQ: no welcome that answered a hello of its own has come
for a set time. A connection proves nothing, for a broker can hold back what it likes. Must not know
where a welcome comes from. Time is monotonic: the clocks of tills are wrong.
"""

from datetime import datetime, tzinfo

from buswire.phrases import Phrase, phrase


class Silence:
    """Watches for how long HQ has not answered."""

    def __init__(self, limit_seconds: float, *, now: float, silent: bool = False) -> None:
        """Begin to count.

        Args:
            limit_seconds: After so long without an answer it is silence.
            now: Monotonic seconds.
            silent: Whether it was when the process before this one ended; that this one began is
                no answer.
        """
        self._limit_seconds = limit_seconds
        self._due_at = float("-inf") if silent else now + limit_seconds
        self.silent = silent

    def heard(self, now: float) -> None:
        """HQ has answered; `look` is due."""
        self._due_at = now + self._limit_seconds

    def look(self, now: float) -> bool:
        """Judge anew; whether that has changed `silent`."""
        was, self.silent = self.silent, now >= self._due_at
        return was != self.silent


def not_heard_words(last_at: float | None, *, now_at: float, zone: tzinfo | None) -> Phrase:
    """Say since when HQ has not been heard: a time of today, or a day and a time.

    Args:
        last_at: The latest welcome in Unix seconds, by this machine's clock; None if never.
        now_at: The present by the same clock.
        zone: Of the store; None for this machine's.
    """
    if last_at is None:
        return phrase("HQ never heard")
    try:
        last, now = datetime.fromtimestamp(last_at, zone), datetime.fromtimestamp(now_at, zone)
    except (OverflowError, ValueError, OSError):  # a clock may say anything
        return phrase("HQ not heard for a long time")
    shown = f"{last:%H:%M}" if last.date() == now.date() else f"{last:%Y-%m-%d %H:%M}"
    return phrase("HQ not heard since {moment}", moment=shown)
