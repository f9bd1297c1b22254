"""The daemon's end of its status file, and the word about head office's silence.

Owns when the file is written. What is in it is `status`'s, when it is silence `silence`'s. Must not
know databases or links.

Invariants:
- The file is written when something in it has changed, and not too often.
- That it cannot be written ends nothing: with the disk full, a command sees the full disk itself.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import tzinfo
from pathlib import Path

from storeagent.silence import Silence, not_heard_words
from storeagent.status import DaemonStatus, read_status, write_status

_SPACING_SECONDS = 1.0


class StatusTeller:
    """Tells how the daemon is.

    Attributes:
        status: How it is; whoever changes something owes a `tell`.
        before: What the daemon before this one said last.
    """

    def __init__(
        self,
        home: Path,
        *,
        say: Callable[[str], None],
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """Begin with what the daemon before this one said of its database."""
        self._home = home
        self._say = say
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._said: DaemonStatus | None = None
        self._said_at = float("-inf")
        self.before = read_status(home)
        self.status = DaemonStatus(
            pid=os.getpid(),
            started_at=wall_clock(),
            file=self.before.file,
            heads=self.before.heads,
        )

    def begin(self, saved_welcome_at: float | None, limit_seconds: float) -> None:
        """Take over since when head office is not heard; owed before the first `tell`.

        Args:
            saved_welcome_at: What the database says of the latest welcome.
            limit_seconds: After so long without an answer it is silence.
        """
        before, status = self.before, self.status
        last_at = before.last_welcome_at
        status.last_welcome_at = saved_welcome_at if last_at is None else last_at
        status.silent = before.silent
        self._silence = Silence(limit_seconds, now=self._monotonic(), silent=before.silent)

    def heard(self, now: float) -> None:
        """Head office has answered; monotonic seconds."""
        self.status.last_welcome_at = self._wall_clock()
        self._silence.heard(now)

    def tell(self, zone_of_store: Callable[[], tzinfo | None], *, at_once: bool = False) -> None:
        """Write down how things are, where that is due; say when silence begins or ends."""
        self._look_for_silence(zone_of_store)
        now = self._monotonic()
        if not at_once and now < self._said_at + _SPACING_SECONDS:
            return
        if self.status != self._said:
            with contextlib.suppress(OSError):
                write_status(self._home, self.status)
                self._said = replace(self.status)
            self._said_at = now

    def _look_for_silence(self, zone_of_store: Callable[[], tzinfo | None]) -> None:
        if not self._silence.look(self._monotonic()):
            return
        self.status.silent = self._silence.silent
        if not self._silence.silent:
            self._say("HQ is heard again")
            return
        last_at, now_at = self.status.last_welcome_at, self._wall_clock()
        self._say(not_heard_words(last_at, now_at=now_at, zone=zone_of_store()))
