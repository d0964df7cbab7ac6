"""Mosquitto's users kept in step with the users file: a role taken away, or a user removed, holds within seconds.

Does not add users: their passwords are not known here, only argon2id hashes. Leaves alone whom it did not make.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

import structlog

from broker.adapters.errors import EngineError
from broker.adapters.mosquitto.control import DynamicSecurity
from broker.adapters.mosquitto.dynsec import FROM_USERS_FILE, MosquittoUser, role_name, role_record
from broker.credentials import UsersFile
from broker.policy import BUILT_IN_ROLES, RoleRule
from broker.role_table import RoleTable
from meshwire.identity import Principal

__all__ = ["UsersInStep", "granted_roles"]

_log = structlog.get_logger()


def granted_roles(user: Principal, rules: Mapping[str, RoleRule] = BUILT_IN_ROLES) -> frozenset[str]:
    """Names of the plug-in roles that a user should have."""
    known = [role for role in user.roles if role_record(role, user.tenant, user.kind, rules) is not None]
    return frozenset(role_name(role, user.tenant) for role in known)


class UsersInStep:
    """See the module's text.

    Args:
        users: the users file.
        roles: the role table.
        open_control: opens a control connection.
    """

    def __init__(
        self,
        users: UsersFile,
        roles: RoleTable,
        open_control: Callable[[], AbstractAsyncContextManager[DynamicSecurity]],
    ) -> None:
        self._users = users
        self._roles = roles
        self._open = open_control
        self._seen: frozenset[Principal] | None = None

    async def run(self, interval_s: float) -> None:
        """Keeps step until cancelled."""
        while True:
            try:
                await self.sweep()
            except (OSError, TimeoutError, EngineError) as error:
                _log.warning("users can't be kept in step now", error=str(error))
            await asyncio.sleep(interval_s)

    async def sweep(self) -> None:
        """Brings Mosquitto up to date, if users or roles are others than at the last look."""
        self._users.reload()
        if self._roles.reload():
            self._seen = None
        wanted = frozenset(self._users.listing())
        if wanted == self._seen:
            return
        by_name = {user.name: user for user in wanted}
        async with self._open() as control:
            for name, listed in (await control.users()).items():
                if listed.description == FROM_USERS_FILE:
                    await self._bring_up_to_date(control, name, by_name.get(name), listed.roles)
        self._seen = wanted

    async def _bring_up_to_date(
        self, control: DynamicSecurity, name: str, user: Principal | None, roles: frozenset[str]
    ) -> None:
        if user is None:
            await control.remove_user(name)
            _log.info("a removed user was removed from Mosquitto", user=name)
            return
        wanted = MosquittoUser(name, "", user.tenant, tuple(user.roles))
        if granted_roles(user, self._roles.rules) != roles:
            await control.set_roles(wanted)
            _log.info("the roles of a user were changed in Mosquitto", user=name)
        elif self._seen is None:
            await control.put_roles(wanted)
