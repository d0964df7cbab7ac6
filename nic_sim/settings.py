"""Settings of one NIC: section `[nic]` and `[[nic.observe]]` of the configuration, and the options of `meshwire nic`.

This file decides names, defaults, ranges and the syntax of an observe entry (the NIC's "system variable 35").
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from meshwire.identity import DeviceId, IdentityError
from meshwire.mesh_place import MOST_HOPS, NODE_NAME
from meshwire.site import Site
from nic_sim.board_line import ResetAction
from nic_sim.board_profile import BOARD_PROFILES, BoardProfile, ProfileName
from nic_sim.observation import Delivery

__all__ = ["HostPort", "NicSettings", "ObserveEntry", "parse_observe"]

DEFAULT_QUERY: Final = "sens"
MAX_ENTRIES: Final = 16
MAX_MILLI_ENTRIES: Final = 4
MAX_PATH_OCTETS: Final = 64
MAX_BOARD_PATH_OCTETS: Final = 35
"""On a Milli board: its observable URI buffer holds 36 octets with the closing zero (dialect B.3)."""
MAX_QUERY_OCTETS: Final = 127
COAP_PORT: Final = 5683

_PATH: Final = re.compile(r"snsr(/[A-Za-z0-9._~!$'()*+,;=:@-]+)+")
_QUERY: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]*")


class ObserveEntry(BaseModel):
    """One resource that the NIC observes by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """As the network sees it: `snsr/` and the board's path, at most 64 octets (35 for `/…` on a Milli board)."""
    query: str | None = DEFAULT_QUERY
    """Uri-Query of the registration; an empty text sends none."""
    delivery: Delivery | None = None
    """`mqtt`, `coap` or `both`; unset: the NIC's own `delivery`."""

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        path = path.removeprefix("/")
        if len(path) > MAX_PATH_OCTETS or _PATH.fullmatch(path) is None:
            raise ValueError(
                f"{path!r} is no outward path: snsr/…, at most {MAX_PATH_OCTETS} octets, such as snsr/arduino/temp"
            )
        return path

    @field_validator("query")
    @classmethod
    def _check_query(cls, query: str | None) -> str | None:
        if query and (len(query) > MAX_QUERY_OCTETS or _QUERY.fullmatch(query) is None):
            raise ValueError(f"query {query!r} is not at most {MAX_QUERY_OCTETS} octets of URI characters")
        return query or None

    @property
    def board_path_octets(self) -> int:
        """Length of the path on the board, with its leading slash."""
        return len(self.path) - len("snsr")


def parse_observe(text: str) -> ObserveEntry:
    """Read `PATH[?QUERY][,DELIVERY]`, such as `snsr/arduino/temp`, `snsr/arduino/temp?sens,both` or `snsr/x/y?`."""
    rest, comma, delivery = text.rpartition(",")
    if comma and delivery in tuple(Delivery):
        text = rest
    else:
        delivery = ""
    path, mark, query = text.partition("?")
    return ObserveEntry(
        path=path, query=query if mark else DEFAULT_QUERY, delivery=Delivery(delivery) if delivery else None
    )


def _entry(value: object) -> object:
    return parse_observe(value) if isinstance(value, str) else value


def _split(value: object) -> object:
    """The environment gives one text: entries separated by blanks."""
    return value.split() if isinstance(value, str) else value


class HostPort(BaseModel):
    """A host and a UDP port."""

    model_config = ConfigDict(frozen=True)
    host: str
    port: int = Field(ge=0, le=65535)

    @classmethod
    def parse(cls, text: str, default_port: int) -> HostPort:
        """Read `HOST:PORT`, `[V6]:PORT`, or either without port."""
        parts = urlsplit(f"//{text}")
        if not parts.hostname or parts.path or parts.query or parts.username:
            raise ValueError(f"{text!r} is not HOST:PORT")
        port = default_port if parts.port is None else parts.port
        # urlsplit lower-cases the host, which is what a host name wants and an address does not mind.
        return cls(host=parts.hostname, port=port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NicSettings(BaseModel):
    """`[nic]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mac: str
    """The NIC's EUI-64; any usual spelling."""
    serial: str | None = None
    """PORT of the sensor board: a device path, socket://, rfc2217://, pty[:LINK], sim://PROFILE?sensor=temp, or fault+
    and one of these."""
    baud: int = Field(default=38400, ge=300, le=4_000_000)
    """Line rate of the serial port."""
    gateway: str = "coap://[::1]:5683"
    """Where readings go: coap://HOST[:PORT]."""
    listen: str = "[::]:4849"
    """HOST:PORT of the NIC's CoAP server; port 0 lets the system choose."""
    observe: Annotated[tuple[Annotated[ObserveEntry, BeforeValidator(_entry)], ...], BeforeValidator(_split)] = Field(
        default=(), max_length=MAX_ENTRIES
    )
    """Resources observed by the NIC itself: PATH[?QUERY][,DELIVERY], or tables with path, query and delivery."""
    delivery: Delivery = Delivery.MQTT
    """Where notifications go: mqtt (bubble-up to the gateway), coap (only to CoAP clients that observe), or both."""
    profile: ProfileName = ProfileName.STANDARD
    """The kind of board: standard, milli (same as milli-1.4.8), milli-1.4.8 or milli-1.4.5."""
    poll_s: float | None = Field(default=None, ge=0.05, le=3600)
    """How often the board is asked whether it has something; unset: 1 s standard, 5 s milli."""
    wake: str = Field(default="none", pattern="^(cts|dsr|ri|cd|none)$")
    """Modem-control input that the board's wake line is wired to: cts, dsr, ri, cd or none."""
    silent_after_s: float | None = Field(default=None, ge=1, le=30 * 86_400)
    """Expected-activity window: when the board has said nothing for so many seconds, an alarm is raised (warning,
    /sys/link, metric, a reading of type link); unset: no alarm."""
    reset_after_s: float | None = Field(default=None, ge=1, le=30 * 86_400)
    """Silence after which reset_action is carried out, and again after each further such time; unset: never."""
    reset_action: ResetAction = ResetAction.LINK
    """link (open the port again and make the link anew), or dtr, rts or break (pulse that line; without it: link)."""
    metrics: str | None = None
    """HOST:PORT where GET /metrics answers in the Prometheus text format; port 0 lets the system choose; unset: nowhere
    (the resource /sys/metrics says the same over CoAP)."""
    oscore_key_file: Path | None = None
    """The NIC's OSCORE key (meshwire device provision MAC --out FILE): with it nothing is said to the gateway, or heard
    from anybody, in plain; unset: everything is."""
    state_dir: Path | None = None
    """Folder of this NIC's state; unset: nic/<mac> in the site's state folder."""
    uplink_queue: int = Field(default=1000, ge=1, le=1_000_000)
    """Notifications kept while the gateway is away; beyond that the oldest is dropped, counted and told."""
    register_s: float = Field(default=60.0, ge=1, le=86_400)
    """How often the NIC tells the gateway its address."""
    mesh_parent: str | None = Field(default=None, pattern=f"^{NODE_NAME}$")
    """Simulated place in the mesh, told to the gateway with each registration: the MAC of the NIC that this one sends
    through, or the name of an access point; unset: not said."""
    mesh_hops: int | None = Field(default=None, ge=1, le=MOST_HOPS)
    """Simulated hops to the access point, told likewise."""
    time_sync_s: float = Field(default=3600.0, ge=0)
    """How often the board's clock is set, besides after each board reset; 0: never, also not after a reset."""
    seed: int | None = None
    """Makes random waits, tokens and simulated instruments repeatable; unset: from the operating system."""

    @field_validator("mac")
    @classmethod
    def _check_mac(cls, mac: str) -> str:
        try:
            return DeviceId.parse(mac).value
        except IdentityError as error:
            raise ValueError(str(error)) from None

    @field_validator("gateway")
    @classmethod
    def _check_gateway(cls, gateway: str) -> str:
        parts = urlsplit(gateway)
        if parts.scheme != "coap" or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"{gateway!r} is not coap://HOST[:PORT]")
        HostPort.parse(parts.netloc, COAP_PORT)
        return gateway

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: str) -> str:
        HostPort.parse(listen, 4849)
        return listen

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: str | None) -> str | None:
        if metrics is not None:
            HostPort.parse(metrics, 0)
        return metrics

    @field_validator("observe")
    @classmethod
    def _check_observe(cls, entries: tuple[ObserveEntry, ...]) -> tuple[ObserveEntry, ...]:
        keys = [(entry.path, entry.query) for entry in entries]
        if len(set(keys)) != len(keys):
            raise ValueError("a resource is named twice")
        return entries

    @model_validator(mode="after")
    def _check_fits_board(self) -> NicSettings:
        if not BOARD_PROFILES[self.profile].one_observer_per_path:
            return self
        for entry in self.observe:
            if entry.board_path_octets > MAX_BOARD_PATH_OCTETS:
                raise ValueError(
                    f"{entry.path}: a Milli board observes paths of at most {MAX_BOARD_PATH_OCTETS} octets"
                )
        paths = [entry.path for entry in self.observe]
        if len(set(paths)) != len(paths):
            raise ValueError("a Milli board keeps one observer per path: a path is named twice")
        if len(paths) > MAX_MILLI_ENTRIES:
            raise ValueError(f"a Milli board keeps at most {MAX_MILLI_ENTRIES} observers")
        return self

    @property
    def device(self) -> DeviceId:
        return DeviceId(self.mac)

    @property
    def gateway_address(self) -> HostPort:
        return HostPort.parse(urlsplit(self.gateway).netloc, COAP_PORT)

    @property
    def listen_address(self) -> HostPort:
        return HostPort.parse(self.listen, 4849)

    @property
    def metrics_address(self) -> HostPort | None:
        return None if self.metrics is None else HostPort.parse(self.metrics, 0)

    @property
    def board(self) -> BoardProfile:
        """The board's profile with this NIC's poll period and line rate."""
        return BOARD_PROFILES[self.profile].at(poll_s=self.poll_s, baud=self.baud)

    @property
    def state_folder(self) -> Path:
        """The state folder, made if needed."""
        folder = self.state_dir or Site.default().state_dir / "nic" / self.mac
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
