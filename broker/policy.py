"""Who may do what, as a pure function of principal and role table: no clock, no I/O, no state.

A role is a list of topic filters in which `{tenantId}` stands for the tenant of the connected party. Publishing and
receiving ask whether a *topic* matches; subscribing asks whether an allowed filter *covers* the requested one, because
a filter judged with a topic matcher lets `a/+` grant `a/#`. Deny by default: a role nobody defined grants nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from meshwire.identity import LoginKind, Principal, Role
from meshwire.topics import TopicError, TopicFilter

__all__ = ["BUILT_IN_ROLES", "NOTHING", "Permissions", "RoleRule", "filter_of_subscription", "permissions_of"]

TENANT_TOKEN: Final = "{tenantId}"


@dataclass(frozen=True, slots=True)
class RoleRule:
    """What one role grants.

    Args:
        subscribe: filters whose topics the holder may subscribe to and receive.
        publish: filters under which the holder may publish.
        password_only: the role counts for password users alone; a token or certificate that claims it gets nothing from
            it.
    """

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    password_only: bool = False


BUILT_IN_ROLES: Final[Mapping[str, RoleRule]] = MappingProxyType(
    {
        Role.BUBBLE_UP_READ_CONSUMER: RoleRule(subscribe=("{tenantId}/read/#", "{tenantId}/decoded/#")),
        Role.BUBBLE_UP_ALERT_CONSUMER: RoleRule(subscribe=("{tenantId}/alert/#",)),
        Role.PRESENCE_CONSUMER: RoleRule(subscribe=("{tenantId}/presence/#", "{tenantId}/event/#")),
        Role.COMMAND_CLIENT: RoleRule(subscribe=("{tenantId}/cmd/+/res/+",), publish=("{tenantId}/cmd/+/req/+",)),
        Role.ADDRESS_SENDER: RoleRule(subscribe=("{tenantId}/reply/#",), publish=("{tenantId}/address/#",)),
        Role.ADDRESS_RECEIVER: RoleRule(subscribe=("{tenantId}/address/#",), publish=("{tenantId}/reply/#",)),
        Role.BUBBLE_UP_READ_CONSUMER_ALL: RoleRule(subscribe=("+/read/#", "+/decoded/#"), password_only=True),
        Role.BUBBLE_UP_ALERT_CONSUMER_ALL: RoleRule(subscribe=("+/alert/#",), password_only=True),
        Role.GATEWAY: RoleRule(
            subscribe=("+/cmd/+/req/+",),
            publish=("+/read/#", "+/alert/#", "+/decoded/#", "+/presence/#", "+/event/#", "+/cmd/+/res/+"),
            password_only=True,
        ),
        Role.OPERATOR: RoleRule(
            subscribe=("$SYS/#", "$CONTROL/address/v1/response", "$CONTROL/broker/v1/response"),
            publish=("$CONTROL/address/v1", "$CONTROL/broker/v1"),
            password_only=True,
        ),
        Role.ADMIN: RoleRule(
            subscribe=("#", "$SYS/#", "$CONTROL/address/v1/response", "$CONTROL/broker/v1/response"),
            publish=("#", "$CONTROL/address/v1", "$CONTROL/broker/v1"),
            password_only=True,
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Permissions:
    """Everything one connected party may do; equal records mean equal rights."""

    subscribe: tuple[TopicFilter, ...] = ()
    publish: tuple[TopicFilter, ...] = ()
    refused_roles: tuple[str, ...] = ()
    """Roles the party named and got nothing for: unknown, or kept for password users."""

    def may_publish(self, topic: str) -> bool:
        """Whether a message may be published to this topic name."""
        return any(allowed.matches(topic) for allowed in self.publish)

    def may_subscribe(self, requested: str) -> bool:
        """Whether one allowed filter covers the requested one; `$share/GROUP/` in front does not matter."""
        try:
            wanted = TopicFilter.parse(filter_of_subscription(requested))
        except TopicError:
            return False
        return any(allowed.covers(wanted) for allowed in self.subscribe)

    def may_receive(self, topic: str) -> bool:
        """Whether a message on this topic may be delivered; asked again at each delivery, whatever was subscribed."""
        return any(allowed.matches(topic) for allowed in self.subscribe)


NOTHING: Final = Permissions()


def filter_of_subscription(text: str) -> str:
    """The filter behind `$share/GROUP/`, or the text itself (MQTT 5.0 section 4.8.2)."""
    if text.startswith("$share/"):
        parts = text.split("/", 2)
        return parts[2] if len(parts) == 3 else ""
    return text


def permissions_of(principal: Principal, roles: Mapping[str, RoleRule] = BUILT_IN_ROLES) -> Permissions:
    """The union of what the principal's roles grant, with its tenant put in place."""
    subscribe: dict[str, TopicFilter] = {}
    publish: dict[str, TopicFilter] = {}
    refused: list[str] = []
    for name in sorted(principal.roles):
        rule = roles.get(name)
        if rule is None or (rule.password_only and principal.kind is not LoginKind.PASSWORD):
            refused.append(name)
            continue
        for template, granted in [(t, subscribe) for t in rule.subscribe] + [(t, publish) for t in rule.publish]:
            text = template.replace(TENANT_TOKEN, principal.tenant.value)
            granted[text] = TopicFilter.parse(text)
    return Permissions(tuple(subscribe.values()), tuple(publish.values()), tuple(refused))
