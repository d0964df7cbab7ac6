"""OAuth clients and password accounts. Secrets are stored as argon2id hashes only (`gateway/hashing.py`)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, delete, select

from gateway.errors import RegistryError
from gateway.hashing import hash_secret, new_secret
from gateway.registry import schema
from gateway.registry.database import SYSTEM
from gateway.registry.records import Account, IssuedClient
from gateway.registry.tenants import TenantTable
from meshwire.identity import TenantId

__all__ = ["AccountTable"]


class AccountTable(TenantTable):
    """The accounts of a database."""

    def add_client(
        self, tenant: TenantId, roles: Iterable[str], *, scope: str = "api", by: str = SYSTEM
    ) -> IssuedClient:
        """Make an OAuth client of a tenant; its secret is known to the caller alone from then on."""
        issued = IssuedClient(f"{tenant}-{secrets.token_hex(6)}", new_secret())
        self.add_account(issued.id, issued.secret, tenant, roles, kind="client", scope=scope, by=by)
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
        by: str = SYSTEM,
    ) -> None:
        """Store an account (or replace the one of the same name and kind); hashing takes some 50 ms."""
        secret_hash, granted = hash_secret(secret), " ".join(sorted(roles))
        with self.database.changing(by) as change:
            self.include_tenant(change, tenant)
            change.connection.execute(
                self.database.upsert(schema.accounts, "name", "kind").values(
                    name=name,
                    kind=kind,
                    hash=secret_hash,
                    tenant=tenant.value,
                    roles=granted,
                    scope=scope,
                    created=time.time(),
                )
            )
            change.log(f"{kind}.add", name, tenant.value, roles=granted, scope=scope)

    def set_account(
        self,
        name: str,
        kind: str,
        *,
        roles: Iterable[str] | None = None,
        scope: str | None = None,
        secret: str | None = None,
        by: str = SYSTEM,
    ) -> Account:
        """Change what is given of an account; raises RegistryError when it is unknown."""
        before = self.account(name, kind)
        if before is None:
            raise RegistryError(f"there is no such {kind}", evidence=name, fix=f"see `meshwire {kind} list`")
        after = replace(
            before,
            roles=before.roles if roles is None else frozenset(roles),
            scope=before.scope if scope is None else scope,
            secret_hash=before.secret_hash if secret is None else hash_secret(secret),
        )
        granted = " ".join(sorted(after.roles))
        table = schema.accounts
        with self.database.changing(by) as change:
            change.connection.execute(
                table.update()
                .where(table.c.name == name, table.c.kind == kind)
                .values(roles=granted, scope=after.scope, hash=after.secret_hash)
            )
            change.log(
                f"{kind}.set",
                name,
                after.tenant.value,
                roles=granted,
                scope=after.scope,
                new_secret=secret is not None,
            )
        return after

    def account(self, name: str, kind: str) -> Account | None:
        """The account of that name and kind, or None."""
        table = schema.accounts
        with self.database.reading() as connection:
            row = connection.execute(select(table).where(table.c.name == name, table.c.kind == kind)).first()
        return None if row is None else _account(row)

    def accounts(self, kind: str) -> list[str]:
        """Names of all accounts of a kind."""
        return [account.name for account in self.account_records(kind)]

    def account_records(self, kind: str, tenant: TenantId | None = None) -> list[Account]:
        """All accounts of a kind, or a tenant's, in the order of their names."""
        table = schema.accounts
        with self.database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.kind == kind)).all()
        accounts = sorted(map(_account, rows), key=lambda account: account.name)
        return [account for account in accounts if tenant in (None, account.tenant)]

    def remove_account(self, name: str, kind: str, *, by: str = SYSTEM) -> bool:
        """Forget an account; False when it was not there."""
        account, table = self.account(name, kind), schema.accounts
        if account is None:
            return False
        with self.database.changing(by) as change:
            removed = change.connection.execute(delete(table).where(table.c.name == name, table.c.kind == kind))
            change.log(f"{kind}.remove", name, account.tenant.value)
            return removed.rowcount > 0


def _account(row: Row[Any]) -> Account:
    return Account(
        row.name, row.kind, row.hash, TenantId(row.tenant), frozenset(row.roles.split()), row.scope, row.created
    )
