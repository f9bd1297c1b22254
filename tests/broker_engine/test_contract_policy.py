"""The policy that follows from an access file: default deny, and what the table grants."""

import itertools
import random

import pytest

from broker.access import (
    AccessFileAuthenticator,
    Action,
    ContractPolicy,
    Credentials,
    Identity,
    Kind,
    changed_names,
    check,
)
from broker.errors import AccessFileError
from broker.topics import SubscriptionTree, covers, is_topic_filter, matches
from buswire.access import HubAccess, JoinAccess, ToolAccess, token_hash
from tests.broker_engine.accesses import ROOT, access, device, hashes, token

P, S, R, W, K = (Action.PUBLISH, Action.SUBSCRIBE, Action.RECEIVE, Action.WILL, Action.RETAIN)


def _policy(**parts: object) -> ContractPolicy:
    file = access(**parts)
    check(file)
    return ContractPolicy(file)


def _allowed(policy: ContractPolicy, name: str, topic: str) -> set[Action]:
    full = topic if topic.startswith(("$", "#", "+")) else f"{ROOT}/{topic}"
    return {action for action in Action if policy.allows(Identity(name), action, full)}


TILL = {
    "hq": {S, R},
    "to/S1/till": {S, R},
    "from/S1/till": {P, W},
    "heads/east": {S, R},
    "down/all/any": {S, R},
    "down/all/clerk": {S, R},
    "down/all/manager": {S, R},
    "down/region/east/any": {S, R},
    "down/region/east/manager": {S, R},
    "down/store/S1/any": {S, R},
    "down/store/S1/clerk": {S, R},
    # Another role, region, store, device, and what only looks alike:
    "down/all/warehouse": set(),
    "down/region/west/any": set(),
    "down/region/west/clerk": set(),
    "down/store/S2/any": set(),
    "down/store/S1/warehouse": set(),
    "heads/west": set(),
    "to/S1/back": set(),
    "to/S2/till": set(),
    "from/S1/back": set(),
    "from/S2/till": set(),
    "join/b1": set(),
    "hq/": set(),
    "from/S1/till/": set(),
    "": set(),
    # Wildcards, with whatever they would match:
    "to/S1/+": set(),
    "to/S1/till/#": set(),
    "down/all/+": set(),
    "down/all/#": set(),
    "+": set(),
    "#": set(),
    "$SYS/broker": set(),
    "$share/g/storebus/v1/hq": set(),
}

HUB = {
    "from/+/+": {S},
    "join/+": {S},
    "hq": {S, R, P, W, K},
    "from/S1/till": {R},
    "join/b1": {R, P},
    "to/S1/till": {P},
    "down/all/any": {P},
    "down/region/east/clerk": {P},
    "down/store/S1/any": {P},
    "heads/east": {P},
    "down/nowhere": set(),
    "down/planet/x/any": set(),
    "to/S1": set(),
    "to/S1/till/more": set(),
    "from/S1": set(),
    "from/+/till": set(),
    "elsewhere": set(),
    "#": set(),
    "$SYS/x": set(),
}


@pytest.mark.parametrize(("topic", "expected"), TILL.items(), ids=TILL)
def test_device(topic: str, expected: set[Action]) -> None:
    """A device hears exactly its own topics and channels, and speaks on its own `from`."""
    assert _allowed(_policy(), "S1.till", topic) == expected


@pytest.mark.parametrize(("topic", "expected"), HUB.items(), ids=HUB)
def test_hub(topic: str, expected: set[Action]) -> None:
    """A hub says what HQ says and hears what is said to HQ; only `hq` is retained or a will."""
    assert _allowed(_policy(), "hub/main", topic) == expected


def test_closed_store() -> None:
    """A device without a region still speaks with HQ, and has no channel and no heads."""
    policy = _policy()
    everything = [
        *("hq", "to/S3/till", "from/S3/till", "heads/", "heads/east", "down/all/any"),
        *("down/region//any", "down/store/S3/any", "down/store/S3/clerk"),
    ]
    allowed = {
        topic: actions for topic in everything if (actions := _allowed(policy, "S3.till", topic))
    }
    assert allowed == {"hq": {S, R}, "to/S3/till": {S, R}, "from/S3/till": {P, W}}


def test_join() -> None:
    """Who holds a join bundle has one topic, both ways, and nothing else."""
    policy = _policy()
    assert _allowed(policy, "join/b1", "join/b1") == {P, S, R}
    for topic in ("join/b2", "join/+", "hq", "from/S1/till", "to/S1/till", "down/all/any", "#"):
        assert _allowed(policy, "join/b1", topic) == set(), topic


def test_tool() -> None:
    """A tool hears what its rules cover, and says nothing even there."""
    rules = [f"{ROOT}/from/+/+", f"{ROOT}/down/#", f"{ROOT}/hq"]
    policy = _policy(tools={"tool/x": ToolAccess(tokens=hashes("tool/x"), reads=rules)})
    expected = {
        "from/+/+": {S}, "from/S1/+": {S}, "from/S1/till": {S, R}, "from/#": set(),
        "from/S1/#": set(), "from/+": set(), "down/#": {S}, "down/+/any": {S},
        "down": {S, R}, "down/all/any": {S, R}, "hq": {S, R}, "hq/#": set(), "hq/+": set(),
        "to/S1/till": set(), "#": set(), "+/#": set(), "$SYS/#": set(), "$SYS/x": set(),
    }  # fmt: skip
    for topic, actions in expected.items():
        assert _allowed(policy, "tool/x", topic) == actions, topic


def test_tools_do_not_see_dollar_topics_by_a_leading_wildcard() -> None:
    """A rule `#` or `+/x` does not open what belongs to brokers."""
    policy = _policy(tools={"tool/x": ToolAccess(tokens=hashes("tool/x"), reads=["#", "+/x"])})
    identity = Identity("tool/x")
    assert policy.allows(identity, S, "#")
    assert policy.allows(identity, S, "a/#")
    assert policy.allows(identity, R, "a/b")
    for topic in ("$SYS/x", "$SYS/#", "$SYS/+"):
        assert not policy.allows(identity, S, topic)
        assert not policy.allows(identity, R, topic)


@pytest.mark.parametrize("name", ["S9.till", "hub/other", "tool/other", "join/other", "", "S1"])
def test_who_is_not_listed_may_do_nothing(name: str) -> None:
    """Not even what everybody else may."""
    for topic in (*TILL, *HUB):
        assert _allowed(_policy(), name, topic) == set()


def test_what_was_worked_out_is_taken_over_for_the_unchanged_alone() -> None:
    """After a change the changed are judged anew, by name; gone ones may do nothing."""
    old = access()
    new = access(2, devices={**old.devices, "S1.till": device("S1.till", "west", ())})
    new = access(3, devices={k: v for k, v in new.devices.items() if k != "S2.till"})
    before, after = ContractPolicy(old), ContractPolicy(new)
    for name in old.devices:
        before.allows(Identity(name), R, "x")
    changed = changed_names(old, new)
    assert changed == {"S1.till", "S2.till"}
    after.adopt(before, changed)
    assert _allowed(after, "S1.till", "heads/east") == set()
    assert _allowed(after, "S1.till", "heads/west") == {S, R}
    assert _allowed(after, "S2.till", "hq") == set()
    assert _allowed(after, "S1.back", "heads/east") == {S, R}


def test_changed_names_sees_every_kind_of_change() -> None:
    """Added, removed, changed, of all kinds; root and mutual TLS concern everybody."""
    old = access()
    assert changed_names(old, access(2)) == frozenset()
    new = access(
        2,
        hubs={},
        tools={"tool/board": ToolAccess(tokens=hashes("tool/board"), reads=[])},
        joins={"join/b2": JoinAccess(tokens=hashes("join/b2"))},
    )
    assert changed_names(old, new) == {"hub/main", "tool/board", "join/b1", "join/b2"}
    assert changed_names(old, access(2, mutual_tls=True)) is None


class TestCovers:
    """`covers` is the subset relation of what filters match."""

    LEVELS = ("a", "b", "", "$x")

    def _filters(self, depth: int) -> list[str]:
        parts = (*self.LEVELS, "+", "#")
        found = [
            "/".join(levels)
            for count in range(1, depth + 1)
            for levels in itertools.product(parts, repeat=count)
        ]
        return [f for f in found if is_topic_filter(f, max_levels=10)]

    def test_against_all_topics(self) -> None:
        """It says yes exactly when no topic of up to four levels is matched by the filter alone."""
        topics = [
            "/".join(levels)
            for count in range(1, 5)
            for levels in itertools.product((*self.LEVELS, "other"), repeat=count)
        ]
        topics = [topic for topic in topics if topic]
        rng = random.Random(7)
        filters = self._filters(3)
        matched = {
            f: frozenset(t for t in topics if _tree_matches(f, t)) for f in rng.sample(filters, 60)
        }
        wrong = [
            (rule, wanted)
            for rule in matched
            for wanted in matched
            if covers(rule, wanted) != (matched[wanted] <= matched[rule])
        ]
        assert wrong == []

    def test_matches_is_what_the_tree_does(self) -> None:
        """Filter against topic gives the same as subscribing and publishing."""
        rng = random.Random(3)
        topics = [t for t in self._filters(3) if "+" not in t and "#" not in t]
        for topic_filter in rng.sample(self._filters(3), 100):
            for topic in rng.sample(topics, 20):
                assert matches(topic_filter, topic) == _tree_matches(topic_filter, topic)

    @pytest.mark.parametrize(
        ("rule", "wanted", "answer"),
        [
            ("a/+", "a/#", False),
            ("a/+", "a/b", True),
            ("a/+", "a/+", True),
            ("a/#", "a/+", True),
            ("a/#", "a", True),
            ("a/+", "a", False),
            ("+", "#", False),
            ("#", "$SYS/x", False),
            ("+/x", "$SYS/x", False),
            ("$SYS/#", "$SYS/+", True),
            ("+/#", "#", True),
        ],
    )
    def test_by_hand(self, rule: str, wanted: str, answer: bool) -> None:
        """The cases that plain amqtt and others got wrong."""
        assert covers(rule, wanted) is answer


def _tree_matches(topic_filter: str, topic: str) -> bool:
    tree: SubscriptionTree[str] = SubscriptionTree()
    tree.add(topic_filter, "me", 0)
    return "me" in tree.match(topic)


class TestAuthenticator:
    """User name, client id and token belong together."""

    def _ask(
        self, name: str | None, client_id: str | None = None, **more: object
    ) -> Identity | None:
        mutual_tls = bool(more.pop("mutual_tls", False))
        password = more.pop("password", token(name or "").encode())
        credentials = Credentials(
            client_id=name if client_id is None else client_id,  # type: ignore[arg-type]
            username=name,
            password=password,  # type: ignore[arg-type]
            peer_address="[::1]:1",
            **more,  # type: ignore[arg-type]
        )
        return AccessFileAuthenticator(access(mutual_tls=mutual_tls)).authenticate(credentials)

    @pytest.mark.parametrize(
        ("name", "client_id", "kind"),
        [
            ("S1.till", "S1.till", Kind.DEVICE),
            ("hub/main", "hub/main/4f2", Kind.HUB),
            ("tool/board", "tool/board", Kind.TOOL),
            ("join/b1", "join/b1", Kind.JOIN),
        ],
    )
    def test_let_in(self, name: str, client_id: str, kind: Kind) -> None:
        """Each kind by its own token; the identity knows which one it was."""
        found = self._ask(name, client_id)
        assert found == Identity(name, kind)
        assert found is not None
        assert found.token == hashes(name)[0]

    @pytest.mark.parametrize(
        ("name", "client_id"),
        [
            ("S1.till", "S1.back"), ("S1.till", "hub/main/1"), ("hub/main", "hub/main"),
            ("hub/main", "hub/main/"), ("hub/main", "hub/main/a/b"), ("hub/main", "hub/mainx/a"),
            ("tool/board", "tool/board/1"), ("join/b1", "join/b2"), ("S9.till", "S9.till"),
            ("S1.TILL", "S1.TILL"), ("", ""), (None, "S1.till"), ("S1.till", ""),
        ],
    )  # fmt: skip
    def test_refused(self, name: str | None, client_id: str) -> None:
        """Another one's client id, an unknown name, and nobody at all."""
        assert self._ask(name, client_id) is None

    @pytest.mark.parametrize(
        "password",
        [None, b"", b"wrong", token("S1.back").encode(), token_hash(token("S1.till")).encode()],
    )
    def test_wrong_token(self, password: bytes | None) -> None:
        """No token, another one's, and the hash that the file shows."""
        assert self._ask("S1.till", password=password) is None

    def test_mutual_tls(self) -> None:
        """Then devices and hubs need a certificate of their name, tools and joins do not."""

        def certificate(*names: str) -> dict[str, object]:
            return {"subject": tuple((("commonName", name),) for name in names)}

        ask = lambda name, certificate=None: self._ask(  # noqa: E731
            name,
            "hub/main/1" if name == "hub/main" else None,
            mutual_tls=True,
            peer_certificate=certificate,
        )
        for name in ("S1.till", "hub/main"):
            assert ask(name) is None
            assert ask(name, {}) is None
            assert ask(name, certificate("S1.back")) is None
            assert ask(name, certificate(name, "S1.back")) is None
            assert ask(name, certificate(name)) is not None
        assert ask("tool/board") is not None
        assert ask("join/b1") is not None

    def test_who_may_stay(self) -> None:
        """A listed token may; one that is gone may not, nor one without the certificate."""
        identity = self._ask("S1.till")
        assert identity is not None
        assert AccessFileAuthenticator(access()).still_admits(identity)
        assert not AccessFileAuthenticator(access(devices={})).still_admits(identity)
        other = access(devices={"S1.till": device("S1.back")})
        assert not AccessFileAuthenticator(other).still_admits(identity)
        assert not AccessFileAuthenticator(access(mutual_tls=True)).still_admits(identity)


BAD = {
    "wildcard store": {"devices": {"+.till": device("x")}},
    "slash in a device": {"devices": {"S1.a/b": device("x")}},
    "hub among the devices": {"devices": {"hub/main": device("x")}},
    "no device name": {"devices": {"S1": device("x")}},
    "wildcard role": {"devices": {"S1.till": device("x", "east", ("#",))}},
    "slash in a region": {"devices": {"S1.till": device("x", "east/any", ())}},
    "device among the hubs": {"hubs": {"S1.till": HubAccess(tokens=[])}},
    "slash in a hub": {"hubs": {"hub/a/b": HubAccess(tokens=[])}},
    "empty hub": {"hubs": {"hub/": HubAccess(tokens=[])}},
    "wildcard join": {"joins": {"join/+": JoinAccess(tokens=[])}},
    "line feed in a tool": {"tools": {"tool/a\nb": ToolAccess(tokens=[], reads=[])}},
    "no filter": {"tools": {"tool/a": ToolAccess(tokens=[], reads=["a#"])}},
    "empty filter": {"tools": {"tool/a": ToolAccess(tokens=[], reads=[""])}},
}  # fmt: skip


@pytest.mark.parametrize("parts", BAD.values(), ids=BAD)
def test_names_that_would_grant_more_are_refused(parts: dict[str, object]) -> None:
    """A name in the file that is no name makes the whole file invalid."""
    with pytest.raises(AccessFileError, match="cannot be right"):
        check(access(**parts))
