"""Mosquitto, asked by its `$SYS` topics: it counts who is connected, and tells nobody who that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.mqtt import Arrival, ConnectFailure, Connection, ConnectionLost, Login, MqttVersion
from gateway.operations.desk import Page
from gateway.operations.errors import NotReached
from gateway.operations.foreign import ForeignDesk
from gateway.operations.records import Client

__all__ = ["MosquittoDesk"]

ANSWER_WITHIN_S: Final = 5.0
_CONNECTED: Final = "$SYS/broker/clients/connected"


class MosquittoDesk(ForeignDesk):
    """See the module.

    Args:
        login: as a user that may read `$SYS/#`.
    """

    engine = "mosquitto"
    limits = (
        "Mosquitto 2.0 tells how many clients are connected, not who they are.",
        "It can't end one connection by its client id; `mosquitto_ctrl dynsec disableClient USER` ends a user's.",
    )

    def __init__(self, login: Callable[[], Login]) -> None:
        self._login = login

    async def clients(self, tenant: str | None, find: str) -> Page:
        if tenant is not None:
            raise self._refuse("does not tell who is connected")
        return Page((), await self._connected())

    async def kick(self, client: Client) -> None:
        raise self._refuse("can't end a single connection", "`mosquitto_ctrl dynsec disableClient USER` ends a user's")

    async def _connected(self) -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def arrived(arrival: Arrival) -> None:
            if not told.done() and arrival.payload.isdigit():
                told.set_result(int(arrival.payload))

        try:
            async with asyncio.timeout(ANSWER_WITHIN_S), Connection(self._login(), MqttVersion.V5) as connection:
                lost = asyncio.create_task(connection.wait_lost(arrived), name="mosquitto's figures")
                try:
                    await connection.subscribe(_CONNECTED, 0)
                    either: set[asyncio.Future[Any]] = {told, lost}
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    if not told.done():
                        raise ConnectionLost("it hung up")
                    return told.result()
                finally:
                    lost.cancel()
        except (TimeoutError, ConnectFailure, ConnectionLost) as failure:
            reason = str(failure) or "it says nothing"
            fix = "give gateway.operations.username the right to read $SYS/#"
            raise NotReached("Mosquitto does not tell its figures", evidence=reason, fix=fix) from None
