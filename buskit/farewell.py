"""Closing a connection so that the last thing said on it arrives."""

import selectors
from collections.abc import Callable

from buskit.loop import LinkLoop
from buskit.stream import Stream


def part(
    loop: LinkLoop,
    stream: Stream,
    guarded: Callable[[Callable[[], None]], None],
    over: Callable[[], None],
) -> None:
    """Let out what is waiting, end our side, and call `over` when the peer has ended its own.

    Closing while something unread has arrived would reset the connection, and a reset can overtake
    what was said last. The caller owes a time limit: the peer may never end its side.

    Args:
        loop: Where it happens.
        stream: The connection; the caller still owes its release.
        guarded: Runs a step and deals with what it raises.
        over: What comes then.
    """
    read, write = selectors.EVENT_READ, selectors.EVENT_WRITE

    def step() -> None:
        if stream.discard():
            over()
            return
        stream.flush()
        if not stream.wants_write:
            stream.finish_writing()
        loop.watch(stream.fileno(), read | write if stream.wants_write else read, go_on)

    def go_on(_events: int) -> None:
        guarded(step)

    step()
