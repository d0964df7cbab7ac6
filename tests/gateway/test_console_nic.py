"""The pages about one NIC: what it says of itself, its readings as series, what it can be asked for, an observation."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from console_browser import PASSWORD, Browser, set_up
from event_stream import stream
from nic_and_board import nic_and_board
from patience import PATIENCE_S

from gateway.console.nic_words import counter_lines, figures, observe_lines, resources
from gateway.console.readings import Reading, series_of
from gateway.console.visitors import Visitors
from gateway.credentials import Credentials
from gateway.decoders import decoders_for
from gateway.gateway import Gateway
from meshwire.coap import encode, options
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site
from nic_sim.nic import Nic

MAC = DeviceId("001350050047dc9a")
PLACE = f"/console/network/{MAC}"
RECORD = bytes.fromhex("a2006474656d700172313730303030303030352c37322e35302c46")


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
async def browser(gateway: Gateway) -> Browser:
    return await set_up(Browser(gateway.http_port))


@pytest.fixture
async def nic(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Nic]:
    async with nic_and_board(gateway.coap_port, MAC, tmp_path / "nic") as nic:
        yield nic


async def signed_in(gateway: Gateway, name: str, tenant: str) -> Browser:
    visitors = Visitors(gateway.registry, Credentials(gateway.registry))
    assert await visitors.add_tenant_user(name, PASSWORD, TenantId(tenant)) is None
    return await Browser(gateway.http_port).go("/console/sign-in", {"name": name, "password": PASSWORD, "next": ""})


async def until_active(nic: Nic) -> None:
    """The NIC has registered its observe with the board."""
    async with asyncio.timeout(PATIENCE_S):
        while any(row.state != "active" for row in nic.rows()):  # noqa: ASYNC110 - nobody is told but the log
            await asyncio.sleep(0.02)


# --- what it says of itself -------------------------------------------------------------------------------------------


async def test_link_observes_and_own_resources_are_shown_and_an_observe_is_renewed(browser: Browser, nic: Nic) -> None:
    await until_active(nic)
    await browser.go(f"{PLACE}/link")
    assert browser.status == 200 and "Battery" in browser.text and " dBm" in browser.text
    assert re.search(r"Frames in</dt><dd>[1-9]", browser.text)
    ledger = re.search(r"<td[^>]*>snsr/arduino/temp\?sens</td>.*?</tr>", browser.text, re.DOTALL)
    assert ledger is not None and "active" in ledger[0] and ">0, next if silent for " in ledger[0]
    assert f'href="{PLACE}?path=sys/coap#command"' in browser.text
    order = {"method": "POST", "path": "sys/observe?path=snsr/arduino/temp", "mode": "direct"}
    await browser.go(f"{PLACE}/commands", order)
    assert browser.status == 200 and "answered" in browser.text and "2.04" in browser.text
    async with asyncio.timeout(PATIENCE_S):
        while ">1, next if silent for " not in browser.text:
            await browser.go(f"{PLACE}/link")
    await browser.go(f"{PLACE}?path=sys/coap")
    assert 'value="sys/coap"' in browser.text


async def test_a_nic_that_is_away_is_said_with_what_to_do(browser: Browser) -> None:
    await browser.go(f"{PLACE}/link")
    assert browser.status == 200 and "The NIC says nothing" in browser.text and "What to do" in browser.text


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"3", b'{"path": 1}', b'[{"state": "x"}]', b"[" * 2000])
def test_what_a_nic_says_oddly_is_not_shown(payload: bytes) -> None:
    assert figures({"sys/battery": payload, "sys/signal": payload}) == []
    counter_lines(payload), resources(payload)
    if payload not in (b"[]",):
        with pytest.raises(ValueError):
            observe_lines(payload)


def test_resources_of_the_board_get_its_prefix_and_odd_ones_are_left_out() -> None:
    links = b'</arduino/temp>;obs;rt="temp",</a\x01b>,<http://elsewhere/x>,</>,</plain>;title="A title"'
    assert [(each.path, each.title, each.observable) for each in resources(links, "snsr/")] == [
        ("snsr/arduino/temp", "temp", True),
        ("snsr/plain", "A title", False),
    ]


# --- readings ---------------------------------------------------------------------------------------------------------


def reading(payload: bytes, at_s: float = 1.0, path: str = "snsr/arduino/x") -> Reading:
    return Reading("acme", path, at_s, None, payload)


@pytest.mark.parametrize(
    ("payload", "numbers"),
    [
        (RECORD, {"temperature": 22.5}),
        (b"21.5", {"value": 21.5}),
        (b'{"a": 1, "b": true, "c": "x", "d": 2.5}', {"a": 1.0, "d": 2.5}),
        (b'[{"n": "t", "u": "Cel", "v": 20}, {"n": "s", "vs": "x"}]', {"t": 20.0}),
        (cbor2.dumps({"rpm": 900}), {"rpm": 900.0}),
        (b"words", {}),
        (b"[" * 1000, {}),
        (b"NaN", {}),
        (b"\xff\xfe", {}),
    ],
)
def test_numbers_are_found_in_what_boards_send(payload: bytes, numbers: dict[str, float]) -> None:
    found = series_of([reading(payload)], decoders_for([]))
    assert {each.name: pytest.approx(each.points[0][1]) for each in found} == numbers


def test_series_are_in_the_order_of_time_and_one_for_each_value() -> None:
    readings = [reading(b"2", 2.0), reading(b"1", 1.0), reading(b"5", 1.5, "snsr/arduino/y")]
    found = {each.path: each.points for each in series_of(readings, {})}
    assert found == {"snsr/arduino/x": [(1.0, 1.0), (2.0, 2.0)], "snsr/arduino/y": [(1.5, 5.0)]}


async def test_readings_of_the_log_are_series_and_stay_with_the_tenant_that_had_them(
    browser: Browser, gateway: Gateway, raw_client: Any, bubble_up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.console.reading_pages.KEPT_S", 0.0)
    await browser.go(f"{PLACE}/readings")
    assert "No numbers so far" in browser.text
    client = raw_client(gateway.coap_port)
    for observe in (1, 2, 3):
        client.send(encode(bubble_up(observe=observe, mid=observe)))
        await client.receive()
    [series] = json.loads((await browser.go(f"{PLACE}/readings.json")).text)
    assert (series["name"], series["unit"], len(series["points"])) == ("temperature", "°C", 3)
    await browser.go(f"{PLACE}/readings")
    assert browser.text.count(">temperature</td>") == 3
    otto = await signed_in(gateway, "otto", "other")
    await otto.go(f"{PLACE}/readings.json")
    assert otto.status == 404
    gateway.registry.move_device(MAC, TenantId("other"))
    assert json.loads((await otto.go(f"{PLACE}/readings.json")).text) == []
    await otto.go(PLACE)
    assert "None has come lately" in otto.text


async def test_an_answer_of_readings_fits_a_workers_message(
    browser: Browser, gateway: Gateway, raw_client: Any, bubble_up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.delivery.MAX_ANSWER_OCTETS", 500)
    client = raw_client(gateway.coap_port)
    for observe in range(1, 9):
        client.send(encode(bubble_up(observe=observe, mid=observe)))
        await client.receive()
    [answer] = await gateway.ask({"readings": MAC.value, "limit": 1000})
    readings: Any = answer["readings"]
    assert 1 < len(readings) < 8 and len(cbor2.dumps(answer)) < 500


# --- requests ---------------------------------------------------------------------------------------------------------


async def test_resources_are_discovered_at_nic_and_board(browser: Browser, gateway: Gateway, nic: Nic) -> None:
    own = json.loads((await browser.go(f"{PLACE}/resources/nic")).text)["resources"]
    assert {"path": "snsr/arduino/temp", "title": "temp", "observable": True} in own
    board = json.loads((await browser.go(f"{PLACE}/resources/board")).text)["resources"]
    assert any(each["path"] == "snsr/arduino/temp" for each in board)
    await browser.go(f"{PLACE}/resources/somebody")
    assert browser.status == 422
    otto = await signed_in(gateway, "otto", "other")
    for path in ("resources/nic", "observe?path=sys/time", "link", "readings"):
        await otto.go(f"{PLACE}/{path}")
        assert otto.status == 404, path


async def test_a_device_that_is_away_lists_nothing(browser: Browser) -> None:
    found = json.loads((await browser.go(f"{PLACE}/resources/nic")).text)
    assert found["resources"] == [] and "address" in found["missing"]


async def test_an_observation_comes_as_events_and_ends_with_the_page(
    browser: Browser, gateway: Gateway, nic: Nic
) -> None:
    await browser.go(f"{PLACE}/observe?path={'x' * 300}")
    assert browser.status == 422
    async with stream(browser, f"{PLACE}/observe?path=snsr/arduino/temp?sens") as events:
        answers = [(await events.next())[1] for _ in range(3)]
        assert gateway.status()["proxy"]["observations"] == 1  # type: ignore[index]
    async with asyncio.timeout(PATIENCE_S):
        while gateway.status()["proxy"]["observations"]:  # type: ignore[index]  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    numbers = [answer["observe"] for answer in answers]
    assert numbers == sorted(numbers) and all(answer["code"] == "2.05" for answer in answers)
    assert answers[-1]["contentFormat"] == options.CBOR and answers[-1]["text"].endswith(",F")


async def test_commands_that_wait_are_cancelled_all_at_once(browser: Browser) -> None:
    await browser.go(PLACE)
    order = {"method": "PUT", "path": "snsr/arduino/temp?cfg=C", "payload": "", "mode": "stored", "ttl": "600"}
    for _ in range(3):
        await browser.go(f"{PLACE}/commands", order)
    assert "Cancel all 3 that wait" in browser.text and re.search(r">in (\d+ min|600 s|599 s)<", browser.text)
    await browser.go(f"{PLACE}/commands/cancel", {})
    assert browser.hops[-1] == PLACE and "Cancel all" not in browser.text and browser.text.count("cancelled") == 3


async def test_the_table_of_commands_follows_them(browser: Browser, gateway: Gateway) -> None:
    await browser.go(PLACE)
    order = {"method": "PUT", "path": "snsr/arduino/temp?cfg=C", "payload": "", "mode": "stored", "ttl": "600"}
    async with stream(browser, f"{PLACE}/commands/live") as events:
        assert (await events.next())[1]["waiting"] == 0
        await browser.go(f"{PLACE}/commands", order)
        told = (await events.next())[1]
        assert told["waiting"] == 1 and "queued" in told["table"] and "form_token" in told["table"]
        await browser.go(f"{PLACE}/commands/cancel", {})
        told = (await events.next())[1]
        assert told["waiting"] == 0 and "cancelled" in told["table"]


async def test_a_tenants_user_does_not_follow_commands_of_a_foreign_nic(browser: Browser, gateway: Gateway) -> None:
    foreign = await signed_in(gateway, "eve", "globex")
    async with stream(foreign, f"{PLACE}/commands/live") as events:
        assert events.status == 404
