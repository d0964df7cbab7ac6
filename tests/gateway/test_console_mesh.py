"""The map of the mesh: what it is made of, whose NICs are on it, and that it changes by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from console_browser import PASSWORD, Browser, set_up
from nic_and_board import nic_and_board
from patience import PATIENCE_S

from gateway.addresses import Address
from gateway.console.mesh_map import MeshMap, mesh_map, network_of
from gateway.console.mesh_watch import MeshWatch
from gateway.console.rows import Row
from gateway.console.visitors import Visitors
from gateway.credentials import Credentials
from gateway.gateway import Gateway
from gateway.presence import PresenceState
from gateway.registry import Device, Registry
from meshwire.identity import DeviceId, TenantId
from meshwire.mesh_place import MeshPlace
from meshwire.site import Site

ACME = TenantId("acme")
MAC = DeviceId("001350050047dc9a")
FOREIGN_MAC = DeviceId("001350050047dd92")


def mac(number: int) -> DeviceId:
    return DeviceId(f"{number:016x}")


def drawn(places: Mapping[int, str | int | None], visible: set[int] | None = None, count: int = 0) -> MeshMap:
    """A map by numbers: what each NIC said it sends through; those not `visible` are another tenant's."""
    told = {
        mac(number): None if parent is None else MeshPlace(mac(parent).value if isinstance(parent, int) else parent, 1)
        for number, parent in places.items()
    }
    rows = [
        Row(Device(each, ACME), PresenceState.ONLINE, Address(f"fd00:0:0:1::{each.value[-2:]}", 4849), 1.0, told[each])
        for each in told
        if visible is None or int(each.value, 16) in visible
    ]
    return mesh_map(rows, told.get, lambda each: Address("fd00:0:0:1::7", 4849), lambda each: each in told)


def hanging(found: MeshMap) -> dict[int, tuple[str, int]]:
    return {int(node.mac, 16): (node.parent, node.through) for node in found.nodes}


# --- rules ------------------------------------------------------------------------------------------------------------


def test_nics_hang_where_they_said_else_in_their_network() -> None:
    found = drawn({1: "ap-1", 2: 1, 3: 99, 4: None})
    assert hanging(found) == {
        1: ("ap-1", 0),
        2: (mac(1).value, 0),
        3: (mac(99).value, 0),
        4: ("fd00:0:0:1::/64", 0),
    }
    assert found.roots == {"ap-1": "access point", mac(99).value: "access point", "fd00:0:0:1::/64": "network"}


def test_nics_of_others_are_a_number_on_the_way() -> None:
    places: dict[int, str | int | None] = {1: "ap-1", 2: 1, 3: 2, 4: 3, 5: 6, 6: None}
    found = drawn(places, visible={1, 4, 5})
    assert hanging(found) == {1: ("ap-1", 0), 4: (mac(1).value, 2), 5: ("fd00:0:0:1::/64", 1)}
    text = json.dumps(found.to_json())
    assert not any(mac(number).value in text for number in (2, 3, 6))


def test_circles_are_cut() -> None:
    found = drawn({1: 2, 2: 3, 3: 1, 4: 4, 5: 1})
    parents = hanging(found)
    for number in parents:
        for _ in range(6):
            name = parents[number][0]
            if not re.fullmatch("[0-9a-f]{16}", name):
                break
            number = int(name, 16)
        else:
            raise AssertionError("a circle is left")
    hidden = drawn({1: 2, 2: 3, 3: 2}, visible={1})
    assert hanging(hidden)[1][0] == "fd00:0:0:1::/64", "also one among NICs of others"


def test_leaves_of_very_many_are_told_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = drawn({1: "ap-1", **dict.fromkeys(range(2, 42), 1)})
    assert len(found.to_json()["nodes"]) == 41 and not found.to_json()["clusters"]
    monkeypatch.setattr("gateway.console.mesh_map.MOST_DRAWN", 30)
    assert [node[0] for node in found.to_json()["nodes"]] == [mac(1).value]
    assert found.to_json()["clusters"] == [[mac(1).value, 40, 0, 0]]


@pytest.mark.parametrize(
    ("host", "network"),
    [("fd00:1:2:3:4::5", "fd00:1:2:3::/64"), ("fe80::1%eth0", "fe80::/64"), ("10.1.2.3", "10.1.2.3"), ("x", "x")],
)
def test_a_network_is_a_prefix_or_a_host(host: str, network: str) -> None:
    assert network_of(Address(host, 1)) == network


# --- a registry -------------------------------------------------------------------------------------------------------


async def test_a_look_tells_each_tenant_its_own_changes(tmp_path: Path) -> None:
    registry, now = Registry(tmp_path / "registry.db"), [1000.0]
    states = {MAC: PresenceState.OFFLINE}

    def row(device: Device, _: float) -> Row:
        at = registry.sighting(device.mac)
        state = states.get(device.mac, PresenceState.ONLINE)
        return Row(device, state, at and at.address, at and at.seen_s, registry.place(device.mac))

    registry.add_device(MAC, ACME)
    registry.add_device(FOREIGN_MAC, TenantId("other"))
    watch = MeshWatch(registry, row, lambda: now[0])
    watch.look()
    assert watch.look().to_json(None) is None, "nothing has changed"
    now[0] += 1
    registry.seen(MAC, Address("fd00::1", 1), now[0])
    states[MAC] = PresenceState.ONLINE
    tick = watch.look()
    assert tick.to_json(ACME) == {"states": {MAC.value: 0}, "heard": [MAC.value], "again": True}
    assert tick.to_json(TenantId("other")) is None
    registry.registered(MAC, Address("fd00::1", 1), now[0], 60.0, MeshPlace("ap-1", 1))
    assert watch.look().to_json(ACME) == {"states": {MAC.value: 0}, "heard": [], "again": True}
    registry.remove_device(FOREIGN_MAC)
    assert watch.look().to_json(None) == {"states": {}, "heard": [], "again": True}
    registry.close()


# --- a gateway --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


async def test_a_registration_puts_a_nic_on_the_map_and_in_the_table(gateway: Gateway, tmp_path: Path) -> None:
    browser = await set_up(Browser(gateway.http_port))
    async with nic_and_board(gateway.coap_port, MAC, tmp_path / "nic", parent="ap-north"):
        found = json.loads((await browser.go("/console/mesh")).text)
        nodes = {node[0]: node for node in found["nodes"]}
        name, parent, state, seen, hops, rssi, through = nodes[MAC.value]
        assert (name, parent, state, hops, through) == (MAC.value, "ap-north", 0, 1, 0) and rssi < 0
        assert ["ap-north", "access point"] in found["roots"] and abs(found["now"] - seen) < 10
        assert nodes[FOREIGN_MAC.value][1] == "unheard"
        await browser.go("/console/network?sort=hops")
        assert "ap-north" in browser.text and browser.text.index(f'data-mac="{MAC}"') < browser.text.index(
            f'data-mac="{FOREIGN_MAC}"'
        )


async def test_a_tenants_user_sees_its_own_nics_alone(gateway: Gateway) -> None:
    await set_up(Browser(gateway.http_port))
    visitors = Visitors(gateway.registry, Credentials(gateway.registry))
    assert await visitors.add_tenant_user("tina", PASSWORD, ACME) is None
    tina = await Browser(gateway.http_port).go("/console/sign-in", {"name": "tina", "password": PASSWORD, "next": ""})
    here = Address("fd00::1", 4849)
    gateway.registry.registered(FOREIGN_MAC, here, time.time(), 60.0, MeshPlace("ap-1", 1))
    gateway.registry.registered(MAC, here, time.time(), 60.0, MeshPlace(FOREIGN_MAC.value, 2))
    found = json.loads((await tina.go("/console/mesh")).text)
    assert [node[:2] + node[6:] for node in found["nodes"]] == [[MAC.value, "ap-1", 1]]
    await tina.go("/console/network")
    assert "another's NIC" in tina.text and FOREIGN_MAC.value not in tina.text


async def test_changes_come_as_events(gateway: Gateway) -> None:
    browser = await set_up(Browser(gateway.http_port))
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    writer.write(f"GET /console/mesh/live HTTP/1.0\r\nHost: x\r\nCookie: {browser.cookie}\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b":\n\n")
        gateway.registry.registered(MAC, Address("fd00::1", 4849), time.time(), 60.0, MeshPlace("ap-1", 1))
        told = json.loads((await reader.readuntil(b"\n\n")).split(b"data: ")[1])
    assert told == {"states": {MAC.value: 0}, "heard": [MAC.value], "again": True}
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_without_nics_there_is_no_map(site: Site, settings_for: Any) -> None:
    gateway = Gateway(settings_for(http="127.0.0.1:0"), site)
    task = asyncio.create_task(gateway.run())
    await gateway.ready.wait()
    browser = await set_up(Browser(gateway.http_port))
    await browser.go("/console/network")
    assert "No NICs yet" in browser.text and "<canvas" not in browser.text
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
