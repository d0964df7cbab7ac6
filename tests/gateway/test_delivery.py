"""Every notification can be followed, every loss is listed, and the outbox can be sized: over HTTP and by command."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S, until
from scripted_broker import ScriptedBroker
from typer.testing import CliRunner

from gateway import losses as losses_module
from gateway.delivery import MAX_BATCHES, DeliveryRecord
from gateway.gateway import Gateway
from gateway.losses import Loss, LossBook
from gateway.outbox import Outbox
from gateway.rate import RateMeter, total_rate
from gateway.settings import BridgeSettings, OutboxSettings
from gateway.statistics import Statistics
from gateway.storage import MemoryStorage
from gateway.tools.delivery import explain_app, needed_octets, outbox_app, parse_duration_s
from gateway.tools.errors import WrongInput
from meshwire.coap import codes, encode
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")
FOREIGN_MAC = DeviceId("001350050047dd92")
UNKNOWN = DeviceId("00135005004700ff")


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    broker = ScriptedBroker()
    await broker.start()
    yield broker
    await broker.stop()


async def post(client: Any, bubble_up: Any, *numbers: int, mac: DeviceId = MAC, code: int = codes.CHANGED) -> None:
    for number in numbers:
        client.send(encode(bubble_up(mac, observe=number, mid=number, payload=b"%d" % number)))
        assert (await client.receive()).code == code


async def find(gateway: Gateway, mac: DeviceId = MAC, key: str | None = None) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = await gateway.ask({"device": mac.value, "key": key, "limit": 50})
    return [item for answer in answers for item in answer["deliveries"]]


async def test_each_state_has_its_time(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, broker: ScriptedBroker, raw_client: Any
) -> None:
    broker.welcome = lambda: 0x88
    broker.verdict = lambda publish: {b"3": 0x87, b"4": None}.get(publish.payload, 0)
    async with running(Gateway(settings_for(broker.port), site)) as gateway:
        client = raw_client(gateway.coap_port)
        await post(client, bubble_up, 1, 2, 3, 4)
        assert [item["state"] for item in await find(gateway)] == ["outbox"] * 4
        broker.welcome = lambda: 0
        await until(lambda: len(broker.seen) >= 4 and gateway.status()["outbox"]["depth"] == 1)  # type: ignore[index]
        await post(client, bubble_up, 5, mac=UNKNOWN, code=codes.FORBIDDEN)
        newest, third, second, first = await find(gateway)
        assert [item["state"] for item in (first, second, third, newest)] == [
            "acknowledged",
            "acknowledged",
            "dropped",
            "published",
        ]
        assert first["received_at"] <= first["published_at"] <= first["acknowledged_at"]
        assert third["reason"] == "not-authorized" and third["dropped_at"] >= third["published_at"]
        assert newest["acknowledged_at"] is None
        assert await find(gateway, key=second["key"]) == [second]
        assert await find(gateway, FOREIGN_MAC) == []
        (answer,) = await gateway.ask({"device": UNKNOWN.value, "key": None, "limit": 5})
        (refusal,) = answer["refusals"]  # type: ignore[misc]
        assert (refusal["reason"], refusal["times"]) == ("unknown-device", 1)


async def test_what_was_delivered_is_known_after_a_restart(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, broker: ScriptedBroker, raw_client: Any
) -> None:
    broker.verdict = lambda publish: 0x87 if publish.payload == b"7" else 0
    settings = settings_for(broker.port, outbox=OutboxSettings(segment_octets=1024, history_octets=2048))
    async with running(Gateway(settings, site)) as gateway:
        await post(raw_client(gateway.coap_port), bubble_up, *range(1, 40))
        await until(lambda: gateway.status()["outbox"]["depth"] == 0)  # type: ignore[index]
    kept = sum(path.stat().st_size for path in site.path("gateway", "outbox").glob("*.done"))
    assert 0 < kept <= 2048, "bounded"
    async with running(Gateway(settings, site)) as gateway:
        found = await find(gateway)
        assert 10 < len(found) < 39 and found[0]["key"].endswith("/39")
        assert {item["state"] for item in found} == {"acknowledged"}
        assert {item["acknowledged_at"] for item in found} == {None}
        (answer,) = await gateway.ask({"losses": None, "limit": 5})
        (loss,) = answer["losses"]  # type: ignore[misc]
        assert (loss["reason"], loss["tenant"], loss["device"]) == ("not-authorized", "acme", MAC.value)


async def test_workers_are_asked(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, broker: ScriptedBroker, raw_client: Any
) -> None:
    bridge = BridgeSettings(port=broker.port, workers=2)
    async with running(Gateway(settings_for(broker.port, bridge=bridge), site)) as gateway:
        await until(lambda: gateway.status()["bridge"]["connected"])  # type: ignore[index, return-value]
        await post(raw_client(gateway.coap_port), bubble_up, 1, 2)
        await until(lambda: sum(worker["depth"] for worker in gateway.status()["workers"]) == 0)  # type: ignore[attr-defined]
        await until(lambda: gateway.status()["counters"]["stored"] == 2)  # type: ignore[index, call-overload, return-value]
        found = await find(gateway)
        assert {item["state"] for item in found} == {"acknowledged"}
        assert {item["lane"] for item in found} in ({1}, {2})


async def test_over_http_a_tenant_sees_its_own(
    site: Site,
    settings_for: Any,
    running: Any,
    bubble_up: Any,
    broker: ScriptedBroker,
    raw_client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the commands, which are the administrator's."""
    monkeypatch.setenv("MESHWIRE_STATE", str(site.state_dir))
    async with running(Gateway(settings_for(broker.port, http="127.0.0.1:0"), site)) as gateway:
        client = raw_client(gateway.coap_port)
        broker.verdict = lambda publish: 0x87 if publish.payload == b"2" else 0
        await post(client, bubble_up, 1, 2)
        await post(client, bubble_up, 3, mac=FOREIGN_MAC)
        await post(client, bubble_up, 4, mac=UNKNOWN, code=codes.FORBIDDEN)
        await until(lambda: gateway.status()["outbox"]["depth"] == 0)  # type: ignore[index]
        base = ["--http", f"http://127.0.0.1:{gateway.http_port}"]

        async def run(app: Any, *arguments: str) -> Any:
            return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *base])

        shown = await run(explain_app, MAC.value.upper())
        assert shown.exit_code == 0 and "ACKNOWLEDGED" in shown.output and "DROPPED" in shown.output
        assert "not-authorized" in shown.output and "published to the broker" in shown.output
        as_json = [json.loads(line) for line in (await run(explain_app, MAC.value, "--json")).output.splitlines()]
        assert [item["state"] for item in as_json] == ["dropped", "acknowledged"]
        one = await run(explain_app, as_json[1]["key"], "--json")
        assert [json.loads(line)["key"] for line in one.output.splitlines()] == [as_json[1]["key"]]
        refused = await run(explain_app, UNKNOWN.value)
        assert "REFUSED  1 times: unknown-device" in refused.output
        assert (await run(explain_app, "0" * 16)).exit_code == 1
        listed = await run(outbox_app, "losses", "--json")
        assert [json.loads(line)["reason"] for line in listed.output.splitlines()] == ["not-authorized"]
        state = json.loads((await run(outbox_app, "show", "--json")).output)
        assert (state["depth"], state["connected"], state["losses"]) == (0, True, {"not-authorized": 1})
        assert "waiting     0 notifications" in (await run(outbox_app, "show")).output
        sized = json.loads((await run(outbox_app, "size", "--offline", "6h", "--rate", "50", "--json")).output)
        assert sized["maxOctets"] >= 6 * 3600 * 50 * sized["octetsEach"]

        ours = site.signing_keys().issue(TenantId("acme"), [], now=time.time(), ttl_s=60, scope="api")
        theirs = site.signing_keys().issue(TenantId("other"), [], now=time.time(), ttl_s=60, scope="api")
        for token, seen in ((ours, 2), (theirs, 0)):
            answer = await asyncio.to_thread(_get, gateway.http_port, f"/api/deliveries?device={MAC}", token)
            assert len(answer["deliveries"]) == seen
            assert len((await asyncio.to_thread(_get, gateway.http_port, "/api/losses", token))["losses"]) == seen // 2
        answer = await asyncio.to_thread(_get, gateway.http_port, f"/api/deliveries?device={UNKNOWN}", ours)
        assert answer == {"deliveries": [], "refusals": []}


def _get(port: int, path: str, token: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("GET", path, headers={"Authorization": token})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def test_what_is_remembered_in_memory_is_bounded() -> None:
    outbox = Outbox(MemoryStorage(), max_octets=1 << 20, segment_octets=4096)
    record = DeliveryRecord(0, outbox, LossBook(None), Statistics())
    for number in range(3 * MAX_BATCHES):
        record.published([2 * number, 2 * number + 1], float(number))
    assert record._published.find(1) is None
    assert record._published.find(6 * MAX_BATCHES - 1) == 3 * MAX_BATCHES - 1
    record.acknowledged([5, 9, 7], 1.0)
    assert [record._acknowledged.find(number) for number in (5, 6, 7, 8, 9)] == [1.0, None, 1.0, None, 1.0]


def test_the_book_of_losses_is_kept_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses_module, "MAX_LOSSES", 100)
    monkeypatch.setattr(losses_module, "_REWRITE_OCTETS", 20_000)
    path = tmp_path / "losses.jsonl"
    book = LossBook(path)
    for number in range(1000):
        book.add(Loss(number, float(number), "why", "acme" if number % 2 else "other"))
        if number % 10 == 0:
            book.flush()
            assert path.stat().st_size < 40_000
    book.flush()
    with path.open("a") as file:
        file.write('{"sequence": 1, "lost')
    again = LossBook(path)
    assert [loss.sequence for loss in again.newest()] == list(range(999, 899, -1))
    assert all(loss.tenant == "acme" for loss in again.newest("acme"))
    assert again.get(950) is not None and again.get(5) is None


def test_the_rate_is_that_of_the_busiest_minute() -> None:
    meter = RateMeter(0.0)
    count = 0
    for second in range(1, 601):
        count += 100 if 120 <= second < 180 else 1
        meter.sample(float(second), count, count * 150)
    rate = meter.rate()
    assert rate.peak_per_s == pytest.approx(99, abs=3) and rate.per_s == pytest.approx(10.9, abs=0.2)
    assert (rate.octets_each, rate.over_s) == (150.0, 600.0)
    for second in range(601, 3 * 3600, 10):
        meter.sample(float(second), count, count * 150)
    assert meter.rate().peak_per_s == 0.0 and meter.rate().over_s <= 3700
    report = {"perS": 2.0, "peakPerS": 4.0, "octetsEach": 100.0, "overS": 60.0}
    assert total_rate([report, report])["peakPerS"] == 8.0 and total_rate([report])["octetsEach"] == 100.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("6h", 21_600), ("1d12h", 129_600), ("5", 5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "6 h", "6x", "-1h", "1h-"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(WrongInput):
        parse_duration_s(text)


def test_the_size_that_is_told_holds_what_comes_in() -> None:
    """An outbox of that size takes what the rate and the time make, and not much is left over."""
    each = 28 + 100
    most = needed_octets(3600, 10, each)
    outbox = Outbox(MemoryStorage(), max_octets=most, segment_octets=1 << 20)
    for _ in range(36_000):
        outbox.append(bytes(100), 0)
    assert most < 36_000 * each * 1.25 + (1 << 20)
