"""Who takes part in the demo: MACs, tenants, board profiles and sensors, decided before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from meshwire.identity import DeviceId, TenantId
from meshwire.learned_board import LearnedBoard

__all__ = ["TENANTS", "PlannedDevice", "plan_devices", "profile_on"]

TENANTS: Final = (TenantId("riverside"), TenantId("hilltop"))
FIRST_MAC: Final = 0x0013500500470001
"""The vendor's address block of the dialect's examples; the last digits count."""

ACCESS_POINT: Final = "demo-access-point"
AT_ACCESS_POINT: Final = 2
"""So many NICs hear the access point; further ones send through others, `CHILDREN` through each."""
CHILDREN: Final = 3

_PATTERN: Final = (
    ("standard", "temp", TENANTS[0]),
    ("milli-1.4.8", "temp", TENANTS[0]),
    ("milli-1.4.5", "temp", TENANTS[1]),
    ("standard", "ncmth1", TENANTS[1]),
    ("milli-1.4.8", "echo", TENANTS[0]),
)
"""Five neighbours; with more NICs the pattern is repeated."""


@dataclass(frozen=True, slots=True)
class PlannedDevice:
    """One NIC and the board on it. `port` is None where a simulated board on a new pty is wanted."""

    mac: DeviceId
    tenant: TenantId
    profile: str
    sensor: str
    port: str | None = None
    parent: str = ACCESS_POINT
    """Where its NIC says that it hangs in the mesh, and how many hops from the access point."""
    hops: int = 1

    @property
    def observed_path(self) -> str:
        """The resource that the NIC observes, as the network names it."""
        return f"snsr/arduino/{self.sensor}"


def plan_devices(nics: int, replacements: Mapping[DeviceId, str]) -> Sequence[PlannedDevice]:
    """The first `nics` devices; those named in `replacements` get that port in the place of a simulated board.

    A MAC that is not among them is added, as a further device of the first tenant: a real board keeps its own MAC.
    """
    devices: list[PlannedDevice] = []
    for index in range(nics):
        profile, sensor, tenant = _PATTERN[index % len(_PATTERN)]
        mac = DeviceId(f"{FIRST_MAC + index:016x}")
        planned = _planned(mac, tenant, profile, sensor, replacements.get(mac))
        if index >= AT_ACCESS_POINT:
            above = devices[(index - AT_ACCESS_POINT) // CHILDREN]
            planned = replace(planned, parent=above.mac.value, hops=above.hops + 1)
        devices.append(planned)
    known = {device.mac for device in devices}
    devices += [_planned(mac, TENANTS[0], "", "temp", port) for mac, port in replacements.items() if mac not in known]
    return devices


def _planned(mac: DeviceId, tenant: TenantId, profile: str, sensor: str, port: str | None) -> PlannedDevice:
    if port is not None:
        profile = profile_on(port)
    return PlannedDevice(mac, tenant, profile, sensor, port)


def profile_on(port: str) -> str:
    """The kind of board to expect on a PORT: `sim://PROFILE` says so itself, a real one is a Milli board until somebody
    says otherwise."""
    name = port.partition("sim://")[2].partition("?")[0]
    if name.endswith(".toml"):
        with suppress(OSError, ValueError):
            return LearnedBoard.from_toml(Path(name).read_text(encoding="utf-8")).base
    return name.strip("/") or "milli-1.4.8"
