"""Random and damaged octets, before and after CONNECT: the broker serves on, nothing grows, all is counted."""

import asyncio
import gc
import random
from typing import Any

import pytest
from patience import PATIENCE_S

from broker.settings import Limits
from broker.statistics import Ending
from meshwire.mqtt import (
    Connect,
    PingReq,
    PingResp,
    ProtocolVersion,
    Publish,
    Subscribe,
    TopicSubscription,
    encode,
)

V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5
PARALLEL = 50
MEMORY_BOUND_KB = 24_576


def resident_kb() -> int:
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


async def throw(port: int, data: bytes) -> None:
    """One connection that says `data` and goes when the broker does, or at once."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return
    try:
        writer.write(data)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), PATIENCE_S)
    except OSError:
        pass
    finally:
        writer.transport.abort()


async def throw_all(port: int, thrown: list[bytes]) -> None:
    for begin in range(0, len(thrown), PARALLEL):
        await asyncio.gather(*(throw(port, data) for data in thrown[begin : begin + PARALLEL]))


def random_octets(randomness: random.Random) -> bytes:
    return randomness.randbytes(randomness.randint(1, 300))


def damaged(randomness: random.Random) -> bytes:
    """A valid conversation with some bits turned over, behind a CONNECT that holds."""
    version = randomness.choice((V311, V5))
    packets = [
        Subscribe(1, (TopicSubscription("a/+", 2),)),
        Publish("a/b", randomness.randbytes(20), 1, packet_id=2),
        Publish("a/b", randomness.randbytes(20), 2, packet_id=3),
        PingReq(),
    ]
    octets = bytearray(b"".join(encode(packet, version) for packet in packets))
    for _ in range(randomness.randint(1, 4)):
        octets[randomness.randrange(len(octets))] ^= 1 << randomness.randrange(8)
    return connect(version, randomness) + bytes(octets)


def connect(version: ProtocolVersion, randomness: random.Random) -> bytes:
    client_id = f"fuzz-{randomness.randrange(20)}"
    return encode(Connect(client_id, version, username="admin", password=b"admin-password"), version)


async def bombard(running: Any, join: Any, count: int, eventually: Any) -> None:
    randomness = random.Random(20_240_229)
    statistics = running.broker.statistics
    client = await join(running, Connect("legitimate", V311))
    kinds = (
        random_octets,
        lambda source: b"\x10" + random_octets(source),
        lambda source: connect(V311, source) + random_octets(source),
        damaged,
    )
    await throw_all(running.port, [kinds[number % 4](randomness) for number in range(200)])
    gc.collect()
    before = resident_kb()
    await throw_all(running.port, [kinds[number % 4](randomness) for number in range(count)])
    await eventually(lambda: statistics.connections_open == 1)
    gc.collect()
    assert resident_kb() - before < MEMORY_BOUND_KB
    assert await client.ask(PingReq()) == PingResp()
    assert statistics.endings[Ending.INTERNAL_ERROR] == 0
    assert statistics.connections_accepted == count + 201
    assert sum(statistics.protocol_errors.values()) > count / 4
    known = sum(statistics.endings.values()) - statistics.endings[Ending.TAKEN_OVER]
    assert known >= sum(statistics.protocol_errors.values()) - statistics.logins_refused["unsupported-protocol-version"]


async def test_random_and_damaged_octets(start: Any, join: Any, eventually: Any) -> None:
    running = await start(limits=Limits(max_session_expiry_s=0))
    await bombard(running, join, 2_000, eventually)


@pytest.mark.slow
async def test_ten_thousand_connections_of_bad_octets(start: Any, join: Any, eventually: Any) -> None:
    running = await start(limits=Limits(max_session_expiry_s=0))
    await bombard(running, join, 10_000, eventually)


async def test_announced_lengths_are_not_believed(start: Any, dial: Any) -> None:
    running = await start()
    statistics = running.broker.statistics
    clients = [await dial(running) for _ in range(20)]
    for client in clients:
        client.send_octets(b"\x10\xff\xff\xff\x7f" + b"x" * 100)
    for client in clients:
        assert await client.next() is None
    assert statistics.protocol_errors == {"PACKET_TOO_LARGE": 20}


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"*1\r\n", b"A", b"\x30\x7f", b"\xc0"])
async def test_what_does_not_begin_like_connect_is_not_waited_for(running: Any, dial: Any, octets: bytes) -> None:
    client = await dial(running)
    client.send_octets(octets)
    assert await client.next() is None
    assert running.broker.statistics.protocol_errors == {"PROTOCOL_ERROR": 1}


async def test_connects_that_never_end_take_no_more_memory_than_allowed(
    start: Any, dial: Any, join: Any, eventually: Any
) -> None:
    running = await start(limits=Limits(unauthenticated_octets=1_000_000))
    for _ in range(20):
        client = await dial(running)
        client.send_octets(b"\x10\x80\x80\x0f" + bytes(200_000))
    endings = running.broker.statistics.endings
    await eventually(lambda: endings[Ending.EVICTED] >= 15)
    assert await (await join(running, Connect("legitimate", V311))).ask(PingReq()) == PingResp()


async def test_every_beginning_of_a_connect(running: Any, join: Any, eventually: Any) -> None:
    whole = encode(Connect("c", V5, username="admin", password=b"wrong"), V5)
    await throw_all(running.port, [whole[:length] for length in range(len(whole))])
    await eventually(lambda: running.broker.statistics.connections_open == 0)
    assert running.broker.statistics.endings[Ending.INTERNAL_ERROR] == 0
