"""The one adapter to paho: an MQTT connection that keeps itself up and keeps nothing back.

Owns the life of one MQTT connection after another, and handing events over. Must not know what is
published. The only importer of `paho.mqtt.client`.

Invariants:
- `deliver` is called on the loop's thread, in the order in which things happened. It must only hand
  over. When it raises, the connection is dropped and made anew, so that nothing is skipped unseen.
- Nothing is queued while there is no connection, and nothing survives one: each connection has a
  new paho client, because paho would queue without limit and send again by itself.
- Everything that touches paho or the connection happens on the loop's thread. Other threads only
  put work into a queue and wake the loop.
- A link never gives up by itself; how it waits and whom it tries is the dialer's business.
"""

import contextlib
import dataclasses
import random
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from buskit.dialer import Dialer, words
from buskit.farewell import part
from buskit.link_queue import Command, SendQueue
from buskit.link_settings import (
    Address,
    CannotConnect,
    Connected,
    Disconnected,
    LinkEvent,
    LinkSettings,
    LinkSettingsError,
    Publication,
    Published,
    Received,
    Subscribed,
    TlsSettings,
    check_filter,
)
from buskit.loop import LinkLoop, Timer
from buskit.stream import Stream
from buskit.tls import tls_of

__all__ = [
    "CannotConnect",
    "Connected",
    "Disconnected",
    "Link",
    "LinkEvent",
    "LinkLoop",
    "LinkSettings",
    "LinkSettingsError",
    "Publication",
    "Published",
    "Received",
    "Subscribed",
    "TlsSettings",
]

_MOST_PACKETS_AT_ONCE = 200  # then the other links of the loop have their turn
_GOODBYE_SECONDS = 3.0
_LEFT = "left in good order"

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class _Client(paho.Client):
    """A paho client for one connection that is there already."""

    def __init__(self, settings: LinkSettings, stream: Stream) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        self._stream = stream
        self.max_inflight_messages = 0  # no queue of its own: the link has a limit
        if settings.username is not None:
            self.username_pw_set(settings.username, settings.password)
        if settings.will is not None:
            will = settings.will
            self.will_set(will.topic, will.payload, will.qos, will.retain)
        # paho would write at once, from inside; with this it leaves writing to us.
        self.on_socket_register_write = _leave_it_to_the_loop

    def _create_socket(self) -> Any:
        """Return the stream: it is connected already, and never blocks."""
        return self._stream


def _leave_it_to_the_loop(_client: paho.Client, _userdata: Any, _socket: Any) -> None:
    pass


class Link:
    """One MQTT connection that comes back by itself. Whoever starts it owes a `stop`."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        deliver: Callable[[LinkEvent], None],
        random: random.Random,
        loop: LinkLoop | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a link.

        Args:
            settings: Where to, and as whom.
            deliver: Takes each event, on the loop's thread; it must not wait and not raise.
            random: The source of the order of addresses and of the pauses.
            loop: A loop to share with other links; without it the link has one of its own.
            monotonic: The clock of the pauses.

        Raises:
            LinkSettingsError: A file that TLS needs is missing or is not what it should be.
        """
        tls = tls_of(settings)  # read once: attempts read no files
        self.settings = settings
        self._deliver = deliver
        self._monotonic = monotonic
        self._own_loop = loop is None
        self._loop = LinkLoop(f"link {settings.client_id}") if loop is None else loop
        self._dialer = Dialer(settings, self._loop, random, self._greet, tls=tls)

        self._queue = SendQueue(settings.queue_limit_bytes)
        self._guard = threading.Lock()
        self._started = False

        # The rest belongs to the loop's thread alone.
        self._stopping = False
        self._stopped = threading.Event()
        self._address: Address | None = None
        self._connected_at = 0.0
        self._stream: Stream | None = None
        self._client: _Client | None = None
        self._timer: Timer | None = None
        self._keepalive_timer: Timer | None = None
        self._token_of: dict[int, int] = {}
        self._filters_of: dict[int, Sequence[tuple[str, int]]] = {}
        self._written: deque[tuple[int, int]] = deque()
        self._leaving: list[int] = []
        self._bye: int | None = None
        self._said_disconnect = False

    # What any thread may call.

    @property
    def connected(self) -> bool:
        """Whether a broker has let us in and the connection is not known to be lost."""
        return self._queue.is_open

    @property
    def unsent_bytes(self) -> int:
        """How much was taken by `publish` and is not `Published` yet."""
        return self._queue.unsent_bytes

    @property
    def failure(self) -> CannotConnect | None:
        """Why the last round through the addresses failed; None once connected."""
        return None if self._queue.is_open else self._dialer.failure

    def start(self) -> None:
        """Begin to connect; returns at once.

        Raises:
            RuntimeError: It was started before.
        """
        with self._guard:
            if self._started:
                raise RuntimeError("a link is started once")
            self._started = True
        self._loop.call(self._begin)

    def stop(self, bye: Publication | None = None) -> None:
        """Leave in good order, and wait for it, a few seconds at most; idempotent.

        Args:
            bye: The last thing to publish, if connected. At QoS 1 its acknowledgement is awaited.
        """
        with self._guard:
            fresh = not self._started
            self._started = True
        if not fresh and not self._stopped.is_set():
            try:
                self._loop.call(lambda: self._guarded(lambda: self._leave(bye)))
            except RuntimeError:  # the loop has ended before us, and every connection with it
                self._stopped.set()
            if not self._loop.in_loop:
                self._stopped.wait(_GOODBYE_SECONDS + 1.0)
        if self._own_loop:
            self._loop.stop()

    def renew(self, will: Publication) -> None:
        """Leave this will from now on: a connection that has another one is ended and made anew.

        The broker forgets the old will, as the connection ends with DISCONNECT. `Disconnected`
        and `Connected` follow as for any connection that is lost.
        """

        def change() -> None:
            self.settings = dataclasses.replace(self.settings, will=will)
            if not self._stopping and self._client is not None:
                self._say_disconnect()

        with contextlib.suppress(RuntimeError):  # the loop has ended, and every connection with it
            self._loop.call(lambda: self._guarded(change))

    def publish(self, publication: Publication) -> int | None:
        """Send a message, if there is a connection and room; never waits, never queues for later.

        Returns:
            A token, which `Published` will name; None when it was not taken: not connected, or too
            much on its way already. After `Disconnected` all tokens are void.
        """
        taken = self._queue.offer(publication)
        if taken is None:
            return None
        token, announce = taken
        if announce:
            self._announce()
        return token

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> bool:
        """Subscribe to pairs of a topic filter and a QoS; `Subscribed` brings the answer.

        Returns:
            Whether it was sent off: False when not connected. Subscriptions end with the
            connection, so subscribe at each `Connected`.

        Raises:
            ValueError: Something is not a topic filter.
        """
        for topic_filter, _ in filters:
            check_filter(topic_filter)
        return self._request(filters) if filters else self.connected

    def unsubscribe(self, filters: Iterable[str]) -> bool:
        """End subscriptions; there is no answer.

        Returns:
            Whether it was sent off: False when not connected.

        Raises:
            ValueError: Something is not a topic filter.
        """
        names = frozenset(filters)
        for topic_filter in names:
            check_filter(topic_filter)
        return self._request(names) if names else self.connected

    def _request(self, command: Sequence[tuple[str, int]] | frozenset[str]) -> bool:
        announce = self._queue.request(command)
        if announce:
            self._announce()
        return announce is not None

    def _announce(self) -> None:
        try:
            self._loop.call(self._on_queue)
        except RuntimeError:  # the loop was stopped with us in it: nothing will be sent any more
            self._queue.close()

    # From here on the loop's thread only.

    def _begin(self) -> None:
        if not self._stopping:
            self._dialer.begin()

    def _greet(self, address: Address, stream: Stream, left_seconds: float) -> None:
        """Say CONNECT; the broker's consent or refusal comes to `_on_connack`."""
        self._address = address
        self._stream = stream
        self._set_timer(left_seconds, lambda: self._lost("the broker does not answer CONNECT"))
        self._guarded(self._connect)

    def _connect(self) -> None:
        if self._stream is None or self._address is None:
            return
        client = self._client = _Client(self.settings, self._stream)
        client.on_connect = self._on_connack
        client.on_message = self._on_message
        client.on_subscribe = self._on_suback
        client.connect_async(
            self._address.host, self._address.port, self.settings.keepalive_seconds
        )
        client.reconnect()
        self._pump()

    def _on_io(self, events: int) -> None:
        if events & _READ:
            self._guarded(self._read)
        else:
            self._guarded(self._pump)

    def _read(self) -> None:
        client, stream = self._client, self._stream
        if client is None or stream is None:
            return
        for _ in range(_MOST_PACKETS_AT_ONCE):
            code = client.loop_read()
            if self._client is not client:
                return
            if code != paho.MQTT_ERR_SUCCESS or stream.closed:
                self._lost(stream.trouble or _reason(code))
                return
            if not stream.pending():
                break
        else:
            self._loop.call(lambda: self._guarded(self._read))
        self._pump()

    def _pump(self) -> None:
        """Let out what wants out, and watch for what can go on later."""
        client, stream = self._client, self._stream
        if client is None or stream is None:
            return
        code = client.loop_write()
        if stream.closed and self._said_disconnect:  # paho closes after writing DISCONNECT
            self._client = None
            part(self._loop, stream, self._guarded, lambda: self._lost(_LEFT))
            return
        if code != paho.MQTT_ERR_SUCCESS or stream.closed:
            self._lost(stream.trouble or _reason(code))
            return
        if self._leaving and not client.want_write():
            position = stream.position()
            self._written.extend((position, token) for token in self._leaving)
            self._leaving.clear()
        stream.flush()
        while self._written and self._written[0][0] <= stream.written_bytes:
            self._done(self._written.popleft()[1])
        if self._client is client:
            writing = stream.wants_write or client.want_write()
            self._loop.watch(stream.fileno(), _READ | _WRITE if writing else _READ, self._on_io)

    def _on_queue(self) -> None:
        commands = self._queue.take()
        self._guarded(lambda: self._send(commands))

    def _send(self, commands: Iterable[Command]) -> None:
        client = self._client
        if client is None:
            return
        for command in commands:
            if isinstance(command, tuple):
                self._send_publication(client, *command)
            elif isinstance(command, frozenset):
                client.unsubscribe(sorted(command))
            else:
                code, packet_id = client.subscribe(command)
                if code == paho.MQTT_ERR_SUCCESS and packet_id is not None:
                    self._filters_of[packet_id] = command
        self._pump()

    def _send_publication(self, client: _Client, token: int, publication: Publication) -> None:
        if publication.qos and client.on_publish is None:
            # Only for QoS 1: paho spends more on telling of a QoS 0 message than on sending it.
            client.on_publish = self._on_puback
        info = client.publish(
            publication.topic, publication.payload, publication.qos, publication.retain
        )
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise ConnectionError(_reason(info.rc))
        if publication.qos:
            self._token_of[info.mid] = token
        else:
            self._leaving.append(token)

    def _done(self, token: int) -> None:
        if not self._queue.done(token):
            return
        self._deliver(Published(token))
        if token == self._bye:
            # Not here: this may be inside a callback, where paho holds a lock that it needs then.
            self._loop.call(lambda: self._guarded(self._say_disconnect))

    def _on_connack(self, _c: Any, _u: Any, _f: Any, reason_code: Any, _p: Any) -> None:
        if reason_code != 0:
            raise ConnectionError(f"the broker refuses us: {reason_code}")
        if self._queue.is_open:
            raise ConnectionError("the broker agreed twice")
        self._cancel_timer()
        self._connected_at = self._monotonic()
        self._queue.open()
        self._check_keepalive()
        if self._address is not None:
            self._deliver(Connected(self._address.url))

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        if not self._queue.is_open:
            raise ConnectionError("the broker sent a message before it agreed")
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # Dropping the connection, as the standard says, would end in doing so for ever when the
            # broker has kept the message. Whoever reads it will know what to do with such a topic.
            topic = message._topic.decode("utf-8", "backslashreplace")  # noqa: SLF001
        self._deliver(Received(topic, bytes(message.payload), bool(message.retain)))

    def _on_suback(self, _c: Any, _u: Any, packet_id: int, codes: list[Any], _p: Any) -> None:
        asked = self._filters_of.pop(packet_id, ())
        verdicts = list(zip((topic_filter for topic_filter, _ in asked), codes, strict=False))
        granted = tuple(name for name, code in verdicts if not code.is_failure)
        refused = tuple(name for name, code in verdicts if code.is_failure)
        self._deliver(Subscribed(granted, refused))

    def _on_puback(self, _c: Any, _u: Any, packet_id: int, _r: Any, _p: Any) -> None:
        token = self._token_of.pop(packet_id, None)
        if token is not None:
            self._done(token)

    def _check_keepalive(self) -> None:
        """Let paho look at its clock, a few times in each keepalive period."""

        def look() -> None:
            client = self._client
            if client is None:
                return
            if client.loop_misc() != paho.MQTT_ERR_SUCCESS or client.socket() is None:
                self._lost("the broker does not answer any more")
                return
            self._pump()
            if self._client is client:
                self._check_keepalive()

        pause = max(0.2, self.settings.keepalive_seconds / 6)
        self._keepalive_timer = self._loop.call_later(pause, lambda: self._guarded(look))

    # Ending.

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step of a connection; whatever it raises ends the connection and nothing else."""
        try:
            step()
        except Exception as error:
            self._lost(words(error))

    def _lost(self, reason: str) -> None:
        """The connection is over, or never came about; go on with what comes next."""
        was_connected = self._queue.is_open
        self._queue.close()
        self._release()
        if was_connected:
            try:
                self._deliver(Disconnected(reason))
            except Exception as error:
                reason = f"{reason}; then {words(error)}"
        if self._stopping:
            self._dialer.stop()
            self._stopped.set()
        elif was_connected:
            self._dialer.lost(reason, lived_seconds=self._monotonic() - self._connected_at)
        else:
            self._dialer.refused(reason)

    def _release(self) -> None:
        """Let go of the connection and of all that belongs to it."""
        self._cancel_timer()
        self._said_disconnect = False
        if self._keepalive_timer is not None:
            self._keepalive_timer.cancel()
        stream, self._stream = self._stream, None
        self._client = None
        self._token_of.clear()
        self._filters_of.clear()
        self._written.clear()
        self._leaving.clear()
        if stream is not None:
            self._loop.unwatch(stream.fileno())
            stream.release()

    def _leave(self, bye: Publication | None) -> None:
        if self._stopping:
            return
        self._stopping = True
        if not self._queue.is_open:
            self._lost(_LEFT)
            return
        self._set_timer(_GOODBYE_SECONDS, lambda: self._lost(_LEFT))
        commands = self._queue.take()
        if bye is not None:
            self._bye = self._queue.register(bye.size_bytes)
            commands.append((self._bye, bye))
        self._send(commands)
        if bye is None:
            self._say_disconnect()

    def _say_disconnect(self) -> None:
        if self._client is not None:
            self._said_disconnect = True
            self._client.disconnect()
            self._pump()

    def _set_timer(self, seconds: float, handler: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, handler)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _reason(code: int) -> str:
    if code in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_CONN_LOST, paho.MQTT_ERR_NO_CONN):
        return "the broker closed the connection"
    return paho.error_string(MQTTErrorCode(code)).rstrip(".")
