"""Carries the questions of a joining device over a link, until there is an answer or time is over.

Owns the waiting. Must not know what is in a question, nor what is saved afterwards.
"""

import queue
import random
import time
from collections.abc import Callable

from buskit.link import (
    Connected,
    Disconnected,
    Link,
    LinkEvent,
    LinkSettings,
    Publication,
    Received,
    Subscribed,
)
from buswire.messages import Joined
from storeagent.errors import AgentError
from storeagent.joining import Joining

_AGAIN_SECONDS = 3.0
"""How long after a question the next one follows."""


class NoBroker(AgentError):  # noqa: N818 - it says what there was not
    """No broker could be reached, or none let the bundle in."""

    exit_code = 3


class NotAnswered(AgentError):  # noqa: N818 - likewise
    """Head office has not answered in time."""

    exit_code = 4


def ask_head_office(
    joining: Joining,
    settings: LinkSettings,
    *,
    wait_seconds: float,
    say: Callable[[str], None],
    waiting: Callable[[], None],
) -> Joined:
    """Ask until HQ has accepted or refused, or the time is over.

    Args:
        joining: What is asked.
        settings: Of the link.
        wait_seconds: How long to wait.
        say: Takes what a person may want to know meanwhile.
        waiting: Called once, when HQ waits for an operator to compare the fingerprint.

    Returns:
        HQ's last word: accepted, refused, or still waiting when the time is over.

    Raises:
        NoBroker: There was no connection in that time.
        NotAnswered: There was one, and no answer.
        JoinError: HQ's answer makes no sense.
        LinkSettingsError: A link cannot be made with these settings.
    """
    inbound: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    link = Link(settings, deliver=inbound.put, random=random.Random())  # noqa: S311 - jitter
    link.start()
    try:
        return _Asking(joining, link, inbound, say, waiting).until(time.monotonic() + wait_seconds)
    finally:
        link.stop()


class _Asking:
    def __init__(
        self,
        joining: Joining,
        link: Link,
        inbound: "queue.SimpleQueue[LinkEvent]",
        say: Callable[[str], None],
        waiting: Callable[[], None],
    ) -> None:
        self._joining = joining
        self._link = link
        self._inbound = inbound
        self._say = say
        self._waiting = waiting
        self._listening = False
        self._was_listening = False
        self._refused = False
        self._ask_at = 0.0
        self._last: Joined | None = None
        self._said = ""

    def until(self, deadline: float) -> Joined:
        while (now := time.monotonic()) < deadline:
            if self._listening and now >= self._ask_at:
                self._ask_at = now + _AGAIN_SECONDS
                payload = self._joining.ask()
                self._link.publish(Publication(self._joining.topic, payload, qos=1))
            self._tell_failure()
            try:
                event = self._inbound.get(timeout=min(0.5, max(0.0, deadline - now)))
            except queue.Empty:
                continue
            answer = self._take(event)
            if answer is not None:
                return answer
        if self._last is not None:
            return self._last
        raise self._explained()

    def _take(self, event: LinkEvent) -> Joined | None:
        match event:
            case Connected(address):
                self._say(f"connected to {address}")
                self._link.subscribe([(self._joining.topic, 1)])
            case Disconnected(reason):
                self._listening = False
                self._say(f"the connection is gone: {reason}")
            case Subscribed(granted, refused):
                self._listening = self._joining.topic in granted
                self._was_listening |= self._listening
                self._refused = bool(refused)
                self._ask_at = 0.0
            case Received(topic, payload):
                joined = self._joining.hear(topic, payload)
                if joined is None:
                    return None
                if joined.verdict != "waiting":
                    return joined
                if self._last is None:
                    self._waiting()
                self._last = joined
            case _:
                pass
        return None

    def _tell_failure(self) -> None:
        failure = self._link.failure
        if failure is not None and str(failure) != self._said:
            self._said = str(failure)
            self._say(f"no connection yet: {failure}")

    def _explained(self) -> NoBroker | NotAnswered:
        """Say why there was no answer."""
        again = "say the same command again; nothing is lost"
        if self._joining.strangers:
            return NotAnswered(
                "answers came that are not signed with a key of this bundle",
                hint="head office may have changed its keys since: ask for another bundle",
            )
        if self._was_listening:
            return NotAnswered(
                "head office has not answered", hint=f"its hub may not be running; {again}"
            )
        if self._refused:
            return NoBroker(
                "the broker does not let this bundle speak",
                hint="it may be used, expired or withdrawn: ask head office for another one",
            )
        failure = self._link.failure
        return NoBroker(
            "no connection to head office's broker" + (f": {failure}" if failure else ""),
            hint=f"look at the network and at the address (--broker); {again}. "
            "If the broker refuses: the bundle may be used, expired or withdrawn",
        )
