"""The NIC's own CoAP resources (SM02): what exists, in which format, and what it says. No sockets, no aiocoap.

The table is the only place where a path is spelled; `/`, `/.well-known/core` and the registration with the gateway are
made from it. Everything below `/snsr` is the board's (`forward`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from meshwire.coap import codes
from meshwire.coap.message import Message
from meshwire.coap.options import CBOR, JSON, LINK_FORMAT, TEXT
from meshwire.identity import DeviceId
from nic_sim.frame_watch import DEFAULT_LEASE_S, LONGEST_LEASE_S
from nic_sim.instruments import Instruments
from nic_sim.observation import Observation, ObservationRow

__all__ = ["NicView", "Reply", "Resource", "ResourceError", "board_links", "build_resources", "link_format"]

FORMAT_NAMES: Final = {
    TEXT: "text/plain",
    LINK_FORMAT: "application/link-format",
    JSON: "application/json",
    CBOR: "application/cbor",
}
REBOOT_QUERY: Final = "ev=rbt"


class ResourceError(Exception):
    """A request to an own resource that is refused, with its code."""

    def __init__(self, code: int, diagnostic: str) -> None:
        super().__init__(diagnostic)
        self.code = code
        self.diagnostic = diagnostic


@dataclass(frozen=True, slots=True)
class Reply:
    """What a resource says."""

    code: int
    content_format: int | None = None
    payload: bytes = b""
    max_age_s: int | None = None


Handler = Callable[[Message], Reply]


@dataclass(frozen=True, slots=True)
class Resource:
    """One row of the URI table."""

    path: str
    """Without leading slash."""
    title: str
    content_format: int | None
    methods: Mapping[int, Handler]


class NicView(Protocol):
    """What the resources show and may do."""

    device: DeviceId
    instruments: Instruments

    def unix_time(self) -> float: ...
    def rows(self) -> list[ObservationRow]: ...
    def observations(self, path: str | None) -> list[Observation]: ...
    def renew(self, items: list[Observation]) -> None: ...
    def cancel(self, items: list[Observation]) -> None: ...
    def reboot_seen(self) -> None: ...
    def link_report(self) -> Mapping[str, object]: ...
    def stats_report(self) -> Mapping[str, object]: ...
    def uplink_report(self) -> Mapping[str, object]: ...
    def coap_report(self) -> Mapping[str, object]: ...
    def metrics(self) -> str: ...
    def frames(self, after: int, lease_s: float) -> bytes: ...
    def unwatch(self) -> None: ...


def build_resources(view: NicView) -> dict[str, Resource]:
    """The URI table of one NIC, by path."""
    table: dict[str, Resource] = {}

    def add(path: str, title: str, content_format: int | None, **methods: Handler) -> None:
        by_code = {getattr(codes, name): handler for name, handler in methods.items()}
        table[path] = Resource(path, title, content_format, by_code)

    add("", "URI table", TEXT, GET=lambda _: _text(_uri_table(table, view)))
    add(
        ".well-known/core",
        "links",
        LINK_FORMAT,
        GET=lambda _: Reply(codes.CONTENT, LINK_FORMAT, link_format(table, view)),
    )
    add("sys/date", "date (UTC)", TEXT, GET=lambda _: _text(_now(view).strftime("%Y-%m-%d"), 1))
    add("sys/time", "time of day (UTC)", TEXT, GET=lambda _: _text(_now(view).strftime("%H:%M:%SZ"), 1))
    add("sys/battery", "battery level", JSON, GET=lambda _: _json(view.instruments.battery(view.unix_time()), 1))
    add("sys/signal", "signal strength", JSON, GET=lambda _: _json(view.instruments.signal(view.unix_time()), 1))
    add("sys/temperature", "case temperature", JSON, GET=lambda _: _temperature(view))
    add("sys/link", "serial link: state, silence, raw counters", JSON, GET=lambda _: _json(view.link_report(), 0))
    add("sys/uplink", "way to the gateway and its counters", JSON, GET=lambda _: _json(view.uplink_report(), 0))
    add("sys/link/stats", "figures of the serial link", JSON, GET=lambda _: _json(view.stats_report(), 0))
    add("sys/metrics", "figures of the serial link for Prometheus", TEXT, GET=lambda _: _text(view.metrics(), 0))
    add(
        "sys/link/frames",
        "frames on the serial line (?after=&lease= seconds; DELETE ends)",
        CBOR,
        GET=lambda request: _frames(view, request),
        DELETE=lambda _: _unwatch(view),
    )
    add("sys/coap", "CoAP counters", JSON, GET=lambda _: _json(view.coap_report(), 0))
    add(
        "sys/observe",
        "observations (POST renews and DELETE cancels ?path=)",
        JSON,
        GET=lambda _: _json(view.rows(), 0),
        POST=lambda request: _renew(view, request),
        DELETE=lambda request: _cancel(view, request),
    )
    add("sys/sysvar/35", "configured observes", TEXT, GET=lambda _: _text(_configured(view)))
    add("sys/snsr", "reboot message of the board (?ev=rbt)", None, PUT=lambda request: _reboot(view, request))
    return table


def link_format(table: Mapping[str, Resource], view: NicView) -> bytes:
    """RFC 6690 links of the NIC, and of what it knows of its board."""
    links = [
        f'</{item.path}>;title="{item.title}"' + ("" if item.content_format is None else f";ct={item.content_format}")
        for item in table.values()
    ]
    return ",".join([*links, board_links(view).decode()]).encode()


def board_links(view: NicView) -> bytes:
    """The links below `/snsr` alone: also the payload of the registration with the gateway, which has to be short."""
    paths = dict.fromkeys(item.path for item in view.observations(None))
    return ",".join(["</snsr>", *(f'</{path}>;rt="{path.rsplit("/", 1)[-1]}";obs' for path in paths)]).encode()


def _uri_table(table: Mapping[str, Resource], view: NicView) -> str:
    lines = [f"NIC {view.device}"]
    for item in table.values():
        methods = ",".join(codes.code_text(code) for code in item.methods)
        fmt = "" if item.content_format is None else FORMAT_NAMES[item.content_format]
        lines.append(f"/{item.path:<22} {methods:<16} {fmt:<26} {item.title}")
    lines.append(f"{'/snsr/…':<23} {'any':<16} {'':<26} the sensor board, without /snsr")
    for row in view.rows():
        query = "" if row.query is None else f"?{row.query}"
        lines.append(
            f"/{row.path + query:<22} GET observe      {'':<26} {row.state.value}, {row.notifications} readings"
        )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _configured(view: NicView) -> str:
    entries = [item for item in view.observations(None) if item.configured]
    return "".join(f"{item.path}?{item.query or ''},{item.delivery.value}\n" for item in entries)


def _renew(view: NicView, request: Message) -> Reply:
    view.renew(_chosen(view, request, needs_path=False))
    return Reply(codes.CHANGED)


def _cancel(view: NicView, request: Message) -> Reply:
    view.cancel(_chosen(view, request, needs_path=True))
    return Reply(codes.DELETED)


def _chosen(view: NicView, request: Message, *, needs_path: bool) -> list[Observation]:
    paths = [part.removeprefix("path=").strip("/") for part in request.query() if part.startswith("path=")]
    if needs_path and not paths:
        raise ResourceError(codes.BAD_REQUEST, "say which: ?path=snsr/…")
    found = view.observations(paths[0] if paths else None)
    if paths and not found:
        raise ResourceError(codes.NOT_FOUND, f"{paths[0]} is not observed")
    return found


def _frames(view: NicView, request: Message) -> Reply:
    arguments = dict(part.split("=", 1) for part in request.query() if "=" in part)
    after, lease_s = arguments.get("after", "0"), arguments.get("lease", f"{DEFAULT_LEASE_S:.0f}")
    if not all(text.isascii() and text.isdigit() and len(text) <= 18 for text in (after, lease_s)):
        raise ResourceError(codes.BAD_REQUEST, "after= and lease= are whole numbers")
    if not 1 <= int(lease_s) <= LONGEST_LEASE_S:
        raise ResourceError(codes.BAD_REQUEST, f"lease= is 1 to {LONGEST_LEASE_S:.0f} seconds")
    return Reply(codes.CONTENT, CBOR, view.frames(int(after), float(lease_s)), 0)


def _unwatch(view: NicView) -> Reply:
    view.unwatch()
    return Reply(codes.DELETED)


def _reboot(view: NicView, request: Message) -> Reply:
    if REBOOT_QUERY not in request.query():
        raise ResourceError(codes.BAD_REQUEST, f"only ?{REBOOT_QUERY} is known")
    view.reboot_seen()
    return Reply(codes.CHANGED)


def _temperature(view: NicView) -> Reply:
    return _json({"temperature_c": view.instruments.temperature_c(view.unix_time())}, 1)


def _now(view: NicView) -> datetime:
    return datetime.fromtimestamp(view.unix_time(), UTC)


def _text(text: str, max_age_s: int | None = None) -> Reply:
    return Reply(codes.CONTENT, TEXT, text.encode(), max_age_s)


def _json(value: object, max_age_s: int) -> Reply:
    return Reply(codes.CONTENT, JSON, json.dumps(value, default=_plain, ensure_ascii=False).encode(), max_age_s)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
