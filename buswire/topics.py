"""The topics of the bus: how each is spelt, who publishes it and who subscribes to it.

Owns the shape of the topic tree and nothing else: what a message says is `messages`, what may be an
identifier is `names`. `topics.md` is the same tree for people, and a test holds the two equal.
MQTT's words keep MQTT's meaning (topic name, topic filter, retained, will).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from buswire.errors import WireError

DEFAULT_ROOT = "storebus/v1"
ANY_ROLE = "any"
ALL_PLACE = "all"


class Channel(NamedTuple):
    """A downlink log: a place (`all`, `region/<r>`, `store/<s>`) times a role (`any` or a role)."""

    place: str
    role: str

    def __str__(self) -> str:
        """The channel as it stands in topics and messages, for example `region/east/manager`."""
        return f"{self.place}/{self.role}"

    @classmethod
    def parse(cls, text: str) -> "Channel":
        """Read what `str` wrote.

        Raises:
            WireError: The text is not a channel.
        """
        place, _, role = text.rpartition("/")
        kind, _, name = place.partition("/")
        well_formed = (place == ALL_PLACE) or (kind in {"region", "store"} and name)
        if not (well_formed and role) or "/" in name:
            raise WireError(f"{text!r} is not a channel")
        return cls(place, role)

    @classmethod
    def of_region(cls, region: str, role: str) -> "Channel":
        """The channel of one region and role."""
        return cls(f"region/{region}", role)

    @classmethod
    def of_store(cls, store: str, role: str) -> "Channel":
        """The channel of one store and role."""
        return cls(f"store/{store}", role)


class Identity(NamedTuple):
    """One device of one store; also its MQTT user name and client id, as `<store>.<device>`."""

    store: str
    device: str

    def __str__(self) -> str:
        """The identity as one word."""
        return f"{self.store}.{self.device}"

    @classmethod
    def parse(cls, text: str) -> "Identity":
        """Read what `str` wrote.

        Raises:
            WireError: The text is not an identity.
        """
        store, dot, device = text.partition(".")
        if not (store and dot and device) or "." in device:
            raise WireError(f"{text!r} is not a device", hint="write it as STORE.DEVICE")
        return cls(store, device)


def channels_of(store: str, region: str, roles: Iterable[str]) -> tuple[Channel, ...]:
    """The channels that a device of this store serving these roles reads: places times roles."""
    places = (ALL_PLACE, f"region/{region}", f"store/{store}")
    wanted = (ANY_ROLE, *sorted(set(roles) - {ANY_ROLE}))
    return tuple(Channel(place, role) for place in places for role in wanted)


class Address(NamedTuple):
    """A topic name taken apart; the fields that its kind does not have are empty."""

    kind: Literal["down", "heads", "to", "from", "hq", "join"]
    channel: Channel | None = None
    region: str = ""
    identity: Identity | None = None
    join: str = ""


@dataclass(frozen=True, slots=True)
class TopicRule:
    """One row of the topic table, as `topics.md` prints it."""

    name: str
    pattern: str
    publisher: str
    subscriber: str
    retained: bool
    messages: tuple[str, ...]


CATALOGUE: tuple[TopicRule, ...] = (
    TopicRule("down", "down/<place>/<role>", "hub", "devices of the place", False, ("records",)),
    TopicRule("heads", "heads/<region>", "hub", "devices of the region", False, ("heads",)),
    TopicRule(
        "to",
        "to/<store>/<device>",
        "hub",
        "that device",
        False,
        ("welcome", "ack", "records", "snapshot", "nudge"),
    ),
    TopicRule(
        "from", "from/<store>/<device>", "that device", "hub", False, ("hello", "records", "bye")
    ),
    TopicRule("hq", "hq", "hub", "every device, hub", True, ("hub",)),
    TopicRule(
        "join",
        "join/<id>",
        "hub, who has that bundle",
        "hub, who has that bundle",
        False,
        ("join", "joined"),
    ),
)


class Topics:
    """Spells and reads topic names below one root, so that several chains can share a broker."""

    def __init__(self, root: str = DEFAULT_ROOT) -> None:
        """Take the root.

        Raises:
            WireError: The root is empty, begins or ends with a slash, or has a wildcard in it.
        """
        if not root or root.strip("/") != root or any(mark in root for mark in "+#$\0"):
            raise WireError(f"{root!r} cannot be the root of the topics")
        self.root = root
        self.hq = f"{root}/hq"
        self.every_from = f"{root}/from/+/+"
        self.every_join = f"{root}/join/+"

    def down(self, channel: Channel) -> str:
        """Where new records of a channel are published."""
        return f"{self.root}/down/{channel}"

    def heads(self, region: str) -> str:
        """Where the heads of the `all` channels and of this region's are published."""
        return f"{self.root}/heads/{region}"

    def to(self, identity: Identity) -> str:
        """Where HQ speaks to one device."""
        return f"{self.root}/to/{identity.store}/{identity.device}"

    def from_(self, identity: Identity) -> str:
        """Where one device speaks to HQ."""
        return f"{self.root}/from/{identity.store}/{identity.device}"

    def join(self, bundle: str) -> str:
        """Where the holder of a join bundle and HQ speak to each other; nothing else is theirs."""
        return f"{self.root}/join/{bundle}"

    def filters_of_device(
        self, identity: Identity, region: str, channels: Iterable[Channel]
    ) -> tuple[str, ...]:
        """All that a device subscribes to, as exact filters; without a region, no heads."""
        heads = (self.heads(region),) if region else ()
        return (self.hq, self.to(identity), *heads, *(self.down(channel) for channel in channels))

    def filters_of_hub(self) -> tuple[str, ...]:
        """All that the hub subscribes to."""
        return (self.every_from, self.every_join, self.hq)

    def parse(self, topic: str) -> Address:
        """Take a topic name apart.

        Raises:
            WireError: It is not below this root or not one of the catalogue.
        """
        if not topic.startswith(self.root + "/"):
            raise WireError(f"topic {topic!r} is not below {self.root!r}")
        parts = topic[len(self.root) + 1 :].split("/")
        match parts:
            case ["hq"]:
                return Address("hq")
            case ["heads", region] if region:
                return Address("heads", region=region)
            case ["to" | "from" as kind, store, device]:
                return Address(kind, identity=Identity.parse(f"{store}.{device}"))
            case ["join", bundle] if bundle:
                return Address("join", join=bundle)
            case ["down", *_]:
                return Address("down", channel=Channel.parse("/".join(parts[1:])))
            case _:
                raise WireError(f"topic {topic!r} is not one of the contract")
