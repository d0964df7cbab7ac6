"""The topics that clients publish to: how many messages, and when the last one came. Bounded for each tenant.

A tenant's topics are those whose first level is its id, whoever publishes to them; very long ones are left out. When
a tenant has more than may be remembered, the half that was quiet longest is forgotten, and counted. Told of every
accepted message, so it does little.
"""

from typing import Final

__all__ = ["SeenTopic", "TopicsSeen"]

MOST_OF_A_TENANT: Final = 1_000
MOST: Final = 20_000
LONGEST: Final = 1_024
"""Characters of a topic that is remembered."""


class SeenTopic:
    """One topic; `messages` counts from the first one remembered, `last_at` is loop time in seconds."""

    __slots__ = ("last_at", "messages", "topic")

    def __init__(self, topic: str, now: float) -> None:
        self.topic = topic
        self.messages = 1
        self.last_at = now


class TopicsSeen:
    """See the module.

    Args:
        most_of_a_tenant: topics remembered of one tenant.
        most: of all together.
    """

    __slots__ = ("_by_tenant", "_known", "_most", "_most_of_a_tenant", "forgotten")

    def __init__(self, most_of_a_tenant: int = MOST_OF_A_TENANT, most: int = MOST) -> None:
        self._known: dict[str, SeenTopic] = {}
        self._by_tenant: dict[str, dict[str, SeenTopic]] = {}
        self._most_of_a_tenant = most_of_a_tenant
        self._most = most
        self.forgotten: dict[str, int] = {}
        """Topics of a tenant that were remembered and are not any more."""

    def __len__(self) -> int:
        return len(self._known)

    def saw(self, topic: str, now: float) -> None:
        """A message to this topic was accepted; the broker's own affairs (`$…`) are not remembered."""
        seen = self._known.get(topic)
        if seen is None:
            self._remember(topic, now)
        else:
            seen.messages += 1
            seen.last_at = now

    def of_tenant(self, tenant: str) -> list[SeenTopic]:
        """The tenant's topics, the newest message first."""
        return sorted(self._by_tenant.get(tenant, {}).values(), key=lambda seen: -seen.last_at)

    def _remember(self, topic: str, now: float) -> None:
        if len(topic) > LONGEST:
            return
        if topic[0] == "$":
            return
        tenant = topic.split("/", 1)[0]
        topics = self._by_tenant.setdefault(tenant, {})
        if len(topics) >= self._most_of_a_tenant:
            self._forget_half(tenant)
        if len(self._known) >= self._most:
            self._forget_half(max(self._by_tenant, key=lambda each: len(self._by_tenant[each])))
        self._known[topic] = self._by_tenant.setdefault(tenant, {})[topic] = SeenTopic(topic, now)

    def _forget_half(self, tenant: str) -> None:
        topics = self._by_tenant[tenant]
        quiet = sorted(topics.values(), key=lambda seen: seen.last_at)[: -(-len(topics) // 2)]
        for seen in quiet:
            del topics[seen.topic], self._known[seen.topic]
        if not topics:
            del self._by_tenant[tenant]
        if len(self.forgotten) < self._most or tenant in self.forgotten:
            self.forgotten[tenant] = self.forgotten.get(tenant, 0) + len(quiet)
