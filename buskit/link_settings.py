"""What a link is told and what it tells: settings, publications, events. No I/O, no paho."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from buskit.errors import KitError

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_WITH_TLS = ("mqtts", "wss")
_WITH_PATH = ("ws", "wss")


class LinkSettingsError(KitError):
    """A link cannot be made with these settings."""

    exit_code = 2


class CannotConnect(KitError):  # noqa: N818 - it says what the link cannot do
    """No broker could be reached, or none let us in."""

    exit_code = 3


@dataclass(frozen=True)
class Publication:
    """One application message to publish.

    Attributes:
        topic: The topic name; without wildcards.
        payload: The bytes.
        qos: 0 or 1.
        retain: Whether the broker keeps it as the topic's last value.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False

    def __post_init__(self) -> None:
        """Refuse what no broker would take."""
        if not self.topic or set(self.topic) & {"+", "#", "\0"}:
            raise ValueError(f"{self.topic!r} is not a topic name")
        if len(self.topic.encode()) > 65535:
            raise ValueError("a topic name has at most 65535 bytes")
        if self.qos not in (0, 1):
            raise ValueError(f"QoS {self.qos} is not used here")

    @property
    def size_bytes(self) -> int:
        """About what it takes on the wire."""
        return len(self.topic) + len(self.payload) + 8


@dataclass(frozen=True)
class Address:
    """Where a broker listens, taken apart.

    Attributes:
        url: The whole, as the person wrote it.
        host: A name or an IP address.
        port: The TCP port.
        path: The path of a WebSocket address; None for MQTT without WebSocket.
        tls: Whether the connection is encrypted and the broker proves its name.
    """

    url: str
    host: str
    port: int
    path: str | None
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Take an address apart.

        Raises:
            LinkSettingsError: It is none that a link can use.
        """
        example = "write mqtts://host:8883 or wss://host/path; mqtt:// and ws:// are plain text"
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError as error:
            raise LinkSettingsError(
                f"{url!r} is no broker address: {error}", hint=example
            ) from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise LinkSettingsError(f"{url!r} is no broker address", hint=example)
        if parts.username is not None or parts.password is not None:
            raise LinkSettingsError(
                f"the address of {parts.hostname} has a user name in it",
                hint="put the user name and the password into their own settings",
            )
        path = None
        if parts.scheme not in _WITH_PATH and (parts.path.strip("/") or parts.query):
            raise LinkSettingsError(
                f"{url!r}: only ws:// and wss:// addresses have a path", hint=example
            )
        if parts.scheme in _WITH_PATH:
            path = (parts.path or "/mqtt") + (f"?{parts.query}" if parts.query else "")
            if not path.isascii() or not path.isprintable() or " " in path:
                raise LinkSettingsError(f"{url!r}: that path cannot be asked for", hint=example)
        tls = parts.scheme in _WITH_TLS
        return cls(url, parts.hostname, port or _PORTS[parts.scheme], path, tls)

    @property
    def host_header(self) -> str:
        """What a WebSocket request names as its host."""
        host = f"[{self.host}]" if _is_ipv6(self.host) else self.host
        usual = _PORTS["wss" if self.tls else "ws"]
        return host if self.port == usual else f"{host}:{self.port}"


@dataclass(frozen=True)
class TlsSettings:
    """Whom to trust on `mqtts://` and `wss://` addresses, and what to show of ourselves.

    Attributes:
        ca_file: A private CA (PEM). Only what it signed is trusted, and no dates are looked at, so
            that a machine which wakes up in 1970 gets in. Without it the CAs of the system are
            trusted, and dates count.
        certificate_file: Our own certificate (PEM), where the broker wants one.
        key_file: Its private key (PEM, not encrypted), readable by us alone; without it the key is
            looked for in `certificate_file`.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a key for no certificate."""
        if self.key_file is not None and self.certificate_file is None:
            raise LinkSettingsError(
                f"{self.key_file} is a key without a certificate",
                hint="name the certificate's file, too",
            )


@dataclass(frozen=True)
class LinkSettings:
    """All that a link must know. Sessions are always clean and the protocol is MQTT 3.1.1.

    Attributes:
        addresses: URLs of brokers, any of which will do: `mqtts://host:port`,
            `wss://host:port/path`, or `mqtt://` and `ws://` in plain text.
        client_id: The MQTT client identifier.
        username: The user name, if the broker wants one.
        password: The password; it never appears in a repr.
        keepalive_seconds: After that long without traffic the broker is asked whether it is there;
            when it does not answer for as long again, the connection counts as lost.
        will: What the broker publishes for us when the connection breaks.
        backoff_first_seconds: The first pause after all addresses have failed is a random time up
            to this; each further one up to twice as much.
        backoff_most_seconds: No pause is longer than this.
        stable_seconds: A connection that lived that long was good: pauses begin small again.
        connect_timeout_seconds: How long one address may take, to the broker's consent.
        queue_limit_bytes: How much may be on its way at once; `publish` refuses more.
        receive_limit_bytes: The longest packet taken in; a longer one ends the connection.
        tls: For the encrypted addresses; None trusts the CAs of the system and shows nothing.
    """

    addresses: tuple[str, ...]
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    keepalive_seconds: int = 30
    will: Publication | None = None
    backoff_first_seconds: float = 0.5
    backoff_most_seconds: float = 60.0
    stable_seconds: float = 5.0
    connect_timeout_seconds: float = 10.0
    queue_limit_bytes: int = 8 * 1024 * 1024
    receive_limit_bytes: int = 1024 * 1024
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        """Refuse settings that could not work, before anything is tried."""
        if not self.addresses:
            raise LinkSettingsError("a link needs the address of a broker")
        self.parsed_addresses()
        if not self.client_id or len(self.client_id.encode()) > 65535:
            raise LinkSettingsError("a link needs a client id")
        if self.password is not None and self.username is None:
            raise LinkSettingsError("MQTT 3.1.1 has no password without a user name")
        if not 1 <= self.keepalive_seconds <= 65535:
            raise LinkSettingsError("keepalive_seconds must be between 1 and 65535")

    def parsed_addresses(self) -> tuple[Address, ...]:
        """Return the addresses, taken apart."""
        return tuple(Address.parse(url) for url in self.addresses)


@dataclass(frozen=True)
class Connected:
    """A broker has let us in. The session is new: subscribe again. Tokens of before are void."""

    address: str


@dataclass(frozen=True)
class Disconnected:
    """The connection has ended. What was not `Published` by now may or may not have arrived."""

    reason: str


@dataclass(frozen=True)
class Received:
    """A message has arrived.

    Attributes:
        topic: Its topic name; bytes that are no UTF-8 show as escapes.
        payload: Its bytes.
        retained: Whether the broker had kept it from before we subscribed.
    """

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True)
class Subscribed:
    """The broker has answered a subscription.

    Attributes:
        granted: The topic filters that are in force.
        refused: The ones it did not allow.
    """

    granted: tuple[str, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """At QoS 1 the broker has acknowledged it; at QoS 0 the system has taken it."""

    token: int


LinkEvent = Connected | Disconnected | Received | Subscribed | Published


def check_filter(topic_filter: str) -> None:
    """Refuse what is no topic filter (MQTT 3.1.1, section 4.7).

    Raises:
        ValueError: It is none.
    """
    levels = topic_filter.split("/")
    if (
        not topic_filter
        or "\0" in topic_filter
        or len(topic_filter.encode()) > 65535
        or any(len(level) > 1 and set(level) & {"+", "#"} for level in levels)
        or "#" in levels[:-1]
    ):
        raise ValueError(f"{topic_filter!r} is not a topic filter")


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).version == 6
    except ValueError:
        return False
