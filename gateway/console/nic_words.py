"""What a NIC says of itself, as values: its resources' JSON, read with the suspicion that a device deserves. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from meshwire.coap.link_format import Link, parse_links

__all__ = ["Figure", "ObserveLine", "Resource", "counter_lines", "figures", "observe_lines", "resources"]

MOST_LINES: Final = 100
MOST_TEXT: Final = 200


class _Said(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ObserveLine(_Said):
    """One persistent observe, as `/sys/observe` tells it."""

    path: str
    query: str | None = None
    state: str
    delivery: str = ""
    configured: bool = True
    clients: int = 0
    age_s: float = 0.0
    epoch: int = 0
    last_notification_age_s: float | None = None
    notifications: int = 0
    registrations: int = 0
    next_refresh_s: float | None = None
    last_loss: str | None = None
    last_loss_age_s: float | None = None
    last_detail: str = ""
    losses: dict[str, int] = {}

    @property
    def renewals(self) -> int:
        """Registrations after the first one."""
        return max(0, self.registrations - 1)

    @property
    def lost_words(self) -> str:
        """Why registrations did not hold, each with its number."""
        return ", ".join(f"{reason} {count}" for reason, count in self.losses.items())


class Figure(BaseModel):
    """One figure of the NIC, for people."""

    name: str
    value: str


class Resource(BaseModel):
    """Something to ask the device for."""

    path: str
    title: str = ""
    observable: bool = False


_OBSERVES: Final = TypeAdapter(list[ObserveLine])
_FIGURES: Final = {
    "sys/battery": (("Battery", "percent", " %"), ("Battery voltage", "millivolts", " mV")),
    "sys/signal": (("Signal", "rssi_dbm", " dBm"), ("Link quality", "link_quality", " of 255")),
    "sys/temperature": (("Case temperature", "temperature_c", " °C"),),
    "sys/uplink": (("Waiting for the gateway", "queued", ""), ("Room in that queue", "limit", "")),
}
"""Resource: name for people, key, unit."""
_COUNTERS: Final = {
    "state": "State of the link",
    "since_s": "For, s",
    "frames_in": "Frames in",
    "frames_out": "Frames out",
    "octets_in": "Octets in",
    "octets_out": "Octets out",
    "check_errors": "Check sequence errors",
    "discarded": "Thrown away",
    "timeouts": "Time-outs",
    "retries": "Questions put again",
    "retransmissions": "I frames sent again",
    "resets": "Links that broke",
    "link_ups": "Links made",
    "pipe_losses": "Port lost",
    "requests": "Requests answered",
    "notifications": "Notifications",
    "round_trip_last_s": "Round trip, last, s",
    "round_trip_mean_s": "Round trip, mean, s",
    "round_trip_most_s": "Round trip, longest, s",
    "port": "Port",
}


def figures(said: Mapping[str, bytes]) -> list[Figure]:
    """Battery, signal and so on, of the resources that have answered."""
    found = []
    for path, rows in _FIGURES.items():
        values = _object(said.get(path, b""))
        found += [Figure(name=name, value=f"{_words(values[key])}{unit}") for name, key, unit in rows if key in values]
    return found


def counter_lines(payload: bytes) -> list[Figure]:
    """The link's figures (`/sys/link/stats`), known ones in their order, others after them."""
    values = _object(payload)
    known = [Figure(name=name, value=_words(values[key])) for key, name in _COUNTERS.items() if key in values]
    others = [Figure(name=key[:64], value=_words(value)) for key, value in values.items() if key not in _COUNTERS]
    return (known + others)[:MOST_LINES]


def observe_lines(payload: bytes) -> list[ObserveLine]:
    """The observe ledger; nothing of one that can't be read.

    Raises:
        ValueError: it can't be read.
    """
    try:
        return _OBSERVES.validate_json(payload)[:MOST_LINES]
    except ValidationError as error:
        raise ValueError(f"{error.error_count()} fields are not of the expected form") from None


def resources(payload: bytes, prefix: str = "") -> list[Resource]:
    """Resources of a link-format document (RFC 6690); the ones of the board get its prefix."""
    links = parse_links(payload.decode(errors="replace"))
    found = {each.path: each for link in links if (each := _resource(link, prefix)) is not None}
    return list(found.values())[:MOST_LINES]


def _resource(link: Link, prefix: str) -> Resource | None:
    path = link.target.lstrip("/")
    if not link.target.startswith("/") or not path or not path.isprintable() or len(path) > MOST_TEXT:
        return None
    title = next(iter(link.values("title") or link.values("rt")), "")
    return Resource(path=prefix + path, title=title[:64], observable="obs" in dict(link.attributes))


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())[:MOST_TEXT] or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)[:MOST_TEXT]
