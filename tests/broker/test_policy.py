"""The policy as a table: role and kind of login against what may be published, subscribed to and received."""

import pytest

from broker.policy import BUILT_IN_ROLES, NOTHING, Permissions, RoleRule, permissions_of
from meshwire.identity import LoginKind, Principal, Role, TenantId

TOKEN, PASSWORD, CERTIFICATE = LoginKind.TOKEN, LoginKind.PASSWORD, LoginKind.CERTIFICATE


def rights(*roles: str, tenant: str = "acme", kind: LoginKind = TOKEN) -> Permissions:
    return permissions_of(Principal("someone", TenantId(tenant), frozenset(roles), kind))


READ, ALERT = Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER
READ_ALL, ALERT_ALL = Role.BUBBLE_UP_READ_CONSUMER_ALL, Role.BUBBLE_UP_ALERT_CONSUMER_ALL
MAC = "001350050047dd92"

SUBSCRIBE = [
    # role, kind, filter, allowed
    (READ, TOKEN, "acme/read/#", True),
    (READ, TOKEN, "acme/read/+/+", True),
    (READ, TOKEN, f"acme/read/{MAC}/temp", True),
    (READ, TOKEN, "acme/read/+/temp/#", True),
    (READ, TOKEN, "acme/read", True),  # `acme/read/#` matches its parent as well
    (READ, TOKEN, "acme/#", False),
    (READ, TOKEN, "acme/+/#", False),
    (READ, TOKEN, "acme/+", False),
    (READ, TOKEN, "+/read/#", False),
    (READ, TOKEN, "#", False),
    (READ, TOKEN, "+/#", False),
    (READ, TOKEN, "other/read/#", False),
    (READ, TOKEN, "acme2/read/#", False),
    (READ, TOKEN, "ACME/read/#", False),
    (READ, TOKEN, "acme/alert/#", False),
    (READ, TOKEN, "$SYS/#", False),
    (READ, TOKEN, "$share/g/acme/read/#", True),
    (READ, TOKEN, "$share/g/other/read/#", False),
    (READ, TOKEN, "$share/g/#", False),
    (READ, TOKEN, "$share/acme/read/#", False),  # group `acme`, filter `read/#`
    (READ, TOKEN, "$share/g/$share/g/acme/read/#", False),
    (READ, TOKEN, "$share/g", False),
    (READ, TOKEN, "/acme/read/#", False),
    (READ, TOKEN, "acme/read/#/x", False),
    (READ, TOKEN, "", False),
    (ALERT, TOKEN, "acme/alert/+/+", True),
    (ALERT, TOKEN, "acme/read/+/+", False),
    (Role.PRESENCE_CONSUMER, TOKEN, "acme/presence/+", True),
    (Role.PRESENCE_CONSUMER, TOKEN, "acme/event/#", True),
    (Role.PRESENCE_CONSUMER, TOKEN, "acme/+/+", False),
    (Role.COMMAND_CLIENT, TOKEN, "acme/cmd/+/res/+", True),
    (Role.COMMAND_CLIENT, TOKEN, f"acme/cmd/{MAC}/res/17", True),
    (Role.COMMAND_CLIENT, TOKEN, "acme/cmd/+/res/#", False),
    (Role.COMMAND_CLIENT, TOKEN, "acme/cmd/#", False),
    (Role.COMMAND_CLIENT, TOKEN, "acme/cmd/+/req/+", False),
    (READ_ALL, PASSWORD, "+/read/#", True),
    (READ_ALL, PASSWORD, "other/read/+/temp", True),
    (READ_ALL, PASSWORD, "+/+/#", False),
    (READ_ALL, PASSWORD, "#", False),
    (READ_ALL, PASSWORD, "$SYS/read/#", False),
    (READ_ALL, TOKEN, "acme/read/#", False),
    (READ_ALL, CERTIFICATE, "acme/read/#", False),
    (ALERT_ALL, PASSWORD, "ssni/alert/+/+", True),
    (ALERT_ALL, TOKEN, "ssni/alert/+/+", False),
    (Role.GATEWAY, PASSWORD, "+/cmd/+/req/+", True),
    (Role.GATEWAY, PASSWORD, "+/read/#", False),
    (Role.GATEWAY, TOKEN, "+/cmd/+/req/+", False),
    (Role.ADMIN, PASSWORD, "#", True),
    (Role.ADMIN, PASSWORD, "$SYS/#", True),
    (Role.ADMIN, PASSWORD, "$SYS/broker/+", True),
    (Role.ADMIN, PASSWORD, "$CONTROL/#", False),
    (Role.ADMIN, PASSWORD, "$share/g/$SYS/#", True),
    (Role.ADMIN, TOKEN, "#", False),
    ("admin", PASSWORD, "#", False),  # names are exact
    ("NO_SUCH_ROLE", PASSWORD, "acme/read/#", False),
]


@pytest.mark.parametrize(("role", "kind", "requested", "allowed"), SUBSCRIBE)
def test_subscribe_is_judged_by_covering(role: str, kind: LoginKind, requested: str, allowed: bool) -> None:
    assert rights(role, kind=kind).may_subscribe(requested) is allowed


PUBLISH = [
    (Role.COMMAND_CLIENT, TOKEN, f"acme/cmd/{MAC}/req/1", True),
    (Role.COMMAND_CLIENT, TOKEN, f"other/cmd/{MAC}/req/1", False),
    (Role.COMMAND_CLIENT, TOKEN, f"acme/cmd/{MAC}/res/1", False),
    (Role.COMMAND_CLIENT, TOKEN, f"acme/cmd/{MAC}/req/1/2", False),
    (READ, TOKEN, f"acme/read/{MAC}/temp", False),
    (Role.GATEWAY, PASSWORD, f"acme/read/{MAC}/temp", True),
    (Role.GATEWAY, PASSWORD, f"other/alert/{MAC}/temp", True),
    (Role.GATEWAY, PASSWORD, f"acme/presence/{MAC}", True),
    (Role.GATEWAY, PASSWORD, f"acme/event/{MAC}", True),
    (Role.GATEWAY, PASSWORD, f"acme/cmd/{MAC}/res/1", True),
    (Role.GATEWAY, PASSWORD, f"acme/cmd/{MAC}/req/1", False),
    (Role.GATEWAY, PASSWORD, "$SYS/read/x", False),
    (Role.GATEWAY, TOKEN, f"acme/read/{MAC}/temp", False),
    (Role.ADMIN, PASSWORD, "any/thing", True),
    (Role.ADMIN, PASSWORD, "$SYS/broker/version", False),
    (READ_ALL, PASSWORD, f"acme/read/{MAC}/temp", False),
]


@pytest.mark.parametrize(("role", "kind", "topic", "allowed"), PUBLISH)
def test_publish_is_judged_by_matching(role: str, kind: LoginKind, topic: str, allowed: bool) -> None:
    assert rights(role, kind=kind).may_publish(topic) is allowed


RECEIVE = [
    (READ, TOKEN, f"acme/read/{MAC}/temp", True),
    (READ, TOKEN, f"other/read/{MAC}/temp", False),
    (READ, TOKEN, f"acme/alert/{MAC}/temp", False),
    (READ_ALL, PASSWORD, f"other/read/{MAC}/temp", True),
    (READ_ALL, PASSWORD, "$SYS/read/temp", False),
    (Role.ADMIN, PASSWORD, "$SYS/broker/version", True),
    (Role.ADMIN, PASSWORD, "a/b", True),
    (Role.GATEWAY, PASSWORD, f"acme/read/{MAC}/temp", False),
]


@pytest.mark.parametrize(("role", "kind", "topic", "allowed"), RECEIVE)
def test_delivery_is_judged_again(role: str, kind: LoginKind, topic: str, allowed: bool) -> None:
    assert rights(role, kind=kind).may_receive(topic) is allowed


def test_nothing_is_allowed_without_a_role() -> None:
    assert rights() == NOTHING
    assert not NOTHING.may_subscribe("acme/read/x")
    assert not NOTHING.may_publish("acme/read/x")
    assert not NOTHING.may_receive("acme/read/x")


def test_roles_add_up_and_refused_ones_are_named() -> None:
    both = rights(READ, ALERT, "WHATEVER", Role.ADMIN)
    assert both.may_subscribe("acme/read/#")
    assert both.may_subscribe("acme/alert/#")
    assert not both.may_subscribe("acme/+/#")
    assert both.refused_roles == ("ADMIN", "WHATEVER")


def test_password_users_of_the_internal_tenant_see_it_in_their_filters() -> None:
    assert rights(READ, tenant="ssni", kind=PASSWORD).may_subscribe("ssni/read/#")
    assert not rights(READ, tenant="ssni", kind=PASSWORD).may_subscribe("acme/read/#")


def test_roles_are_data() -> None:
    roles = {**BUILT_IN_ROLES, "METERS": RoleRule(subscribe=("{tenantId}/read/+/meter",))}
    principal = Principal("p", TenantId("acme"), frozenset({"METERS"}), TOKEN)
    assert permissions_of(principal, roles).may_subscribe("acme/read/+/meter")
    assert not permissions_of(principal, roles).may_subscribe("acme/read/+/+")
