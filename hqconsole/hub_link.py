"""What the hub says of its connection to the broker, for the commands: `hub.json` in the home.

Owns that file. While there is no connection, who is online stands in the ledger as it was when
there was one, and whoever looks at it must be told. Must not know databases, nor MQTT.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from buskit.files import write_atomically

FILE_NAME = "hub.json"


@dataclass(frozen=True, slots=True)
class HubLink:
    """The hub's connection to the broker.

    Attributes:
        connected: Whether there is one.
        since_at: Unix time since when it is so.
        failure: Why there is none, as far as it is known; "" with one.
    """

    connected: bool
    since_at: float
    failure: str = ""


class LinkTeller:
    """The hub's end: writes down what changes."""

    def __init__(self, home: Path, *, wall_clock: Callable[[], float]) -> None:
        """Begin without knowing anything."""
        self._path = home / FILE_NAME
        self._wall_clock = wall_clock
        self._said: HubLink | None = None

    def tell(self, failure: str | None) -> None:
        """Say how it is; cheap where that is as it was.

        Args:
            failure: None while there is a connection; otherwise why there is none, or "".
        """
        connected, said = failure is None, self._said
        if said is not None and (said.connected, said.failure) == (connected, failure or ""):
            return
        same = said is not None and said.connected == connected
        since_at = said.since_at if said is not None and same else self._wall_clock()
        now = HubLink(connected, since_at, failure or "")
        # With the disk full it cannot be said; the hub has told of that by itself.
        with contextlib.suppress(OSError):
            write_atomically(self._path, json.dumps(asdict(now)).encode(), durable=False)
            self._said = now


def hub_link(home: Path) -> HubLink | None:
    """What the hub said last; None where it never said anything. Ask only while one runs."""
    try:
        raw = json.loads((home / FILE_NAME).read_bytes())
        return HubLink(bool(raw["connected"]), float(raw["since_at"]), str(raw["failure"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
