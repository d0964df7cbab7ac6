"""Who: tenants, devices, roles and authenticated parties, and their text forms.

This file decides which spellings of a MAC address or a tenant id are accepted and what the one canonical
spelling is. Who may do what is decided in `broker/policy.py`; whose device is whose, in the gateway's registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = ["INTERNAL_TENANT", "DeviceId", "IdentityError", "LoginKind", "Principal", "Role", "TenantId"]

_TENANT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAC_SEPARATORS: Final = re.compile(r"[:.\- ]")
_MAC: Final = re.compile(r"[0-9a-f]{16}")
_HOST_PREFIX: Final = "ssn"


class IdentityError(ValueError):
    """A text is no valid tenant id or device id; the message names the rule and the text."""


@dataclass(frozen=True, slots=True, order=True)
class TenantId:
    """A tenant: 1 to 64 characters of A–Z a–z 0–9 _ - (others would leak between tenants on some MQTT engines)."""

    value: str

    def __post_init__(self) -> None:
        if _TENANT.fullmatch(self.value) is None:
            raise IdentityError(f"tenant id {self.value!r} is not 1 to 64 characters of A-Z a-z 0-9 _ -")

    def __str__(self) -> str:
        return self.value


INTERNAL_TENANT: Final = TenantId("ssni")
"""The tenant of all password ("CAAS") clients."""


@dataclass(frozen=True, slots=True, order=True)
class DeviceId:
    """A NIC's EUI-64, canonically 16 lower-case hexadecimal digits."""

    value: str

    def __post_init__(self) -> None:
        if _MAC.fullmatch(self.value) is None:
            raise IdentityError(f"device id {self.value!r} is not 16 lower-case hexadecimal digits")

    @classmethod
    def parse(cls, text: str) -> DeviceId:
        """Read a MAC in any usual spelling, or a host name `SSN<mac>.domain`.

        Raises:
            IdentityError: the text holds no 64-bit address.
        """
        label = text.strip().lower()
        if label.startswith(_HOST_PREFIX):
            label = label[len(_HOST_PREFIX) :].split(".", 1)[0]
        digits = _MAC_SEPARATORS.sub("", label)
        if _MAC.fullmatch(digits) is None:
            raise IdentityError(f"{text!r} is no device: expected 16 hexadecimal digits or SSN<16 digits>.<domain>")
        return cls(digits)

    def host(self, domain: str) -> str:
        """The device's host name below `domain`, such as `SSN001350050047dd92.SG.YEL01.SSN.SSNSGS.NET`."""
        return f"SSN{self.value}.{domain}"

    @property
    def eui64(self) -> bytes:
        """The address as 8 octets, network order."""
        return bytes.fromhex(self.value)

    def __str__(self) -> str:
        return self.value


class Role(StrEnum):
    """The built-in roles; what each may do is a table in `broker/policy.py`."""

    BUBBLE_UP_READ_CONSUMER = "BUBBLE_UP_READ_CONSUMER"
    BUBBLE_UP_ALERT_CONSUMER = "BUBBLE_UP_ALERT_CONSUMER"
    PRESENCE_CONSUMER = "PRESENCE_CONSUMER"
    COMMAND_CLIENT = "COMMAND_CLIENT"
    ADDRESS_SENDER = "ADDRESS_SENDER"
    ADDRESS_RECEIVER = "ADDRESS_RECEIVER"
    BUBBLE_UP_READ_CONSUMER_ALL = "BUBBLE_UP_READ_CONSUMER_ALL"
    BUBBLE_UP_ALERT_CONSUMER_ALL = "BUBBLE_UP_ALERT_CONSUMER_ALL"
    GATEWAY = "GATEWAY"
    OPERATOR = "OPERATOR"
    ADMIN = "ADMIN"


class LoginKind(StrEnum):
    """How a party proved who it is."""

    PASSWORD = "password"
    TOKEN = "token"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated party. `roles` are names, known or not: an unknown one grants nothing."""

    name: str
    tenant: TenantId
    roles: frozenset[str]
    kind: LoginKind
    expires_at: float | None = None
    """Unix seconds after which the login no longer holds; None: no end."""
    scopes: frozenset[str] = field(default_factory=frozenset)
    """API scopes of a token (`scope` claim), such as `api` or `admin`."""
    client: str = ""
    """Who asked for the token (`client_id` claim, RFC 8693 section 4.3): an OAuth client, or a person at a shell."""
    key_id: str | None = None
    """`kid` of the key that signed the token; None: not a token, or signed by a shared secret."""
    issuer: str | None = None
    """Identity provider that the key is of; None: this site."""
