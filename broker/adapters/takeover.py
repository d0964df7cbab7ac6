"""Ending a client's connection by the one means that every MQTT broker has: connecting with its client id.

A second connection with the same client id ends the first at once, on whichever node of a cluster it is
([MQTT-3.1.4-2]); with Clean Session it ends the session, too, with its subscriptions and queued messages. Management
interfaces do the same later: RabbitMQ's listing of connections lags up to five seconds behind.

The name is reserved: the authority lets it in with its own secret only, and grants it nothing.
"""

import asyncio
from typing import Final

from broker.adapters.connection import BrokerAddress, MqttConnection
from meshwire.mqtt import Connect, ProtocolVersion

__all__ = ["ENDER", "TakeOver"]

ENDER: Final = "meshwire-session-ender"
"""User name of these connections."""
ATTEMPTS: Final = 4
PAUSE_S: Final = 0.1
"""RabbitMQ ends the former connection and then fails over its queue, which goes a moment later, when that was a clean
session and ours is not; the next attempt finds it gone."""


class TakeOver:
    """Ends connections and sessions of one broker.

    Args:
        address: an MQTT listener.
        secret: password of ENDER.
    """

    def __init__(self, address: BrokerAddress, secret: str) -> None:
        self._address = address
        self._secret = secret.encode()

    async def end(self, client_id: str, *, forget: bool) -> None:
        """Closes the connection of a client id; with `forget` its session and queued messages go, too.

        Raises:
            OSError: the broker can't be reached, or does not let us in.
            TimeoutError: it does not answer.
        """
        for _attempt in range(ATTEMPTS - 1):
            if await self._take(client_id, forget):
                return
            await asyncio.sleep(PAUSE_S)
        if not await self._take(client_id, forget):
            raise ConnectionError(f"{self._address} closes the connection of {ENDER}")

    async def _take(self, client_id: str, forget: bool) -> bool:
        """One connection; False when the broker closed it without a word."""
        version = ProtocolVersion.V3_1_1
        async with MqttConnection(self._address, version) as connection:
            connect = Connect(client_id, version, clean_start=forget, username=ENDER, password=self._secret)
            answer = await connection.login(connect)
            if answer is None:
                return False
            if answer.reason_code != 0:
                raise ConnectionError(f"{self._address} refuses {ENDER}, return code {answer.reason_code}")
            await connection.disconnect()
        return True
