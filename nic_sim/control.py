"""What can be changed in a NIC while it runs: its board. Serves the control socket that `meshwire replace` asks.

Only this machine's user can: a port's name may also name files, so it is no CoAP resource.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from nic_sim.board_line import OpenPipe
from nic_sim.board_profile import ProfileName
from nic_sim.nic import Nic

__all__ = ["NIC", "NicControl"]

NIC: Final = "nic"
"""Kind of the control socket."""


class NicControl:
    """The board of one NIC, for the control socket.

    Args:
        nic: the NIC.
        opener: makes what opens a PORT; raises where the PORT can't be understood.
    """

    def __init__(self, nic: Nic, opener: Callable[[str], OpenPipe]) -> None:
        self._nic = nic
        self._opener = opener

    def describe(self) -> dict[str, Any]:
        """The board, in the form that `meshwire replace` lists."""
        settings, status = self._nic.settings, self._nic.line.status
        board = {"mac": settings.mac, "port": settings.serial, "profile": settings.profile.value}
        return {"boards": [board | {"state": status.state.value, "simulated": False}]}

    async def carry_out(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`replace` with mac, port and perhaps profile.

        Raises:
            ValueError: another request, another MAC, a profile or port that can't be.
        """
        if request["do"] != "replace" or request["mac"] != self._nic.settings.mac:
            raise ValueError(f"can't {request['do']} {request.get('mac')}")
        port = str(request["port"])
        profile = request.get("profile")
        await self._nic.replace_board(port, self._opener(port), None if profile is None else ProfileName(profile))
        return self.describe()
