"""HiveMQ's File RBAC extension: `credentials.xml` from users. Pure but for the salt; verified against documentation.

The extension knows `${{clientid}}` and `${{username}}` and no tenant, so a role becomes one role for each tenant that
uses it. It knows no tokens.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from xml.sax.saxutils import escape

from broker.adapters.mosquitto.dynsec import MosquittoUser, role_name
from broker.policy import BUILT_IN_ROLES, RoleRule, permissions_of
from meshwire.identity import Principal

__all__ = ["credentials_xml"]

ITERATIONS: Final = 100
SALT_OCTETS: Final = 16


def hashed(password: str, salt: bytes) -> str:
    """`base64(salt):iterations:base64(hash)`, PBKDF2-HMAC-SHA512, 64 octets."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"{base64.b64encode(salt).decode()}:{ITERATIONS}:{base64.b64encode(digest).decode()}"


def credentials_xml(
    users: Iterable[MosquittoUser],
    rules: Mapping[str, RoleRule] = BUILT_IN_ROLES,
    new_salt: Callable[[], bytes] = lambda: secrets.token_bytes(SALT_OCTETS),
) -> str:
    """The whole file.

    Args:
        users: with their passwords in the clear.
        rules: the role table.
        new_salt: makes a salt for each user.
    """
    roles: dict[str, list[str]] = {}
    lines: list[str] = []
    for user in users:
        names: list[str] = []
        for role in sorted(set(user.roles)):
            rights = permissions_of(Principal(user.name, user.tenant, frozenset((role,)), user.kind), rules)
            if rights.refused_roles:
                continue
            names.append(role_name(role, user.tenant))
            roles[names[-1]] = [_permission(one.text, "PUBLISH") for one in rights.publish]
            roles[names[-1]] += [_permission(one.text, "SUBSCRIBE") for one in rights.subscribe]
        lines += [
            "        <user>",
            f"            <name>{escape(user.name)}</name>",
            f"            <password>{hashed(user.password, new_salt())}</password>",
            f"            <roles>{''.join(f'<id>{escape(name)}</id>' for name in names)}</roles>",
            "        </user>",
        ]
    role_lines = [
        f"        <role><id>{escape(name)}</id><permissions>{''.join(permissions)}</permissions></role>"
        for name, permissions in roles.items()
    ]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>',
            "<!-- verified against documentation -->",
            "<file-rbac>",
            "    <users>",
            *lines,
            "    </users>",
            "    <roles>",
            *role_lines,
            "    </roles>",
            "</file-rbac>",
            "",
        ]
    )


def _permission(topic: str, activity: str) -> str:
    return f"<permission><topic>{escape(topic)}</topic><activity>{activity}</activity></permission>"
