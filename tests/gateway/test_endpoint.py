"""The CoAP endpoint on real sockets: both families, odd datagrams, floods, restarts."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import structlog
from patience import PATIENCE_S

from gateway.api.health import _readiness
from gateway.errors import AddressInUseError
from gateway.gateway import Gateway
from gateway.outbox import Commit
from gateway.statistics import Event
from meshwire.coap import ACK, CON, NON, RST, Message, codes, encode, options
from meshwire.identity import DeviceId
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_notification_is_stored_over_both_families(
    gateway: Gateway, connect: Any, bubble_up: Any, host: str
) -> None:
    client = connect(host)
    request = bubble_up(mid=0x55)
    client.send(encode(request))
    assert await client.receive() == Message(ACK, codes.CHANGED, 0x55, request.token)
    sighting = gateway.registry.sighting(MAC)
    assert sighting is not None and sighting.address.host == host
    assert sighting.address.port == client.socket.getsockname()[1]


MALFORMED = [
    ("", None, "short"),
    ("40", None, "short"),
    ("80010001", None, "version"),
    ("49010001" + 9 * "00", "70000001", "token-length"),
    ("48010002aabb", "70000002", "short"),
    ("4000000300", "70000003", "empty-with-content"),
    ("40020004ff", "70000004", "payload-marker"),
    ("40020005f1", "70000005", "option"),
    ("400200060fff", "70000006", "option"),
    ("50020007ff", None, "payload-marker"),
    ("60450008ff", None, "payload-marker"),
]


@pytest.mark.parametrize(("octets", "answer", "reason"), MALFORMED)
async def test_malformed_datagrams_are_counted_and_confirmable_ones_reset(
    gateway: Gateway, connect: Any, octets: str, answer: str | None, reason: str
) -> None:
    client = connect()
    client.send(bytes.fromhex(octets))
    if answer is None:
        await client.silence(0.05)
    else:
        assert encode(await client.receive()) == bytes.fromhex(answer)
    assert gateway.statistics.by_reason(Event.MALFORMED) == {reason: 1}


async def test_an_option_value_that_can_not_be_read_is_bad_option(gateway: Gateway, connect: Any) -> None:
    client = connect()
    for mtype, answered in ((CON, ACK), (NON, NON)):
        answer = await client.request(codes.GET, (options.URI_PATH, b"\xff\xfe"), mtype=mtype)
        assert (answer.mtype, answer.code) == (answered, codes.BAD_OPTION)
    client.send(encode(Message(CON, codes.CONTENT, 77, b"t", ((options.LOCATION_PATH, b"\xff"),))))
    assert await client.receive() == Message(RST, codes.EMPTY, 77)


def random_datagram(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Noise, noise with a valid header, or a valid request with damage."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(0, 80))
    if kind == 1:
        first = 0x40 | rng.randrange(4) << 4 | rng.randrange(9)
        return bytes((first, rng.randrange(256))) + rng.randbytes(rng.randrange(2, 60))
    octets = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(1, 5)):
        octets[rng.randrange(len(octets))] = rng.randrange(256)
    return bytes(octets[: rng.randrange(1, len(octets) + 1)] if kind == 3 else octets)


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_random_datagrams_crash_nothing(
    gateway: Gateway, connect: Any, bubble_up: Any, site: Site, count: int
) -> None:
    rng = random.Random(2024)
    token = site.signing_keys().issue(gateway.registry.tenants()[0], [], now=time.time()).encode()
    uri = f"coap://SSN{MAC}.x:4849/snsr/arduino/temp?sens".encode()
    seeds = [
        encode(bubble_up(observe=5, mid=5)),
        encode(Message(CON, codes.POST, 6, b"a", ((options.URI_PATH, b"sessions"),), token)),
        encode(Message(NON, codes.GET, 7, b"b", ((options.OBSERVE, b""), (options.PROXY_URI, uri)))),
        encode(Message(CON, codes.PUT, 8, b"c", ((options.BLOCK1, b"\x08"), (options.PROXY_URI, uri)), b"xyz")),
        encode(Message(CON, codes.GET, 9, b"d", ((options.URI_PATH, b".well-known"), (options.URI_PATH, b"core")))),
        encode(Message(CON, codes.CONTENT, 10, b"e", ((options.OBSERVE, b"\x03"),), b"v")),
        bytes.fromhex("7000000b"),
    ]
    clients = [connect("127.0.0.1"), connect("::1")]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        clients[number % 2].send(random_datagram(rng, seeds))
        if number % 50 == 49:
            await asyncio.sleep(0)
            for client in clients:
                client.waiting()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KiB"
    fresh = connect()
    fresh.send(encode(bubble_up(observe=4711, mid=4711)))
    assert (await fresh.receive()).code == codes.CHANGED
    assert (await fresh.request(codes.GET, path=".well-known/core")).code == codes.CONTENT
    malformed = gateway.statistics.by_reason(Event.MALFORMED)
    assert sum(malformed.values()) > count / 10
    assert "internal" not in malformed
    handled = sum(malformed.values()) + gateway.statistics.total(Event.DATAGRAM)
    assert handled >= 0.9 * count


@pytest.mark.skipif(
    os.geteuid() != 0 and int(Path("/proc/sys/net/core/rmem_max").read_text()) < 4 << 20,
    reason="the system grants no larger receive buffer: sysctl -w net.core.rmem_max=4194304",
)
async def test_a_flood_on_one_connection_is_stored_whole(gateway: Gateway, connect: Any, bubble_up: Any) -> None:
    """The receive buffer takes a burst that the system's default would lose; commits are shared."""
    client = connect()
    for number in range(2000):
        client.send(encode(bubble_up(observe=number, mid=number)))
    answers: list[Message] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(answers) < 2000:
            await asyncio.sleep(0)
            answers += client.waiting()
    assert {answer.code for answer in answers} == {codes.CHANGED}
    assert {answer.mid for answer in answers} == set(range(2000))
    assert gateway.statistics.total(Event.STORED) == 2000


async def test_what_was_acknowledged_is_there_after_a_restart(
    site: Site, settings_for: Any, running: Any, bubble_up: Any
) -> None:
    async with running(Gateway(settings_for(), site)) as gateway:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.setblocking(False)
        client.connect(("127.0.0.1", gateway.coap_port))
        for number in range(50):
            client.send(encode(bubble_up(observe=number, mid=number)))
        for _ in range(50):
            await asyncio.get_running_loop().sock_recv(client, 2048)
        client.close()
    async with running(Gateway(settings_for(), site)) as gateway:
        assert gateway.status()["outbox"]["depth"] == 50  # type: ignore[index]
        sighting = gateway.registry.sighting(MAC)
        assert sighting is not None and sighting.address.host == "127.0.0.1"


@pytest.mark.parametrize("history_octets", [0, 1 << 20])
async def test_a_repetition_after_a_restart_is_recognised(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, raw_client: Any, history_octets: int
) -> None:
    """The NIC got no answer because we died after the commit: it is stored already, waiting or published long ago."""
    settings = settings_for(outbox={"segment_octets": 1024, "history_octets": history_octets})
    numbers = range(30)
    async with running(Gateway(settings, site)) as gateway:
        client = raw_client(gateway.coap_port)
        for number in numbers:
            client.send(encode(bubble_up(observe=number, mid=number)))
            assert (await client.receive()).code == codes.CHANGED
        assert gateway._lane is not None
        outbox = gateway._lane.outbox
        outbox.acknowledge(*[record.sequence for record in outbox.read(20)])
    async with running(Gateway(settings, site)) as gateway:
        client = raw_client(gateway.coap_port)
        for number in numbers:
            client.send(encode(bubble_up(observe=number, mid=1000 + number)))
            assert (await client.receive()).code == codes.CHANGED
        known = gateway.statistics.total(Event.DUPLICATE, "key")
        assert known == 30 if history_octets else 10 <= known < 30


async def test_a_taken_port_is_told(site: Site, settings_for: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUseError, match="can't be bound") as caught:
            await Gateway(settings_for(port=port), site).run()
    assert str(port) in str(caught.value) and caught.value.code == "MW-GWY-002"


async def test_a_disk_that_takes_nothing_is_told_once_and_makes_the_gateway_not_ready(
    site: Site, settings_for: Any, running: Any, raw_client: Any, bubble_up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Gateway(settings_for(), site)) as gateway:
        client = raw_client(gateway.coap_port)
        with structlog.testing.capture_logs() as said, monkeypatch.context() as full:
            full.setattr(Commit, "write", lambda commit, *, sync: Path("/dev/full").write_bytes(b"x"))
            for observe in (1, 2):
                client.send(encode(bubble_up(observe=observe, mid=observe)))
                assert (await client.receive()).code == codes.SERVICE_UNAVAILABLE
            assert _readiness(gateway.status()).status.endswith("the outbox can't be written")
        (told,) = [line for line in said if line["log_level"] == "error"]
        assert "No space left" in told["error"] and "make room" in told["do"]
        client.send(encode(bubble_up(observe=3, mid=3)))
        assert (await client.receive()).code == codes.CHANGED
        assert _readiness(gateway.status()).outbox
