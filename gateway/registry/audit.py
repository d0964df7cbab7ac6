"""The audit log: who changed what, and who commanded what.

A change writes its line in its own transaction (`database.Change.log`). What happens more often than a disk likes, such
as commands, is noted in memory, bounded, and written together every second, or when somebody reads the log; what does
not fit is counted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import delete, insert, select

from gateway.errors import RegistryError
from gateway.registry import schema
from gateway.registry.database import Database
from meshwire.identity import DeviceId, TenantId

__all__ = ["AuditEntry", "AuditLog"]

_METHODS: Final = ("get", "post", "put", "delete", "fetch", "patch", "ipatch")
MOST_WAITING: Final = 10_000
"""Notes in memory; further ones are lost, and counted."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the log."""

    id: int
    at_s: float
    """Unix seconds."""
    by: str
    action: str
    """Noun and verb: `device.move`."""
    tenant: str
    """Whose it is; empty: the site's."""
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class AuditLog:
    """The log of one database; may be used from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[dict[str, object]] = deque()
        self._saving = threading.Lock()
        self.lost = 0
        """Notes that did not fit into memory while the database was away or slow."""

    def note(self, by: str, action: str, subject: str, tenant: str = "", /, **detail: object) -> None:
        """Remember who did what; `save` writes it. Never waits.

        Args:
            by: who.
            action: noun and verb, such as `command.put`.
            subject: of what: a MAC, …
            tenant: whose it is; empty: the site's.
            detail: what else a reader needs, ready for JSON; no secrets.
        """
        if len(self._waiting) >= MOST_WAITING:
            self.lost += 1
            return
        self._waiting.append(
            {"at": time.time(), "by": by, "action": action, "tenant": tenant, "subject": subject, "detail": detail}
        )

    def commanded(self, by: str, mac: DeviceId, tenant: TenantId, code: int, /, **detail: object) -> None:
        """Note who commanded a device.

        Args:
            by: who.
            mac: the device.
            tenant: whose it is.
            code: CoAP method (RFC 7252 section 12.1.1), 1 to 7; other codes are no commands.
            detail: path, way, …
        """
        if 0 < code <= len(_METHODS):
            self.note(by, f"command.{_METHODS[code - 1]}", mac.value, tenant.value, **detail)

    def save(self) -> None:
        """Write what was noted; raises RegistryError when the database fails, and keeps it then."""
        with self._saving:
            notes = list(self._waiting)
            if not notes:
                return
            with self._database.writing() as connection:
                connection.execute(insert(schema.audit), notes)
            for _ in notes:
                self._waiting.popleft()

    def entries(
        self,
        *,
        tenant: str | None = None,
        subject: str | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """Lines of the log, the newest first; what this process has noted by now is among them.

        Args:
            tenant: only this tenant's; None: all.
            subject: only of this MAC, client id, …
            action: only this action, or all of a noun: `device.`.
            before: only lines with a smaller id: the next page.
            limit: at most so many.
        """
        with contextlib.suppress(RegistryError):
            self.save()  # a database that takes nothing just now may still be read
        table = schema.audit
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if tenant is not None:
            query = query.where(table.c.tenant == tenant)
        if subject is not None:
            query = query.where(table.c.subject == subject)
        if action is not None:
            query = query.where(
                table.c.action.startswith(action, autoescape=True) if action[-1:] == "." else table.c.action == action
            )
        if before is not None:
            query = query.where(table.c.id < before)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [AuditEntry(row.id, row.at, row.by, row.action, row.tenant, row.subject, row.detail) for row in rows]

    def forget(self, before_s: float) -> int:
        """Remove lines older than `before_s` (Unix seconds); gives how many."""
        with self._database.writing() as connection:
            return connection.execute(delete(schema.audit).where(schema.audit.c.at < before_s)).rowcount
