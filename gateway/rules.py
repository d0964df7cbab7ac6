"""How a notification is published: QoS, retained or not, decoded or not, by rules on type, category and tenant.

For each of the three the first rule that fits and says something about it decides; without one, the defaults do.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.settings import BridgeSettings, MessageRule

__all__ = ["Rulebook"]


class Rulebook:
    """The rules of `[[gateway.bridge.rules]]`.

    Args:
        settings: rules and defaults.
    """

    def __init__(self, settings: BridgeSettings) -> None:
        self._rules: Sequence[MessageRule] = settings.rules
        self._level = settings.default_message_qos.level

    def qos(self, tenant: str, branch: str, kind: str) -> int:
        """0, 1 or 2 for a message on a branch: read, alert or decoded."""
        for rule in self._rules:
            if rule.qos is not None and _fits(rule, tenant, branch, kind):
                return rule.qos.level
        return self._level

    def retains(self, tenant: str, branch: str, kind: str) -> bool:
        """Whether the broker keeps it as the last value."""
        for rule in self._rules:
            if rule.retain is not None and _fits(rule, tenant, branch, kind):
                return rule.retain
        return False

    def decodes(self, tenant: str, kind: str) -> bool:
        """Whether a decoded copy is wanted."""
        for rule in self._rules:
            if rule.decoded is not None and _fits(rule, tenant, None, kind):
                return rule.decoded
        return False


def _fits(rule: MessageRule, tenant: str, branch: str | None, kind: str) -> bool:
    return (
        rule.tenant in (None, tenant)
        and rule.type in (None, kind)
        and (rule.category is None or rule.category.value == branch)
    )
