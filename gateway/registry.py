"""Whose device is whose and where it is reachable now; OAuth clients and password accounts of tenants.

One SQLite file holds it all. Devices and addresses are also kept in memory, because every notification asks for
them; another process that writes the file (the command line) is noticed by `refresh`. Addresses change in memory at
once and reach the file when they differ, or by `flush`. Secrets are stored as argon2id hashes only (`credentials.py`).
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.addresses import Address
from gateway.errors import RegistryError
from gateway.hashing import hash_secret, new_secret
from meshwire.identity import DeviceId, TenantId

__all__ = ["Account", "Device", "IssuedClient", "Registry", "Sighting"]

SCHEMA_VERSION: Final = 1
EARLY: Final = 0.9
"""A registration before this part of the promised interval is not the next one in turn."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS tenants (id TEXT PRIMARY KEY, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS devices (
    mac TEXT PRIMARY KEY, tenant TEXT NOT NULL REFERENCES tenants(id), type TEXT NOT NULL, domain TEXT NOT NULL,
    enabled INTEGER NOT NULL, created REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS devices_by_tenant ON devices(tenant);
CREATE TABLE IF NOT EXISTS addresses (
    mac TEXT PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL, seen_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (
    name TEXT NOT NULL, kind TEXT NOT NULL, hash TEXT NOT NULL, tenant TEXT NOT NULL REFERENCES tenants(id),
    roles TEXT NOT NULL, scope TEXT NOT NULL, created REAL NOT NULL,
    PRIMARY KEY (name, kind)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Device:
    """A provisioned NIC."""

    mac: DeviceId
    tenant: TenantId
    type: str = "MILLI"
    domain: str = ""
    """Domain of its host name; empty: any."""
    enabled: bool = True
    created_s: float = 0.0
    """Unix seconds."""


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


class Registry:
    """The registry of one gateway; not thread-safe.

    Args:
        path: the SQLite file; None: in memory.

    Raises:
        RegistryError: the file is of a newer release or no database.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            self._database = sqlite3.connect(path or ":memory:", isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("PRAGMA foreign_keys = ON")
            self._database.execute("PRAGMA busy_timeout = 2000")
            version = int(self._database.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"schema version {version}; this release reads {SCHEMA_VERSION}")
            self._database.executescript(_SCHEMA)
            self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.Error as error:
            raise RegistryError(
                "the registry can't be opened",
                evidence=f"{path}: {error}",
                fix="check the file and its folder's permissions, or use the release that wrote it",
            ) from None
        self._devices: dict[DeviceId, Device] = {}
        self._sightings: dict[DeviceId, Sighting] = {}
        self._unsaved: set[DeviceId] = set()
        self._registrations: dict[DeviceId, tuple[float, float | None]] = {}
        self._watchers: list[Callable[[DeviceId], None]] = []
        self._data_version = -1
        self.refresh()
        self._load_sightings()

    # --- tenants

    def add_tenant(self, tenant: TenantId) -> bool:
        """Make a tenant known; False when it is known already."""
        query = "INSERT OR IGNORE INTO tenants VALUES (?, ?)"
        return self._database.execute(query, (tenant.value, time.time())).rowcount > 0

    def tenants(self) -> list[TenantId]:
        """All tenants, in alphabetical order."""
        return [TenantId(row[0]) for row in self._database.execute("SELECT id FROM tenants ORDER BY id")]

    # --- devices

    def add_device(
        self, mac: DeviceId, tenant: TenantId, *, type: str = "MILLI", domain: str = "", enabled: bool = True
    ) -> Device:
        """Provision a device, or change one of the same tenant; a new tenant becomes known by it.

        Raises:
            RegistryError: the device belongs to another tenant.
        """
        existing = self.device(mac)
        if existing is not None and existing.tenant != tenant:
            # The message does not name the other tenant: who owns what is nobody else's business.
            raise RegistryError("the device can't be provisioned", evidence=f"{mac} is taken", fix="remove it first")
        self.add_tenant(tenant)
        device = Device(mac, tenant, type, domain, enabled, existing.created_s if existing else time.time())
        self._database.execute(
            "INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?, ?, ?)",
            (mac.value, tenant.value, type, domain, enabled, device.created_s),
        )
        self._devices[mac] = device
        return device

    def remove_device(self, mac: DeviceId) -> bool:
        """Forget a device and its address; False when it was not there."""
        removed = self._database.execute("DELETE FROM devices WHERE mac = ?", (mac.value,)).rowcount > 0
        self._database.execute("DELETE FROM addresses WHERE mac = ?", (mac.value,))
        self._devices.pop(mac, None)
        self._sightings.pop(mac, None)
        self._unsaved.discard(mac)
        return removed

    def device(self, mac: DeviceId) -> Device | None:
        """A provisioned device, or None."""
        return self._devices.get(mac) or self._look_up(mac)

    def devices(self, tenant: TenantId | None = None, type: str | None = None) -> list[Device]:
        """Devices in the order of their MACs; with `tenant` or `type`: only those."""
        self.refresh()
        return [
            device
            for _, device in sorted(self._devices.items())
            if tenant in (None, device.tenant) and type in (None, device.type)
        ]

    def refresh(self) -> None:
        """Read the devices again when another process has changed the file."""
        version = int(self._database.execute("PRAGMA data_version").fetchone()[0])
        if version == self._data_version:
            return
        self._data_version = version
        self._devices = {device.mac: device for device in self._read_devices("SELECT * FROM devices", ())}

    def _look_up(self, mac: DeviceId) -> Device | None:
        for device in self._read_devices("SELECT * FROM devices WHERE mac = ?", (mac.value,)):
            self._devices[mac] = device
            return device
        return None

    def _read_devices(self, query: str, arguments: tuple[str, ...]) -> Iterable[Device]:
        for mac, tenant, kind, domain, enabled, created_s in self._database.execute(query, arguments):
            yield Device(DeviceId(mac), TenantId(tenant), kind, domain, bool(enabled), created_s)

    # --- where devices are

    def seen(self, mac: DeviceId, address: Address, now_s: float) -> None:
        """Note that a device was heard from `address`; watchers are told when it has moved."""
        before = self._sightings.get(mac)
        sighting = self._sightings[mac] = Sighting(address, now_s)
        if before is None or before.address != address:
            self._save_sighting(mac, sighting)
            self._tell_watchers(mac)
        else:
            self._unsaved.add(mac)

    def registered(self, mac: DeviceId, address: Address, now_s: float, interval_s: float | None) -> None:
        """Note a registration; one that comes long before it was due means that the device has started anew.

        Args:
            mac: the device.
            address: where it registered from.
            now_s: Unix time in seconds.
            interval_s: how often it will register, as it said; None: it did not.
        """
        before = self._registrations.get(mac)
        self._registrations[mac] = (now_s, interval_s)
        has_moved = (known := self._sightings.get(mac)) is None or known.address != address
        self.seen(mac, address, now_s)
        if before is not None and before[1] is not None and now_s - before[0] < EARLY * before[1] and not has_moved:
            self._tell_watchers(mac)

    def interval_s(self, mac: DeviceId) -> float | None:
        """How often the device said it registers."""
        registration = self._registrations.get(mac)
        return None if registration is None else registration[1]

    def sighting(self, mac: DeviceId) -> Sighting | None:
        """Where a device was seen last."""
        return self._sightings.get(mac)

    def watch(self, watcher: Callable[[DeviceId], None]) -> Callable[[], None]:
        """Be told when a device has a new address or has started anew; gives the function that ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def _tell_watchers(self, mac: DeviceId) -> None:
        for watcher in tuple(self._watchers):
            watcher(mac)

    def flush(self) -> None:
        """Write the times of sightings that have not been written."""
        if not self._unsaved:
            return
        self._database.execute("BEGIN")
        for mac in self._unsaved:
            self._save_sighting(mac, self._sightings[mac])
        self._database.execute("COMMIT")
        self._unsaved.clear()

    def _save_sighting(self, mac: DeviceId, sighting: Sighting) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO addresses VALUES (?, ?, ?, ?)",
            (mac.value, sighting.address.host, sighting.address.port, sighting.seen_s),
        )

    def _load_sightings(self) -> None:
        for mac, host, port, seen_s in self._database.execute("SELECT mac, host, port, seen_at FROM addresses"):
            self._sightings[DeviceId(mac)] = Sighting(Address(host, port), seen_s)

    # --- accounts

    def add_client(self, tenant: TenantId, roles: Iterable[str], *, scope: str = "api") -> IssuedClient:
        """Make an OAuth client of a tenant; its secret is known to the caller alone from then on."""
        issued = IssuedClient(f"{tenant}-{secrets.token_hex(6)}", new_secret())
        self.add_account(issued.id, issued.secret, tenant, roles, kind="client", scope=scope)
        return issued

    def add_account(
        self,
        name: str,
        secret: str,
        tenant: TenantId,
        roles: Iterable[str],
        *,
        kind: str = "user",
        scope: str = "api",
    ) -> None:
        """Store an account (or replace the one of the same name and kind); hashing takes some 50 ms."""
        self.add_tenant(tenant)
        self._database.execute(
            "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (name, kind, hash_secret(secret), tenant.value, " ".join(sorted(roles)), scope, time.time()),
        )

    def account(self, name: str, kind: str) -> Account | None:
        """The account of that name and kind, or None."""
        query = "SELECT hash, tenant, roles, scope, created FROM accounts WHERE name = ? AND kind = ?"
        row = self._database.execute(query, (name, kind)).fetchone()
        if row is None:
            return None
        secret_hash, tenant, roles, scope, created_s = row
        return Account(name, kind, secret_hash, TenantId(tenant), frozenset(roles.split()), scope, created_s)

    def accounts(self, kind: str) -> list[str]:
        """Names of all accounts of a kind."""
        return [
            row[0] for row in self._database.execute("SELECT name FROM accounts WHERE kind = ? ORDER BY name", (kind,))
        ]

    def remove_account(self, name: str, kind: str) -> bool:
        """Forget an account; False when it was not there."""
        query = "DELETE FROM accounts WHERE name = ? AND kind = ?"
        return self._database.execute(query, (name, kind)).rowcount > 0

    def close(self) -> None:
        """Write what is left and let go of the file."""
        self.flush()
        self._database.close()
