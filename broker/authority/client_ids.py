"""Whose client id it is. On other engines client ids are common to all tenants, and a second connection with the same
id ends the first and inherits its session; so an id is kept for its owner.

Remembers owners; `admissions` decides what follows. Kept in SQLite, so that a restart
of the authority gives nobody's session away. A forgotten id is free; ids are forgotten per tenant, the longest unused
first, so that no tenant can push another one's out.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshwire.identity import Principal

__all__ = ["ClientIds", "Former"]

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS client_id (
    engine TEXT NOT NULL, id TEXT NOT NULL, tenant TEXT NOT NULL, kind TEXT NOT NULL, rights TEXT NOT NULL,
    used_at REAL NOT NULL, PRIMARY KEY (engine, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_tenant ON client_id (engine, tenant, used_at);
"""


@dataclass(frozen=True, slots=True)
class Former:
    """How a client id was last used."""

    tenant: str
    kind: str
    rights: str
    """What the caller of `claim` gave."""


class ClientIds:
    """The table of owners.

    Args:
        path: the SQLite file; None: memory.
        most_per_tenant: ids remembered for one tenant.
    """

    def __init__(self, path: Path | None, most_per_tenant: int) -> None:
        self._most = most_per_tenant
        self._database = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
        if path is not None:
            path.chmod(0o600)
        self._database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {SCHEMA}")

    def close(self) -> None:
        self._database.close()

    def former(self, engine: str, client_id: str) -> Former | None:
        """The last use of an id; None for one that nobody has."""
        row = self._database.execute(
            "SELECT tenant, kind, rights FROM client_id WHERE engine = ? AND id = ?", (engine, client_id)
        ).fetchone()
        return None if row is None else Former(*row)

    def take(self, engine: str, client_id: str, principal: Principal, rights: str, now: float) -> None:
        """Writes the principal's tenant and kind of login down as the owner.

        Args:
            engine: client ids of different engines are different ones.
            client_id: as the client sent it.
            principal: who has logged in.
            rights: for the next one who asks for `former`.
            now: Unix time in seconds.
        """
        self._database.execute(
            "INSERT OR REPLACE INTO client_id VALUES (?, ?, ?, ?, ?, ?)",
            (engine, client_id, principal.tenant.value, principal.kind.value, rights, now),
        )

    def forget_surplus(self, engine: str, tenant: str) -> list[str]:
        """Forgets a tenant's ids beyond the bound, the longest unused first; whoever calls owes the end of their
        sessions.
        """
        rows = self._database.execute(
            "SELECT id FROM client_id WHERE engine = ? AND tenant = ? ORDER BY used_at DESC LIMIT -1 OFFSET ?",
            (engine, tenant, self._most),
        ).fetchall()
        forgotten = [str(row[0]) for row in rows]
        self._database.executemany(
            "DELETE FROM client_id WHERE engine = ? AND id = ?", [(engine, i) for i in forgotten]
        )
        return forgotten
