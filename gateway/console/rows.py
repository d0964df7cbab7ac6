"""A NIC as tables and pages show it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.presence import PresenceState
from gateway.registry import Device

__all__ = ["Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One NIC, now."""

    device: Device
    state: PresenceState
    address: str | None
    seen_s: float | None
    """Unix time of the last sign of life."""

    @property
    def is_online(self) -> bool:
        """It can probably be reached."""
        return self.state is PresenceState.ONLINE
