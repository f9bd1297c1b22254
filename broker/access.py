"""Who may connect, and what a client may do: the questions the broker asks, as pure code.

Owns the two seams of security: an `Authenticator` is asked once per CONNECT, before any session is
looked up or touched; an `AccessPolicy` is asked at publish, subscribe, delivery, will and retain.
With an access file the contract answers (`AccessFileAuthenticator`, `ContractPolicy`), without one
the permissive pair does. It must know nothing of files, sockets, sessions or amqtt. Both run on the
event loop: they must answer from memory, without waiting. Whatever is not a clear yes is a no, an
exception too.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from broker.errors import AccessFileError
from broker.topics import covers, has_wildcard, is_topic_filter, matches
from buswire import topics as contract
from buswire.access import (
    HUB_PREFIX,
    JOIN_PREFIX,
    TOOL_PREFIX,
    AccessFile,
    DeviceAccess,
    HubAccess,
    JoinAccess,
    ToolAccess,
)
from buswire.errors import WireError
from buswire.names import identifier, shown


class Action(Enum):
    """What a client wants to do with a topic name or, for SUBSCRIBE alone, a topic filter."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    RECEIVE = "receive"
    WILL = "will"
    RETAIN = "retain"


class Kind(Enum):
    """What sort of client an identity is; limits differ by it."""

    HUB = "hub"
    DEVICE = "device"
    TOOL = "tool"
    JOIN = "join"
    OTHER = "other"
    """Anybody, where there is no access file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What a client said and showed of itself when it connected.

    Attributes:
        client_id: As sent; one of the broker's making when the client left the choice to it.
        username: None when it sent none.
        password: Never logged, hence not in the representation.
        peer_address: The other end's address, for the log.
        peer_certificate: As `ssl.SSLObject.getpeercert()` gives it, and so verified against the
            client CA; None or empty without one.
    """

    client_id: str
    username: str | None
    password: bytes | None = field(repr=False)
    peer_address: str
    peer_certificate: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, once authenticated; what every later question is about.

    Attributes:
        name: Who.
        kind: What sort of client.
        token: The hash of the token that let it in: the same client with another token is the same
            client, but it must leave when this token goes.
        certified: Whether it showed a certificate with its name.
    """

    name: str
    kind: Kind = Kind.OTHER
    token: str = field(default="", compare=False, repr=False)
    certified: bool = field(default=False, compare=False)


class Authenticator(Protocol):
    """Decides who may connect."""

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Return who this is, or None to refuse (CONNACK 5)."""
        ...


class Admission(Authenticator, Protocol):
    """Decides who may connect, and who may stay when that has changed."""

    def still_admits(self, identity: Identity) -> bool:
        """Say whether a client that was let in earlier may stay."""
        ...


class AccessPolicy(Protocol):
    """Decides what an identity may do.

    Attributes:
        checks_delivery: False promises that every RECEIVE is allowed, so that it is not asked once
            for each subscriber of each message.
    """

    checks_delivery: bool

    def allows(self, identity: Identity, action: Action, topic: str) -> bool:
        """Say whether the identity may do this with a topic name, or a filter for SUBSCRIBE."""
        ...


class AnyoneMayConnect:
    """Lets everybody in; the identity is the user name, or the client id where there is none."""

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Believe what the client says."""
        return Identity(credentials.username or credentials.client_id)


class AllowEverything:
    """Allows everything but publishing under `$SYS`, which belongs to brokers."""

    checks_delivery = False

    def allows(self, identity: Identity, action: Action, topic: str) -> bool:
        """Say yes, with one exception."""
        del identity
        return action in _READING or not topic.startswith("$SYS/")


_READING = frozenset({Action.SUBSCRIBE, Action.RECEIVE})


# -- what follows from an access file --

Entry = HubAccess | DeviceAccess | ToolAccess | JoinAccess


def entry_of(access: AccessFile, name: str) -> tuple[Kind, Entry] | None:
    """Find an identity in an access file."""
    entry: Entry | None
    if name.startswith(HUB_PREFIX):
        kind, entry = Kind.HUB, access.hubs.get(name)
    elif name.startswith(TOOL_PREFIX):
        kind, entry = Kind.TOOL, access.tools.get(name)
    elif name.startswith(JOIN_PREFIX):
        kind, entry = Kind.JOIN, access.joins.get(name)
    else:
        kind, entry = Kind.DEVICE, access.devices.get(name)
    return None if entry is None else (kind, entry)


def check(access: AccessFile) -> None:
    """Refuse an access file that would grant what its words do not say.

    The names in it become topics: one with a wildcard or a slash in it would grant more than one.

    Raises:
        AccessFileError: It names what cannot be named so.
    """
    try:
        contract.Topics(access.root)
        for name, device in access.devices.items():
            owner = contract.Identity.parse(name)
            identifier(owner.store, "store")
            identifier(owner.device, "device")
            if device.region:
                identifier(device.region, "region")
            for role in device.roles:
                identifier(role, "role")
    except WireError as error:
        raise AccessFileError(f"an access file that cannot be right: {error}") from error
    for prefix, names in (
        (HUB_PREFIX, access.hubs),
        (TOOL_PREFIX, access.tools),
        (JOIN_PREFIX, access.joins),
    ):
        for name in names:
            own = name.removeprefix(prefix)
            if own == name or not own or not own.isprintable() or set(own) & set("/+#$"):
                raise AccessFileError(
                    f"an access file that cannot be right: {shown(name)} is not {prefix}NAME"
                )
    for name, tool in access.tools.items():
        for topic_filter in tool.reads:
            if not is_topic_filter(topic_filter, max_levels=len(topic_filter) + 1):
                raise AccessFileError(
                    f"an access file that cannot be right: {name} reads {shown(topic_filter)}, "
                    "which is no topic filter"
                )


class AccessFileAuthenticator:
    """Lets in who shows a token that the access file lists.

    User name and client id are both the identity, so that nobody comes with another one's client
    id; a hub's client id has its run after it.
    """

    def __init__(self, access: AccessFile) -> None:
        """Take a file that `check` has passed."""
        self._access = access

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Compare; anonymous clients are refused."""
        name, password = credentials.username, credentials.password
        if not name or password is None:
            return None
        shown_hash = hashlib.sha256(password).hexdigest()
        found = entry_of(self._access, name)
        if found is None:
            return None
        kind, entry = found
        if not _is_client_id_of(name, kind, credentials.client_id):
            return None
        token = ""
        for listed in entry.tokens:
            if hmac.compare_digest(listed, shown_hash):
                token = listed
        if not token:
            return None
        certified = _common_names(credentials.peer_certificate) == [name]
        if self._access.mutual_tls and kind in _CERTIFIED and not certified:
            return None
        return Identity(name, kind, token, certified)

    def still_admits(self, identity: Identity) -> bool:
        """Say whether what let the client in, under another file maybe, would do so now."""
        found = entry_of(self._access, identity.name)
        if found is None or identity.token not in found[1].tokens:
            return False
        return identity.certified or not (self._access.mutual_tls and found[0] in _CERTIFIED)


_CERTIFIED = frozenset({Kind.HUB, Kind.DEVICE})


def _is_client_id_of(name: str, kind: Kind, client_id: str) -> bool:
    if kind is not Kind.HUB:
        return client_id == name
    run = client_id.removeprefix(name + "/")
    return run not in ("", client_id) and "/" not in run


def _common_names(certificate: Mapping[str, Any] | None) -> list[str]:
    subject = (certificate or {}).get("subject", ())
    return [value for part in subject for key, value in part if key == "commonName"]


# Asked for each delivery: a name of the module's own is found sooner than a member of the enum.
_RECEIVE = Action.RECEIVE

# Topics of which the answer is remembered, for each hub and tool.
_REMEMBERED = 50_000


class _Grant(Protocol):
    """What one identity may do."""

    def allows(self, action: Action, topic: str) -> bool: ...


class _Nothing:
    def allows(self, action: Action, topic: str) -> bool:
        del action, topic
        return False


class _OwnTopics:
    """A device, or the holder of a join bundle: some exact topics to hear, one to speak on."""

    __slots__ = ("_hears", "_speaks", "_wills")

    def __init__(self, hears: frozenset[str], speaks: str, *, wills: bool) -> None:
        self._hears = hears
        self._speaks = speaks
        self._wills = wills

    def allows(self, action: Action, topic: str) -> bool:
        # A filter that is one of the exact topics has no wildcard in it.
        if action is _RECEIVE or action is Action.SUBSCRIBE:
            return topic in self._hears
        if action is Action.PUBLISH:
            return topic == self._speaks
        return action is Action.WILL and self._wills and topic == self._speaks


class _Hub:
    """A hub hears what is said to HQ and says all the rest; it leaves a word on `hq` alone."""

    _SAYS = frozenset({"down", "heads", "to", "join", "hq"})
    _HEARS = frozenset({"from", "join", "hq"})

    def __init__(self, topics: contract.Topics) -> None:
        self._topics = topics
        self._filters = frozenset(topics.filters_of_hub())
        self._kinds: dict[str, str] = {}

    def allows(self, action: Action, topic: str) -> bool:
        if action is Action.SUBSCRIBE:
            return topic in self._filters
        if action is Action.RECEIVE:
            return self._kind(topic) in self._HEARS
        if action is Action.PUBLISH:
            return self._kind(topic) in self._SAYS
        return topic == self._topics.hq

    def _kind(self, topic: str) -> str:
        kind = self._kinds.get(topic)
        if kind is None:
            try:
                kind = "" if has_wildcard(topic) else self._topics.parse(topic).kind
            except WireError:
                kind = ""
            if len(self._kinds) >= _REMEMBERED:
                self._kinds.clear()
            self._kinds[topic] = kind
        return kind


class _Tool:
    """A program that listens: to what its rules cover."""

    def __init__(self, reads: list[str]) -> None:
        self._reads = tuple(reads)
        self._hears: dict[str, bool] = {}

    def allows(self, action: Action, topic: str) -> bool:
        if action is _RECEIVE:
            known = self._hears.get(topic)
            if known is None:
                if len(self._hears) >= _REMEMBERED:
                    self._hears.clear()
                known = not has_wildcard(topic) and any(
                    matches(rule, topic) for rule in self._reads
                )
                self._hears[topic] = known
            return known
        return action is Action.SUBSCRIBE and any(covers(rule, topic) for rule in self._reads)


class ContractPolicy:
    """The contract's topics for who is in the access file, and nothing for anybody else.

    | who | subscribes to | publishes, leaves as will | retains |
    |---|---|---|---|
    | device | exactly `hq`, its `to`, its region's `heads`, its channels | its `from` | nothing |
    | hub | `from/+/+`, `join/+`, `hq` | `down`, `heads`, `to`, `join`, `hq`; will: `hq` | `hq` |
    | join | its `join/<id>` | its `join/<id>`; no will | nothing |
    | tool | filters that its `reads` cover | nothing | nothing |

    A topic is received by who may subscribe to it. A device of a closed store (without region)
    has no channels.
    """

    checks_delivery = True

    def __init__(self, access: AccessFile) -> None:
        """Take a file that `check` has passed."""
        self._access = access
        self._topics = contract.Topics(access.root)
        # Made when first asked for, and only for who is in the file: so it is bounded by it.
        self._grants: dict[str, _Grant] = {}

    def allows(self, identity: Identity, action: Action, topic: str) -> bool:
        """Answer from the table above; for RECEIVE, the frequent one, by looking into a set."""
        grant = self._grants.get(identity.name) or self._grant(identity.name)
        return grant.allows(action, topic)

    def _grant(self, name: str) -> _Grant:
        found = entry_of(self._access, name)
        if found is None:
            return _NOTHING
        grant: _Grant
        topics = self._topics
        match found[1]:
            case DeviceAccess(region=region, roles=roles):
                owner = contract.Identity.parse(name)
                channels = contract.channels_of(owner.store, region, roles) if region else ()
                hears = frozenset(topics.filters_of_device(owner, region, channels))
                grant = _OwnTopics(hears, topics.from_(owner), wills=True)
            case HubAccess():
                grant = _Hub(topics)
            case ToolAccess(reads=reads):
                grant = _Tool(reads)
            case JoinAccess():
                own = topics.join(name.removeprefix(JOIN_PREFIX))
                grant = _OwnTopics(frozenset({own}), own, wills=False)
        self._grants[name] = grant
        return grant

    def adopt(self, earlier: "ContractPolicy", changed: frozenset[str]) -> None:
        """Take over what an earlier policy worked out for those whose entries are the same."""
        known = earlier._grants  # noqa: SLF001  # of this very class
        self._grants = {name: grant for name, grant in known.items() if name not in changed}


_NOTHING = _Nothing()


def changed_names(old: AccessFile, new: AccessFile) -> frozenset[str] | None:
    """Name those whose entry is not the same in both; None when that may be everybody."""
    if (old.root, old.mutual_tls) != (new.root, new.mutual_tls):
        return None
    changed: set[str] = set()
    pairs: tuple[tuple[Mapping[str, Entry], Mapping[str, Entry]], ...] = (
        (old.hubs, new.hubs),
        (old.devices, new.devices),
        (old.tools, new.tools),
        (old.joins, new.joins),
    )
    for before, after in pairs:
        changed.update(name for name, entry in before.items() if after.get(name) != entry)
        changed.update(after.keys() - before.keys())
    return frozenset(changed)
