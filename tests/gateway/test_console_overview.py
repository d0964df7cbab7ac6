"""What the overview tells of the broker, whatever the broker tells."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.console.broker_figures import EVERY_S, BrokerFigures, Figures
from gateway.console.watch import Watch
from gateway.operations.desk import Page
from gateway.operations.errors import NotOffered, NotReached
from gateway.operations.records import AddressRow, Client


def client(name: str, queued: int | None) -> Client:
    facts: dict[str, Any] = {"login": "token", "user": "u", "address": "a", "version": "5", "listener": "mqtt"}
    return Client(tenant="acme", client=name, protection="plain", since=0.0, queued=queued, **facts)


def address(name: str, stored: int) -> AddressRow:
    return AddressRow(tenant="acme", name=name, type="queue", topic_filter=name, stored=stored)


class Desk:
    """Answers as it is told."""

    def __init__(self) -> None:
        self.page: Page | Exception = Page([client("one", 3), client("two", 4)], 2)
        self.rows: list[AddressRow] | Exception = [address("q", 5), address("r", 6)]
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def clients(self, tenant: str | None, find: str) -> Page:
        self.asked += 1
        await self.may_answer.wait()
        if isinstance(self.page, Exception):
            raise self.page
        return self.page

    async def addresses(self, tenant: str | None) -> list[AddressRow]:
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_many_looks_ask_the_broker_once_in_a_while(desk: Any) -> None:
    now = [0.0]
    figures = BrokerFigures(Watch(desk, lambda: now[0]), lambda: now[0])
    assert await asyncio.gather(*(figures.look() for _ in range(10))) == [Figures(2, 7, 11)] * 10
    assert desk.asked == 1
    desk.page = Page([], 0)
    assert (await figures.look()).clients == 2
    now[0] = EVERY_S
    assert await figures.look() == Figures(0, 0, 11)


async def test_what_is_not_told_is_unknown(desk: Any) -> None:
    desk.page, desk.rows = Page([], 7), NotOffered("no addresses", evidence="", fix="")
    assert await BrokerFigures(Watch(desk)).look() == Figures(7, None, None)
    desk.page = NotReached("away", evidence="", fix="")
    assert await BrokerFigures(Watch(desk)).look() == Figures()


async def test_a_broker_that_takes_its_time_keeps_no_page_waiting(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.console.broker_figures.PATIENCE_S", 0.01)
    desk.may_answer.clear()
    figures = BrokerFigures(Watch(desk))
    assert await figures.look() == Figures()
    desk.may_answer.set()
    monkeypatch.setattr("gateway.console.broker_figures.PATIENCE_S", 10.0)
    assert await figures.look() == Figures(2, 7, 11)
