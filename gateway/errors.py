"""Errors of the gateway that reach a person, and their stable codes."""

from __future__ import annotations

from typing import ClassVar, Final

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "AddressInUseError", "CertificateError", "CredentialError", "GatewayError", "RegistryError"]


CATALOGUE: Final = {
    "MW-GWY-001": "The gateway can't do what was asked; the message says what and why.",
    "MW-GWY-002": "A UDP or TCP port of the gateway is taken, or the address is not one of this machine.",
    "MW-GWY-003": "The registry refused: a tenant, device, client or account is unknown, taken, or belongs to another.",
    "MW-GWY-004": "Another gateway has this outbox open: two of them would publish everything twice.",
    "MW-GWY-005": "The certificate or key for CoAP over TLS can't be read, or the two do not fit together.",
    "MW-GWY-006": "An OSCORE context can't be read, or another program has it open.",
    "MW-GWY-007": "A command works on the data of this state folder itself and does not end; others wait for it.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""


class GatewayError(MeshwireError):
    """Base of the gateway's errors."""

    default_code: ClassVar[str] = "MW-GWY-001"
    http_status: ClassVar[int] = 409
    """What a client of the HTTP API is answered."""


class AddressInUseError(GatewayError):
    """A socket of the gateway can't be bound."""

    default_code: ClassVar[str] = "MW-GWY-002"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


class RegistryError(GatewayError):
    """A tenant, device, client or account can't be stored as asked."""

    default_code: ClassVar[str] = "MW-GWY-003"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class CertificateError(GatewayError):
    """The certificate of a TLS listener can't be used."""

    default_code: ClassVar[str] = "MW-GWY-005"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


class CredentialError(GatewayError):
    """An OSCORE context can't be used."""

    default_code: ClassVar[str] = "MW-GWY-006"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION
