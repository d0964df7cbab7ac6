"""The registry's database: SQLite by default, PostgreSQL by URL; transactions, and the revision that counts changes.

Any thread may read and change. A change takes the revision first, which makes changes wait for each other (a row lock
in PostgreSQL, the write lock in SQLite): revisions are in the order in which changes become visible.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, make_url, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from gateway.errors import RegistryError
from gateway.registry import schema
from gateway.registry.migrations import NewerSchemaError, migrate

__all__ = ["SYSTEM", "Change", "Database"]

SYSTEM: Final = "gateway"
"""Who changed something when nobody asked for it."""
BUSY_S: Final = 5.0
"""How long a change waits for another process's."""
_SYNCHRONOUS: Final = "NORMAL"
"""SQLite: a power failure may cost the latest changes, and nothing else."""
_READS: Final = "meshwire_reads"
"""Execution option of a transaction that changes nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """One transaction that changes something, and leaves a line in the audit log."""

    connection: Connection
    revision: int
    by: str

    def log(self, action: str, subject: str, tenant: str = "", /, **detail: object) -> None:
        """Write who did what into the audit log; it is kept or lost together with the change.

        Args:
            action: noun and verb, such as `device.move`.
            subject: what was changed: a MAC, a client id, …
            tenant: whose it is; empty: the site's.
            detail: what else a reader needs; no secrets.
        """
        self.connection.execute(
            insert(schema.audit).values(
                at=time.time(), by=self.by, action=action, subject=subject, tenant=tenant, detail=detail
            )
        )


class Database:
    """The tables of one site.

    Args:
        url: a path (SQLite), None (in memory), or a text `sqlite:///…`, `postgresql://user@host/name`.
        password: of the PostgreSQL user, when the URL holds none.

    Raises:
        RegistryError: it can't be reached, is no database, or is of a newer release.
    """

    def __init__(self, url: str | Path | None, password: str | None = None) -> None:
        self._shown = "in memory"
        self._one_at_a_time: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        try:
            parsed = _parse(url, password)
            self._shown = parsed.render_as_string(hide_password=True)
            self.engine = _engine(parsed)
            if isinstance(self.engine.pool, StaticPool):
                # A database in memory has one connection, which threads use in turn.
                self._one_at_a_time = threading.Lock()
            with self.engine.begin() as connection:
                migrate(connection)
        except (SQLAlchemyError, NewerSchemaError, ImportError) as error:
            raise RegistryError(
                "the registry can't be opened",
                evidence=f"{self._shown}: {_first_line(error)}",
                fix=_fix(error),
            ) from None

    @property
    def is_local(self) -> bool:
        """Whether asking it is a matter of microseconds."""
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that changes nothing; raises RegistryError when the database fails."""
        with self._explained(), self._one_at_a_time, self.engine.connect() as plain:
            connection = plain.execution_options(**{_READS: True})
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction whose changes nobody needs to hear of."""
        with self._explained(), self._one_at_a_time, self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def durably_writing(self) -> Iterator[Connection]:
        """As `writing`, and the changes outlive a power failure once it has ended."""
        with self._explained(), self._one_at_a_time, self.engine.connect() as connection:
            sqlite = connection.connection.driver_connection if self.is_local else None
            if sqlite is not None:
                # Before the transaction begins: inside of one the pragma does nothing.
                sqlite.execute("PRAGMA synchronous = FULL")
            try:
                with connection.begin():
                    yield connection
            finally:
                if sqlite is not None:
                    sqlite.execute(f"PRAGMA synchronous = {_SYNCHRONOUS}")

    @contextlib.contextmanager
    def changing(self, by: str = SYSTEM) -> Iterator[Change]:
        """A transaction that gets the next revision.

        Args:
            by: who changes: as the audit log will say it.

        Raises:
            RegistryError: the database fails; nothing is changed.
        """
        with self.writing() as connection:
            taken = (
                schema.state.update().values(revision=schema.state.c.revision + 1).returning(schema.state.c.revision)
            )
            yield Change(connection, int(connection.execute(taken).scalar_one()), by)

    def revision(self, connection: Connection) -> int:
        """How many changes there were."""
        return int(connection.execute(select(schema.state.c.revision)).scalar_one())

    def upsert(self, table: Any, *keys: str) -> Any:
        """An INSERT for `table` that replaces the row with the same `keys`."""
        statement = _INSERTS[self.engine.dialect.name](table)
        others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        return statement.on_conflict_do_update(index_elements=list(keys), set_=others)

    def insert_new(self, table: Any) -> Any:
        """An INSERT for `table` that leaves rows alone that are there."""
        return _INSERTS[self.engine.dialect.name](table).on_conflict_do_nothing()

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise RegistryError(
                "the registry's database failed",
                evidence=f"{self._shown}: {_first_line(error)}",
                fix="see that it runs, is reachable and has room, and try again",
            ) from error


def _parse(url: str | Path | None, password: str | None) -> URL:
    if url is None:
        return URL.create("sqlite")
    if isinstance(url, Path):
        return URL.create("sqlite", database=str(url))
    parsed = make_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in _INSERTS:
        raise ArgumentError(f"{parsed.drivername} is neither sqlite nor postgresql")
    return parsed if password is None else parsed.set(password=password)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": int(BUSY_S)})
    shared: Mapping[str, Any] = {} if url.database else {"poolclass": StaticPool}
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": BUSY_S}, **shared)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    # The driver's own idea of when a transaction begins leaves schema changes outside; `_begin_sqlite` says it instead.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", f"synchronous = {_SYNCHRONOUS}", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another process has written in between.
    is_reading = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _sqlite_insert(table: Any) -> Any:
    from sqlalchemy.dialects.sqlite import insert

    return insert(table)


def _postgresql_insert(table: Any) -> Any:
    from sqlalchemy.dialects.postgresql import insert

    return insert(table)


_INSERTS: Final[Mapping[str, Callable[[Any], Any]]] = {"sqlite": _sqlite_insert, "postgresql": _postgresql_insert}


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__


def _fix(error: Exception) -> str:
    if isinstance(error, ImportError | NoSuchModuleError):
        return "install the driver: pip install 'meshwire[postgresql]'"
    return "check the file and its folder's permissions, or the URL and the server, or use the release that wrote it"
