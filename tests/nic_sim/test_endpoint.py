"""The NIC's UDP port: hostile datagrams, Resets, relations that end, and a port that is taken."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path
from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.coap.message import ACK, CON, NON, RST, Message, decode, encode
from meshwire.coap.options import OBSERVE, PROXY_URI, URI_PATH, URI_QUERY
from nic_sim import endpoint
from nic_sim.errors import NicError
from nic_sim.nic import Nic

DATAGRAMS = 12_000


class Peer(asyncio.DatagramProtocol):
    """A CoAP client made of nothing but a socket."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.transport: asyncio.DatagramTransport | None = None
        self.acknowledge = True

    async def open(self, address: tuple[str, int]) -> Peer:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, remote_addr=address)
        return self

    def send(self, data: bytes | Message) -> None:
        assert self.transport is not None
        self.transport.sendto(encode(data) if isinstance(data, Message) else data)

    def datagram_received(self, data: bytes, address: Any) -> None:
        message = decode(data)
        self.received.append(message)
        if message.mtype == CON and self.acknowledge:
            self.send(Message(ACK, 0, message.mid))

    def error_received(self, error: Exception) -> None:
        pass

    def notifications(self) -> list[Message]:
        return [message for message in self.received if message.option(OBSERVE) is not None]


def observe(mtype: int, mid: int, token: bytes, value: bytes = b"") -> Message:
    options = ((OBSERVE, value), *((URI_PATH, part) for part in (b"snsr", b"arduino", b"temp")), (URI_QUERY, b"sens"))
    return Message(mtype, codes.GET, mid, token, options)


def test_random_datagrams_are_counted_and_it_still_answers(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            chance = random.Random(11)
            host, port = s.nic.coap_address
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for number in range(DATAGRAMS):
                    sock.sendto(_datagram(chance), (host, port))
                    if number % 100 == 99:
                        await asyncio.sleep(0.001)
            await asyncio.sleep(5)
            assert int((await s.ask(codes.GET, "/sys/date")).code) == codes.CONTENT
            counters = s.nic.coap_counters
            assert counters["datagrams"] >= DATAGRAMS
            assert sum(count for name, count in counters.items() if name.startswith("discarded-")) > DATAGRAMS / 4
            assert counters["resets-sent"] > 0
            readings = len(s.gateway.notifications)
            await s.readings(readings + 2)

    run(scenario())


def _datagram(chance: random.Random) -> bytes:
    """Noise, noise behind a good header, and good requests with one octet changed."""
    kind = chance.randrange(3)
    if kind == 0:
        return chance.randbytes(chance.randrange(0, 80))
    if kind == 1:
        return bytes((0x40 | chance.randrange(4) << 4 | chance.randrange(9), chance.randrange(8))) + chance.randbytes(
            30
        )
    good = bytearray(encode(observe(chance.choice([CON, NON]), chance.randrange(1 << 16), b"tok")))
    good[chance.randrange(len(good))] = chance.randrange(256)
    return bytes(good)


def test_memory_for_deduplication_is_bounded(tmp_path: Path, run: Any, site: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(endpoint, "MAX_REMEMBERED", 100)
    remembered: list[int] = []

    class Watched(endpoint._BoundedManager):
        def dispatch_message(self, message: Any) -> None:
            super().dispatch_message(message)
            remembered.append(len(self._manager._recent_messages))

    monkeypatch.setattr(endpoint, "_BoundedManager", Watched)

    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            peer = await Peer().open(s.nic.coap_address)
            for mid in range(1000):
                peer.send(Message(CON, codes.GET, mid, b"", ((URI_PATH, b"sys"), (URI_PATH, b"date"))))
                await asyncio.sleep(0.1)
            assert len(peer.received) == 1000

    run(scenario())
    assert 100 < max(remembered) <= 100 + 60, "what comes beyond is remembered for 5 s"


def test_confirmable_message_that_cannot_be_read_gets_a_reset(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            peer = await Peer().open(s.nic.coap_address)
            peer.send(b"\x49\x01\x12\x34" + bytes(9))  # token length 9
            peer.send(b"\x40\x01\x12\x35\xff")  # payload marker without payload
            peer.send(b"\x40\x20\x12\x36")  # reserved class 1
            peer.send(encode(Message(CON, codes.GET, 0x1237, b"", ((URI_PATH, b"\xff\xfe"),))))  # not UTF-8
            peer.send(b"\x59\x01\x12\x38" + bytes(9))  # non-confirmable: silence
            peer.send(b"\x40\x00\x12\x39")  # ping
            await asyncio.sleep(1)
            assert peer.received == [Message(RST, 0, mid) for mid in (0x1234, 0x1235, 0x1236, 0x1237, 0x1239)]

    run(scenario())


def test_forward_proxying_is_not_supported(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            peer = await Peer().open(s.nic.coap_address)
            peer.send(Message(CON, codes.GET, 1, b"", ((PROXY_URI, b"coap://[::1]/x"),)))
            await asyncio.sleep(1)
            assert peer.received[0].code == codes.PROXYING_NOT_SUPPORTED

    run(scenario())


@pytest.mark.parametrize(("mtype", "profile"), [(CON, "standard"), (NON, "standard"), (NON, "milli-1.4.8")])
def test_reset_ends_the_relation(
    mtype: int, profile: str, tmp_path: Path, run: Any, site: Any, wait_until: Any
) -> None:
    """The Java client ends an observation by RST also when notifications are non-confirmable (dialect D.4)."""

    async def scenario() -> None:
        async with site(profile, tmp_path) as s:
            peer = await Peer().open(s.nic.coap_address)
            peer.acknowledge = False
            peer.send(observe(mtype, 1, b"tok"))
            await wait_until(lambda: len(peer.notifications()) == 2, 30)
            last = peer.received[-1]
            assert last.mtype == mtype and last.token == b"tok"
            assert len(s.nic.relations) == 1
            peer.send(Message(RST, 0, last.mid))
            await asyncio.sleep(1)
            assert len(s.nic.relations) == 0
            assert s.nic.relations.ended == {"reset": 1}
            count = len(peer.received)
            await asyncio.sleep(30)
            assert len(peer.received) == count

    run(scenario())


def test_other_ends_of_a_relation_are_counted_by_reason(tmp_path: Path, run: Any, site: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            ended = s.nic.relations.ended
            peer = await Peer().open(s.nic.coap_address)
            peer.send(observe(CON, 1, b"tok"))
            await wait_until(lambda: len(peer.notifications()) >= 2)
            peer.send(observe(CON, 1, b"tok"))  # a repetition by the client's message layer: nothing new
            await asyncio.sleep(1)
            peer.send(observe(CON, 2, b"tok"))
            await asyncio.sleep(1)
            assert ended == {"replaced": 1} and len(s.nic.relations) == 1
            peer.send(observe(CON, 3, b"tok", b"\1"))
            await asyncio.sleep(1)
            assert ended == {"replaced": 1, "deregistered": 1} and len(s.nic.relations) == 0
            assert peer.received[-1].code == codes.CONTENT and peer.received[-1].option(OBSERVE) is None
            peer.send(observe(CON, 4, b"tok"))
            await asyncio.sleep(1)
            peer.acknowledge = False
            await wait_until(lambda: len(s.nic.relations) == 0, 200)
            assert ended["timed-out"] == 1
            assert s.board.observers() == 1, "the NIC's own registration stays"

    run(scenario())


def test_client_that_is_gone_is_unreachable(tmp_path: Path, run: Any, site: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            peer = await Peer().open(s.nic.coap_address)
            peer.send(observe(NON, 1, b"tok"))
            await wait_until(lambda: len(peer.notifications()) >= 2)
            assert peer.transport is not None
            peer.transport.close()
            await wait_until(lambda: len(s.nic.relations) == 0, 60)
            assert s.nic.relations.ended == {"unreachable": 1}

    run(scenario())


def test_more_relations_than_there_is_room_for_get_a_plain_answer(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            await s.readings(1)
            peer = await Peer().open(s.nic.coap_address)
            for number in range(80):
                peer.send(observe(CON, number, bytes([number])))
                await asyncio.sleep(0.5)
            answers = [message for message in peer.received if message.mtype == ACK]
            assert len(answers) == 80 and all(message.code == codes.CONTENT for message in answers)
            assert len(s.nic.relations) == 64
            assert sum(message.option(OBSERVE) is None for message in answers) == 16

    run(scenario())


def test_taken_port_is_said_with_what_to_do(tmp_path: Path, run: Any, site: Any, nic_settings: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path / "a") as s:
            _, port = s.nic.coap_address
            settings = nic_settings("standard", tmp_path / "b", 1, listen=f"127.0.0.1:{port}")
            with pytest.raises(NicError) as caught:
                await Nic(settings, s.line.opener(0)).run()
            assert caught.value.code == "MW-NIC-002"
            assert f"127.0.0.1:{port}" in str(caught.value)

    run(scenario())


@pytest.mark.parametrize("listen", ["[::]:0", "[::1]:0", "0.0.0.0:0"])
def test_listens_where_it_is_told(listen: str, tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path, listen=listen, gateway="coap://[::1]:1") as s:
            _, port = s.nic.coap_address
            peer = await Peer().open(("127.0.0.1" if listen.startswith("0.") else "::1", port))
            peer.send(Message(CON, codes.GET, 1, b"", ((URI_PATH, b"sys"), (URI_PATH, b"date"))))
            await asyncio.sleep(1)
            assert peer.received[0].code == codes.CONTENT

    run(scenario())
