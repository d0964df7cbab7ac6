"""The sockets towards devices, on both event loops: answers come in, and after an ICMP error still do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop
from free_ports import free_port
from patience import until

from gateway.addresses import Address
from gateway.device_sockets import DeviceSockets


async def visit(family: socket.AddressFamily, host: str) -> None:
    received: list[tuple[bytes, Address]] = []
    failed: list[tuple[Address, str]] = []
    sockets = DeviceSockets(loopback_only=True)
    sockets.start(lambda octets, source: received.append((octets, source)), lambda *what: failed.append(what))
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as device:
            device.bind((host, 0))
            device.setblocking(False)
            nobody = Address(host, free_port(socket.SOCK_DGRAM))
            there = Address(host, device.getsockname()[1])
            for turn in range(1, 4):
                assert sockets.send(b"anybody?", nobody) is None
                await until(lambda turn=turn: len(failed) >= turn)  # type: ignore[misc]
                assert failed[-1] == (nobody, "Connection refused")
                assert sockets.send(b"ping", there) is None
                _, source = device.recvfrom(16)
                device.sendto(b"pong", source)
                await until(lambda turn=turn: len(received) >= turn)  # type: ignore[misc]
                assert received[-1] == (b"pong", there)
    finally:
        sockets.close()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_an_error_tells_who_is_gone_and_ends_nothing(
    factory: Callable[[], asyncio.AbstractEventLoop], family: socket.AddressFamily, host: str
) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(visit(family, host))
