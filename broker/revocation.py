"""Rights that changed while clients hold sessions: ended where they are gone, at once.

Decides whom a change of the users file, the role table or a key set reaches. A session whose user is gone, or belongs
to another tenant now, ends; a connection whose password changed, or whose token's key is not trusted any more, ends;
where roles changed, subscriptions, waiting messages and remembered decisions that the new rights do not cover are gone,
and the connection stays.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from broker.credentials import Authenticator, UsersFile
from broker.engine import Engine
from broker.policy import Permissions
from broker.role_table import RoleTable
from broker.session import Session
from meshwire.identity import LoginKind, Principal

__all__ = ["Revocation"]

_log = structlog.get_logger()


class Revocation:
    """See the module.

    Args:
        engine: whose sessions are judged.
        users, roles: files that are looked at again.
        authenticator: knows which keys are trusted.
        permissions_of: the rights of a principal by the role table of now.
    """

    def __init__(
        self,
        engine: Engine,
        users: UsersFile,
        roles: RoleTable,
        authenticator: Authenticator,
        permissions_of: Callable[[Principal], Permissions],
    ) -> None:
        self._engine = engine
        self._users = users
        self._roles = roles
        self._permissions_of = permissions_of
        self._authenticator = authenticator
        self._secrets = users.secrets()
        self._seen = self._generations()

    def check(self, now: float) -> None:
        """Looks at the files and key sets and applies what changed; cheap when nothing did."""
        self._users.reload()
        self._roles.reload()
        seen = self._generations()
        if seen != self._seen:
            self._seen = seen
            former, self._secrets = self._secrets, self._users.secrets()
            self.apply(now, former)

    def _generations(self) -> tuple[int, int, int]:
        return self._users.generation, self._roles.generation, self._authenticator.key_generation()

    def apply(self, now: float, former: Mapping[str, str] | None = None) -> None:
        """Judges every session anew.

        Args:
            now: loop time in seconds.
            former: password hashes by user, before; None: nobody's password counts as changed.
        """
        for session in list(self._engine.sessions.values()):
            self._judge(session, former or {}, now)

    def _judge(self, session: Session, former: Mapping[str, str], now: float) -> None:
        principal = session.principal
        if principal is None:
            return
        if principal.kind is LoginKind.PASSWORD:
            current = self._users.principal(principal.name)
            if current is None or current.tenant != principal.tenant:
                _log.warning("login revoked", tenant=session.key.tenant, client_id=session.key.client_id)
                self._engine.revoke(session, now)
                return
            principal = replace(principal, roles=current.roles)
            secret = former.get(principal.name)
            if secret is not None and secret != self._secrets.get(principal.name) and session.outlet is not None:
                session.outlet.revoked()
        elif session.outlet is not None and not self._authenticator.key_holds(principal):
            _log.warning(
                "key revoked", tenant=session.key.tenant, client_id=session.key.client_id, kid=principal.key_id
            )
            session.outlet.revoked()
        permissions = self._permissions_of(principal)
        if permissions != session.permissions:
            _log.warning("rights changed", tenant=session.key.tenant, client_id=session.key.client_id)
            session.principal = principal
            self._engine.revise(session, permissions)
            self._engine.touch(session)
