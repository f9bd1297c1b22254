"""Retained messages: the last one of each topic, found by filter.

Pure, no I/O. Invariants: bounded by number and bytes; finding what a filter matches costs as much
as there is to find, not as much as there is retained.
"""

from broker.packets import Message

# What a level of the tree costs, so that deep topics cannot hide from the limit in bytes.
_NODE_BYTES = 250


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.message: Message | None = None


def _cost(message: Message) -> int:
    return message.size_bytes + _NODE_BYTES * (message.topic.count("/") + 1)


class RetainedMessages:
    """The retained messages of one broker."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        """Start with none."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._root = _Node()
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Count the topics that have one."""
        return self._count

    def set(self, message: Message) -> bool:
        """Keep the message as its topic's last; an empty payload clears the topic [3.3.1-10].

        Returns:
            False when it does not fit; then the topic has no retained message any more, for an
            outdated one would be a lie.
        """
        self._clear(message.topic)
        if not message.payload:
            return True
        cost = _cost(message)
        if self._count >= self._max_messages or self._bytes + cost > self._max_bytes:
            return False
        node = self._root
        for level in message.topic.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.message = message
        self._count += 1
        self._bytes += cost
        return True

    def _clear(self, topic: str) -> None:
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in topic.split("/"):
            child = node.children.get(level)
            if child is None:
                return
            path.append((node, level))
            node = child
        if node.message is None:
            return
        self._count -= 1
        self._bytes -= _cost(node.message)
        node.message = None
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.children or child.message is not None:
                break
            del parent.children[level]

    def match(self, topic_filter: str) -> list[Message]:
        """Return the messages whose topic the (valid) filter matches."""
        nodes = [self._root]
        levels = topic_filter.split("/")
        for depth, level in enumerate(levels):
            if level == "#":
                # 'sport/#' includes 'sport' itself [4.7.1.2], '#' has no such parent.
                return self._everything_under(nodes, hide_dollar=depth == 0)
            if level == "+":
                nodes = [
                    child
                    for node in nodes
                    for name, child in node.children.items()
                    if depth or not name.startswith("$")  # [4.7.2-1]
                ]
            else:
                nodes = [child for node in nodes if (child := node.children.get(level)) is not None]
        return [node.message for node in nodes if node.message is not None]

    @staticmethod
    def _everything_under(nodes: list[_Node], *, hide_dollar: bool) -> list[Message]:
        found = []
        if hide_dollar:
            nodes = [
                child
                for node in nodes
                for name, child in node.children.items()
                if not name.startswith("$")
            ]
        waiting = nodes[::-1]
        while waiting:
            node = waiting.pop()
            if node.message is not None:
                found.append(node.message)
            waiting.extend(reversed(node.children.values()))
        return found
