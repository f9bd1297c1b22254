"""Filters and the two trees, against a slow and obvious way to match."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.packets import Message
from broker.retained import RetainedMessages
from broker.topics import SubscriptionTree, is_topic_filter, is_topic_name

LEVEL = st.sampled_from(["a", "b", "", "$x", "aa"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTER = (
    st.tuples(st.lists(LEVEL | st.just("+"), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda pair: "/".join(pair[0] + pair[1]))
    .filter(bool)
)


def obviously_matches(topic_filter: str, topic: str) -> bool:
    """Say what section 4.7 says, in the plainest words."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    if wanted[-1] == "#":
        wanted.pop()
        if len(levels) < len(wanted):
            return False
        levels = levels[: len(wanted)]
    if len(wanted) != len(levels):
        return False
    return all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))


@given(st.lists(st.tuples(FILTER, st.integers(0, 3), st.integers(0, 2))), TOPIC)
def test_match(subscriptions: list[tuple[str, int, int]], topic: str) -> None:
    """Each subscriber is found once with its highest QoS, and no other."""
    tree: SubscriptionTree[int] = SubscriptionTree()
    current: dict[tuple[str, int], int] = {}
    for topic_filter, subscriber, qos in subscriptions:
        tree.add(topic_filter, subscriber, qos)
        current[topic_filter, subscriber] = qos
    expected: dict[int, int] = {}
    for (topic_filter, subscriber), qos in current.items():
        if obviously_matches(topic_filter, topic):
            expected[subscriber] = max(qos, expected.get(subscriber, 0))
    assert dict(tree.match(topic)) == expected
    assert len(tree) == len(current)


@given(st.lists(st.tuples(FILTER, st.integers(0, 3)), max_size=20), st.randoms())
def test_removing_leaves_nothing(subscriptions: list[tuple[str, int]], random: Random) -> None:
    """After every subscription is removed, in any order, the tree is as it was made [M4]."""
    tree: SubscriptionTree[int] = SubscriptionTree()
    for topic_filter, subscriber in subscriptions:
        tree.add(topic_filter, subscriber, 0)
    random.shuffle(subscriptions)
    for topic_filter, subscriber in subscriptions:
        tree.remove(topic_filter, subscriber)
        tree.remove(topic_filter, subscriber)  # once more does no harm
    assert len(tree) == 0
    assert not tree._exact
    assert not tree._root.children


@given(st.lists(st.tuples(TOPIC, st.sampled_from([b"", b"1", b"2"])), max_size=20), FILTER)
def test_retained(published: list[tuple[str, bytes]], topic_filter: str) -> None:
    """A filter finds the last message of each topic that it matches, if it was not empty."""
    retained = RetainedMessages(max_messages=100, max_bytes=1_000_000)
    last: dict[str, bytes] = {}
    for topic, payload in published:
        assert retained.set(Message(topic, payload))
        last[topic] = payload
    expected = {t: p for t, p in last.items() if p and obviously_matches(topic_filter, t)}
    found = retained.match(topic_filter)
    assert {m.topic: m.payload for m in found} == expected
    assert len(found) == len(expected)
    assert len(retained) == sum(1 for payload in last.values() if payload)
    for topic in last:
        retained.set(Message(topic, b""))
    assert (len(retained), retained._bytes, retained._root.children) == (0, 0, {})


def test_retained_is_bounded_by_bytes() -> None:
    """Payloads and the depth of topics count; what does not fit leaves no outdated message."""
    retained = RetainedMessages(max_messages=100, max_bytes=5_000)
    assert retained.set(Message("a", bytes(1_000)))
    assert not retained.set(Message("b/" * 20, b"x"))
    assert not retained.set(Message("a", bytes(5_000)))
    assert retained.match("#") == []


@pytest.mark.parametrize(
    ("topic_filter", "valid"),
    [("a", True), ("a/+/b", True), ("+", True), ("#", True), ("a/#", True), ("/", True),
     ("", False), ("a/#/b", False), ("a#", False), ("a/b+", False), ("++", False),
     ("a/b/c/d", True), ("a/b/c/d/e", False)],
)  # fmt: skip
def test_valid_filters(topic_filter: str, valid: bool) -> None:
    """A wildcard takes a whole level, and '#' is the last."""
    assert is_topic_filter(topic_filter, max_levels=4) is valid


@pytest.mark.parametrize(
    ("topic", "valid"),
    [("a", True), ("/", True), ("a/b/c/d", True), ("", False), ("a/+", False), ("#", False),
     ("a/b/c/d/e", False)],
)  # fmt: skip
def test_valid_names(topic: str, valid: bool) -> None:
    """A topic name has no wildcard, is not empty and not too deep."""
    assert is_topic_name(topic, max_levels=4) is valid
