"""What the person at the demo sees: a live table on a terminal, lines elsewhere, JSON for scripts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from gateway.lab.boards import SeatedBoard
from gateway.lab.plan import PlannedDevice
from gateway.lab.subscriber import Arrival
from meshwire.identity import DeviceId

__all__ = ["JsonView", "LineView", "ReadySite", "TableView", "View"]


@dataclass(frozen=True, slots=True)
class ReadySite:
    """The addresses and credentials of a site that runs."""

    mqtt: str
    coap: str
    http: str
    tenants: Mapping[str, Mapping[str, str]]
    """Tenant id to `token`, `clientId` and `clientSecret`."""
    caas: Mapping[str, str]
    """`username` and `password` of an internal client that sees all tenants."""
    devices: Sequence[PlannedDevice]
    ports: Mapping[DeviceId, str]
    """MAC to the serial port of its board."""
    admin_token: str
    """For the HTTP API."""


class View(Protocol):
    """Something that shows the site."""

    def ready(self, site: ReadySite) -> None: ...
    def reading(self, arrival: Arrival) -> None: ...
    def replaced(self, board: SeatedBoard) -> None: ...
    def close(self) -> None: ...


class JsonView:
    """One JSON object a line on standard output, flushed."""

    def ready(self, site: ReadySite) -> None:
        devices = [
            {"mac": str(device.mac), "tenant": str(device.tenant), "port": site.ports[device.mac]}
            | {"profile": device.profile, "path": device.observed_path}
            for device in site.devices
        ]
        self._write(
            {
                "event": "ready",
                "mqtt": site.mqtt,
                "coap": site.coap,
                "http": site.http,
                "tenants": dict(site.tenants),
                "caas": dict(site.caas),
                "admin": {"token": site.admin_token},
                "devices": devices,
            }
        )

    def reading(self, arrival: Arrival) -> None:
        decoded = None
        if arrival.reading is not None:
            decoded = {"type": arrival.kind, "text": arrival.reading.text, **arrival.reading.values}
        self._write(
            {
                "event": "reading",
                "topic": arrival.topic,
                "payload_hex": arrival.payload.hex(),
                "decoded": decoded,
                "qos": arrival.qos,
                "latency_ms": None if arrival.latency_s is None else round(arrival.latency_s * 1000, 1),
            }
        )

    def replaced(self, board: SeatedBoard) -> None:
        self._write({"event": "replaced"} | board.record())

    def close(self) -> None:
        pass

    @staticmethod
    def _write(record: Mapping[str, object]) -> None:
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        sys.stdout.flush()


class LineView:
    """One line a reading, for logs and pipes."""

    def ready(self, site: ReadySite) -> None:
        sys.stderr.write(f"site is ready: {site.mqtt}  {site.coap}  {site.http}\n\n{pasteable(site)}\n\n")

    def reading(self, arrival: Arrival) -> None:
        cells = _cells(arrival, arrival.arrived_at_s)
        sys.stdout.write(
            f"{arrival.tenant!s:<10}  {arrival.mac}  {arrival.kind:<7} {cells.value:<24} "
            f"age {cells.age:>6}  latency {cells.latency:>7}  QoS {arrival.qos}\n"
        )
        sys.stdout.flush()

    def replaced(self, board: SeatedBoard) -> None:
        sys.stderr.write(f"{board.mac} now has {board.port} ({board.profile})\n")

    def close(self) -> None:
        pass


@dataclass(slots=True)
class TableView:
    """A table with a row a device, kept up to date in place."""

    console: Console = field(default_factory=Console)
    _site: ReadySite | None = None
    _last: dict[DeviceId, Arrival] = field(default_factory=dict)
    _counts: dict[DeviceId, int] = field(default_factory=dict)
    _live: Live | None = None
    _boards: dict[DeviceId, SeatedBoard] = field(default_factory=dict)

    def ready(self, site: ReadySite) -> None:
        self._site = site
        self.console.print(f"site is ready: {site.mqtt}  {site.coap}  {site.http}\n")
        self.console.print(pasteable(site), soft_wrap=True, highlight=False, markup=False)
        self.resume()

    def resume(self) -> None:
        """Show the table (again)."""
        self._live = Live(self._table(), console=self.console, auto_refresh=False)
        self._live.start()

    def pause(self) -> None:
        """Leave the terminal to somebody else."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """A line of talk."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def replaced(self, board: SeatedBoard) -> None:
        self._boards[board.mac] = board
        self._last.pop(board.mac, None)

    def reading(self, arrival: Arrival) -> None:
        self._last[arrival.mac] = arrival
        self._counts[arrival.mac] = self._counts.get(arrival.mac, 0) + 1
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def close(self) -> None:
        self.pause()

    def _table(self) -> Table:
        table = Table(
            title="readings as the MQTT subscribers get them (r: another board, Ctrl-C ends)", title_justify="left"
        )
        for name in ("tenant", "device", "board", "port", "type", "reading"):
            table.add_column(name)
        for name in ("age", "latency", "count"):
            table.add_column(name, justify="right")
        for device in self._site.devices if self._site else ():
            seated = self._boards.get(device.mac)
            port = seated.port if seated else self._site.ports[device.mac] if self._site else ""
            shown = str(Path(port).resolve()) if Path(port).is_symlink() else port
            start = (str(device.tenant), str(device.mac), seated.profile if seated else device.profile, shown)
            arrival = self._last.get(device.mac)
            if arrival is None:
                table.add_row(*start, device.sensor, "waiting …", "", "", "0", style="dim")
                continue
            cells = _cells(arrival, time.time())
            count = str(self._counts[device.mac])
            table.add_row(*start, arrival.kind, cells.value, cells.age, cells.latency, count)
        return table


@dataclass(frozen=True, slots=True)
class _Cells:
    value: str
    age: str
    latency: str


def _cells(arrival: Arrival, now_s: float) -> _Cells:
    """A reading as short text: the value with its unit, its age at `now_s`, its way through the site."""
    value = arrival.reading.text if arrival.reading else arrival.payload.hex(" ")
    parts = value.split(",")
    if arrival.kind == "temp" and len(parts) == 3:
        value = f"{parts[1]} °{parts[2]}"
    age, latency = arrival.age_s(now_s), arrival.latency_s
    return _Cells(
        value[:40],
        f"{age:.1f} s",
        "-" if latency is None else f"{latency * 1000:.0f} ms",
    )


def pasteable(site: ReadySite) -> str:
    """Lines that work when they are pasted into another terminal."""
    tenant, credentials = next(iter(site.tenants.items()))
    device = next(device for device in site.devices if str(device.tenant) == tenant)
    host, port = site.mqtt.removeprefix("mqtt://").rsplit(":", 1)
    uri = f"coap://{device.mac.host('SG.YEL01.SSN.SSNSGS.NET')}:4849/{device.observed_path}?sens"
    return "\n".join(
        [
            "Paste into another terminal:",
            f"  TOKEN={credentials['token']}",
            f"  mosquitto_sub -h {host} -p {port} -u notused -P \"$TOKEN\" -t '{tenant}/read/#' -F '%t %x'",
            f'  aiocoap-client --proxy {site.coap} "{uri}&access_token=$TOKEN"',
            f'  curl -s {site.http}/api/solutions/sandbox/devices -H "Authorization: $TOKEN"',
        ]
    )
