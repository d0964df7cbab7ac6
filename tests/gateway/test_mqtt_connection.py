"""Our use of aiomqtt: who is told to stop just as the broker answers stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from embedded_broker import ADMIN, ADMIN_PASSWORD, embedded_broker
from patience import PATIENCE_S

from gateway.mqtt import Connection, ConnectionLost, Login
from gateway.reconnecting import stay_connected
from meshwire.site import Site


def cancel_upon(connection: Connection, callback: str, to_stop: asyncio.Task[None]) -> None:
    """Cancel the task in the turn of the loop in which paho's callback tells aiomqtt of the broker's answer."""
    inner: Callable[..., Any] = getattr(connection._paho, callback)

    def outer(*told: Any) -> None:
        inner(*told)
        to_stop.cancel()

    setattr(connection._paho, callback, outer)


@pytest.mark.parametrize("answer", ["on_connect", "on_subscribe", "on_disconnect"])
async def test_a_cancellation_that_comes_with_the_answer_is_not_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    made: list[Connection] = []

    class Watched(Connection):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)
            cancel_upon(self, answer, serving)

    async def serve(connection: Connection) -> ConnectionLost:
        await connection.subscribe("acme/#", 1)
        return ConnectionLost("enough")

    monkeypatch.setattr("gateway.reconnecting.Connection", Watched)
    async with embedded_broker(site) as broker:
        login = Login("127.0.0.1", broker.ports[0], "gw-test", ADMIN, ADMIN_PASSWORD)
        serving = asyncio.create_task(stay_connected(login, serve))
        await asyncio.wait({serving}, timeout=PATIENCE_S)
        assert serving.cancelled()
        assert len(made) == 1 and made[0]._paho.socket() is None
