"""Who looks at the console: accounts, browser sessions, and proof that a form is our own.

A session is a random name in a cookie (HttpOnly, SameSite=Strict) and nothing else; what it stands for is kept here.
Every form carries the session's form token, so a page elsewhere can't post in a visitor's name even from a browser that
ignores SameSite. Wrong passwords make an address wait. The database is asked on worker threads.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.access import ADMIN_SCOPE
from gateway.api.callers import API_SCOPE
from gateway.console_accounts import KIND, is_administrator, refuse_name, refuse_password
from gateway.credentials import Credentials
from gateway.registry import Account, Registry
from meshwire.identity import INTERNAL_TENANT, TenantId

__all__ = ["COOKIE", "Visitor", "Visitors"]

COOKIE: Final = "meshwire_console"
LIFETIME_S: Final = 8 * 3600.0
"""A session ends after so long without a request."""
FRESH_S: Final = 0.5
"""All live streams of an account ask the database once in so long whether it exists."""
MAX_SESSIONS: Final = 500
FREE_FAILURES: Final = 5
WAIT_S: Final = 30.0
"""After `FREE_FAILURES` wrong passwords an address waits so long before the next one is looked at."""
MAX_ADDRESSES: Final = 10_000


@dataclass(slots=True)
class Visitor:
    """Somebody signed in.

    Args:
        name: of the account.
        tenant: whose data it may see; None: everybody's (platform administrators).
        form_token: stands in every form of its pages.
        secret_hash: of the password that it came in with.
        seen_s: monotonic time of the last request.
    """

    name: str
    tenant: TenantId | None
    form_token: str
    secret_hash: str
    seen_s: float

    def is_still(self, account: Account | None) -> bool:
        """Whether its account is there, and has the password that it came in with: a new one ends all sessions."""
        return account is not None and account.secret_hash == self.secret_hash

    @property
    def is_admin(self) -> bool:
        """May see and change what belongs to any tenant."""
        return self.tenant is None


class Visitors:
    """Browser sessions of one gateway; they end with the process.

    Args:
        registry: holds the accounts.
        credentials: verifies passwords.
    """

    def __init__(self, registry: Registry, credentials: Credentials) -> None:
        self._registry = registry
        self._credentials = credentials
        self._sessions: OrderedDict[str, Visitor] = OrderedDict()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._asked: dict[str, tuple[float, asyncio.Future[Account | None]]] = {}
        """By account's name: when the database was asked last, and its answer."""

    async def needs_setup(self) -> bool:
        """No account exists: the first visitor makes the administrator."""
        return not await asyncio.to_thread(self._registry.accounts, KIND)

    async def add_administrator(self, name: str, password: str, *, by: str = KIND) -> str | None:
        """Store a platform administrator; returns why not, in words for a form, or None."""
        return await asyncio.to_thread(self._add, name, password, INTERNAL_TENANT, ADMIN_SCOPE, by)

    async def add_tenant_user(self, name: str, password: str, tenant: TenantId, *, by: str = KIND) -> str | None:
        """Store somebody who sees one tenant; returns why not, or None."""
        return await asyncio.to_thread(self._add, name, password, tenant, API_SCOPE, by)

    async def change_password(self, visitor: Visitor, current: str, password: str) -> str | None:
        """Another password for a visitor, whose other sessions end by that; returns why not, or None."""
        if (reason := refuse_password(password)) is not None:
            return reason
        if await self._credentials.verify(visitor.name, current, KIND) is None:
            return "The present password is wrong."
        change = partial(self._registry.set_account, visitor.name, KIND, secret=password, by=visitor.name)
        visitor.secret_hash = (await asyncio.to_thread(change)).secret_hash
        self._asked.pop(visitor.name, None)  # its own live pages stay
        return None

    def _add(self, name: str, password: str, tenant: TenantId, scope: str, by: str) -> str | None:
        if (reason := refuse_name(name) or refuse_password(password)) is not None:
            return reason
        if self._registry.account(name, KIND) is not None:
            return f"{name} exists already."
        self._registry.add_account(name, password, tenant, (), kind=KIND, scope=scope, by=by)
        return None

    def wait_s(self, address: str, now_s: float) -> float:
        """How long this address has to wait before a password is looked at."""
        failures, last_s = self._failures.get(address, (0, 0.0))
        return max(0.0, last_s + WAIT_S - now_s) if failures >= FREE_FAILURES else 0.0

    async def sign_in(self, name: str, password: str, address: str, now_s: float) -> str | None:
        """Open a session; returns its name for the cookie, or None when name or password is wrong."""
        account = await self._credentials.verify(name, password, KIND)
        if account is None:
            failures, last_s = self._failures.pop(address, (0, 0.0))
            if now_s - last_s > WAIT_S * 10:
                failures = 0
            self._failures[address] = failures + 1, now_s
            if len(self._failures) > MAX_ADDRESSES:
                self._failures.popitem(last=False)
            return None
        self._failures.pop(address, None)
        session = secrets.token_urlsafe(32)
        tenant = None if is_administrator(account) else account.tenant
        form_token = secrets.token_urlsafe(16)
        self._sessions[session] = Visitor(name, tenant, form_token, account.secret_hash, now_s)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    async def visitor(self, session: str | None, now_s: float) -> Visitor | None:
        """Who has this session; None when it has ended or never was."""
        visitor = self._sessions.get(session or "")
        if visitor is None or session is None:
            return None
        is_over = now_s - visitor.seen_s > LIFETIME_S
        if is_over or not visitor.is_still(await asyncio.to_thread(self._registry.account, visitor.name, KIND)):
            self._sessions.pop(session, None)
            return None
        visitor.seen_s = now_s
        return visitor

    async def is_signed_in(self, session: str | None) -> bool:
        """Whether a session is open and its account still the same; a look at it does not prolong it."""
        visitor = self._sessions.get(session or "")
        return visitor is not None and visitor.is_still(await self._account(visitor.name))

    async def _account(self, name: str) -> Account | None:
        now_s = asyncio.get_running_loop().time()
        asked_s, answer = self._asked.get(name, (0.0, None))
        if answer is None or now_s - asked_s >= FRESH_S:
            answer = asyncio.ensure_future(asyncio.to_thread(self._registry.account, name, KIND))
            if len(self._asked) >= MAX_SESSIONS:
                self._asked.clear()
            self._asked[name] = now_s, answer
        return await asyncio.shield(answer)

    def sign_out(self, session: str | None) -> None:
        """End a session."""
        self._sessions.pop(session or "", None)

    @staticmethod
    def is_ours(visitor: Visitor, form_token: str) -> bool:
        """Whether a form was made for this visitor."""
        return hmac.compare_digest(visitor.form_token.encode(), form_token.encode())
