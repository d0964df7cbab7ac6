"""What can be asked of a broker, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.operations.records import AddressRow, Browsed, Client, Listener, PlanUse, RoleRow, TopicRow

__all__ = ["MOST_CLIENTS", "BrokerDesk", "Page", "Topics"]

MOST_CLIENTS = 5_000
"""Connections shown at most; a search narrows them."""


@dataclass(frozen=True, slots=True)
class Page:
    """Connected clients, and how many there are in all."""

    clients: Sequence[Client]
    total: int


@dataclass(frozen=True, slots=True)
class Topics:
    """A tenant's topics, and how many there are and were."""

    topics: Sequence[TopicRow]
    total: int
    forgotten: int
    """Remembered once, and no more."""


class BrokerDesk(Protocol):
    """One broker, or network of brokers. Every question may raise OperationsError; NotOffered: never to be had here."""

    @property
    def engine(self) -> str:
        """embedded, mosquitto or rabbitmq."""

    @property
    def limits(self) -> Sequence[str]:
        """What this engine can't do, in words for people."""

    async def clients(self, tenant: str | None, find: str) -> Page:
        """Who is connected, of one tenant or of all."""

    async def kick(self, client: Client) -> None:
        """End a connection."""

    async def topics(self, tenant: str, find: str) -> Topics:
        """Which topics are in use."""

    async def addresses(self, tenant: str | None) -> Sequence[AddressRow]:
        """Addresses of one tenant or of all."""

    async def put_address(self, definition: Mapping[str, object]) -> None:
        """Add or replace an address; keys as in `meshwire address list --json`."""

    async def remove_address(self, tenant: str, name: str) -> None:
        """Remove an address, with what it holds."""

    async def browse(self, tenant: str, name: str, after: int, limit: int) -> tuple[Sequence[Browsed], int | None]:
        """Messages at an address, left where they are; and where to go on, or None."""

    async def plan(self, tenant: str) -> PlanUse:
        """What a tenant may use, and uses."""

    async def roles(self) -> Sequence[RoleRow]:
        """All roles."""

    async def listeners(self) -> Sequence[Listener]:
        """Where it listens."""
