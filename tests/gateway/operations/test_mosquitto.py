"""Mosquitto, asked about itself: it counts, and that is all."""

from __future__ import annotations

from typing import Any

import aiomqtt
import pytest

from gateway.mqtt import Login
from gateway.operations.errors import NotOffered, NotReached
from gateway.operations.mosquitto import MosquittoDesk
from gateway.operations.records import Client

CLIENT = Client(
    tenant=None, client="c", login="", user="", address="", version="5", listener="mqtt", protection="plain", since=0.0
)


@pytest.mark.server
async def test_it_tells_how_many_are_connected_and_no_more(mosquitto: Any) -> None:
    mosquitto.configure("allow_anonymous true\nsys_interval 1")
    await mosquitto.kill()
    await mosquitto.start()
    desk = MosquittoDesk(lambda: Login("127.0.0.1", mosquitto.port, "gw-console-1", "", ""))
    async with aiomqtt.Client("127.0.0.1", mosquitto.port, identifier="meter"):
        page = await desk.clients(None, "")
    assert not page.clients and page.total >= 0
    for asked in (desk.clients("acme", ""), desk.kick(CLIENT), desk.topics("acme", ""), desk.addresses("acme")):
        with pytest.raises(NotOffered, match=r"^mosquitto "):
            await asked


async def test_a_broker_that_is_away_is_said() -> None:
    desk = MosquittoDesk(lambda: Login("127.0.0.1", 1, "gw-console-1", "", ""))
    with pytest.raises(NotReached, match="does not tell its figures"):
        await desk.clients(None, "")
