"""Users and roles as Mosquitto's dynamic-security plug-in knows them. Pure but for the salt.

The plug-in has no `{tenantId}` (2.1 has `%u` and `%c`, Debian's 2.0 nothing), so a role becomes one plug-in role for
each tenant that uses it: `COMMAND_CLIENT@acme`. Its passwords are PBKDF2-HMAC-SHA512 and ours argon2id, and neither can
be made from the other: passwords are told to the generator.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from broker.policy import BUILT_IN_ROLES, Permissions, RoleRule, permissions_of
from meshwire.identity import INTERNAL_TENANT, LoginKind, Principal, TenantId

__all__ = [
    "CONTROL_ROLE",
    "CONTROL_TOPIC",
    "FROM_USERS_FILE",
    "JsonObject",
    "MosquittoUser",
    "acls_of",
    "client_record",
    "dynsec_document",
    "role_name",
    "role_record",
]

JsonObject = dict[str, object]

CONTROL_TOPIC: Final = "$CONTROL/dynamic-security/v1"
CONTROL_ROLE: Final = "dynamic-security-control"
FROM_USERS_FILE: Final = "meshwire user"
"""Description by which a user is known as one of our users file; others are left alone."""
ITERATIONS: Final = 101
"""What Mosquitto 2.0 itself uses; generated passwords have 256 bits and need no stretching."""
SALT_OCTETS: Final = 12
"""Mosquitto 2.0 takes no other length: it lets a user with another salt never in."""


@dataclass(frozen=True, slots=True)
class MosquittoUser:
    """A password user with its password in the clear, on its way to a hash.

    Args:
        name: user name.
        password: in the clear.
        tenant: whose data it may see.
        roles: names of roles; unknown ones grant nothing.
        kind: TOKEN for a user that stands for a token; it gets no role kept for password users.
    """

    name: str
    password: str
    tenant: TenantId = INTERNAL_TENANT
    roles: tuple[str, ...] = ()
    kind: LoginKind = LoginKind.PASSWORD

    @property
    def client_id(self) -> str | None:
        """The only client id that it may use; None: any. A tenant's user is bound to its name, so that no tenant can
        take another one's connection over. Internal users are several connections each.
        """
        return None if self.tenant == INTERNAL_TENANT and self.kind is LoginKind.PASSWORD else self.name


def role_name(role: str, tenant: TenantId) -> str:
    """A role of one tenant; tenant ids hold no `@`."""
    return f"{role}@{tenant}"


def acls_of(permissions: Permissions) -> list[JsonObject]:
    """The plug-in's rules: what is not allowed here is denied by the defaults. It judges a shared subscription by its
    whole text, so each filter stands there once more.
    """
    acls: list[JsonObject] = []
    shared = [f"$share/+/{allowed.text}" for allowed in permissions.subscribe if not allowed.text.startswith("$")]
    for kind, filters in (
        ("publishClientSend", permissions.publish),
        ("publishClientReceive", permissions.subscribe),
        ("subscribePattern", permissions.subscribe),
    ):
        acls += [_allow(kind, allowed.text) for allowed in filters]
    return acls + [_allow("subscribePattern", text) for text in shared]


def _allow(kind: str, topic: str) -> JsonObject:
    return {"acltype": kind, "topic": topic, "priority": 0, "allow": True}


def role_record(
    role: str, tenant: TenantId, kind: LoginKind = LoginKind.PASSWORD, rules: Mapping[str, RoleRule] = BUILT_IN_ROLES
) -> JsonObject | None:
    """One role of one tenant; None for a role that grants nothing to such a user."""
    permissions = permissions_of(Principal("", tenant, frozenset((role,)), kind), rules)
    if permissions.refused_roles:
        return None
    return {"rolename": role_name(role, tenant), "acls": acls_of(permissions)}


def client_record(user: MosquittoUser, roles: Iterable[str], salt: bytes) -> JsonObject:
    """A user of the file; `roles` are the names of plug-in roles."""
    digest = hashlib.pbkdf2_hmac("sha512", user.password.encode(), salt, ITERATIONS)
    record: JsonObject = {"username": user.name}
    if user.client_id is not None:
        record["clientid"] = user.client_id
    return record | {
        "textdescription": FROM_USERS_FILE,
        "roles": [{"rolename": name} for name in roles],
        "password": base64.b64encode(digest).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": ITERATIONS,
    }


def control_role() -> JsonObject:
    """What the one user needs by whom everything is changed."""
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    return {"rolename": CONTROL_ROLE, "acls": [_allow(kind, "$CONTROL/dynamic-security/#") for kind in kinds]}


def dynsec_document(
    users: Iterable[MosquittoUser],
    control_user: tuple[str, str],
    rules: Mapping[str, RoleRule] = BUILT_IN_ROLES,
    new_salt: Callable[[], bytes] = lambda: secrets.token_bytes(SALT_OCTETS),
) -> str:
    """The whole file.

    Args:
        users: all password users.
        control_user: name and password of the user by whom live changes are made.
        rules: the role table.
        new_salt: makes a salt for each user.
    """
    roles: dict[str, JsonObject] = {CONTROL_ROLE: control_role()}
    control = client_record(MosquittoUser(*control_user), (CONTROL_ROLE,), new_salt())
    clients = [control | {"textdescription": "changes users and roles"}]
    for user in users:
        mine = [role_record(role, user.tenant, user.kind, rules) for role in sorted(set(user.roles))]
        granted = {str(record["rolename"]): record for record in mine if record is not None}
        roles |= granted
        clients.append(client_record(user, granted, new_salt()))
    defaults = {
        "publishClientSend": False,
        "publishClientReceive": False,
        "subscribe": False,
        "unsubscribe": True,
    }
    document = {"defaultACLAccess": defaults, "clients": clients, "groups": [], "roles": list(roles.values())}
    return json.dumps(document, indent=2) + "\n"
