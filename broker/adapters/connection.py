"""One MQTT connection to a broker, as the adapters need it: packets out, packets in, every wait bounded."""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from meshwire.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketError,
    PacketStream,
    ProtocolVersion,
    Side,
    encode,
)

__all__ = ["BrokerAddress", "MqttConnection"]


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens; `tls` for mqtts."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class MqttConnection:
    """Opened with `async with MqttConnection.open(…)`; closed without DISCONNECT unless `disconnect` was called.

    Args:
        address: where.
        version: protocol version to speak.
        timeout_s: longest wait for one packet.
        source: address to come from; empty: the system's choice.
    """

    def __init__(
        self, address: BrokerAddress, version: ProtocolVersion, timeout_s: float = 5.0, source: str = ""
    ) -> None:
        self.version = version
        self.is_closed = False
        """The broker has closed the connection."""
        self._address = address
        self._timeout_s = timeout_s
        self._source = (source, 0) if source else None
        self._stream = PacketStream(Side.CLIENT, version)
        self._ready: list[Packet] = []

    async def __aenter__(self) -> Self:
        address = self._address
        async with asyncio.timeout(self._timeout_s):
            self._reader, self._writer = await asyncio.open_connection(
                address.host, address.port, ssl=address.tls, local_addr=self._source
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    def send(self, *packets: Packet) -> None:
        """Writes packets; what the other side has closed swallows them."""
        self.send_octets(b"".join(encode(packet, self.version) for packet in packets))

    def send_octets(self, data: bytes) -> None:
        """Writes octets that need not be a packet."""
        self._writer.write(data)

    async def receive(self, timeout_s: float | None = None) -> Packet | None:
        """The next packet; None when the broker has closed the connection or broken the protocol.

        Raises:
            TimeoutError: nothing came in time.
        """
        async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
            while not self._ready:
                if self.is_closed or not await self._read():
                    self.is_closed = True
                    return None
        return self._ready.pop(0)

    async def _read(self) -> bool:
        """Takes one segment; False at the end."""
        try:
            data = await self._reader.read(65_536)
            self._stream.feed(data)
            for packet in self._stream.packets():
                self._ready.append(packet)
        except (OSError, PacketError):
            return bool(self._ready)
        return bool(data) or bool(self._ready)

    async def login(self, connect: Connect) -> ConnAck | None:
        """Sends CONNECT and waits for the answer; None when the broker just closes."""
        self.send(connect)
        answer = await self.receive()
        return answer if isinstance(answer, ConnAck) else None

    async def disconnect(self) -> None:
        """Says good-bye and waits until the broker has read it."""
        with suppress(OSError):
            self.send(Disconnect())
            await self._writer.drain()
            with suppress(TimeoutError):
                while await self.receive(1.0) is not None:
                    pass
