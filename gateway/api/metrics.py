"""`/metrics`: the gateway's figures for Prometheus, under names that stay.

Nothing here names a tenant, a device or a client, so the number of series is bounded by the product and the page needs
no token; it is served where the HTTP API is, on loopback unless configured otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.api.health import Status
from gateway.bridge import REFUSED_FOR_GOOD
from gateway.statistics import Event

__all__ = ["COUNTERS", "GAUGES", "router"]

COUNTERS: Final[Mapping[Event, tuple[str, str, str]]] = {
    Event.DATAGRAM: ("meshwire_gateway_datagrams", "kind", "CoAP datagrams received."),
    Event.MALFORMED: ("meshwire_gateway_datagrams_malformed", "reason", "Datagrams that are no CoAP message."),
    Event.SEND_FAILED: ("meshwire_gateway_sends_failed", "reason", "Datagrams that the system did not take."),
    Event.STORED: ("meshwire_gateway_notifications_stored", "", "Notifications taken into the outbox."),
    Event.REGISTERED: ("meshwire_gateway_registrations", "", "Address registrations of devices."),
    Event.REFUSED: ("meshwire_gateway_notifications_refused", "reason", "Notifications and registrations refused."),
    Event.DUPLICATE: ("meshwire_gateway_duplicates", "kind", "Repetitions, answered again and not stored."),
    Event.PUBLISHED: ("meshwire_gateway_messages_published", "", "Notifications that the broker has taken."),
    Event.DECODED: ("meshwire_gateway_decoded_copies", "outcome", "Decoded copies: made, or why there is none."),
    Event.LOST: ("meshwire_gateway_notifications_lost", "reason", "Notifications acknowledged and never published."),
    Event.BRIDGE: ("meshwire_gateway_broker_connections", "event", "Life of the connections to the broker."),
    Event.WORKER: ("meshwire_gateway_workers", "event", "Worker processes started again."),
    Event.SESSION: ("meshwire_gateway_sessions", "event", "CoAP sessions of client applications."),
    Event.COMMAND: ("meshwire_gateway_commands", "event", "Events of commands; refused and dropped orders."),
    Event.PROXY: ("meshwire_gateway_proxy_answers", "code", "Answers to client applications, by CoAP code."),
    Event.HTTP: ("meshwire_gateway_http_answers", "status", "Answers of the HTTP API and the console."),
    Event.HTTP_REFUSED: ("meshwire_gateway_http_refused", "bound", "HTTP requests refused by a bound; slow streams."),
}
"""Name, label and meaning of each counter; Prometheus adds `_total`."""
FROM_THE_START: Final[Mapping[Event, tuple[str, ...]]] = {
    Event.LOST: ("damaged", "unreadable", *REFUSED_FOR_GOOD.values()),
    Event.REFUSED: ("unknown-device", "disabled-device", "malformed", "outbox-full", "unwritable"),
}
"""What is shown as 0 before it happens: Prometheus sees no increase in a series that begins with its first event, and
alarms are about these.
"""
GAUGES: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "meshwire_gateway_uptime_seconds": (("upS",), "Since the gateway started."),
    "meshwire_gateway_outbox_notifications": (("outbox", "depth"), "Notifications that wait for the broker."),
    "meshwire_gateway_outbox_bytes": (("outbox", "octets"), "Size of what waits."),
    "meshwire_gateway_outbox_max_bytes": (("outbox", "maxOctets"), "Size at which NICs are asked to wait."),
    "meshwire_gateway_outbox_age_seconds": (("outbox", "ageS"), "Age of the oldest notification that waits."),
    "meshwire_gateway_broker_connected": (("bridge", "connected"), "1 while the broker is connected, else 0."),
    "meshwire_gateway_commands_open": (("commands", "open"), "Commands that have not ended."),
    "meshwire_gateway_sessions_open": (("sessions",), "Open CoAP sessions."),
    "meshwire_gateway_devices": (("devices",), "Provisioned devices."),
}
"""Where in the status page each gauge stands, and its meaning."""


class _Figures(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status: Mapping[str, Any] = self._status()
        for event, (name, label, meaning) in COUNTERS.items():
            counter = CounterMetricFamily(name, meaning, labels=[label] if label else [])
            counts = status["counters"].get(event.value, 0)
            if not label:
                counter.add_metric([], counts)
            else:
                happened = dict(counts) if isinstance(counts, Mapping) else {}
                for reason, count in (dict.fromkeys(FROM_THE_START.get(event, ()), 0) | happened).items():
                    counter.add_metric([reason], count)
            yield counter
        for name, (path, meaning) in GAUGES.items():
            value: Any = status
            for part in path:
                value = value[part]
            yield GaugeMetricFamily(name, meaning, float(value))


def router(status: Status) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["health"])
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(status))

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def show_metrics() -> Response:
        """Counters and gauges in Prometheus's text format."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return routes
