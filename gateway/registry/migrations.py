"""From any older schema to the one of `schema.py`, step by step, in one transaction.

A step is written in SQL of its time and is never changed afterwards: it must still fit databases that were made by the
release before it, whatever `schema.py` says now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, insert, inspect, select, text

from gateway.registry.schema import SCHEMA_VERSION, metadata, state

__all__ = ["MIGRATIONS", "NewerSchemaError", "migrate"]

_ONE_AT_A_TIME: Final = 0x6D657368
"""Key of the advisory lock under which one of several processes that start together makes the tables."""


class NewerSchemaError(Exception):
    """The database was written by a newer release."""


def _to_2(connection: Connection) -> None:
    """Version 1 (SQLite only, `PRAGMA user_version`): tenants without titles, devices without tags and revisions."""
    for statement in (
        "ALTER TABLE tenants ADD COLUMN title TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE devices ADD COLUMN tags TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE devices ADD COLUMN revision BIGINT NOT NULL DEFAULT 0",
        "UPDATE devices SET revision = 1",
        "CREATE INDEX ix_devices_revision ON devices (revision)",
        "CREATE TABLE registry_state (id INTEGER NOT NULL PRIMARY KEY, schema_version INTEGER NOT NULL, "
        "revision BIGINT NOT NULL)",
        "INSERT INTO registry_state VALUES (1, 1, 1)",
    ):
        connection.execute(text(statement))


def _to_4(connection: Connection) -> None:
    """Tenants without a bound of their own. (Version 3 only added tables.)"""
    connection.execute(text("ALTER TABLE tenants ADD COLUMN max_devices INTEGER"))


def _to_5(connection: Connection) -> None:
    """Devices without keys."""
    connection.execute(text("ALTER TABLE devices ADD COLUMN sealed_key TEXT NOT NULL DEFAULT ''"))


def _to_6(connection: Connection) -> None:
    """Instances of which it was not known whether they have a plain listener; before version 3 there were none."""
    if "instances" in inspect(connection).get_table_names():
        connection.execute(text("ALTER TABLE instances ADD COLUMN has_plain BOOLEAN NOT NULL DEFAULT TRUE"))


MIGRATIONS: Final[dict[int, Callable[[Connection], None]]] = {2: _to_2, 4: _to_4, 5: _to_5, 6: _to_6}
"""By the version that a step leads to."""


def migrate(connection: Connection) -> int:
    """Make the tables, or bring them to this release's schema; gives the version found (0: there were none).

    Tables that a version only adds are made from `schema.py`, and need no step.

    Raises:
        NewerSchemaError: nothing was changed.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})"))
    found = _version(connection)
    if found > SCHEMA_VERSION:
        raise NewerSchemaError(f"schema version {found}; this release reads {SCHEMA_VERSION}")
    if found:
        for version in range(found + 1, SCHEMA_VERSION + 1):
            if version in MIGRATIONS:
                MIGRATIONS[version](connection)
    metadata.create_all(connection)
    if not found:
        connection.execute(insert(state).values(id=1, schema_version=SCHEMA_VERSION, revision=0))
    elif found != SCHEMA_VERSION:
        connection.execute(state.update().values(schema_version=SCHEMA_VERSION))
    if found != SCHEMA_VERSION and connection.dialect.name == "sqlite":
        # The first release knows this mark alone, and must not open what it would not understand.
        connection.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))
    return found


def _version(connection: Connection) -> int:
    tables = inspect(connection).get_table_names()
    if state.name in tables:
        return int(connection.scalar(select(state.c.schema_version)) or 0)
    if connection.dialect.name != "sqlite":
        return 0
    marked = int(connection.scalar(text("PRAGMA user_version")) or 0)
    return marked or (1 if "devices" in tables else 0)
