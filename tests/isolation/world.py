"""The organisation under test, its secrets, and connections that prove silence.

A connection that hears nothing proves nothing. So everyone who listens also hears a *sentinel*: a
message by somebody who may send it, on a topic that the listener may hear, published after all that
should not arrive was dealt with. What comes before the sentinel came, what did not come will not.
"""

import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from buswire.access import (
    AccessFile,
    DeviceAccess,
    HubAccess,
    JoinAccess,
    ToolAccess,
    token_hash,
)
from tests.broker_engine import raw
from tests.broker_engine.raw import Client, ClosedError, Message
from tests.isolation.table import CHANGES, ENDS, IDENTITIES, ROOT, TOOL_CHANGES, cells, unescape

SENTINEL = b"sentinel "
# So many packets are on their way before their answers are read; it fits every socket buffer.
_PIPELINE = 50
_ANSWERS = (raw.PUBACK, raw.PUBCOMP, raw.SUBACK, raw.UNSUBACK)


def token(identity: str) -> str:
    """The token of an identity; `old` and `new` ones where it changes."""
    return f"token of {identity}"


def _hashes(*identities: str) -> list[str]:
    return [token_hash(token(identity)) for identity in identities]


def _device(identity: str, place: str, roles: str = "", *, tokens: Sequence[str] = ()) -> dict:
    region = "" if place == "closed" else place
    return {
        identity: DeviceAccess(
            tokens=_hashes(*(tokens or (identity,))),
            region=region,
            roles=roles.split(",") if roles else [],
        )
    }


def access(*, changed: bool = False, root: str = ROOT) -> AccessFile:
    """The access file: before the changes of the table or after them."""
    devices = {
        **_device("S1.till", "east", "manager,clerk"),
        **_device("S1.office", "east", "warehouse"),
        **_device("S1.hq", "east", "hq"),
        **_device("S2.till", "east", "manager"),
        **_device("S2.new", "east", "manager", tokens=["S2.new new"]),
        **_device("W1.till", "west", "manager"),
        **_device("C1.till", "closed", "manager"),
        **_device("Z\u00fcrich.till", "hq", "clerk"),
    }
    for name, before, after, _, _ in cells(CHANGES):
        for sibling in (name, f"{name[:2]}.u"):
            devices |= _device(sibling, *(after if changed else before).split())
    tools = {
        "tool/screen": ToolAccess(
            tokens=_hashes("tool/screen"), reads=[f"{ROOT}/heads/+", f"{ROOT}/down/region/east/any"]
        ),
        "tool/auditor": ToolAccess(
            tokens=_hashes("tool/auditor"),
            reads=["#", *(f"${name}/#" for name in ("SYS", "share", "queue", "storebus"))],
        ),
    }
    hubs = {"hub/h1": HubAccess(tokens=_hashes("hub/h1"))}
    joins = {name: JoinAccess(tokens=_hashes(name)) for name in ("join/hq", "join/b1")}
    for name, before, after, _, _ in cells(TOOL_CHANGES):
        reads = unescape(after if changed else before).split()
        tools[name] = ToolAccess(tokens=_hashes(name), reads=reads)
    for name, _, _, old, new in cells(ENDS):
        words = [
            word for word, verdict in ((name, old), (f"{name} new", new)) if verdict == "let in"
        ]
        hashes = _hashes(*words) if changed else _hashes(name)
        if not hashes:
            continue
        if name.startswith("hub/"):
            hubs[name] = HubAccess(tokens=hashes)
        elif name.startswith("tool/"):
            tools[name] = ToolAccess(tokens=hashes, reads=[f"{ROOT}/hq"])
        elif name.startswith("join/"):
            joins[name] = JoinAccess(tokens=hashes)
        else:
            devices[name] = DeviceAccess(tokens=hashes, region="east", roles=["manager"])
    return AccessFile(version=1, root=root, hubs=hubs, devices=devices, tools=tools, joins=joins)


@dataclass(frozen=True)
class Login:
    """What a client says of itself."""

    client_id: str
    user: str | None
    password: bytes | None

    @classmethod
    def of(cls, identity: str, word: str = "", run: str = "hub") -> "Login":
        """The right one of an identity, with its token or that of another name."""
        client_id = f"{identity}/{run}" if identity.startswith("hub/") else identity
        return cls(client_id, identity, token(word or identity).encode())

    def packet(self, **options: object) -> bytes:
        """The CONNECT."""
        return raw.connect_packet(
            self.client_id,
            username=self.user,
            password=self.password,
            **options,  # type: ignore[arg-type]
        )


Make = Callable[[int], bytes]
"""Makes a packet of a packet identifier."""


def publishing(topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> Make:
    """A PUBLISH; its PUBACK or PUBCOMP, or an UNSUBACK behind it, says that it was dealt with."""

    def make(number: int) -> bytes:
        packet = raw.publish_packet(topic, payload, qos, packet_id=number, retain=retain)
        return packet if qos else packet + unsubscribing("nobody/has/this")(number)

    return make


def subscribing(topic_filter: str, qos: int = 0) -> Make:
    """A SUBSCRIBE to one filter."""
    return lambda number: raw.subscribe_packet((topic_filter, qos), packet_id=number)


def unsubscribing(topic_filter: str) -> Make:
    """An UNSUBSCRIBE of one filter."""
    return lambda number: raw.packet(0xA2, struct.pack("!H", number) + raw.text(topic_filter))


@dataclass
class Actor:
    """Somebody with a connection.

    Attributes:
        name: Of the column.
        heard: What came since `take`.
        filters: What it subscribes to when it connects (again).
        refused: Of those, what was not granted.
    """

    name: str
    login: Login
    port: int
    patience_seconds: float
    filters: list[str] = field(default_factory=list)
    qos: int = 0
    clean: bool = True
    will: tuple[str, bytes, int, bool] | None = None
    heard: list[Message] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    client: Client | None = None
    session_present: bool = False
    _is_opening: bool = False
    _numbers: "itertools.cycle[int]" = field(
        default_factory=lambda: itertools.cycle(range(1, 60_000))
    )

    def open(self, *, subscribe: bool = True) -> int | None:
        """Connect (throwing off what it had) and subscribe; the code of CONNACK, None for none."""
        self.close()
        self.client = Client(self.port)
        code: int | None = None
        try:
            self.client.send(self.login.packet(clean=self.clean, will=self.will))
            flags, code = self.client.expect(raw.CONNACK, self.patience_seconds).body
            self.session_present = bool(flags & 1)
        except (ClosedError, TimeoutError, OSError):
            self.close()
        if code:
            self.close()
        elif code == 0 and subscribe:
            self._is_opening = True
            answers = self.attempt([subscribing(name, self.qos) for name in self.filters])
            self._is_opening = False
            self.refused = [
                name
                for name, answer in zip(self.filters, answers, strict=True)
                if answer is None or answer[-1] > 2
            ]
        return code

    def close(self) -> None:
        """Close the socket without a word."""
        if self.client is not None:
            self.client.close()
            self.client = None

    def leave(self) -> None:
        """Say DISCONNECT, and wait until the broker has closed."""
        if self.client is not None:
            try:
                self.client.send(b"\xe0\x00")
                while True:
                    self._take(self.client.read(self.patience_seconds))
            except (ClosedError, TimeoutError, OSError):
                self.close()

    def take(self) -> list[Message]:
        """Hand over what was heard since the last time."""
        heard, self.heard = self.heard, []
        return [one for one in heard if not one.payload.startswith(SENTINEL)]

    def _take(self, got: raw.Packet) -> raw.Packet | None:
        if got.kind == raw.PUBREC and self.client is not None:
            self.client.send(b"\x62\x02" + struct.pack("!H", got.packet_id))
        if got.kind != raw.PUBLISH:
            return got
        message = raw._message(got)
        self.heard.append(message)
        if message.qos == 1 and self.client is not None:
            self.client.send(b"\x40\x02" + struct.pack("!H", message.packet_id))
        return None

    def attempt(self, makes: Iterable[Make]) -> list[bytes | None]:
        """Send packets and return the answer to each; None where the connection was closed on it.

        The connection is made anew then, with its subscriptions, and the next packet goes there.
        """
        waiting = list(makes)
        answers: list[bytes | None] = []
        while waiting:
            answered = self._pipeline(waiting[:_PIPELINE])
            answers += answered
            waiting = waiting[len(answered) :]
            if self.client is None and not self._is_opening:
                self.open()
        return answers

    def _pipeline(self, makes: list[Make]) -> list[bytes | None]:
        numbers = [next(self._numbers) for _ in makes]
        found: dict[int, bytes] = {}
        if self.client is not None:
            try:
                for number, make in zip(numbers, makes, strict=True):
                    packet = make(number)
                    self.client.send(packet)
                    if len(packet) > 10_000:  # its answer first: the other end may have to close
                        self._await({number}, found)
                self._await(set(numbers), found)
            except (ClosedError, TimeoutError, OSError):
                self.close()
        answers: list[bytes | None] = []
        for number in numbers:
            answers.append(found.get(number))
            if number not in found:
                break
        return answers

    def _await(self, numbers: set[int], found: dict[int, bytes]) -> None:
        assert self.client is not None
        while not numbers <= found.keys():
            got = self._take(self.client.read(self.patience_seconds))
            if got is not None and got.kind in _ANSWERS:
                found[got.packet_id] = got.body

    def hear_until(self, payload: bytes) -> bool:
        """Read until this payload comes; False when the connection ends or the time is over."""
        if self.client is None:
            return False
        while not (self.heard and self.heard[-1].payload == payload):
            try:
                self._take(self.client.read(self.patience_seconds))
            except (ClosedError, TimeoutError, OSError):
                self.close()
                return False
        self.heard.pop()
        return True

    def is_ended(self) -> bool:
        """Whether the broker closes the connection, within the patience."""
        if self.client is None:
            return True
        try:
            while True:
                self._take(self.client.read(self.patience_seconds))
        except (ClosedError, ConnectionError):
            self.close()
            return True
        except TimeoutError:
            return False


class World:
    """Everybody of the table, connected and listening to all that the table lets them hear."""

    def __init__(self, port: int, patience_seconds: float) -> None:
        """Make them; nobody is connected yet."""
        self.port = port
        self.patience_seconds = patience_seconds
        self.actors = {name: self.actor(IDENTITIES[name], name) for name in IDENTITIES}
        self.auditor = self.actor("tool/auditor", "auditor")
        self.auditor.filters = ["#", "$SYS/#", "$share/#", "$queue/#", "$storebus/#"]
        # Who sends the sentinels, and whatever else HQ has to say.
        self.steward = self.actor("hub/h1", "steward", run="steward")
        self.guests: list[Actor] = []
        self._sentinels = itertools.count()

    def actor(self, identity: str, name: str = "", *, word: str = "", run: str = "hub") -> Actor:
        """Somebody with the right login."""
        login = Login.of(identity, word, run)
        return Actor(name or identity, login, self.port, self.patience_seconds)

    @property
    def everybody(self) -> list[Actor]:
        """Whoever may listen."""
        return [*self.actors.values(), self.auditor, *self.guests]

    @property
    def listeners(self) -> list[Actor]:
        """Whoever of them is connected."""
        return [actor for actor in self.everybody if actor.client is not None]

    def settle(self) -> list[Actor]:
        """Send everybody a sentinel and read up to it; who did not get it is returned.

        Whoever is returned proved nothing by silence.
        """
        sentinel = SENTINEL + str(next(self._sentinels)).encode()
        topics = [f"{ROOT}/hq", f"{ROOT}/heads/east", f"{ROOT}/join/hq"]
        self.steward.attempt([publishing(topic, sentinel) for topic in topics])
        return [actor for actor in self.listeners if not actor.hear_until(sentinel)]

    def close(self) -> None:
        """Close all connections."""
        for actor in (*self.actors.values(), self.auditor, self.steward, *self.guests):
            actor.close()
