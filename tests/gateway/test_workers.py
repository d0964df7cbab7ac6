"""Several worker processes on one port: who gets what, who answers clients, and what happens when one dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from patience import until
from scripted_broker import ScriptedBroker

from gateway import shared_port, steering
from gateway.errors import AddressInUseError
from gateway.gateway import Gateway
from gateway.settings import BridgeSettings
from gateway.shared_port import bind_group
from gateway.steering import steer, worker_of
from meshwire.coap import Message, codes, encode, options
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT spreads datagrams on Linux only")

MACS = [DeviceId(f"{0x0013500500470000 + number:016x}") for number in range(40)]


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    broker = ScriptedBroker()
    await broker.start()
    yield broker
    await broker.stop()


def several(port: int, **changes: Any) -> dict[str, Any]:
    return {"bridge": BridgeSettings(port=port, workers=2, **changes)}


def provision(gateway: Gateway) -> None:
    for mac in MACS:
        gateway.registry.add_device(mac, TenantId("acme"))


def readings(broker: ScriptedBroker) -> list[bytes]:
    """What has come, without the presence of NICs and its changes."""
    return [payload for payload in broker.taken if payload not in (b"online", b"offline") and b'"event"' not in payload]


def request(bubble_up: Any, mac: DeviceId, number: int) -> bytes:
    """The datagram of a NIC's notification; several NICs may share a source port, so message IDs differ."""
    mid = number * 1000 + MACS.index(mac)
    return encode(bubble_up(mac, observe=number, mid=mid, payload=b"%s %d" % (mac.value.encode(), number)))


async def report(client: Any, bubble_up: Any, mac: DeviceId, number: int) -> Message:
    client.send(request(bubble_up, mac, number))
    answer: Message = await client.receive()
    return answer


def test_the_kernel_chooses_the_worker_that_the_rule_says(bubble_up: Any) -> None:
    group = bind_group(["127.0.0.1"], 0, 3, receive_buffer_octets=65_536)
    port = group[0][0].getsockname()[1]
    chosen = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nic:
        for mac in MACS:
            for token in (b"", b"t", b"12345678"):
                octets = encode(bubble_up(mac, token=token))
                nic.sendto(octets, ("127.0.0.1", port))
                number = worker_of(mac, 3)
                chosen.add(number)
                assert group[number][0].recv(2048) == octets
    assert chosen == {1, 2, 3}
    for (sock,) in group:
        sock.close()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x40",
        b"\x40\x02\x00\x01",
        encode(Message(0, codes.GET, 1, b"t", ((options.URI_PATH, b"bubble-up"), (options.URI_PATH, b"0" * 16)))),
        encode(Message(0, codes.POST, 1, b"t", ((options.URI_PATH, b"register"), (options.URI_PATH, b"0" * 16)))),
        encode(Message(0, codes.POST, 1, b"t", ((options.URI_PATH, b"bubble-up"),))),
        encode(Message(0, codes.POST, 1, b"t", ((options.URI_PATH, b"bubble-uq"), (options.URI_PATH, b"0" * 16)))),
        encode(Message(0, codes.POST, 1, b"t", ((options.URI_PATH, b"sessions"),), b"bubble-up")),
        encode(Message(0, codes.POST, 1, b"t", ((options.URI_HOST, b"x"), (options.URI_PATH, b"bubble-up")))),
    ],
    ids=["empty", "short", "no options", "GET", "register", "no mac", "other path", "client", "host in front"],
)
def test_everything_else_goes_to_the_main_process(octets: bytes) -> None:
    group = bind_group(["127.0.0.1"], 0, 3, receive_buffer_octets=65_536)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(5):
            peer.sendto(octets, group[0][0].getsockname())
            assert group[0][0].recv(2048) == octets
    for (sock,) in group:
        sock.close()


def test_a_port_where_another_gateway_serves_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_port, "_PATIENCE_S", 0.0)
    group = bind_group(["127.0.0.1"], 0, 1, receive_buffer_octets=65_536)
    with pytest.raises(AddressInUseError):
        bind_group(["127.0.0.1"], group[0][0].getsockname()[1], 1, receive_buffer_octets=65_536)
    for (sock,) in group:
        sock.close()


@pytest.mark.parametrize("steered", [True, False])
async def test_notifications_and_clients_share_the_port(
    site: Site,
    settings_for: Any,
    running: Any,
    bubble_up: Any,
    broker: ScriptedBroker,
    raw_client: Any,
    monkeypatch: pytest.MonkeyPatch,
    steered: bool,
) -> None:
    """Without the kernel's help workers get datagrams of clients, too, and pass them on."""
    if not steered:
        monkeypatch.setattr(shared_port, "steer", lambda group, workers: False)
    async with running(Gateway(settings_for(broker.port, **several(broker.port)), site)) as gateway:
        provision(gateway)
        for number, mac in enumerate(MACS):
            client = raw_client(gateway.coap_port, ("127.0.0.1", "::1")[number % 2])
            assert (await report(client, bubble_up, mac, 1)).code == codes.CHANGED
            assert (await report(client, bubble_up, mac, 1)).code == codes.CHANGED
            answer = await client.request(codes.GET, path=".well-known/core")
            assert answer.code == codes.CONTENT and b"</sessions>" in answer.payload
            assert (await client.request(codes.POST, path=f"register/{mac}")).code == codes.CHANGED
            client.send(encode(bubble_up(mac, observe=2, mid=0x77, path="a", payload=b"odd")))
            assert (await client.receive()).code == codes.CHANGED
        await until(lambda: len(readings(broker)) >= 2 * len(MACS))
        assert len(readings(broker)) == 2 * len(MACS)
        bridges = {name for name in broker.client_ids if name.startswith("gw-coap-mqtt-bridge-")}
        assert len(bridges) == 3, "main process, two workers"
        assert all(name.startswith("gw-") and len(name) == 23 for name in broker.client_ids)
        await until(lambda: gateway.status()["counters"]["stored"] == 2 * len(MACS))  # type: ignore[index, call-overload]
        status: dict[str, Any] = gateway.status()
        assert status["counters"]["duplicates"]["message-id"] == len(MACS)
        assert status["bridge"]["connected"] and [worker["lane"] for worker in status["workers"]] == [1, 2]
        sighting = gateway.registry.sighting(MACS[0])
        assert sighting is not None and sighting.address.host == "127.0.0.1"


async def test_a_worker_that_dies_is_replaced_and_its_outbox_published(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, broker: ScriptedBroker, raw_client: Any
) -> None:
    broker.verdict = lambda publish: None
    async with running(Gateway(settings_for(broker.port, **several(broker.port)), site)) as gateway:
        provision(gateway)
        client = raw_client(gateway.coap_port)
        for mac in MACS:
            assert (await report(client, bubble_up, mac, 1)).code == codes.CHANGED
        for worker in gateway.status()["workers"]:  # type: ignore[attr-defined]
            os.kill(worker["pid"], signal.SIGKILL)
        broker.verdict = lambda publish: 0
        for mac in MACS:
            # The socket lives on in the main process: what comes now waits for the next worker.
            client.send(request(bubble_up, mac, 2))
        for _ in MACS:
            assert (await client.receive()).code == codes.CHANGED
        expected = {b"%s %d" % (mac.value.encode(), number) for mac in MACS for number in (1, 2)}
        await until(lambda: set(readings(broker)) == expected)
        assert [worker["restarts"] for worker in gateway.status()["workers"]] == [1, 1]  # type: ignore[attr-defined]
        assert gateway.status()["counters"]["workers"] == {"restarted": 2}  # type: ignore[index]


async def test_the_outbox_of_a_worker_that_there_is_no_longer_is_drained(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, broker: ScriptedBroker, raw_client: Any
) -> None:
    broker.welcome = lambda: 0x88
    async with running(Gateway(settings_for(broker.port, **several(broker.port)), site)) as gateway:
        provision(gateway)
        client = raw_client(gateway.coap_port)
        for mac in MACS:
            assert (await report(client, bubble_up, mac, 1)).code == codes.CHANGED
    broker.welcome = lambda: 0
    assert _folders(site) == {"outbox", "outbox-1", "outbox-2"}
    async with running(Gateway(settings_for(broker.port), site)):
        await until(lambda: len(readings(broker)) == len(MACS))
        await until(
            lambda: not site.path("gateway", "outbox-2").exists() and not site.path("gateway", "outbox-1").exists()
        )


async def test_workers_end_with_the_main_process(tmp_path: Path) -> None:
    environment = os.environ | {"MESHWIRE_STATE": str(tmp_path), "MESHWIRE__GATEWAY__BRIDGE__WORKERS": "2"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "--json", "--port", "0", "--http", "",
        stdout=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert b"ready" in await process.stdout.readline()
    children = _children(process.pid)
    assert len(children) == 2
    process.kill()
    await process.wait()
    await until(lambda: not any(_runs_worker(pid) for pid in children))


def _folders(site: Site) -> set[str]:
    return {path.name for path in site.path("gateway", "x").parent.glob("outbox*")}


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _runs_worker(pid: str) -> bool:
    try:
        return b"gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_system_without_such_programs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "_SO_ATTACH_REUSEPORT_CBPF", 9999)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert not steer(sock, 2)
