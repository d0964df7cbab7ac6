"""Tokens on Mosquitto, which knows none: a token is exchanged for a user that lives as long as the token.

The user's name begins with its tenant and ends with the client id that was asked for, and it is the only client id
that it may use; so a client that comes again with a new token finds its session, and no tenant can reach another
one's. A user is deleted, and with that disconnected, when its token ends; what a former run left behind is found by
its description.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

import structlog

from broker.adapters.errors import EngineError
from broker.adapters.mosquitto.control import DynamicSecurity
from broker.adapters.mosquitto.dynsec import MosquittoUser
from meshwire.identity import LoginKind, Principal

__all__ = ["ExchangedUser", "TokenExchange", "user_name"]

_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_DESCRIPTION: Final = re.compile(r"token until (\d+)")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ExchangedUser:
    """What a client logs in with instead of its token."""

    username: str
    password: str
    client_id: str
    expires_at: float
    """Unix seconds."""


def user_name(principal: Principal, client_id: str) -> str:
    """`tenant:client-id`; tenant ids hold no colon.

    Raises:
        ValueError: a client id that is empty, too long or holds other characters than A–Z a–z 0–9 _ . : -.
    """
    if _CLIENT_ID.fullmatch(client_id) is None:
        raise ValueError("client id must be 1 to 128 characters of A-Z a-z 0-9 _ . : -")
    return f"{principal.tenant}:{client_id}"


class TokenExchange:
    """Makes and ends the users.

    Args:
        open_control: opens a control connection.
        wall_clock: Unix time in seconds.
    """

    def __init__(
        self,
        open_control: Callable[[], AbstractAsyncContextManager[DynamicSecurity]],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._open = open_control
        self._now = wall_clock
        self._ends: dict[str, float] = {}
        self._turn = asyncio.Lock()

    async def exchange(self, principal: Principal, client_id: str) -> ExchangedUser:
        """A user for a verified token.

        Args:
            principal: of the token, with its default roles put in.
            client_id: that the client wants to use.

        Raises:
            ValueError: no token, a token without an end, or an unfit client id.
            EngineError, OSError, TimeoutError: Mosquitto can't be changed.
        """
        if principal.kind is not LoginKind.TOKEN or principal.expires_at is None:
            raise ValueError("only a token with an end can be exchanged")
        name, password = user_name(principal, client_id), secrets.token_urlsafe(32)
        user = MosquittoUser(name, password, principal.tenant, tuple(sorted(principal.roles)), LoginKind.TOKEN)
        async with self._turn, self._open() as control:
            await control.put_user(user, f"token until {int(principal.expires_at)}")
        self._ends[name] = principal.expires_at
        return ExchangedUser(name, password, name, principal.expires_at)

    async def run(self, interval_s: float) -> None:
        """Ends users whose token has ended, until cancelled."""
        known = False
        while True:
            try:
                if not known:
                    await self._learn()
                    known = True
                await self.sweep()
            except (OSError, TimeoutError, EngineError) as error:
                _log.warning("users of ended tokens can't be removed now", error=str(error))
            await asyncio.sleep(interval_s)

    async def _learn(self) -> None:
        """What a former run has made."""
        async with self._turn, self._open() as control:
            for name, user in (await control.users()).items():
                if (found := _DESCRIPTION.fullmatch(user.description)) is not None:
                    self._ends.setdefault(name, float(found[1]))

    async def sweep(self) -> None:
        """Removes the users of ended tokens."""
        ended = [name for name, end in self._ends.items() if end <= self._now()]
        if not ended:
            return
        async with self._turn, self._open() as control:
            for name in ended:
                if self._ends[name] > self._now():
                    continue  # exchanged again meanwhile
                await control.remove_user(name)
                del self._ends[name]
                _log.info("the user of an ended token was removed", user=name)
