"""How much one caller may ask for: token buckets by address, account and name, and what a refusal says.

Three bounds: every request counts for the address it comes from; one with a token that holds, for its account, too; a
secret or token that does not hold counts as a failure of its address and, for a secret, of the name that was tried. A
name that has logged in from an address is not held up there by failures from elsewhere, and a token that holds by none,
so nobody can lock them out.
Tables are bounded: the caller that was heard longest ago is forgotten first. Pure but for the clock it is given.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fastapi import HTTPException, Request

from gateway.api_settings import ApiSettings
from gateway.statistics import Event, Statistics

__all__ = ["Buckets", "Limits", "address_of"]

MAX_CALLERS: Final = 10_000
NAME_SHARE: Final = 3
"""Failures for one name from all addresses, as a multiple of those of one address."""


class Buckets:
    """A token bucket for each key: `burst` at once, `per_s` in the long run.

    Args:
        per_s: how quickly a bucket fills; 0: there is no bound.
        burst: what a full one holds.
    """

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str, now_s: float) -> float:
        """Seconds until the key may take one; 0: now."""
        return max(0.0, (1.0 - self._level(key, now_s)) / self._per_s) if self._per_s else 0.0

    def take(self, key: str, now_s: float) -> float:
        """Take one when there is one; gives the wait in seconds, 0 when it was taken."""
        wait_s = self.wait_s(key, now_s)
        if not wait_s and self._per_s:
            self._levels[key] = self._level(key, now_s) - 1.0, now_s
            self._levels.move_to_end(key)
            if len(self._levels) > MAX_CALLERS:
                self._levels.popitem(last=False)
        return wait_s

    def _level(self, key: str, now_s: float) -> float:
        level, at_s = self._levels.get(key, (self._burst, now_s))
        return min(self._burst, level + (now_s - at_s) * self._per_s)

    def __len__(self) -> int:
        return len(self._levels)


class Limits:
    """See the module.

    Args:
        settings: the bounds.
        statistics: refusals are counted here, by bound.
        now_s: monotonic time.
    """

    def __init__(
        self, settings: ApiSettings, statistics: Statistics, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.statistics = statistics
        self._now_s = now_s
        per_failure_s = 1.0 / settings.login_pause_s
        self._addresses = Buckets(settings.address_requests_per_s, settings.address_burst)
        self._accounts = Buckets(settings.requests_per_s, settings.burst)
        self._failures = Buckets(per_failure_s, settings.login_failures)
        self._names = Buckets(per_failure_s, NAME_SHARE * settings.login_failures)
        self._at_home: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Names with an address from which they have logged in."""

    def request_from(self, address: str) -> float:
        """A request has come; gives how long its address has to wait, in seconds."""
        wait_s = self._addresses.take(address, self._now_s())
        if wait_s:
            self.count("address")
        return wait_s

    def request_of(self, account: str) -> None:
        """A request of an account; raises HTTPException 429."""
        self._refuse(self._accounts.take(account, self._now_s()), "account", "the account sends too many requests")

    def check_login(self, address: str, name: str = "") -> None:
        """Before a secret or token is looked at; raises HTTPException 429 after too many that did not hold."""
        now_s = self._now_s()
        wait_s = self._failures.wait_s(_kind(address, name), now_s)
        if name and (name, address) not in self._at_home:
            wait_s = max(wait_s, self._names.wait_s(name, now_s))
        self._refuse(wait_s, "login", "too many secrets or tokens that do not hold")

    def failed(self, address: str, name: str = "") -> None:
        """A secret or token did not hold."""
        self._failures.take(_kind(address, name), self._now_s())
        if name:
            self._names.take(name, self._now_s())

    def logged_in(self, address: str, name: str) -> None:
        """A secret did hold."""
        self._at_home[name, address] = None
        self._at_home.move_to_end((name, address))
        if len(self._at_home) > MAX_CALLERS:
            self._at_home.popitem(last=False)

    def count(self, bound: str) -> None:
        """Somebody was refused by a bound."""
        self.statistics.count(Event.HTTP_REFUSED, bound)

    def _refuse(self, wait_s: float, bound: str, words: str) -> None:
        if wait_s:
            self.count(bound)
            raise HTTPException(429, words, {"Retry-After": str(math.ceil(wait_s))})


def _kind(address: str, name: str) -> str:
    """Secrets (of a name) and tokens are counted apart: who has an old token must be able to ask for a new one."""
    return address if name else f"tokens of {address}"


def address_of(request: Request) -> str:
    """Where a request comes from, as bounds see it."""
    return network_of(request.client.host if request.client is not None else "")


def network_of(host: str) -> str:
    """The address, and of IPv6 its /64: a single host has that many addresses."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None and not address.is_loopback:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
