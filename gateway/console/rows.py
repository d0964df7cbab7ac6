"""A NIC as tables and pages show it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.addresses import Address
from gateway.presence import PresenceState
from gateway.registry import Device
from meshwire.mesh_place import MeshPlace

__all__ = ["Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One NIC, now."""

    device: Device
    state: PresenceState
    at: Address | None
    """Where it was heard."""
    seen_s: float | None
    """Unix time of the last sign of life."""
    place: MeshPlace | None = None
    """In the mesh, as it said."""

    @property
    def address(self) -> str | None:
        """Where it was heard, for people."""
        return None if self.at is None else str(self.at)

    @property
    def is_online(self) -> bool:
        """It can probably be reached."""
        return self.state is PresenceState.ONLINE
