"""Brokers of other makers, as far as they can be asked: everything that an engine does not offer is said so here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.operations.desk import Page, Topics
from gateway.operations.errors import NotOffered
from gateway.operations.records import AddressRow, Browsed, Client, Listener, PlanUse, RoleRow

__all__ = ["ForeignDesk"]


class ForeignDesk:
    """Offers nothing; engines override what they can do."""

    engine = "foreign"
    limits: Sequence[str] = ()

    def _refuse(self, what: str, fix: str = "") -> NotOffered:
        return NotOffered(f"{self.engine} {what}", fix=fix or "see docs/reference/broker-engines.md")

    async def clients(self, tenant: str | None, find: str) -> Page:
        raise self._refuse("does not tell who is connected")

    async def kick(self, client: Client) -> None:
        raise self._refuse("can't end a single connection")

    async def topics(self, tenant: str, find: str) -> Topics:
        raise self._refuse("does not tell which topics are in use", "subscribe to them: see Try it")

    async def addresses(self, tenant: str | None) -> Sequence[AddressRow]:
        raise self._refuse("has no typed addresses of its own", "see docs/reference/addresses.md for what it can do")

    async def put_address(self, definition: Mapping[str, object]) -> None:
        raise self._refuse(
            "takes no addresses from here", "use `meshwire address add` and `meshwire instance generate`"
        )

    async def remove_address(self, tenant: str, name: str) -> None:
        raise self._refuse("takes no addresses from here", "use `meshwire address remove`")

    async def browse(self, tenant: str, name: str, after: int, limit: int) -> tuple[Sequence[Browsed], int | None]:
        raise self._refuse("can't show a queue without consuming from it")

    async def plan(self, tenant: str) -> PlanUse:
        raise self._refuse("knows no plans of tenants")

    async def roles(self) -> Sequence[RoleRow]:
        raise self._refuse("does not tell its roles")

    async def listeners(self) -> Sequence[Listener]:
        raise self._refuse("does not tell where it listens", "add an endpoint to the account")
