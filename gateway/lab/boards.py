"""The demo's NICs and boards: a board on a pty each to begin with, exchanged while the site runs.

Does: make NICs and simulated boards, run them, and put a real board in the place of a simulated one, or the other way
round, when the control socket (`meshwire replace`), the HTTP API or the key `r` asks. Does not: know the servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.lab.plan import PlannedDevice, profile_on
from hardware.port_spec import parse_port
from hardware.ports import open_port
from meshwire.control import ControlSocket
from meshwire.identity import DeviceId
from meshwire.pipe import Pipe
from meshwire.site import Site
from nic_sim.board_line import OpenPipe
from nic_sim.board_profile import ProfileName
from nic_sim.nic import Nic
from nic_sim.settings import NicSettings, parse_observe
from sensor_sim.board import SensorBoard, pty_opener
from sensor_sim.spec import SensorSpec

__all__ = ["HOST", "SIMULATED", "Boards", "SeatedBoard"]

HOST: Final = "127.0.0.1"
SIMULATED: Final = "sim"
"""PORT of the NIC's own simulated board."""
STANDARD_PERIOD_S: Final = 1.0
MILLI_PERIOD_S: Final = 3.0
STANDARD_POLL_S: Final = 0.2
MILLI_POLL_S: Final = 1.0
"""A pty has no wake line, so boards are asked. A Milli exchange takes about 1.4 s of line time: not much oftener."""


@dataclass(frozen=True, slots=True)
class SeatedBoard:
    """The board that a NIC has now."""

    mac: DeviceId
    port: str
    profile: str
    simulated: bool
    state: str
    """Of the link (`meshwire.link.LinkState`)."""

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "mac": str(self.mac),
            "port": self.port,
            "profile": self.profile,
            "simulated": self.simulated,
            "state": self.state,
        }


@dataclass(slots=True)
class _Seat:
    device: PlannedDevice
    nic: Nic
    port: str
    simulated: asyncio.Task[None] | None = None


class Boards:
    """See the module.

    Args:
        devices: who takes part.
        site: folders of the NICs' states and of the ptys' symlinks.
        seed: for the boards' values.
        on_replaced: told of each exchange.
    """

    def __init__(
        self, devices: Sequence[PlannedDevice], site: Site, seed: int, on_replaced: Callable[[SeatedBoard], None]
    ) -> None:
        self.ready = asyncio.Event()
        """Set when every NIC listens."""
        self._devices = devices
        self._site = site
        self._seed = seed
        self._on_replaced = on_replaced
        self._seats: dict[DeviceId, _Seat] = {}
        self._tasks = asyncio.TaskGroup()
        self._replacing = asyncio.Lock()

    async def run(self, coap_port: int) -> None:
        """Run NICs and boards until cancelled.

        Args:
            coap_port: of the gateway on loopback.
        """
        socket = await ControlSocket.open("site", self.describe, self.carry_out)
        try:
            async with self._tasks as tasks:
                for device in self._devices:
                    seat = _Seat(device, self._nic(device, coap_port), self._port_of(device))
                    self._seats[device.mac] = seat
                    if device.port is None:
                        seat.simulated = tasks.create_task(self._simulated(device, device.profile).run())
                    tasks.create_task(seat.nic.run())
                for seat in self._seats.values():
                    await seat.nic.ready.wait()
                self.ready.set()
        finally:
            if socket is not None:
                socket.close()

    def seated(self) -> list[SeatedBoard]:
        """The board of each NIC now, in the order of the plan."""
        return [
            SeatedBoard(
                mac,
                seat.port,
                seat.nic.settings.profile.value,
                seat.simulated is not None,
                seat.nic.line.status.state.value,
            )
            for mac, seat in self._seats.items()
        ]

    async def replace(self, mac: DeviceId, port: str, profile: str | None = None) -> SeatedBoard:
        """Give a NIC another board while it runs.

        Args:
            mac: of the NIC.
            port: any PORT, or `sim` for the simulated board.
            profile: its kind; None: as `--replace` takes it (a simulated one: as at first).

        Raises:
            LookupError: no such NIC.
            ValueError: no such profile, or one that can't keep what the NIC observes.
            PortError: a port that can't be understood.
        """
        seat = self._seats.get(mac)
        if seat is None:
            raise LookupError(f"no NIC {mac} here")
        async with self._replacing:
            await self._replace(seat, port, profile)
        board = next(board for board in self.seated() if board.mac == mac)
        self._on_replaced(board)
        return board

    async def _replace(self, seat: _Seat, port: str, profile: str | None) -> None:
        simulated = port == SIMULATED
        kind = ProfileName(profile or (seat.device.profile if simulated else profile_on(port)))
        if simulated:
            port = self._link_of(seat.device)
        await seat.nic.replace_board(port, _opener(port), kind, poll_s=_poll_s(kind))
        old, seat.simulated, seat.port = seat.simulated, None, port
        if old is not None:
            old.cancel()
            await asyncio.gather(old, return_exceptions=True)
        if simulated:
            seat.simulated = self._tasks.create_task(self._simulated(seat.device, kind.value).run())

    # ---- for the control socket

    def describe(self) -> dict[str, Any]:
        """All boards, in the form that `meshwire replace` lists."""
        return {"boards": [board.record() for board in self.seated()]}

    async def carry_out(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`replace` with mac, port and perhaps profile."""
        if request["do"] != "replace":
            raise ValueError(f"can't {request['do']}")
        try:
            await self.replace(DeviceId.parse(request["mac"]), str(request["port"]), request.get("profile"))
        except LookupError as error:
            raise ValueError(str(error)) from None
        return self.describe()

    # ---- parts

    def _simulated(self, device: PlannedDevice, profile: str) -> SensorBoard:
        standard = profile == ProfileName.STANDARD
        return SensorBoard(
            "milli-1.4.8" if profile == ProfileName.MILLI else profile,
            [SensorSpec(device.sensor)],
            pty_opener(self._link_of(device)),
            period_s=STANDARD_PERIOD_S if standard else MILLI_PERIOD_S,
            seed=self._seed + int(device.mac.value[-4:], 16),
            name=f"board-{device.mac}",
        )

    def _nic(self, device: PlannedDevice, coap_port: int) -> Nic:
        port = self._port_of(device)
        settings = NicSettings(
            mac=device.mac.value,
            serial=port,
            gateway=f"coap://{HOST}:{coap_port}",
            listen=f"{HOST}:0",
            profile=ProfileName(device.profile),
            observe=(parse_observe(device.observed_path),),
            poll_s=_poll_s(ProfileName(device.profile)),
            mesh_parent=device.parent,
            mesh_hops=device.hops,
            state_dir=self._site.path("nics", device.mac.value),
        )
        return Nic(settings, _opener(port))

    def _port_of(self, device: PlannedDevice) -> str:
        return device.port or self._link_of(device)

    def _link_of(self, device: PlannedDevice) -> str:
        """The symlink that stands for the simulated board's pty."""
        return str(self._site.path("ports", device.mac.value))


def _poll_s(profile: ProfileName) -> float:
    return STANDARD_POLL_S if profile is ProfileName.STANDARD else MILLI_POLL_S


def _opener(port: str) -> OpenPipe:
    parse_port(port)

    async def open_pipe() -> Pipe:
        return await open_port(port)

    return open_pipe
