"""Live frames as a page gets them: whose they are, that they come only while somebody watches, losses, the file."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from console_browser import PASSWORD, Browser, set_up
from event_stream import stream
from nic_and_board import nic_and_board
from patience import PATIENCE_S, until

import hardware
from gateway.console.frame_feed import FrameFeed, FrameFeeds, TooManyFeeds
from gateway.console.visitors import Visitors
from gateway.credentials import Credentials
from gateway.device_failure import DeviceSilent
from gateway.exchange import Response
from gateway.gateway import Gateway
from gateway.registry import Device
from meshwire.capture.batch import encode_batch, encode_record
from meshwire.capture.pcapng import read_packets
from meshwire.capture.record import Record, Side
from meshwire.coap import codes
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site
from nic_sim.fleet.addresses import LoopbackAddresses
from nic_sim.fleet.fleet import Fleet
from nic_sim.fleet.nic import NicPlan
from nic_sim.fleet.transport import PacketSocket
from nic_sim.nic import Nic

MAC = DeviceId("001350050047dc9a")
FOREIGN_MAC = DeviceId("001350050047dd92")
LIVE = f"/console/network/{MAC}/frames/live"


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


def is_reading(record: dict[str, Any]) -> bool:
    return record.get("kind") == "coap" and "2.05" in record["line"]


# --- a real NIC and board ---------------------------------------------------------------------------------------------


async def test_frames_come_decoded_while_somebody_watches_and_no_longer(
    browser: Browser, nic: Nic, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gateway.console.frame_feed.LEASE_S", 1)
    await browser.go(f"/console/network/{MAC}/frames")
    assert browser.status == 200 and not nic.watch.is_on, "the page alone watches nothing"
    async with stream(browser, LIVE) as live:
        records = await live.until(is_reading)
        await until(lambda: nic.watch.is_on)  # a lease may end on a busy machine, and is taken again
        assert records[0]["line"] == "watching begins"
        numbers = [record["n"] for record in records]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        reading = records[-1]
        assert reading["from"] == "board" and reading["hex"].startswith("7e a0")
        tree = {name: (value, children) for name, value, children in reading["tree"]}
        assert tree["HDLC"][0].startswith("I ns=")
        message = {name: value for name, value, *_ in tree["CoAP"][1]}
        assert message["Content-Format"] == "application/cbor" and "Observe" in message
        last = records[-1]["n"]
    async with stream(browser, LIVE, Last_Event_ID=str(last)) as again:
        name, more = await again.next()
        assert name == "message" and more[0]["n"] == last + 1, "goes on where it was"
    await until(lambda: not nic.watch.is_on)


async def test_frames_of_a_fleets_nic_come_while_it_is_watched(browser: Browser, gateway: Gateway) -> None:
    gateways = [("::ffff:127.0.0.1", gateway.coap_port, 0, 0)]
    plan = NicPlan(period_s=0.5)
    fleet = Fleet(2, plan, PacketSocket(), LoopbackAddresses(), gateways, spread_s=0, first_mac=int(MAC.value, 16))
    task = asyncio.create_task(fleet.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not fleet.nics[0].is_registered:  # noqa: ASYNC110 - the other one is nobody's, and never registers
                await asyncio.sleep(0.02)
        async with stream(browser, LIVE) as live:
            records = await live.until(is_reading)
        assert records[0]["line"] == "watching begins" and records[-1]["from"] == "board"
        octets = await asyncio.to_thread(_download, browser, f"/console/network/{MAC}/frames.pcapng")
        assert {packet.interface.name for packet in read_packets(io.BytesIO(octets))} == {"hdlc", "coap"}
        assert fleet.watched.count == 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.server
async def test_the_file_opens_in_wireshark(browser: Browser, nic: Nic, tmp_path: Path) -> None:
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed")
    place = f"/console/network/{MAC}/frames.pcapng"
    await browser.go(place)
    assert browser.status == 404 and "watch it first" in browser.text
    async with stream(browser, LIVE) as live:
        seen = await live.until(is_reading)
    octets = await asyncio.to_thread(_download, browser, place)
    packets = list(read_packets(io.BytesIO(octets)))
    frames = [packet.octets.hex(" ") for packet in packets if packet.interface.name == "hdlc"]
    assert frames[: len(seen)] == [record["hex"] for record in seen], "what was shown, octet for octet"
    path = tmp_path / "nic.pcapng"
    path.write_bytes(octets)
    lua = Path(hardware.__file__).parent / "wireshark" / "meshwire_hdlc.lua"
    command = [tshark, "-X", f"lua_script:{lua}", "-r", str(path), "-T", "fields", "-e", "meshwire_hdlc.kind"]
    process = await asyncio.create_subprocess_exec(
        *command, "-e", "coap.code", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    rows = [line.split("\t") for line in output.decode().splitlines()]
    assert process.returncode == 0 and len(rows) == len(packets)
    assert {"RR", "I"} <= {kind for kind, _ in rows} and any(code == "69" for _, code in rows), "2.05"


def _download(browser: Browser, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=PATIENCE_S)
    connection.request("GET", path, headers={"Cookie": browser.cookie})
    response = connection.getresponse()
    assert response.status == 200 and "attachment" in response.headers["Content-Disposition"]
    octets = response.read()
    connection.close()
    return octets


# --- whose frames -----------------------------------------------------------------------------------------------------


async def signed_in(gateway: Gateway, name: str, tenant: str) -> Browser:
    visitors = Visitors(gateway.registry, Credentials(gateway.registry))
    assert await visitors.add_tenant_user(name, PASSWORD, TenantId(tenant)) is None
    return await Browser(gateway.http_port).go("/console/sign-in", {"name": name, "password": PASSWORD, "next": ""})


async def test_a_tenants_user_sees_the_frames_of_its_own_nics_alone(
    browser: Browser, gateway: Gateway, nic: Nic
) -> None:
    tina, otto = await signed_in(gateway, "tina", "acme"), await signed_in(gateway, "otto", "other")
    async with stream(tina, LIVE) as live:
        assert live.status == 200 and await live.until(is_reading)
        for path in (f"/console/network/{MAC}/frames", f"/console/network/{MAC}/frames.pcapng", LIVE):
            foreign = (await otto.go(path)).text
            assert otto.status == 404
            assert (await otto.go(path.replace(str(MAC), "0000000000000001"))).text == foreign, "like one of nobody"
        async with stream(Browser(browser.port), LIVE) as nobody:
            assert nobody.status == 303
        gateway.registry.move_device(MAC, TenantId("other"))
        assert await live.end() == "ended", "the device is not theirs any more"
    await otto.go(f"/console/network/{MAC}/frames.pcapng")
    assert otto.status == 404, "what was seen under the former tenant is not the new one's"


async def test_watching_ends_with_the_session(browser: Browser, gateway: Gateway, nic: Nic) -> None:
    tina = await signed_in(gateway, "tina", "acme")
    async with stream(tina, LIVE) as live:
        await live.until(is_reading)
        gateway.registry.remove_account("tina", "console")
        assert await live.end() == "ended"


async def test_a_nic_that_is_away_or_has_no_frames_is_told(browser: Browser, gateway: Gateway) -> None:
    async with stream(browser, LIVE) as live:
        _, [notice] = await live.next()
        assert "does not answer" in notice["notice"]


# --- rules ------------------------------------------------------------------------------------------------------------

DEVICE = Device(MAC, TenantId("acme"))


class Line:
    """A NIC's answers, one after the other; then nothing new."""

    def __init__(self, *answers: Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def ask(self, mac: DeviceId, path: str, **_: Any) -> Response:
        self.asked.append(path)
        answer = self._answers.pop(0) if self._answers else batch()
        if isinstance(answer, Exception):
            raise answer
        return answer


def batch(*numbers: int) -> Response:
    records = [encode_record(number, Record(number, Side.NIC, b"", note=f"record {number}")) for number in numbers]
    return Response(codes.CONTENT, encode_batch(records))


async def told(line: Line, count: int, monkeypatch: Any) -> list[dict[str, Any]]:
    monkeypatch.setattr("gateway.console.frame_feed.POLL_S", 0.0)
    monkeypatch.setattr("gateway.console.frame_feed.AFTER_FAILURE_S", 0.0)
    found: list[dict[str, Any]] = []
    feeds = FrameFeeds(line)  # type: ignore[arg-type]
    with feeds.watching(DEVICE) as feed:
        async with asyncio.timeout(PATIENCE_S):
            async for items in feed.follow(None):
                found += [json.loads(item.text) for item in items]
                if len(found) >= count:
                    break
    return found


async def test_what_the_nic_could_not_keep_is_told_by_number(monkeypatch: Any) -> None:
    line = Line(batch(5, 6), batch(419, 420), batch(2), batch(3))
    found = await told(line, 8, monkeypatch)
    words = [item.get("line") or item.get("notice") or item.get("skipped") for item in found]
    assert words == [
        "record 5", "record 6", 412, "record 419", "record 420", "The NIC has started anew.", "record 2", "record 3"
    ]  # fmt: skip
    assert line.asked[1].startswith("sys/link/frames?after=6&") and "lease=" in line.asked[1]


async def test_failures_are_told_once_each_and_reading_goes_on(monkeypatch: Any) -> None:
    silent = DeviceSilent("8 s")
    found = await told(
        Line(silent, silent, Response(codes.NOT_FOUND, b"light"), Response(codes.CONTENT, b"junk"), batch(1)),
        4, monkeypatch,
    )  # fmt: skip
    assert ["does not answer" in found[0]["notice"], "4.04 light" in found[1]["notice"]] == [True, True]
    assert "can't be read" in found[2]["notice"] and found[3]["line"] == "record 1"


async def test_a_page_that_is_slow_learns_what_it_missed(monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.console.frame_feed.KEPT", 10)
    feed = FrameFeed(DEVICE, Line())  # type: ignore[arg-type]
    for number in range(1, 31):
        feed._tell({"line": str(number)})
    follow = feed.follow(5)
    items = [json.loads(item.text) for item in await anext(follow)]
    kept = [item for item in items if "line" in item]
    assert items[0]["skipped"] + 5 + len(kept) == 30
    await follow.aclose()


async def test_so_many_nics_are_watched_and_no_more(monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.console.frame_feed.MAX_FEEDS", 2)
    feeds = FrameFeeds(Line())  # type: ignore[arg-type]
    devices = [Device(DeviceId(f"{number:016x}"), TenantId("acme")) for number in range(1, 4)]
    with feeds.watching(devices[0]), feeds.watching(devices[1]), feeds.watching(devices[1]):
        assert not feeds.has_room(devices[2]) and feeds.has_room(devices[0])
        with pytest.raises(TooManyFeeds), feeds.watching(devices[2]):
            pass
    with feeds.watching(devices[2]):
        assert feeds.kept(devices[0]) is None and feeds.kept(devices[1]) is not None, "the oldest gave way"
    await feeds.close()
