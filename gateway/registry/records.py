"""What the registry knows: tenants, devices, where they were seen, accounts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.addresses import Address
from gateway.errors import RegistryError
from meshwire.identity import DeviceId, TenantId

__all__ = ["Account", "Device", "IssuedClient", "Sighting", "Tenant", "check_device_type", "check_domain", "check_tags"]

MOST_TAGS: Final = 32
_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=@/-]{0,63}")
_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_DOMAIN: Final = re.compile(r"([A-Za-z0-9_-]{1,63})(\.[A-Za-z0-9_-]{1,63})*")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A party that owns devices."""

    id: TenantId
    title: str = ""
    """For people."""
    created_s: float = 0.0
    max_devices: int | None = None
    """Its own bound; None: as the configuration says."""


@dataclass(frozen=True, slots=True)
class Device:
    """A provisioned NIC."""

    mac: DeviceId
    tenant: TenantId
    type: str = "MILLI"
    domain: str = ""
    """Domain of its host name; empty: any."""
    enabled: bool = True
    """A disabled device is answered like an unknown one."""
    created_s: float = 0.0
    """Unix seconds."""
    tags: tuple[str, ...] = ()
    """In alphabetical order."""
    refusal: str = ""
    """Why a device that was enabled is not: its account is not served. This is not stored."""
    sealed_key: str = field(default="", repr=False)
    """Its OSCORE key, encrypted by a secret of the site; empty: it has none."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a device was seen last."""

    address: Address
    seen_s: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Account:
    """A party with a secret: an OAuth client (`kind` = "client") or a password account (`kind` = "user")."""

    name: str
    kind: str
    secret_hash: str
    tenant: TenantId
    roles: frozenset[str]
    scope: str = "api"
    """API scopes, separated by blanks."""
    created_s: float = 0.0


@dataclass(frozen=True, slots=True)
class IssuedClient:
    """A new OAuth client, shown once."""

    id: str
    secret: str


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags in order, each once.

    Raises:
        RegistryError: more than 32, or one that is not 1 to 64 characters of A-Z a-z 0-9 _ . : = @ / - .
    """
    distinct = tuple(sorted(set(tags)))
    for tag in distinct:
        if _TAG.fullmatch(tag) is None:
            raise RegistryError(
                "a tag can't be stored",
                evidence=f"{tag[:80]!r}",
                fix="use 1 to 64 characters of A-Z a-z 0-9 _ . : = @ / - that begin with a letter or digit",
            )
    if len(distinct) > MOST_TAGS:
        raise RegistryError("a device has too many tags", evidence=f"{len(distinct)}", fix=f"use at most {MOST_TAGS}")
    return distinct


def check_device_type(text: str) -> str:
    """A device type as it is; raises RegistryError when it is none (it becomes a level of MQTT topics elsewhere)."""
    if _TYPE.fullmatch(text) is None:
        raise RegistryError(
            "a device type can't be stored",
            evidence=f"{text[:80]!r}",
            fix="use 1 to 64 characters of A-Z a-z 0-9 _ . : - that begin with a letter or digit",
        )
    return text


def check_domain(text: str) -> str:
    """A domain as it is, or empty; raises RegistryError when it is none."""
    if text and (len(text) > 253 or _DOMAIN.fullmatch(text) is None):
        raise RegistryError("a domain can't be stored", evidence=f"{text[:80]!r}", fix="write it like SG.YEL01.SSN.NET")
    return text
