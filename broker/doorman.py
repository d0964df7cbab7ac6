"""The way from a CONNECT's credentials to an identity: certificate, token or password, slowed when somebody guesses.

Decides the order and the waiting. What a credential is worth is decided by `Authenticator`, what its holder may do by
the policy.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from broker.client_certificates import principal_of_certificate
from broker.credentials import Authenticator, Login, Refusal, RefusedLogin, is_token
from broker.settings import ListenerSettings
from broker.throttle import Throttle
from meshwire.identity import LoginKind

__all__ = ["Credentials", "Doorman"]

_GUESSED = (Refusal.UNKNOWN_USER, Refusal.WRONG_PASSWORD)
"""Refusals that may be attempts at somebody's password; a signature is not to be guessed."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection shows."""

    username: str | None
    password: bytes | None
    address: str
    listener: ListenerSettings
    certificate: Mapping[str, object] | None = None
    """As `getpeercert()` gives it; None or empty: none was shown."""


class Doorman:
    """See the module."""

    def __init__(self, authenticator: Authenticator, throttle: Throttle, loop: asyncio.AbstractEventLoop) -> None:
        self._authenticator = authenticator
        self._throttle = throttle
        self._loop = loop

    def at_once(self, shown: Credentials) -> Login | None:
        """The answer where it takes no waiting; None: `settle` will have it."""
        return self._judge(shown)

    async def settle(self, shown: Credentials) -> Login:
        """The answer, after whatever has to be waited for."""
        user = shown.username or ""
        wait_s = self._throttle.wait_s(shown.address, user, self._loop.time())
        if wait_s and not is_token(shown.password or b""):
            if not self._throttle.enter(shown.address):
                return RefusedLogin(Refusal.TOO_BUSY, "too many logins of this address wait")
            try:
                await asyncio.sleep(wait_s)
            finally:
                self._throttle.leave(shown.address)
        login = self._judge(shown)
        if login is None:
            login = await self._authenticator.verify(user, shown.password or b"")
        if not isinstance(login, RefusedLogin):
            self._throttle.succeeded(user)
        elif login.cause in _GUESSED:
            self._throttle.failed(shown.address, user, self._loop.time())
        return login

    def _judge(self, shown: Credentials) -> Login | None:
        allowed = shown.listener.authentication
        return self._authenticator.at_once(shown.username, shown.password, allowed, self._certified(shown))

    @staticmethod
    def _certified(shown: Credentials) -> Login | None:
        if not shown.certificate or LoginKind.CERTIFICATE not in shown.listener.authentication:
            return None
        found = principal_of_certificate(shown.certificate, shown.listener.certificate)
        return RefusedLogin(Refusal.UNFIT_CERTIFICATE, found) if isinstance(found, str) else found
