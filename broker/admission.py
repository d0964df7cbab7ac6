"""Connections that have not said who they are: bounded per source address and in all; when full, the oldest one gives
way.

The newcomer always gets in, so a flood of silent connections sheds itself while a client that sends its CONNECT at once
is served.
"""

from typing import Generic, TypeVar

__all__ = ["Admission"]

C = TypeVar("C")


class Admission(Generic[C]):
    """The waiting room before CONNECT.

    Args:
        per_address: most connections of one source address.
        total: most connections of all addresses.
        octets: most octets that they all hold of what is not yet a CONNECT.
    """

    def __init__(self, per_address: int, total: int, octets: int) -> None:
        self._per_address = per_address
        self._total = total
        self._max_octets = octets
        self._waiting: dict[str, dict[C, int]] = {}
        self._count = 0
        self._octets = 0

    def __len__(self) -> int:
        return self._count

    def enter(self, address: str, connection: C) -> C | None:
        """Lets a connection in; returns the one that has to go for it: the address's own oldest, or the fullest
        address's.
        """
        mine = self._waiting.setdefault(address, {})
        mine[connection] = 0
        self._count += 1
        if len(mine) > self._per_address:
            return self._evict(address)
        if self._count > self._total:
            return self._evict(max(self._waiting, key=lambda known: len(self._waiting[known])))
        return None

    def hold(self, address: str, connection: C, octets: int) -> C | None:
        """A connection holds so many octets of its CONNECT; returns the one that has to go for it: who holds most."""
        mine = self._waiting.get(address)
        if mine is None or connection not in mine:
            return None
        self._octets += octets - mine[connection]
        mine[connection] = octets
        if self._octets <= self._max_octets:
            return None
        _, place, greediest = max(
            ((held, place, who) for place, theirs in self._waiting.items() for who, held in theirs.items()),
            key=lambda found: found[0],
        )
        self.leave(place, greediest)
        return greediest

    def leave(self, address: str, connection: C) -> None:
        """The connection sent its CONNECT, or ended."""
        mine = self._waiting.get(address)
        if mine is not None and connection in mine:
            self._octets -= mine.pop(connection)
            self._count -= 1
            if not mine:
                del self._waiting[address]

    def _evict(self, address: str) -> C:
        oldest = next(iter(self._waiting[address]))
        self.leave(address, oldest)
        return oldest
