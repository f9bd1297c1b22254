"""How long a device waits for an answer before it asks again. Neither clock nor randomness.

Owns what is known of how slow the way is: how often one question was asked, and which parts of
answers to earlier askings still came in. Must not know what an answer says.

On a link of 64 kbit/s a page of a snapshot takes twelve seconds. Asking again makes what is under
way void and puts another answer behind it, so who is not patient there is never answered.
"""

from collections.abc import Callable

from buswire.device_words import Timing

_EARLIER_LIMIT = 32
"""So many askings of one question are remembered."""
_ASKS_LIMIT = 30


class Patience:
    """Of one machine, from one question to the next."""

    def __init__(self, timing: Timing, draw: Callable[[], float]) -> None:
        """Begin with a new question."""
        self._timing = timing
        self._draw = draw
        self._asks = 0
        self._earlier: dict[str, set[int]] = {}

    def begin(self) -> None:
        """It is answered, or void with its connection: what comes is another question."""
        self.renew()
        self._earlier = {}

    def renew(self) -> None:
        """HQ is there and asks for patience itself: begin with the shortest wait again."""
        self._asks = 0

    @property
    def is_tried(self) -> bool:
        """Whether the question was asked again already."""
        return self._asks > 1

    def renewed(self) -> float:
        """Do so; how long the answer may take to begin as if the question were asked now."""
        self.renew()
        return self._wait() * (0.5 + 0.5 * self._draw())

    def ask(self, before: str | None) -> float:
        """Ask, perhaps again; how long the answer may take to begin.

        Args:
            before: The nonce of the asking before this one, if that was not answered.
        """
        if before is not None and len(self._earlier) < _EARLIER_LIMIT:
            self._earlier[before] = set()
        wait = self._wait()
        self._asks = min(self._asks + 1, _ASKS_LIMIT)
        return wait * (0.5 + 0.5 * self._draw())

    def rest(self) -> float:
        """How long the next part of an answer may take, when one has come."""
        return self._wait(before=1) * (1.0 + self._draw())

    def _wait(self, *, before: int = 0) -> float:
        """The longest wait after so many askings, less those before."""
        longest = self._timing.retry_first_seconds * 2.0 ** max(0, self._asks - before)
        return min(self._timing.retry_most_seconds, longest)

    def is_under_way(self, nonce: str, part: int) -> bool:
        """Whether this is a new part of the answer to an earlier asking.

        If so, the answer to the latest is behind it. Each part counts once, so that nobody keeps
        the device from asking by playing one again.
        """
        parts = self._earlier.get(nonce)
        if parts is None or part in parts:
            return False
        if not any(self._earlier.values()):
            self._asks += 1  # the way is slow: be more patient from now on
        parts.add(part)
        return True
