"""Noise on every door of a running site: nothing ends, nothing grows without bound, everything is counted."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path

import pytest
from back_office import PersistentSubscriber
from process_site import ProcessSite, wait_for

MAC = "0013500500470001"
PORTION = 50


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"no memory figure of {pid}")


def noise(chance: random.Random) -> bytes:
    """Random octets, every other time with the look of a CoAP header so that the inner parsers get their share."""
    octets = chance.randbytes(chance.randrange(0, 90))
    return bytes((0x40 | chance.randrange(64), chance.randrange(8))) + octets if chance.random() < 0.5 else octets


def flood(port: int, count: int, seed: int) -> None:
    """So many datagrams, in portions that fit into the buffer of a reader who is busy."""
    chance = random.Random(seed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        for mid in range(1, count // PORTION + 1):
            for _ in range(PORTION):
                sender.send(noise(chance))
            wait_for(lambda mid=mid: is_read(sender, mid), f"a ping of port {port} is answered")  # type: ignore[misc]


def is_read(sender: socket.socket, mid: int) -> bool:
    """Ping (RFC 7252 section 4.3), and pass over all other answers: what was sent before it has been read, too."""
    sender.settimeout(2)
    try:
        sender.send(bytes((0x40, 0, *mid.to_bytes(2, "big"))))
        while sender.recv(2048) != bytes((0x70, 0, *mid.to_bytes(2, "big"))):
            pass
    except TimeoutError:
        return False
    return True


async def crowd(port: int, count: int, seed: int) -> None:
    chance = random.Random(seed)

    async def one() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(chance.randbytes(chance.randrange(1, 200)))
            async with asyncio.timeout(2):
                await reader.read()
        except (OSError, TimeoutError):
            return
        writer.close()

    for _ in range(count // 100):
        await asyncio.gather(*(one() for _ in range(100)))


def nic_port(site: ProcessSite) -> int:
    command = site.commands[f"nic-{MAC}"]
    return int(command[command.index("--listen") + 1].rsplit(":", 1)[1])


def bombard(site: ProcessSite, datagrams: int, connections: int) -> None:
    site.start_servers()
    site.add_board_and_nic(MAC, "riverside", "standard", "temp")
    back_office = PersistentSubscriber(site, "riverside")
    doors = {"gateway": site.coap, f"nic-{MAC}": nic_port(site)}
    try:
        site.wait_for(lambda: len(back_office.lines()) >= 2, "first readings")
        before = {name: resident_kib(site.processes[name].pid) for name in (*doors, "broker")}
        for name, port in doors.items():
            flood(port, datagrams, seed=len(name))
        asyncio.run(crowd(site.mqtt, connections, seed=3))
        had = len(back_office.lines())
        site.wait_for(lambda: len(back_office.lines()) >= had + 3, "readings after the noise")
        for name, kib in before.items():
            assert site.processes[name].poll() is None, f"{name} has ended\n{site.logs()}"
            assert resident_kib(site.processes[name].pid) - kib < 60_000, name
        counters = site.status()["counters"]
        assert isinstance(counters, dict)
        assert sum(counters["malformed"].values()) > datagrams / 3, counters
    finally:
        back_office.stop()


@pytest.mark.server
def test_noise_on_every_door(site: ProcessSite) -> None:
    bombard(site, datagrams=5_000, connections=500)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_much_noise_on_every_door(site: ProcessSite) -> None:
    bombard(site, datagrams=100_000, connections=10_000)
