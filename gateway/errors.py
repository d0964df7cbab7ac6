"""Errors of the gateway that reach a person, and their stable codes."""

from __future__ import annotations

from typing import ClassVar

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["AddressInUseError", "GatewayError", "RegistryError"]


class GatewayError(MeshwireError):
    """Base of the gateway's errors."""

    default_code: ClassVar[str] = "MW-GWY-001"


class AddressInUseError(GatewayError):
    """A socket of the gateway can't be bound."""

    default_code: ClassVar[str] = "MW-GWY-002"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


class RegistryError(GatewayError):
    """A tenant, device, client or account can't be stored as asked."""

    default_code: ClassVar[str] = "MW-GWY-003"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED
