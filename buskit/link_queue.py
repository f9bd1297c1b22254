"""What other threads have given a link to send, and how much of it is still on its way.

Owns the only state that the link shares between threads. Must not know connections or paho.

Invariants:
- It is open while there is a connection, and empty while there is none: nothing waits for a
  connection to come.
- What is on its way is bounded, in bytes and in number, and every message on its way has one token.
"""

import itertools
import threading
from collections import deque
from collections.abc import Sequence

from buskit.link_settings import Publication

_MOST_ON_ITS_WAY = 30_000  # packet identifiers have 16 bits

Command = tuple[int, Publication] | list[tuple[str, int]] | frozenset[str]
"""Publish (with a token), subscribe (to filters with QoS), or unsubscribe (from filters)."""


class SendQueue:
    """Takes commands from any thread, and gives them to the loop's."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin closed; `limit_bytes` bounds what is on its way."""
        self._limit_bytes = limit_bytes
        self._guard = threading.Lock()
        self._commands: deque[Command] = deque()
        self._announced = False
        self._sizes: dict[int, int] = {}
        self._tokens = itertools.count(1)
        self.is_open = False
        self.unsent_bytes = 0

    def open(self) -> None:
        """Take commands from now on."""
        with self._guard:
            self.is_open = True

    def close(self) -> None:
        """Forget everything and take nothing; idempotent."""
        with self._guard:
            self.is_open = False
            self._commands.clear()
            self._sizes.clear()
            self.unsent_bytes = 0

    def offer(self, publication: Publication) -> tuple[int, bool] | None:
        """Take a message.

        Returns:
            Its token and whether the loop must be told; None when it is not taken. A message that
            is longer than the limit is taken when nothing else is on its way.
        """
        size = publication.size_bytes
        with self._guard:
            full = self._sizes and self.unsent_bytes + size > self._limit_bytes
            if not self.is_open or full or len(self._sizes) >= _MOST_ON_ITS_WAY:
                return None
            token = self._register(size)
            return token, self._append((token, publication))

    def request(self, command: Sequence[tuple[str, int]] | frozenset[str]) -> bool | None:
        """Take a subscription or its end.

        Returns:
            Whether the loop must be told; None when it is not taken.
        """
        with self._guard:
            if not self.is_open:
                return None
            return self._append(command if isinstance(command, frozenset) else list(command))

    def take(self) -> list[Command]:
        """Give out all commands, in their order."""
        with self._guard:
            commands = list(self._commands)
            self._commands.clear()
            self._announced = False
        return commands

    def register(self, size_bytes: int) -> int:
        """Return a token for a message that goes its way past the queue."""
        with self._guard:
            return self._register(size_bytes)

    def done(self, token: int) -> bool:
        """Take a message off the account; return whether it was on it."""
        with self._guard:
            size = self._sizes.pop(token, None)
            self.unsent_bytes -= size or 0
        return size is not None

    def _register(self, size_bytes: int) -> int:
        token = next(self._tokens)
        self._sizes[token] = size_bytes
        self.unsent_bytes += size_bytes
        return token

    def _append(self, command: Command) -> bool:
        self._commands.append(command)
        announce = not self._announced
        self._announced = True
        return announce
