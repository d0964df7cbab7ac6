"""`/metrics`: names that stay, figures that are right, and nothing that tells tenants or devices apart."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from prometheus_client.parser import text_string_to_metric_families

from gateway.api.metrics import COUNTERS
from gateway.gateway import Gateway
from gateway.statistics import Event
from meshwire.coap import codes, encode
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

REPOSITORY = Path(__file__).parents[2]
REFERENCE = REPOSITORY / "docs" / "reference" / "metrics.md"
ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


async def scrape(gateway: Gateway) -> tuple[str, dict[tuple[str, tuple[str, ...]], float]]:
    url = f"http://127.0.0.1:{gateway.http_port}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=PATIENCE_S).read().decode())
    return text, {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_happened_is_counted_without_naming_anybody(
    gateway: Gateway, raw_client: Any, bubble_up: Callable[..., Any]
) -> None:
    client = raw_client(gateway.coap_port)
    for observe in (1, 2, 2):
        client.send(encode(bubble_up(observe=observe, mid=observe)))
        assert (await client.receive()).code == codes.CHANGED
    gateway.statistics.count(Event.LOST, "damaged", 3)
    text, figures = await scrape(gateway)
    assert figures["meshwire_gateway_notifications_stored_total", ()] == 2
    assert figures["meshwire_gateway_duplicates_total", ("message-id",)] == 1
    assert figures["meshwire_gateway_notifications_lost_total", ("damaged",)] == 3
    assert figures["meshwire_gateway_outbox_notifications", ()] == 2
    assert figures["meshwire_gateway_broker_connected", ()] == 0
    assert figures["meshwire_gateway_devices", ()] == 2
    assert not any(word in text for word in ("001350050047", "acme", "other"))


async def test_the_reference_names_what_is_exposed_and_nothing_else(
    gateway: Gateway, raw_client: Any, bubble_up: Callable[..., Any]
) -> None:
    """Both ways, with the labels; every counter has counted something."""
    client = raw_client(gateway.coap_port)
    client.send(encode(bubble_up(observe=1, mid=1)))
    assert (await client.receive()).code == codes.CHANGED
    for event, (_, label, _) in COUNTERS.items():
        gateway.statistics.count(event, *([f"some-{event.value}"] if label else []))
    text, _ = await scrape(gateway)
    exposed = {}
    for family in text_string_to_metric_families(text):
        (labels,) = {tuple(sample.labels) for sample in family.samples}
        exposed[f"{family.name}_total" if family.type == "counter" else family.name] = (family.type, labels)
    documented = {}
    for table, kind in (("Counter", "counter"), ("Gauge", "gauge")):
        rows = re.search(rf"\| {table} \| Meaning \|\n\|---\|---\|\n((?:\|.*\n)+)", REFERENCE.read_text())
        assert rows is not None
        for name, label in re.findall(r"^\| `(meshwire_\w+)(?:\{(\w+)\})?` \|", rows[1], re.MULTILINE):
            documented[name] = (kind, (label,) if label else ())
    assert exposed == documented
    assert not {"mac", "device", "tenant", "client", "client_id"} & {
        label for _, found in exposed.values() for label in found
    }


async def test_what_alarms_are_about_is_there_before_it_happens(gateway: Gateway) -> None:
    """A series that begins with its first event has no increase that Prometheus sees."""
    text, figures = await scrape(gateway)
    assert figures["meshwire_gateway_notifications_refused_total", ("unwritable",)] == 0
    assert figures["meshwire_gateway_notifications_lost_total", ("not-authorized",)] == 0
    assert figures["meshwire_gateway_messages_published_total", ()] == 0
    assert '=""' not in text
    for name, label in re.findall(r"(meshwire_\w+)(?:\{(\w+=\"\w+\")\})?", ALERTS.read_text()):
        assert re.search(rf"^{name}{{?{label}", text, re.MULTILINE), (name, label)


def test_each_event_has_its_name() -> None:
    assert set(COUNTERS) == set(Event)


async def test_no_label_holds_who_it_was(gateway: Gateway, raw_client: Any, bubble_up: Callable[..., Any]) -> None:
    """Refused, foreign, logged in: whatever is told of it, nobody is named."""
    client = raw_client(gateway.coap_port)
    client.send(encode(bubble_up(DeviceId("00135005000000ff"), observe=1, mid=1)))
    assert (await client.receive()).code == codes.FORBIDDEN
    issued = gateway.registry.add_client(TenantId("acme"), ["COMMAND_CLIENT"])
    body = json.dumps({"clientId": issued.id, "clientSecret": issued.secret}).encode()
    url = f"http://127.0.0.1:{gateway.http_port}/api/tokens"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    token = json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=PATIENCE_S).read()))
    await client.open_session(token["accessToken"])
    text, _ = await scrape(gateway)
    values = re.findall(r'="([^"]*)"', text)
    assert values and not [each for each in values if re.search(r"[0-9a-f]{12}|acme|other", each)]
