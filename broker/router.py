"""Which subscriptions a topic reaches: a tree of filter levels, matched iteratively, and a cache of results.

Decides matching (MQTT 5.0 section 4.7), merging of overlapping subscriptions of one client, and share groups (section
4.8.2). Leaves delivery to the engine, which picks a group's member and obeys the options. Whether a subscriber may have
a topic is asked through `admit` when a result is computed, and is cached with it: whoever changes a subscriber's rights
calls `forget`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

__all__ = ["Match", "ShareGroup", "Subscription", "SubscriptionTree", "Target"]

CACHED_TOPICS_MAX: Final = 16_384

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter of one client with its options (MQTT 5.0 section 3.8.3.1)."""

    topic_filter: str
    """As subscribed, `$share/…` included: the identity of the subscription within its client."""
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    identifier: int = 0
    """Subscription Identifier; 0: none."""

    @property
    def group(self) -> str | None:
        """Share name, or None for an ordinary subscription."""
        return self.topic_filter.split("/", 2)[1] if self.topic_filter.startswith("$share/") else None

    @property
    def levels(self) -> list[str]:
        """Levels of the filter proper."""
        levels = self.topic_filter.split("/")
        return levels[2:] if self.topic_filter.startswith("$share/") else levels


@dataclass(frozen=True, slots=True)
class Target(Generic[S]):
    """One delivery to make: all subscriptions of one client that match, merged (MQTT 5.0 section 3.3.4, at the highest
    QoS).
    """

    subscriber: S
    qos: int
    no_local: bool
    """One of them does not want the client's own messages, which go to `for_own`."""
    retain_as_published: bool
    identifiers: tuple[int, ...]
    for_own: "Target[S] | None" = None
    """Those that take the client's own messages; None: none of them does."""


@dataclass(slots=True, eq=False)
class Rotation:
    """Counts the messages of one shared subscription, over all its topics, for whoever deals them out."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class ShareGroup(Generic[S]):
    """Clients that share one subscription, as far as they may have the topic."""

    members: tuple[Target[S], ...]
    turn: Rotation


@dataclass(frozen=True, slots=True)
class Match(Generic[S]):
    """Everything a topic reaches: each of `targets`, and one member of each of `groups`."""

    targets: tuple[Target[S], ...]
    groups: tuple[ShareGroup[S], ...]


@dataclass(slots=True, eq=False)
class _Share(Generic[S]):
    """One shared subscription: share name and filter."""

    members: dict[S, Subscription] = field(default_factory=dict)
    turn: Rotation = field(default_factory=Rotation)


@dataclass(slots=True, eq=False)
class _Node(Generic[S]):
    children: "dict[str, _Node[S]]" = field(default_factory=dict)
    subscriptions: dict[S, Subscription] = field(default_factory=dict)
    shares: dict[str, _Share[S]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.children or self.subscriptions or self.shares)


def _everyone(_subscriber: object, _topic: str) -> bool:
    return True


class SubscriptionTree(Generic[S]):
    """All subscriptions of a broker.

    Args:
        admit: asked once for each (subscriber, topic) a result is computed for.
    """

    def __init__(self, admit: Callable[[S, str], bool] = _everyone) -> None:
        self._root: _Node[S] = _Node()
        self._admit = admit
        self._cache: dict[str, Match[S]] = {}
        self._count = 0
        self.shared_count = 0
        """How many of all are members of share groups."""

    def __len__(self) -> int:
        return self._count

    def add(self, subscriber: S, subscription: Subscription) -> bool:
        """Adds or replaces; True when the client had no subscription with this filter ([MQTT-3.8.4-3])."""
        node = self._root
        for level in subscription.levels:
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        group = subscription.group
        holders = node.subscriptions if group is None else node.shares.setdefault(group, _Share()).members
        is_new = subscriber not in holders
        holders[subscriber] = subscription
        self._count += is_new
        self.shared_count += is_new and group is not None
        self._changed(subscription)
        return is_new

    def remove(self, subscriber: S, subscription: Subscription) -> bool:
        """Removes one subscription and the branches that held nothing else; False when it was not there."""
        path: list[tuple[_Node[S], str]] = []
        node = self._root
        for level in subscription.levels:
            child = node.children.get(level)
            if child is None:
                return False
            path.append((node, level))
            node = child
        group = subscription.group
        if group is None:
            holders = node.subscriptions
        elif (share := node.shares.get(group)) is not None:
            holders = share.members
        else:
            return False
        if holders.pop(subscriber, None) is None:
            return False
        if group is not None and not holders:
            del node.shares[group]
        for parent, level in reversed(path):
            if not parent.children[level].is_empty:
                break
            del parent.children[level]
        self._count -= 1
        self.shared_count -= group is not None
        self._changed(subscription)
        return True

    def forget(self) -> None:
        """Drops all cached results; to be called when a subscriber's rights changed."""
        self._cache.clear()

    def match(self, topic: str) -> Match[S]:
        """What a valid topic name reaches."""
        found = self._cache.get(topic)
        if found is None:
            found = self._compute(topic)
            if len(self._cache) >= CACHED_TOPICS_MAX:
                self._cache.clear()
            self._cache[topic] = found
        return found

    def _changed(self, subscription: Subscription) -> None:
        levels = subscription.levels
        if "+" in levels or levels[-1] == "#":
            self._cache.clear()
        else:
            self._cache.pop("/".join(levels), None)

    def _compute(self, topic: str) -> Match[S]:
        merged: dict[S, list[Subscription]] = {}
        groups: list[ShareGroup[S]] = []
        for node in self._nodes(topic):
            for subscriber, subscription in node.subscriptions.items():
                if self._admit(subscriber, topic):
                    merged.setdefault(subscriber, []).append(subscription)
            for share in node.shares.values():
                admitted = [(who, held) for who, held in share.members.items() if self._admit(who, topic)]
                if admitted:
                    groups.append(ShareGroup(tuple(_target(who, [held]) for who, held in admitted), share.turn))
        return Match(tuple(_target(who, held) for who, held in merged.items()), tuple(groups))

    def _nodes(self, topic: str) -> list[_Node[S]]:
        """Nodes whose filter matches. A wildcard in the first level does not match `$…` ([MQTT-4.7.2-1])."""
        levels = topic.split("/")
        last = len(levels)
        found: list[_Node[S]] = []
        stack: list[tuple[_Node[S], int]] = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            hidden = depth == 0 and topic.startswith("$")
            rest = node.children.get("#")
            if rest is not None and not hidden:
                found.append(rest)  # `a/#` matches `a` as well (section 4.7.1.2)
            if depth == last:
                found.append(node)
                continue
            one = node.children.get("+")
            if one is not None and not hidden:
                stack.append((one, depth + 1))
            exact = node.children.get(levels[depth])
            if exact is not None:
                stack.append((exact, depth + 1))
        return found


def _target(subscriber: S, held: list[Subscription]) -> Target[S]:
    for_own = [item for item in held if not item.no_local]
    no_local = len(for_own) < len(held)
    return Target(
        subscriber,
        max(item.qos for item in held),
        no_local,
        any(item.retain_as_published for item in held),
        tuple(item.identifier for item in held if item.identifier),
        _target(subscriber, for_own) if no_local and for_own else None,
    )
