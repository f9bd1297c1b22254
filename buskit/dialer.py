"""Getting a connection to one of several addresses, and waiting well when none is to be had.

Owns the order of addresses, the time each may take, and the pauses between rounds. Must not know
MQTT: whether a connection is of use, the link says.

Invariants:
- Everything happens on the loop's thread, and nothing blocks it: neither a name that nobody
  answers for nor an address where nobody listens holds up another link.
- At most one attempt at a time. What belongs to an earlier attempt is ignored when it comes late.
- A certificate that was refused is looked at a second time, on a connection of its own that can
  come to nothing, because only then can a person be told whose it is or since when it is none.
- Pauses are random (full jitter: uniform from 0 to min(most, first * 2**n)), so that thousands of
  links do not come back at the same moment, and grow until a connection has proved stable.
"""

import os
import random
import selectors
from collections.abc import Callable
from typing import Any

from buskit.link_settings import Address, CannotConnect, LinkSettings
from buskit.loop import Endpoint, LinkLoop, Timer
from buskit.stream import Stream
from buskit.tls import Tls
from buskit.tls_errors import CertificateRefused, CertificateShown
from buskit.websocket import WebSocketClient


class Dialer:
    """Calls `connected` with each connection it makes; the link then reports what became of it.

    After `connected` the caller owes one of `refused` and `lost`, when the connection has ended.

    Attributes:
        failure: Why the last round through the addresses led to nothing, or the connection ended.
    """

    def __init__(
        self,
        settings: LinkSettings,
        loop: LinkLoop,
        random: random.Random,
        connected: Callable[[Address, Stream, float], None],
        *,
        tls: Tls | None = None,
    ) -> None:
        """Prepare.

        Args:
            settings: The addresses and the times.
            loop: Where everything happens.
            random: The source of order and pauses.
            connected: Takes the address, a stream that can carry data, and how many seconds are
                left until the broker must have agreed. The stream is the caller's from then on.
            tls: What encrypted addresses need; None where there are none (see `tls.tls_of`).
        """
        self.failure: CannotConnect | None = None
        self._settings = settings
        self._addresses = settings.parsed_addresses()
        self._loop = loop
        self._random = random
        self._connected = connected
        self._tls = tls
        self._attempt = 0
        self._round: list[Address] = []
        self._address = self._addresses[0]
        self._endpoints: list[Endpoint] = []
        self._endpoint: Endpoint = (0, None)
        self._refused: CertificateRefused | None = None
        self._deadline = 0.0
        self._stream: Stream | None = None
        self._timer: Timer | None = None
        self._failures: list[str] = []
        self._pauses = 0

    def begin(self) -> None:
        """Go through all addresses, in random order."""
        self._failures = []
        self._round = list(self._addresses)
        self._random.shuffle(self._round)
        self._next_address()

    def refused(self, reason: str) -> None:
        """Take note that the connection was of no use, and try the next address."""
        self._failures.append(f"{self._address.url}: {reason}")
        self._next_address()

    def lost(self, reason: str, *, lived_seconds: float) -> None:
        """Take note that a connection that was of use has ended, and begin anew after a pause."""
        if lived_seconds >= self._settings.stable_seconds:
            self._pauses = 0
        self._failures = [f"{self._address.url}: {reason}"]
        self._pause()

    def stop(self) -> None:
        """End the present attempt or pause; idempotent."""
        self._attempt += 1
        self._release()

    def _next_address(self) -> None:
        self._attempt += 1
        attempt = self._attempt
        if not self._round:
            self._pause()
            return
        address = self._address = self._round.pop()
        limit = self._settings.connect_timeout_seconds
        self._deadline = self._loop.monotonic() + limit

        def found(result: list[Endpoint] | OSError) -> None:
            if attempt != self._attempt:
                return
            if isinstance(result, OSError):
                self._useless(f"the name cannot be found: {words(result)}")
            else:
                self._endpoints = list(reversed(result))
                self._next_endpoint("the name stands for no address")

        self._set_timer(limit, lambda: self._useless("looking up the name takes too long"))
        self._loop.find(address.host, address.port, found)

    def _next_endpoint(self, reason: str) -> None:
        """Try the next of the addresses that the name stands for."""
        left = self._deadline - self._loop.monotonic()
        if not self._endpoints or left <= 0:
            self._useless(reason)
            return
        self._set_timer(left / len(self._endpoints), lambda: self._abandon("no answer in time"))
        self._open(self._endpoints.pop())

    def _open(self, endpoint: Endpoint, refused: CertificateRefused | None = None) -> None:
        """Begin a connection, or a second look at the certificate that was refused."""
        self._endpoint = endpoint
        self._refused = refused
        try:
            self._stream = self._begin_stream(*endpoint)
        except Exception as error:  # such as a name that no certificate can have
            self._abandon(words(error))
        else:
            self._on_progress(0)

    def _begin_stream(self, family: int, where: Any) -> Stream:
        host, path = self._address.host, self._address.path
        tls = websocket = None
        if self._address.tls:
            if self._tls is None:
                raise ValueError(f"{self._address.url} needs TLS")
            refused = self._refused
            tls = self._tls.client(host) if refused is None else self._tls.look(host, refused)
        if path is not None:
            websocket = WebSocketClient(
                host=self._address.host_header, path=path, key=os.urandom(16)
            )
        limit = self._settings.receive_limit_bytes
        return Stream(family, where, tls=tls, websocket=websocket, receive_limit_bytes=limit)

    def _on_progress(self, _events: int) -> None:
        """Something has happened to the connection that is coming about."""
        stream = self._stream
        if stream is None:
            return
        try:
            ready = stream.ready or stream.advance()
        except CertificateShown as shown:
            self._refused = None
            self._abandon(str(shown))
            return
        except Exception as error:  # whatever is wrong with this connection, there may be others
            if isinstance(error, CertificateRefused) and self._refused is None:
                self._let_go()
                self._open(self._endpoint, error)
            else:
                self._abandon(words(error))
            return
        if ready:
            self._hand_over(stream)
        else:
            writing = selectors.EVENT_WRITE if stream.wants_write else 0
            self._loop.watch(stream.fileno(), selectors.EVENT_READ | writing, self._on_progress)

    def _hand_over(self, stream: Stream) -> None:
        self._cancel_timer()
        self._stream = None
        self._endpoints = []  # this one answered; if it refuses us, so would its siblings
        self._connected(self._address, stream, max(1.0, self._deadline - self._loop.monotonic()))

    def _abandon(self, reason: str) -> None:
        """Give up this connection and try the next endpoint."""
        if self._refused is not None:  # the second look has shown nothing: the first counts
            reason, self._refused = str(self._refused), None
        self._release()
        self._next_endpoint(reason)

    def _useless(self, reason: str) -> None:
        """Give up this address."""
        self._release()
        self.refused(reason)

    def _pause(self) -> None:
        self.failure = CannotConnect(
            "; ".join(self._failures), hint="check the address, the network and the broker"
        )
        settings = self._settings
        growth = 2.0 ** min(self._pauses, 40)
        self._pauses += 1
        longest = min(settings.backoff_most_seconds, settings.backoff_first_seconds * growth)
        self._set_timer(self._random.uniform(0.0, longest), self.begin)

    def _release(self) -> None:
        self._cancel_timer()
        self._let_go()

    def _let_go(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._loop.unwatch(stream.fileno())
            stream.release()

    def _set_timer(self, seconds: float, handler: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, handler)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def words(error: BaseException) -> str:
    """Return what went wrong, without the numbers of the system."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
