"""CoAP sessions of client applications: who speaks from which UDP source. Pure: no socket, no clock.

A session is bound to the client's address and port, since later requests carry nothing that refers to it (dialect
D.2). It ends with DELETE, after its lifetime, with its token, or when its account opens too many others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.addresses import Address
from gateway.statistics import Event, Statistics
from meshwire.identity import Principal

__all__ = ["Session", "Sessions"]


@dataclass(slots=True, eq=False)
class Session:
    """One open session; `on_end` are called once when it ends."""

    source: Address
    account: str
    principal: Principal
    expires_s: float
    """Unix seconds."""
    is_open: bool = True
    on_end: list[Callable[[], None]] = field(default_factory=list)

    def end(self) -> None:
        """Tell everybody who relies on it."""
        self.is_open = False
        while self.on_end:
            self.on_end.pop()()


class Sessions:
    """All open sessions.

    Args:
        lifetime_s: longest life in seconds.
        max_per_account: a further session of an account ends its oldest.
        statistics: counted here.
    """

    def __init__(self, *, lifetime_s: float, max_per_account: int, statistics: Statistics) -> None:
        self._lifetime_s = lifetime_s
        self._max_per_account = max_per_account
        self._statistics = statistics
        self._by_source: dict[Address, Session] = {}
        self._by_account: dict[str, list[Session]] = {}

    def open(self, source: Address, account: str, principal: Principal, now_s: float) -> Session:
        """Open a session; one that the source has already is replaced.

        Args:
            source: the client's address and port.
            account: whose sessions are counted together.
            principal: who it is.
            now_s: Unix time in seconds.
        """
        self._end(self._by_source.get(source), "replaced")
        expires_s = now_s + self._lifetime_s
        if principal.expires_at is not None:
            expires_s = min(expires_s, principal.expires_at)
        session = Session(source, account, principal, expires_s)
        siblings = self._by_account.setdefault(account, [])
        siblings.append(session)
        self._by_source[source] = session
        self._statistics.count(Event.SESSION, "opened")
        if len(siblings) > self._max_per_account:
            self._end(siblings[0], "too-many")
        return session

    def get(self, source: Address, now_s: float) -> Session | None:
        """The source's open session."""
        session = self._by_source.get(source)
        if session is not None and now_s >= session.expires_s:
            self._end(session, "expired")
            return None
        return session

    def close(self, source: Address, now_s: float) -> bool:
        """End the source's session; False when there is none."""
        session = self.get(source, now_s)
        self._end(session, "closed")
        return session is not None

    def expire(self, now_s: float) -> None:
        """End every session whose time is over."""
        for session in [session for session in self._by_source.values() if now_s >= session.expires_s]:
            self._end(session, "expired")

    def all(self) -> list[Session]:
        """The open ones."""
        return [*self._by_source.values()]

    def __len__(self) -> int:
        return len(self._by_source)

    def _end(self, session: Session | None, why: str) -> None:
        if session is None:
            return
        del self._by_source[session.source]
        siblings = self._by_account[session.account]
        siblings.remove(session)
        if not siblings:
            del self._by_account[session.account]
        self._statistics.count(Event.SESSION, why)
        session.end()
