"""The first start in the console: boards of this machine, a NIC that nobody knows, the first reading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from console_browser import Browser, set_up

from gateway.console.serial_boards import SerialBoards, refuse_port
from gateway.gateway import Gateway
from meshwire.coap import codes
from meshwire.identity import DeviceId
from meshwire.site import Site

NEW_MAC = DeviceId("00135005004700aa")


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
async def browser(gateway: Gateway) -> Browser:
    return await set_up(Browser(gateway.http_port))


async def test_a_stranger_is_named_added_and_its_first_reading_shown(
    browser: Browser, gateway: Gateway, connect_to: Any, bubble_up: Callable[..., Any]
) -> None:
    assert "None has come so far" in browser.text and 'name="mac" value=""' in browser.text
    message = bubble_up(NEW_MAC)
    nic = connect_to(gateway)
    pairs, payload = message.options, message.payload
    assert (await nic.request(message.code, *pairs, payload=payload)).code == codes.FORBIDDEN
    await browser.go("/console/start")
    assert f'name="mac" value="{NEW_MAC}"' in browser.text, "the page proposes who was refused"
    await browser.go("/console/start/devices", {"mac": "none", "tenant": "acme"})
    assert browser.status == 422 and 'name="mac" value="none"' in browser.text
    assert "--mac none" not in browser.text, "no line to paste with what is no MAC"
    await browser.go("/console/start/devices", {"mac": str(NEW_MAC), "tenant": "acme"})
    assert browser.status == 200 and 'name="mac" value=""' in browser.text
    assert (await nic.request(message.code, *pairs, payload=payload)).code == codes.CHANGED
    await browser.go("/console/start")
    assert "temperature 22.5 °C" in browser.text, "by the decoder of its type"
    assert f'href="/console/network/{NEW_MAC}"' in browser.text


async def test_only_ports_are_looked_at_and_one_look_at_a_time(browser: Browser, monkeypatch: Any) -> None:
    for name in ("-rf", "pty:/etc/x", "/etc/passwd", "--help", "sim://a b", ""):
        assert refuse_port(name) is not None
    for name in ("/dev/serial/by-id/usb-1", "socket://board:4001", "sim://milli-1.4.8?sensor=temp"):
        assert refuse_port(name) is None
    await browser.go("/console/start/look", {"port": "pty:/tmp/x"})
    assert browser.status == 422 and "is no port" in browser.text
    monkeypatch.setattr(SerialBoards, "is_looking", True)
    await browser.go("/console/start/look", {"port": "sim://milli-1.4.8"})
    assert browser.status == 409


async def test_what_is_asked_of_the_ports_is_bounded_in_time(monkeypatch: Any) -> None:
    boards = SerialBoards()
    found, ports = await asyncio.gather(boards.look(["sim://milli-1.4.8"]), boards.ports())
    for _ in range(5):  # on a busy machine a probe may stop listening before the board has been heard
        found = found if found and found[0].is_board else await boards.look(["sim://milli-1.4.8"])
    assert [(each.is_board, each.profile) for each in found] == [(True, "milli")] and "1.4.8" in found[0].board
    assert all(port.name.startswith("/dev/") for port in ports)
    monkeypatch.setattr("gateway.console.serial_boards.PROBE_WITHIN_S", 0.01)
    assert await boards.look(["sim://milli-1.4.8"]) == [] and not boards.is_looking
