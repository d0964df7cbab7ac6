"""Retained messages by topic (MQTT 5.0 section 3.3.1.3), found by filter through a tree of topic levels; bounded in
number and octets.
"""

from dataclasses import dataclass, field

from broker.message import Message

__all__ = ["RetainedMessages"]


@dataclass(slots=True, eq=False)
class _Node:
    children: "dict[str, _Node]" = field(default_factory=dict)
    message: Message | None = None


class RetainedMessages:
    """The newest retained message of each topic.

    Args:
        max_messages: above it a message for a *new* topic is not kept.
        max_octets: the same for the octets of all of them.
    """

    def __init__(self, max_messages: int, max_octets: int) -> None:
        self._root = _Node()
        self._max_messages = max_messages
        self._max_octets = max_octets
        self._count = 0
        self.octets = 0

    def __len__(self) -> int:
        return self._count

    def store(self, message: Message) -> bool:
        """Keeps the message in place of its topic's former one, or clears the topic when the payload is empty.

        Returns:
            False when there was no room; then nothing changed.
        """
        if not message.payload:
            self.clear(message.topic)  # [MQTT-3.3.1-6]
            return True
        node = self._find(message.topic)
        former = node.message if node else None
        grown = self.octets + message.octets - (former.octets if former else 0)
        if grown > self._max_octets or (former is None and self._count >= self._max_messages):
            return False
        node = node or self._make(message.topic)
        node.message = message
        self.octets = grown
        self._count += former is None
        return True

    def clear(self, topic: str) -> None:
        """Forgets a topic's message and the branches that held nothing else."""
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
        self.octets -= node.message.octets
        self._count -= 1
        node.message = None
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.children or child.message is not None:
                break
            del parent.children[level]

    def holds(self, topic: str) -> bool:
        """The topic has a message."""
        node = self._find(topic)
        return node is not None and node.message is not None

    def below(self, level: str, most: int) -> list[str]:
        """Topics with a message whose first level is this one; the walk ends after so many."""
        found: list[str] = []
        stack = [node] if (node := self._root.children.get(level)) is not None else []
        while stack and len(found) < most:
            node = stack.pop()
            if node.message is not None:
                found.append(node.message.topic)
            stack.extend(node.children.values())
        return found

    def matching(self, levels: list[str]) -> list[Message]:
        """Messages whose topics the filter (given as its levels) matches; `$…` only where the filter says so itself."""
        found: list[Message] = []
        stack: list[tuple[_Node, int]] = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            if depth == len(levels):
                if node.message is not None:
                    found.append(node.message)
                continue
            level = levels[depth]
            if level == "#":
                self._collect(node, depth == 0, found)
            elif level == "+":
                stack.extend((child, depth + 1) for name, child in node.children.items() if depth or name[:1] != "$")
            elif level in node.children:
                stack.append((node.children[level], depth + 1))
        return found

    @staticmethod
    def _collect(top: _Node, is_root: bool, found: list[Message]) -> None:
        stack = [top]
        while stack:
            node = stack.pop()
            if node.message is not None:
                found.append(node.message)
            hidden = is_root and node is top
            stack.extend(child for name, child in node.children.items() if not (hidden and name[:1] == "$"))

    def _find(self, topic: str) -> _Node | None:
        node: _Node | None = self._root
        for level in topic.split("/"):
            node = node.children.get(level) if node else None
        return node

    def _make(self, topic: str) -> _Node:
        node = self._root
        for level in topic.split("/"):
            node = node.children.setdefault(level, _Node())
        return node
