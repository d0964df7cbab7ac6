"""Ending connections by their client id, and the adapters' MQTT connection, against small made-up brokers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from broker.adapters.connection import BrokerAddress, MqttConnection
from broker.adapters.takeover import ENDER, TakeOver
from meshwire.mqtt import ConnAck, Connect, Packet, PacketStream, ProtocolVersion, Side, encode

V311 = ProtocolVersion.V3_1_1
Behave = Callable[[asyncio.StreamWriter, Packet], Awaitable[None]]


@asynccontextmanager
async def made_up_broker(behave: Behave) -> AsyncIterator[BrokerAddress]:
    """Hands every packet to `behave`."""
    open_writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        stream = PacketStream(Side.SERVER)
        while data := await reader.read(4_096):
            stream.feed(data)
            for packet in stream.packets():
                await behave(writer, packet)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in open_writers:
            writer.close()


@pytest.mark.parametrize("forget", [True, False])
async def test_the_client_id_is_taken_over_and_left(forget: bool) -> None:
    seen: list[Packet] = []

    async def accept(writer: asyncio.StreamWriter, packet: Packet) -> None:
        seen.append(packet)
        if isinstance(packet, Connect):
            writer.write(encode(ConnAck(), V311))
        else:
            writer.close()

    async with made_up_broker(accept) as address:
        await TakeOver(address, "secret").end("victim", forget=forget)
    assert seen[0] == Connect("victim", V311, clean_start=forget, username=ENDER, password=b"secret")
    assert type(seen[1]).__name__ == "Disconnect"


async def test_a_broker_that_closes_is_asked_again_and_then_it_is_an_error() -> None:
    logins = 0

    async def close_twice(writer: asyncio.StreamWriter, packet: Packet) -> None:
        nonlocal logins
        if isinstance(packet, Connect):
            logins += 1
            if logins > 2:
                writer.write(encode(ConnAck(), V311))
                return
        writer.close()

    async with made_up_broker(close_twice) as address:
        await TakeOver(address, "secret").end("victim", forget=False)
    assert logins == 3

    async def close(writer: asyncio.StreamWriter, packet: Packet) -> None:
        writer.close()

    async with made_up_broker(close) as address:
        with pytest.raises(ConnectionError):
            await TakeOver(address, "secret").end("victim", forget=False)


async def test_a_refusal_is_an_error() -> None:
    async def refuse(writer: asyncio.StreamWriter, packet: Packet) -> None:
        writer.write(encode(ConnAck(False, 5), V311))

    async with made_up_broker(refuse) as address:
        with pytest.raises(ConnectionError):
            await TakeOver(address, "secret").end("victim", forget=True)


async def test_a_silent_broker_is_a_timeout_and_garbage_an_end() -> None:
    async def nothing(writer: asyncio.StreamWriter, packet: Packet) -> None: ...

    async def garbage(writer: asyncio.StreamWriter, packet: Packet) -> None:
        writer.write(b"\xff\xff\xff\xff\xff\xff")

    async with made_up_broker(nothing) as address, MqttConnection(address, V311, timeout_s=0.02) as connection:
        with pytest.raises(TimeoutError):
            await connection.login(Connect("x"))
    async with made_up_broker(garbage) as address, MqttConnection(address, V311) as connection:
        assert await connection.login(Connect("x")) is None
        assert connection.is_closed
