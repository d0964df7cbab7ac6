"""The first page: what runs through the gateway now and in the last minutes, and what deserves attention."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from gateway.console.alarms import alarms
from gateway.console.broker_figures import BrokerFigures, Figures
from gateway.console.events import Streams, event
from gateway.console.pulse import Pulse, Sample
from gateway.console.rendering import PageRoute, Pages
from gateway.presence import PresenceState
from gateway.registry import Registry

__all__ = ["router"]

CENSUS_EVERY_S: Final = 5.0
PLOT_WIDTH: Final = 600
PLOT_HEIGHT: Final = 80


def router(
    pages: Pages,
    pulse: Pulse,
    streams: Streams,
    registry: Registry,
    presence: Callable[..., PresenceState],
    status: Callable[[], Mapping[str, Any]],
    broker: BrokerFigures,
) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)
    census = _Census(registry, presence)

    @routes.get("/console")
    async def bare() -> Response:
        return pages.go("/console/")

    @routes.get("/console/")
    async def overview(request: Request) -> Response:
        visitor = await pages.visitor(request)
        if not visitor.is_admin:
            return pages.go("/console/network")
        sample = pulse.samples[-1] if pulse.samples else pulse.take()
        now = status()
        return pages.page(
            "overview.html",
            visitor,
            broker=_told(await broker.look()),
            sample=sample,
            alarms=alarms(sample, census.count(PresenceState.OFFLINE)),
            online=census.count(PresenceState.ONLINE),
            plots=_plots(list(pulse.samples)),
            losses=now["losses"],
            refused=now["counters"].get("refused") or {},
        )

    @routes.get("/console/live")
    async def live(request: Request) -> Response:
        """Server-sent events: a sample a second, with the alarms of that moment."""
        await pages.administrator(request)
        return streams.answer(samples(), pages.may_still(request))

    async def samples() -> AsyncGenerator[str]:
        while True:
            sample = await pulse.next()
            more = _told(await broker.look()) | {
                "online": f"{census.count(PresenceState.ONLINE)} of {sample.devices}",
                "alarms": [asdict(alarm) for alarm in alarms(sample, census.count(PresenceState.OFFLINE))],
            }
            yield event(json.dumps(sample.to_json() | more))

    return routes


def _told(figures: Figures) -> dict[str, object]:
    """For page and stream; what the broker does not tell is a dash."""
    return {f"broker_{name}": "–" if value is None else value for name, value in asdict(figures).items()}


class _Census:
    """Devices by state, counted every few seconds however many pages ask.

    Args:
        registry: the devices.
        presence: tells the state of one.
    """

    def __init__(self, registry: Registry, presence: Callable[..., PresenceState]) -> None:
        self._registry = registry
        self._presence = presence
        self._counts: Counter[PresenceState] = Counter()
        self._due_s = float("-inf")

    def count(self, state: PresenceState) -> int:
        """How many are in this state."""
        if time.monotonic() >= self._due_s:
            now_s = time.time()
            self._counts = Counter(self._presence(device, now_s) for device in self._registry.devices())
            self._due_s = time.monotonic() + CENSUS_EVERY_S
        return self._counts[state]


def _plots(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Points for the plots, scaled to their box."""
    return [
        _plot("Readings a second", "readings_per_s", [sample.readings_per_s for sample in samples]),
        _plot("Published a second", "published_per_s", [sample.published_per_s for sample in samples]),
        _plot("Waiting in the outbox", "outbox_depth", [float(sample.outbox_depth) for sample in samples]),
    ]


def _plot(title: str, name: str, values: Sequence[float]) -> dict[str, Any]:
    top = max(values, default=0.0) or 1.0
    step = PLOT_WIDTH / max(1, len(values) - 1)
    points = " ".join(
        f"{index * step:.1f},{PLOT_HEIGHT - value / top * (PLOT_HEIGHT - 4) - 2:.1f}"
        for index, value in enumerate(values)
    )
    return {"title": title, "name": name, "top": top, "points": points, "values": ",".join(f"{v:g}" for v in values)}
