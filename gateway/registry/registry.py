"""The registry of one gateway: devices in memory, in front of the database; with tenants, accounts and sightings.

Every notification asks whose device it is: that is answered from memory, and no bubble-up waits for SQL. Another
process's changes are noticed by `refresh`, which the gateway calls every second; an unknown MAC looks at once, a few
times a second at most.

Threads: whoever answers NICs asks, and is told of sightings, on the event loop's thread; changes and `read_changes` may
be called from any.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, select

from gateway.errors import RegistryError
from gateway.registry import schema
from gateway.registry.accounts import AccountTable
from gateway.registry.audit import AuditLog
from gateway.registry.database import SYSTEM, Change, Database
from gateway.registry.records import Device, check_device_type, check_domain, check_tags
from gateway.registry.sightings import SightingTable
from gateway.registry.tenants import no_tenant
from meshwire.identity import DeviceId, TenantId

__all__ = ["Changes", "Registry"]

LOOK_AGAIN_S: Final = 0.05
"""Unknown devices make the registry look into its file at most this often."""
_AT_ONCE: Final = 500
"""Values in one SQL statement."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What other processes changed."""

    revision: int
    changed: Sequence[tuple[Device, int]]
    """Devices, each with its revision."""
    removed: Sequence[tuple[DeviceId, int]]
    closed: Mapping[str, str] | None = None
    """Accounts that are not served, each with the reason; None: nobody asked."""


class Registry(AccountTable, SightingTable):
    """See the module.

    Args:
        where: the SQLite file, or a database; None: in memory.
        max_devices: bound of a tenant without one of its own; 0: none.
        closed: reads which accounts are not served, and why, whenever something has changed; None: all are.
        protects: whether the addresses of devices that have a key say so.

    Raises:
        RegistryError: the database can't be opened.
    """

    def __init__(
        self,
        where: Path | Database | None,
        *,
        max_devices: int = 0,
        closed: Callable[[Connection], Mapping[str, str]] | None = None,
        protects: bool = False,
    ) -> None:
        self._max_devices = max_devices
        self._protects = protects
        self._read_closed = closed
        self._closed: Mapping[str, str] = {}
        self._served: dict[DeviceId, Device] = {}
        """The devices as those see them who serve them: the ones of closed accounts are disabled."""
        super().__init__(where if isinstance(where, Database) else Database(where))
        self.audit = AuditLog(self.database)
        """Who changed what, and who commanded what."""
        self._devices: dict[DeviceId, Device] = {}
        self._revision = 0
        self._own: dict[DeviceId, int] = {}
        """Revisions of our own changes that are newer than `_revision`."""
        self._writing = threading.RLock()
        """Held from the change of a device until memory shows it, so that both keep the same order."""
        self._owners_changed: set[DeviceId] = set()
        """Devices that went to another tenant, or are refused now; watchers have not been told yet."""
        self.generation = 0
        """Grows whenever `device` may give something else than before."""
        self._looked_at = float("-inf")
        self.refresh()

    def add_device(
        self,
        mac: DeviceId,
        tenant: TenantId,
        *,
        type: str = "MILLI",
        domain: str = "",
        enabled: bool = True,
        tags: Iterable[str] = (),
        by: str = SYSTEM,
    ) -> Device:
        """Provision a device, or replace what is known of one of the same tenant; a new tenant becomes known by it.

        Raises:
            RegistryError: the device belongs to another tenant, or a value can't be stored.
        """
        return self.add_devices([Device(mac, tenant, type, domain, enabled, tags=tuple(tags))], by=by)[0]

    def add_devices(self, devices: Iterable[Device], *, by: str = SYSTEM) -> list[Device]:
        """Provision many devices, all or none; see `add_device`. `created_s` is set here."""
        wanted = [
            replace(
                device,
                type=check_device_type(device.type),
                domain=check_domain(device.domain),
                tags=check_tags(device.tags),
            )
            for device in devices
        ]
        if not wanted:
            return []
        with self._writing:
            with self.database.changing(by) as change:
                stored = self._store(change, wanted)
            self._show(change, stored)
        return stored

    def _store(self, change: Change, wanted: Sequence[Device]) -> list[Device]:
        known = {device.mac: device for device in self._of(change, [device.mac for device in wanted])}
        now_s, stored = time.time(), []
        for device in wanted:
            before = known.get(device.mac)
            if before is not None and before.tenant != device.tenant:
                # The message does not name the other tenant: who owns what is nobody else's business.
                raise RegistryError(
                    "the device can't be provisioned",
                    evidence=f"{device.mac} is taken",
                    fix="remove it first, or move it: meshwire device move",
                )
            created_s, key = (now_s, "") if before is None else (before.created_s, before.sealed_key)
            stored.append(replace(device, created_s=created_s, sealed_key=key))
        for tenant in sorted({device.tenant for device in stored}):
            self.include_tenant(change, tenant)
            self._check_room(change, tenant, sum(d.tenant == tenant and d.mac not in known for d in stored))
        self._write(change, stored)
        if len(stored) > 1:
            macs = [device.mac.value for device in stored]
            for tenant in sorted({device.tenant for device in stored}):
                number = sum(device.tenant == tenant for device in stored)
                change.log("device.import", f"{number} devices", tenant.value, first=min(macs), last=max(macs))
        elif stored:
            device = stored[0]
            self._log(change, "device.add" if device.mac not in known else "device.set", device)
        return stored

    def set_device(
        self,
        mac: DeviceId,
        *,
        type: str | None = None,
        domain: str | None = None,
        enabled: bool | None = None,
        tags: Iterable[str] | None = None,
        by: str = SYSTEM,
    ) -> Device:
        """Change what is given of a device; the rest stays.

        Raises:
            RegistryError: there is no such device, or a value can't be stored.
        """
        changes: dict[str, Any] = {}
        if type is not None:
            changes["type"] = check_device_type(type)
        if domain is not None:
            changes["domain"] = check_domain(domain)
        if tags is not None:
            changes["tags"] = check_tags(tags)
        if enabled is not None:
            changes["enabled"] = enabled
        with self._writing:
            with self.database.changing(by) as change:
                device = replace(self._one(change, mac), **changes)
                self._write(change, [device])
                self._log(change, "device.set", device)
            self._show(change, [device])
        return device

    def set_key(self, mac: DeviceId, sealed_key: str, *, renew: bool = False, by: str = SYSTEM) -> Device:
        """Give a device its OSCORE key, encrypted, or take it away (empty).

        Raises:
            RegistryError: there is no such device, or it has a key and `renew` is not said.
        """
        with self._writing:
            with self.database.changing(by) as change:
                known = self._one(change, mac)
                if known.sealed_key and sealed_key and not renew:
                    raise RegistryError(
                        "the device has a key already",
                        evidence=f"{mac}",
                        fix="its NIC has the file; to make that worthless and give it a new one: --renew",
                    )
                device = replace(known, sealed_key=sealed_key)
                self._write(change, [device])
                change.log("device.key-set" if sealed_key else "device.key-remove", mac.value, device.tenant.value)
            self._show(change, [device])
        return device

    def move_device(self, mac: DeviceId, tenant: TenantId, *, by: str = SYSTEM) -> Device:
        """Give a device to another tenant, which must be known.

        What was received before stays with the former tenant: its stored notifications, its observations, its log.

        Raises:
            RegistryError: unknown device or tenant, or it is that tenant's already.
        """
        with self._writing:
            with self.database.changing(by) as change:
                device = self._one(change, mac)
                self._check_move(change, device, tenant)
                moved = replace(device, tenant=tenant)
                self._write(change, [moved])
                # Both have it in their logs; neither learns the other's name.
                for owner, action in ((device.tenant, "device.move-out"), (tenant, "device.move-in")):
                    change.log(action, mac.value, owner.value)
                change.log("device.move", mac.value, "", former=device.tenant.value, tenant=tenant.value)
            self._show(change, [moved])
        return moved

    def _check_room(self, change: Change, tenant: TenantId, more: int) -> None:
        """Raises RegistryError when the tenant may not have so many devices more."""
        tenants, devices = schema.tenants, schema.devices
        own = change.connection.scalar(select(tenants.c.max_devices).where(tenants.c.id == tenant.value))
        most = (self._max_devices or None) if own is None else own
        if most is None or more <= 0:
            return
        has = change.connection.scalar(select(func.count()).where(devices.c.tenant == tenant.value)) or 0
        if has + more > most:
            raise RegistryError(
                "the tenant has no room for more devices",
                evidence=f"{tenant} has {has}, and may have {most}",
                fix="remove some, or raise the bound: meshwire tenant set TENANT --max-devices N",
            )

    def _check_move(self, change: Change, device: Device, tenant: TenantId) -> None:
        if device.tenant == tenant:
            raise RegistryError(
                "the device can't be moved", evidence=f"{device.mac} is {tenant}'s", fix="nothing to do"
            )
        if change.connection.execute(select(schema.tenants).where(schema.tenants.c.id == tenant.value)).first() is None:
            raise no_tenant(tenant)
        self._check_room(change, tenant, 1)

    def remove_device(self, mac: DeviceId, *, by: str = SYSTEM) -> bool:
        """Forget a device and its address; False when it was not there."""
        with self._writing:
            with self.database.changing(by) as change:
                known = self._of(change, [mac])
                if known:
                    change.connection.execute(delete(schema.devices).where(schema.devices.c.mac == mac.value))
                    gone = self.database.upsert(schema.removed_devices, "mac")
                    change.connection.execute(gone.values(mac=mac.value, revision=change.revision))
                    self._log(change, "device.remove", known[0])
                change.connection.execute(delete(schema.addresses).where(schema.addresses.c.mac == mac.value))
            self._own[mac] = change.revision
            self._forget(mac)
        return bool(known)

    def device(self, mac: DeviceId) -> Device | None:
        """A provisioned device as it is to be served, or None; one of an account that is not served is disabled."""
        return self._served.get(mac) or self._look_up(mac)

    def record(self, mac: DeviceId) -> Device | None:
        """A provisioned device as it is stored, or None."""
        self.device(mac)
        return self._devices.get(mac)

    def devices(self, tenant: TenantId | None = None, type: str | None = None, tag: str | None = None) -> list[Device]:
        """Devices in the order of their MACs; with `tenant`, `type` or `tag`: only those."""
        return [
            device
            for device in sorted(self._devices.copy().values(), key=_by_mac)
            if tenant in (None, device.tenant) and type in (None, device.type) and (tag is None or tag in device.tags)
        ]

    @property
    def device_count(self) -> int:
        """How many devices are provisioned."""
        return len(self._devices)

    def _look_up(self, mac: DeviceId) -> Device | None:
        now = time.monotonic()
        if not self.database.is_local or now - self._looked_at < LOOK_AGAIN_S:
            return None
        self._looked_at = now
        if not self._writing.acquire(blocking=False):
            return None
        try:
            self.refresh()
        finally:
            self._writing.release()
        return self._served.get(mac)

    def _one(self, change: Change, mac: DeviceId) -> Device:
        for device in self._of(change, [mac]):
            return device
        raise RegistryError("there is no such device", evidence=str(mac), fix="see `meshwire device list`")

    def _of(self, change: Change, macs: Sequence[DeviceId]) -> list[Device]:
        found = []
        for first in range(0, len(macs), _AT_ONCE):
            some = [mac.value for mac in macs[first : first + _AT_ONCE]]
            query = select(schema.devices).where(schema.devices.c.mac.in_(some))
            found += [_device(row) for row in change.connection.execute(query)]
        return found

    def _write(self, change: Change, devices: Sequence[Device]) -> None:
        rows = [
            {
                "mac": device.mac.value,
                "tenant": device.tenant.value,
                "type": device.type,
                "domain": device.domain,
                "enabled": device.enabled,
                "created": device.created_s,
                "tags": " ".join(device.tags),
                "revision": change.revision,
                "sealed_key": device.sealed_key,
            }
            for device in devices
        ]
        change.connection.execute(self.database.upsert(schema.devices, "mac"), rows)
        gone = schema.removed_devices.c.mac
        for first in range(0, len(rows), _AT_ONCE):
            some = [row["mac"] for row in rows[first : first + _AT_ONCE]]
            change.connection.execute(delete(schema.removed_devices).where(gone.in_(some)))

    def _log(self, change: Change, action: str, device: Device) -> None:
        change.log(
            action,
            device.mac.value,
            device.tenant.value,
            type=device.type,
            domain=device.domain,
            enabled=device.enabled,
            tags=list(device.tags),
        )

    def _show(self, change: Change, devices: Iterable[Device]) -> None:
        for device in devices:
            self._own[device.mac] = change.revision
            self._put(device)

    def _put(self, device: Device) -> None:
        before = self._devices.get(device.mac)
        self._devices[device.mac] = device
        self._served[device.mac] = self._as_served(device)
        if before is not None and (before.tenant, before.enabled) != (device.tenant, device.enabled):
            self._owners_changed.add(device.mac)
        key_before = "" if before is None else before.sealed_key
        if self._protects and device.sealed_key != key_before:
            self._protect_sighting(device.mac, bool(device.sealed_key))
            self._owners_changed.add(device.mac)
        self.generation += 1

    def _as_served(self, device: Device) -> Device:
        words = self._closed.get(device.tenant.value) if self._closed else None
        return device if words is None else replace(device, enabled=False, refusal=words)

    def _close(self, closed: Mapping[str, str]) -> None:
        self._closed = closed
        for mac, device in self._devices.items():
            before, after = self._served[mac], self._as_served(device)
            if before != after:
                self._served[mac] = after
                self._owners_changed.add(mac)
        self.generation += 1

    def _forget(self, mac: DeviceId) -> None:
        self._served.pop(mac, None)
        if self._devices.pop(mac, None) is not None:
            self._owners_changed.add(mac)
        self.generation += 1
        self._forget_sighting(mac)

    # --- other processes' changes

    def refresh(self) -> None:
        """Show what other processes have changed."""
        changes = self.read_changes()
        if changes is not None:
            self.show_changes(changes)

    def read_changes(self) -> Changes | None:
        """What other processes have changed, on any thread; None: nothing.

        Raises:
            RegistryError: the database fails.
        """
        devices, removed, since = schema.devices, schema.removed_devices, self._revision
        with self.database.reading() as connection:
            revision = self.database.revision(connection)
            if revision == since:
                return None
            changed = connection.execute(select(devices).where(devices.c.revision > since)).all()
            gone = connection.execute(select(removed).where(removed.c.revision > since)).all()
            closed = None if self._read_closed is None else self._read_closed(connection)
        return Changes(
            revision,
            [(_device(row), row.revision) for row in changed],
            [(DeviceId(row.mac), row.revision) for row in gone],
            closed,
        )

    def show_changes(self, changes: Changes) -> None:
        """Show what `read_changes` gave, on the event loop's thread; watchers hear of devices that are whose they were
        no longer, also by our own changes."""
        with self._writing:
            # They may have been read before others that were shown meanwhile: what is not newer than those is old news.
            for mac, revision in changes.removed:
                if max(self._revision, self._own.get(mac, 0)) < revision:
                    self._forget(mac)
            for device, revision in changes.changed:
                if max(self._revision, self._own.get(device.mac, 0)) < revision:
                    self._put(device)
            is_newest = changes.revision >= self._revision
            if changes.closed is not None and is_newest and changes.closed != self._closed:
                self._close(changes.closed)
            self._revision = max(self._revision, changes.revision)
            self._own = {mac: revision for mac, revision in self._own.items() if revision > self._revision}
            told, self._owners_changed = self._owners_changed, set()
        for mac in told:
            self._tell_watchers(mac)

    def close(self) -> None:
        """Write what is left and let go of the database."""
        try:
            self.flush()
        finally:
            self.database.close()


def _by_mac(device: Device) -> str:
    return device.mac.value


def _device(row: Row[Any]) -> Device:
    return Device(
        DeviceId(row.mac),
        TenantId(row.tenant),
        row.type,
        row.domain,
        bool(row.enabled),
        row.created,
        tuple(row.tags.split()),
        sealed_key=row.sealed_key,
    )
