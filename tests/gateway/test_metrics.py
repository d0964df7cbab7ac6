"""`/metrics`: names that stay, figures that are right, and nothing that tells tenants or devices apart."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.api.metrics import COUNTERS, GAUGES
from gateway.gateway import Gateway
from gateway.statistics import Event
from meshwire.coap import codes, encode
from meshwire.site import Site

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


async def scrape(gateway: Gateway) -> tuple[str, dict[tuple[str, tuple[str, ...]], float]]:
    url = f"http://127.0.0.1:{gateway.http_port}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
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


def test_each_event_has_its_name_and_each_name_its_line_in_the_reference() -> None:
    assert set(COUNTERS) == set(Event)
    page = REFERENCE.read_text()
    for name, label, _ in COUNTERS.values():
        assert f"`{name}_total{'{' + label + '}' if label else ''}`" in page
    for name in GAUGES:
        assert f"`{name}`" in page
