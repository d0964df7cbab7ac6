"""Device templates of tenants (dialect part F): JSON objects that the vendor's clients store and read; nothing is made
of them here. The system's own templates describe the device types that the product knows."""

from __future__ import annotations

import re
import secrets
from typing import Any, Final

from sqlalchemy import select

from gateway.errors import RegistryError
from gateway.registry import schema
from gateway.registry.database import SYSTEM, Database
from meshwire.identity import TenantId

__all__ = ["SYSTEM_TEMPLATES", "Templates"]

MOST_TEMPLATES: Final = 1000
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

SYSTEM_TEMPLATES: Final[tuple[dict[str, Any], ...]] = (
    {"id": "MILLI", "deviceType": "MILLI", "name": "Milli NIC with a sensor board", "domainInfo": ["nic_macID"]},
    {"id": "LNIC", "deviceType": "LNIC", "name": "Logistics NIC", "domainInfo": ["nic_macID"]},
)


class Templates:
    """The templates of a database; may be used from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, tenant: TenantId) -> list[dict[str, Any]]:
        """A tenant's templates in the order of their ids."""
        table = schema.templates
        query = select(table).where(table.c.tenant == tenant.value).order_by(table.c.id)
        with self._database.reading() as connection:
            return [{**row.body, "id": row.id} for row in connection.execute(query)]

    def put(self, tenant: TenantId, id: str | None, body: dict[str, Any], *, by: str = SYSTEM) -> dict[str, Any]:
        """Store a template, or replace the one with that id; None: a new id.

        Raises:
            RegistryError: the id can't be one, or there are too many.
        """
        id = id or secrets.token_hex(8)
        if _ID.fullmatch(id) is None:
            raise RegistryError(
                "a template can't be stored", evidence=f"id {id[:80]!r}", fix="use 1 to 64 of A-Z a-z 0-9 _ . -"
            )
        table = schema.templates
        with self._database.changing(by) as change:
            ids = set(change.connection.scalars(select(table.c.id).where(table.c.tenant == tenant.value)))
            if id not in ids and len(ids) >= MOST_TEMPLATES:
                raise RegistryError("the tenant has too many templates", evidence=f"{len(ids)}", fix="replace one")
            statement = self._database.upsert(table, "tenant", "id")
            change.connection.execute(statement.values(tenant=tenant.value, id=id, body=body))
            change.log("template.set" if id in ids else "template.add", id, tenant.value)
        return {**body, "id": id}
