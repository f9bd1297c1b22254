"""One daemon per home. Whoever replaces the device's keys holds the home in its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buskit import daemon
from storeagent.errors import AgentError
from storeagent.settings import LOCK_NAME


class AlreadyRunning(AgentError):  # noqa: N818 - it names what was found
    """Another daemon serves this home."""


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home as its daemon for the length of a block.

    Raises:
        AlreadyRunning: Another process does so already.
        DaemonError: The lock cannot be opened.
    """

    def running(by: str) -> AlreadyRunning:
        return AlreadyRunning(
            f"an agent is running for {home} already{by}",
            hint="stop that one first; two devices need two homes",
        )

    with daemon.only_one(home / LOCK_NAME, running):
        yield
