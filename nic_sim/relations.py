"""Observe relations with CoAP clients: which stand, and why the others ended (RFC 7641 section 4.5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["EndReason", "Relation", "RelationTable"]

MAX_RELATIONS: Final = 64
"""More clients than this get a plain answer without Observe option."""


class EndReason(StrEnum):
    """Why a relation ended."""

    RESET = "reset"
    """The client answered a notification with RST."""
    DEREGISTERED = "deregistered"
    """A GET with Observe 1 and the same token."""
    REPLACED = "replaced"
    """Another request with the same token."""
    UNREACHABLE = "unreachable"
    """ICMP error, or the socket could not send."""
    TIMED_OUT = "timed-out"
    """A notification was not acknowledged, as often as it was sent."""
    BOARD_ENDED = "board-ended"
    """The board answered with an error."""


@dataclass(slots=True)
class Relation:
    """One client's registration."""

    remote: Hashable
    token: bytes
    mid: int
    """Of the request: a repetition of it by the client is not a new one."""
    ending: EndReason | None = EndReason.BOARD_ENDED
    """Why it will have ended, as far as known; until the first representation is there the board is to blame."""


class RelationTable:
    """All relations of one NIC."""

    def __init__(self) -> None:
        self.ended: Counter[EndReason] = Counter()
        self._relations: dict[tuple[Hashable, bytes], Relation] = {}

    def __len__(self) -> int:
        return len(self._relations)

    @property
    def is_full(self) -> bool:
        return len(self._relations) >= MAX_RELATIONS

    def begin(self, remote: Hashable, token: bytes, mid: int) -> Relation:
        """A new relation; one with the same client and token has been ended before."""
        relation = Relation(remote, token, mid)
        self._relations[remote, token] = relation
        return relation

    def end(self, relation: Relation) -> None:
        """It is over; counted by the reason that was noted, else as timed out."""
        self.ended[relation.ending or EndReason.TIMED_OUT] += 1
        if self._relations.get((relation.remote, relation.token)) is relation:
            del self._relations[relation.remote, relation.token]

    def note(self, remote: Hashable, token: bytes, reason: EndReason, *, request_mid: int | None = None) -> None:
        """What is about to end one relation, if it stands; `request_mid` is the message ID of the request that does."""
        relation = self._relations.get((remote, token))
        if relation is not None and relation.mid != request_mid:
            relation.ending = reason

    def note_all(self, remote: Hashable, reason: EndReason) -> None:
        """The same for all relations of a client."""
        for relation in self._relations.values():
            if relation.remote == remote:
                relation.ending = reason
