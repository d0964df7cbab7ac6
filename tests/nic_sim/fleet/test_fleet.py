"""A fleet over the real loopback: one socket, an address for each NIC."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import cast

import pytest
from patience import PATIENCE_S

from meshwire.coap import ACK, CON, Message, codes, decode, encode, options
from nic_sim.fleet.addresses import LoopbackAddresses, PrefixAddresses, interface_address
from nic_sim.fleet.fleet import Fleet, device_id
from nic_sim.fleet.nic import NicPlan
from nic_sim.fleet.transport import PacketSocket


class TakingGateway(asyncio.DatagramProtocol):
    """Acknowledges everything; may ask a NIC back."""

    def __init__(self) -> None:
        self.sources: Counter[tuple[str, int]] = Counter()
        self.answers: list[Message] = []
        self.all_answered = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = decode(data)
        if not codes.is_request(message.code):
            self.answers.append(message)
            if len(self.answers) == 60:
                self.all_answered.set()
            return
        self.sources[addr] += 1
        self.transport.sendto(encode(Message(ACK, codes.CHANGED, message.mid, message.token)), addr)
        if self.sources[addr] == 2:
            pairs = ((options.URI_PATH, b"sys"), (options.URI_PATH, b"battery"))
            self.transport.sendto(encode(Message(CON, codes.GET, 77, b"q", pairs)), addr)


async def test_each_nic_has_its_own_address_and_is_reached_there() -> None:
    loop = asyncio.get_running_loop()
    transport, gateway = await loop.create_datagram_endpoint(TakingGateway, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    plan = NicPlan(period_s=1e6)
    fleet = Fleet(60, plan, PacketSocket(), LoopbackAddresses(), [("::ffff:127.0.0.1", port, 0, 0)], spread_s=0)
    task = asyncio.create_task(fleet.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await fleet.all_reported.wait()
            await gateway.all_answered.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        transport.close()
    assert fleet.all_registered.is_set()
    assert len({host for host, _ in gateway.sources}) == 60
    assert len({port for _, port in gateway.sources}) == 1, "one socket"
    assert all(b"percent" in answer.payload for answer in gateway.answers)
    assert fleet.counters["taken"] == 60 and fleet.queued == 0


def test_addresses_are_prefix_and_modified_eui_64() -> None:
    prefix = socket.inet_pton(socket.AF_INET6, "fd00:1::")[:8]
    scheme = PrefixAddresses(prefix, 0x00135005F0000000)
    address = scheme.of(3, device_id(3))
    assert socket.inet_ntop(socket.AF_INET6, address) == "fd00:1::213:5005:f000:3"
    assert scheme.number(address) == 3
    assert interface_address(prefix, device_id(3)) == address
    loopback = LoopbackAddresses()
    assert socket.inet_ntop(socket.AF_INET6, loopback.of(300, device_id(300))) == "::ffff:127.64.1.44"
    assert loopback.number(loopback.of(300, device_id(300))) == 300
    assert loopback.number(address) < 0
    with pytest.raises(ValueError, match="holds"):
        loopback.of(1 << 22, device_id(0))
