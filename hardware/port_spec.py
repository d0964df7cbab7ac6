"""The forms a PORT may be written in, as data. Pure: nothing is opened here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from hardware.errors import PortError, PortProblem
from meshwire.pipe import FaultPlan

__all__ = [
    "FAULT_KEYS",
    "DevicePort",
    "FaultyPort",
    "PortSpec",
    "PtyPort",
    "SimPort",
    "TappedPort",
    "TcpPort",
    "UrlPort",
    "change_plan",
    "parse_port",
]

_FAULT_NUMBERS: Final = frozenset({"ber", "drop", "dup", "stall_s", "stall_rate"})
FAULT_KEYS: Final = _FAULT_NUMBERS | {"delay_ms", "cut", "seed"}
"""Parameters of a bad line, as `fault+PORT?…` and `meshwire fault` take them."""


@dataclass(frozen=True, slots=True)
class DevicePort:
    """`/dev/serial/by-id/…`, `COM3`, or the symlink of a pty."""

    path: str


@dataclass(frozen=True, slots=True)
class PtyPort:
    """`pty` or `pty:LINK`: a new pseudo-terminal, with a symlink at LINK."""

    link: str | None


@dataclass(frozen=True, slots=True)
class TcpPort:
    """`socket://HOST:PORT`: the octets as they are over TCP."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UrlPort:
    """`rfc2217://HOST:PORT` and what else pyserial has a handler for."""

    url: str


@dataclass(frozen=True, slots=True)
class SimPort:
    """`sim://PROFILE?sensor=temp&…`: a simulated board in a process of its own.

    Args:
        profile: board profile, or the file of a learned one (`sim:///home/me/board.toml`).
        options: the query, in order: `sensor=temp` becomes `--sensor temp`.
    """

    profile: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class FaultyPort:
    """`fault+PORT?ber=&drop=&dup=&delay_ms=&stall_s=&cut=`: any other port with a bad line."""

    inner: PortSpec
    plan: FaultPlan
    name: str = field(default="", compare=False)
    """The port inside, as written, without the fault parameters."""


@dataclass(frozen=True, slots=True)
class TappedPort:
    """`tap+PORT?file=FILE`: any other port, with everything that passes recorded for Wireshark.

    Args:
        inner: what is tapped.
        file: pcapng file; each opening of the port begins a new section in it.
    """

    inner: PortSpec
    file: str


PortSpec = DevicePort | PtyPort | TcpPort | UrlPort | SimPort | FaultyPort | TappedPort


def parse_port(text: str) -> PortSpec:
    """Read a PORT.

    Raises:
        PortError: MW-SER-001 for a form that is unknown or incomplete, MW-SER-009 for fault parameters out of range.
    """
    if text.startswith("fault+"):
        return _faulty(text.removeprefix("fault+"))
    if text.startswith("tap+"):
        return _tapped(text.removeprefix("tap+"))
    if text == "pty" or text.startswith("pty:"):
        link = text[4:]
        if text.endswith(":"):
            raise _not_understood(text, "no LINK after pty:")
        return PtyPort(link or None)
    if "://" in text:
        return _url(text)
    if not text:
        raise _not_understood(text, "it is empty")
    return DevicePort(text)


def _url(text: str) -> TcpPort | UrlPort | SimPort:
    parts = urlsplit(text)
    match parts.scheme:
        case "socket":
            try:
                host, port = parts.hostname, parts.port
            except ValueError:
                host = port = None
            if not host or not port:
                raise _not_understood(text, "socket:// wants HOST:PORT")
            return TcpPort(host, port)
        case "sim":
            named = parts.netloc and parts.path in ("", "/")
            if not named and not parts.path.endswith(".toml"):
                raise _not_understood(text, "sim:// wants a PROFILE, or FILE.toml of `meshwire learn`")
            profile = parts.netloc if named else parts.netloc + parts.path
            return SimPort(profile, tuple(parse_qsl(parts.query)))
        case _:
            return UrlPort(text)


def _faulty(text: str) -> FaultyPort:
    """Fault parameters are taken out of the query; what else is in it belongs to the port inside."""
    base, _, query = text.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    faults = {key: value for key, value in pairs if key in FAULT_KEYS and value}
    rest = [(key, value) for key, value in pairs if key not in FAULT_KEYS]
    name = base + (f"?{urlencode(rest)}" if rest else "")
    inner = parse_port(name)
    try:
        return FaultyPort(inner, change_plan(FaultPlan(), faults), name)
    except ValueError as error:
        raise PortError(
            PortProblem.BAD_FAULTS,
            f"cannot make the line of {base} faulty",
            evidence=str(error),
            fix="give shares between 0 and 1, times of 0 or above: fault+PORT?ber=0.001&delay_ms=20",
        ) from None


def _tapped(text: str) -> TappedPort:
    """`file` is taken out of the query; what else is in it belongs to the port inside."""
    base, _, query = text.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    file = next((value for key, value in pairs if key == "file"), "")
    rest = [(key, value) for key, value in pairs if key != "file"]
    if not file:
        raise _not_understood(f"tap+{text}", "no file=FILE")
    return TappedPort(parse_port(base + (f"?{urlencode(rest)}" if rest else "")), file)


def change_plan(plan: FaultPlan, faults: Mapping[str, str]) -> FaultPlan:
    """The plan with the parameters named changed; what is not named stays.

    Raises:
        ValueError: a parameter that is out of range, no number, or not in `FAULT_KEYS`.
    """
    if unknown := sorted(faults.keys() - FAULT_KEYS):
        raise ValueError(f"no parameter {unknown[0]!r}; there are {', '.join(sorted(FAULT_KEYS))}")
    changes: dict[str, Any] = {key: float(value) for key, value in faults.items() if key in _FAULT_NUMBERS}
    if "delay_ms" in faults:
        changes["delay_s"] = float(faults["delay_ms"]) / 1000
    if "cut" in faults:
        changes["cut"] = "" if faults["cut"] == "none" else faults["cut"]
    if "seed" in faults:
        changes["seed"] = int(faults["seed"])
    return replace(plan, **changes)


def _not_understood(text: str, evidence: str) -> PortError:
    return PortError(
        PortProblem.NOT_UNDERSTOOD,
        f"the port {text!r} is not understood",
        evidence=evidence,
        fix="give a device path, socket://HOST:PORT, rfc2217://HOST:PORT, pty[:LINK], sim://PROFILE, fault+PORT or "
        "tap+PORT?file=FILE",
    )
