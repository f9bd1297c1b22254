"""Topic names and topic filters of MQTT 3.1.1: validity, and who subscribes to what.

Pure, no I/O. Invariants: matching costs as much as a topic has levels, whatever the number of
subscribers and filters; an emptied filter leaves nothing behind.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

S = TypeVar("S")


def is_topic_name(topic: str, *, max_levels: int) -> bool:
    """Say whether one may publish to this (4.7.1.1, 4.7.3), as far as length and levels go too."""
    return bool(topic) and "+" not in topic and "#" not in topic and topic.count("/") < max_levels


def is_topic_filter(topic_filter: str, *, max_levels: int) -> bool:
    """Say whether one may subscribe to this (4.7.1.2, 4.7.1.3, 4.7.3)."""
    if not topic_filter or topic_filter.count("/") >= max_levels:
        return False
    if not has_wildcard(topic_filter):
        return True
    levels = topic_filter.split("/")
    if "#" in levels[:-1]:
        return False
    return all(len(level) == 1 or not has_wildcard(level) for level in levels)


def has_wildcard(topic_filter: str) -> bool:
    """Tell a filter that can match several topics from one that is a topic."""
    return "+" in topic_filter or "#" in topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Say whether a valid filter matches a topic name (4.7)."""
    return covers(topic_filter, topic)


def covers(rule: str, topic_filter: str) -> bool:
    """Say whether every topic that `topic_filter` matches is matched by `rule`; both are valid.

    A topic name is a filter that matches itself alone. Topics that start with '$' are matched only
    by filters that start with the same word (4.7.2-1).
    """
    allowed = rule.split("/")
    wanted = topic_filter.split("/")
    if wanted[0].startswith("$") and allowed[0] in ("+", "#"):
        return False
    if wanted[0] == "#":
        # Every topic has a first level, so that '+/#' is another way to write '#'.
        return allowed in (["#"], ["+", "#"])
    for depth, level in enumerate(allowed):
        if level == "#":
            return True  # also of the level above: 'sport/#' includes 'sport' (4.7.1.2)
        if depth == len(wanted) or wanted[depth] == "#":
            return False
        if level not in ("+", wanted[depth]):
            return False
    return len(allowed) == len(wanted)


class _Node(Generic[S]):
    __slots__ = ("children", "subscribers")

    def __init__(self) -> None:
        self.children: dict[str, _Node[S]] = {}
        self.subscribers: dict[S, int] = {}


class SubscriptionTree(Generic[S]):
    """Which subscriber has which filter at which QoS, answering for a topic at once.

    Filters without wildcard, the common case by far, are one dictionary look-up; the others are a
    tree by level, walked breadth first.
    """

    def __init__(self) -> None:
        """Start with no subscription."""
        self._exact: dict[str, dict[S, int]] = {}
        self._root: _Node[S] = _Node()
        self._count = 0

    def __len__(self) -> int:
        """Count subscriptions: pairs of filter and subscriber."""
        return self._count

    def add(self, topic_filter: str, subscriber: S, qos: int) -> None:
        """Subscribe, or change the QoS of a subscription. The filter must be valid."""
        if has_wildcard(topic_filter):
            node = self._root
            for level in topic_filter.split("/"):
                child = node.children.get(level)
                if child is None:
                    child = node.children[level] = _Node()
                node = child
            subscribers = node.subscribers
        else:
            subscribers = self._exact.setdefault(topic_filter, {})
        self._count += subscriber not in subscribers
        subscribers[subscriber] = qos

    def remove(self, topic_filter: str, subscriber: S) -> None:
        """End a subscription; nothing happens when there is none."""
        if has_wildcard(topic_filter):
            self._remove_from_tree(topic_filter, subscriber)
            return
        subscribers = self._exact.get(topic_filter)
        if subscribers is None or subscribers.pop(subscriber, None) is None:
            return
        self._count -= 1
        if not subscribers:
            del self._exact[topic_filter]

    def _remove_from_tree(self, topic_filter: str, subscriber: S) -> None:
        path: list[tuple[_Node[S], str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                return
            path.append((node, level))
            node = child
        if node.subscribers.pop(subscriber, None) is None:
            return
        self._count -= 1
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.children or child.subscribers:
                break
            del parent.children[level]

    def match(self, topic: str) -> Mapping[S, int]:
        """Return each subscriber once, with the highest QoS of its matching filters (3.3.5-1).

        The result may be the tree's own dictionary: copy it before changing subscriptions.
        """
        exact = self._exact.get(topic)
        if not self._root.children:
            return exact or {}
        found = self._walk(topic)
        if exact:
            found.append(exact)
        if not found:
            return {}
        if len(found) == 1:
            return found[0]
        merged = dict(found[0])
        for subscribers in found[1:]:
            for subscriber, qos in subscribers.items():
                if merged.get(subscriber, -1) < qos:
                    merged[subscriber] = qos
        return merged

    def _walk(self, topic: str) -> list[dict[S, int]]:
        """Collect the subscribers of every wildcard filter that matches."""
        found: list[dict[S, int]] = []
        nodes = [self._root]
        # 4.7.2-1: a filter that starts with a wildcard does not see topics that start with '$'.
        wildcards = not topic.startswith("$")
        for level in topic.split("/"):
            following = []
            for node in nodes:
                children = node.children
                if (child := children.get(level)) is not None:
                    following.append(child)
                if wildcards:
                    if (child := children.get("+")) is not None:
                        following.append(child)
                    if (child := children.get("#")) is not None:
                        found.append(child.subscribers)
            if not following:
                return found
            nodes = following
            wildcards = True
        for node in nodes:
            if node.subscribers:
                found.append(node.subscribers)
            # 4.7.1.2: 'sport/#' includes 'sport' itself.
            if (child := node.children.get("#")) is not None:
                found.append(child.subscribers)
        return found
