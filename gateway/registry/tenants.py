"""Tenants: made by name, or by the first device or client that is theirs."""

from __future__ import annotations

import time
from enum import Enum
from typing import Any, Final

from sqlalchemy import Row, delete, select

from gateway.errors import RegistryError
from gateway.registry import schema
from gateway.registry.database import SYSTEM, Change, Database
from gateway.registry.records import Tenant
from meshwire.identity import TenantId

__all__ = ["TenantTable", "no_tenant"]


class Unset(Enum):
    """What is not to be changed."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class TenantTable:
    """The tenants of a database."""

    database: Database

    def add_tenant(self, tenant: TenantId, *, title: str = "", by: str = SYSTEM) -> bool:
        """Make a tenant known; False when it is known already."""
        if self.tenant(tenant) is not None:
            return False
        with self.database.changing(by) as change:
            return self.include_tenant(change, tenant, title)

    def include_tenant(self, change: Change, tenant: TenantId, title: str = "") -> bool:
        """Make a tenant known within another change; False when it is known already."""
        new = self.database.insert_new(schema.tenants).values(id=tenant.value, created=time.time(), title=title)
        if change.connection.execute(new.returning(schema.tenants.c.id)).first() is None:
            return False
        change.log("tenant.add", tenant.value, tenant.value, title=title)
        return True

    def tenant(self, tenant: TenantId) -> Tenant | None:
        """A tenant, or None."""
        with self.database.reading() as connection:
            row = connection.execute(select(schema.tenants).where(schema.tenants.c.id == tenant.value)).first()
        return None if row is None else _tenant(row)

    def tenants(self) -> list[TenantId]:
        """All tenants, in alphabetical order."""
        return [tenant.id for tenant in self.tenant_records()]

    def tenant_records(self) -> list[Tenant]:
        """All tenants with their titles, in alphabetical order."""
        with self.database.reading() as connection:
            rows = connection.execute(select(schema.tenants)).all()
        return sorted(map(_tenant, rows), key=lambda tenant: tenant.id)

    def set_tenant(
        self,
        tenant: TenantId,
        *,
        title: str | None = None,
        max_devices: int | Unset | None = UNSET,
        by: str = SYSTEM,
    ) -> None:
        """Change what is given of a tenant; raises RegistryError when it is unknown.

        Args:
            tenant: which.
            title: for people.
            max_devices: its own bound; None: as the configuration says. It takes nothing away from who has more.
            by: who, for the audit log.
        """
        values: dict[str, Any] = {} if title is None else {"title": title}
        if not isinstance(max_devices, Unset):
            values["max_devices"] = max_devices
        if not values:
            return
        with self.database.changing(by) as change:
            statement = schema.tenants.update().where(schema.tenants.c.id == tenant.value).values(**values)
            if change.connection.execute(statement).rowcount == 0:
                raise no_tenant(tenant)
            change.log("tenant.set", tenant.value, tenant.value, **values)

    def remove_tenant(self, tenant: TenantId, *, by: str = SYSTEM) -> bool:
        """Forget a tenant; False when it was not there.

        Raises:
            RegistryError: it has devices, clients or accounts.
        """
        with self.database.changing(by) as change:
            for column, what in (
                (schema.devices.c.tenant, "devices"),
                (schema.accounts.c.tenant, "clients or accounts"),
                (schema.endpoints.c.account, "endpoints"),
                (schema.account_nodes.c.parent, "accounts below it"),
            ):
                if change.connection.execute(select(column).where(column == tenant.value)).first():
                    raise RegistryError(
                        "the tenant can't be removed",
                        evidence=f"{tenant} has {what}",
                        fix="remove them, or move its devices, first",
                    )
            nodes = schema.account_nodes
            change.connection.execute(delete(nodes).where(nodes.c.tenant == tenant.value))
            statement = delete(schema.tenants).where(schema.tenants.c.id == tenant.value)
            if change.connection.execute(statement).rowcount == 0:
                return False
            change.log("tenant.remove", tenant.value, tenant.value)
        return True


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(TenantId(row.id), row.title, row.created, row.max_devices)


def no_tenant(tenant: TenantId) -> RegistryError:
    """To be raised where a tenant is asked for that must be known."""
    return RegistryError("there is no such tenant", evidence=str(tenant), fix="see `meshwire tenant list`, or add it")
