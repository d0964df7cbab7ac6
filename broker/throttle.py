"""Guessing passwords, made slow: failed logins per source address and per user, and how long the next attempt waits.

Pure: the caller gives `now`. The first few failures cost nothing; each further one doubles the wait up to a bound,
which is short for a user (somebody else may be guessing) and long for an address.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["Throttle"]

FREE_FAILURES: Final = 5
FIRST_WAIT_S: Final = 0.25
USER_WAIT_MAX_S: Final = 2.0
ADDRESS_WAIT_MAX_S: Final = 10.0
FORGIVEN_AFTER_S: Final = 30.0
"""One failure is forgotten in this time."""
KNOWN_MAX: Final = 20_000
WAITING_MAX: Final = 32
"""Logins of one address that wait at once; the next is refused as busy."""


@dataclass(slots=True)
class _Record:
    failures: float = 0.0
    at: float = 0.0

    def current(self, now: float) -> float:
        return max(0.0, self.failures - (now - self.at) / FORGIVEN_AFTER_S)


class Throttle:
    """See the module."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Record] = {}
        self._waiting: dict[str, int] = {}

    def wait_s(self, address: str, user: str, now: float) -> float:
        """How long the next login has to wait."""
        of_address = self._wait_of(("address", address), ADDRESS_WAIT_MAX_S, now)
        return max(of_address, self._wait_of(("user", user), USER_WAIT_MAX_S, now) if user else 0.0)

    def failed(self, address: str, user: str, now: float) -> None:
        """A login was refused."""
        for key in (("address", address), ("user", user)):
            if key[1]:
                record = self._known.pop(key, None) or _Record()
                record.failures, record.at = record.current(now) + 1, now
                self._known[key] = record  # at the end: the table is in order of use
        while len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]

    def succeeded(self, user: str) -> None:
        """The user is who it says; the address is not forgiven: it may have an account of its own."""
        self._known.pop(("user", user), None)

    def enter(self, address: str) -> bool:
        """A login begins to wait; False when too many of this address do."""
        waiting = self._waiting.get(address, 0)
        if waiting >= WAITING_MAX:
            return False
        self._waiting[address] = waiting + 1
        return True

    def leave(self, address: str) -> None:
        """It waits no longer."""
        waiting = self._waiting.pop(address, 0) - 1
        if waiting > 0:
            self._waiting[address] = waiting

    def _wait_of(self, key: tuple[str, str], most_s: float, now: float) -> float:
        record = self._known.get(key)
        if record is None:
            return 0.0
        above = record.current(now) - FREE_FAILURES
        return 0.0 if above < 0 else float(min(most_s, FIRST_WAIT_S * 2.0 ** min(above, 20.0)))
