"""What outlives the broker: sessions, subscriptions, queued and unacknowledged messages, retained messages. One SQLite
file in WAL mode.

Decides the tables and how a batch becomes one transaction: few statements of many rows, because each statement passes
through the interpreter's lock, which the event loop holds most of the time.
Does not: know sessions or messages (`records` does), or run in a thread (`writer` does).
The caller owes: one thread at a time.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from broker.errors import StoreError
from broker.journal import Batch
from broker.records import Row
from broker.settings import Durability

__all__ = ["Store", "store_error"]

APPLICATION_ID: Final = 0x4D57_4252
"""`MWBR` in the file's header: a store of this broker and no other database."""
SCHEMA_VERSION: Final = 2
CHECKPOINT_OCTETS: Final = 16_777_216
"""Octets written to the log after which they are moved to the tables, so that the log is used again from its start."""
SLACK_OCTETS: Final = 268_435_456
"""Unused space in the file above which it is rewritten at start, when most of it is unused."""
PAGE_OCTETS: Final = 4_096
"""What SQLite writes at least, where something changes."""
BLOCK_SIZES: Final = (256, 32, 8, 1)
"""Rows of one statement; SQLite keeps each compiled."""

_SCHEMA: Final = """
CREATE TABLE session (
    number INTEGER PRIMARY KEY, tenant TEXT NOT NULL, kind TEXT NOT NULL, client_id TEXT NOT NULL,
    principal TEXT NOT NULL, connected INTEGER NOT NULL, expiry_s INTEGER NOT NULL, expires_at REAL, will_due_at REAL,
    will_topic TEXT, will_payload BLOB, will_flags INTEGER, will_properties BLOB);
CREATE TABLE subscription (
    session INTEGER NOT NULL, filter TEXT NOT NULL, flags INTEGER NOT NULL, identifier INTEGER NOT NULL,
    PRIMARY KEY (session, filter)) WITHOUT ROWID;
CREATE TABLE incoming (
    session INTEGER NOT NULL, packet_id INTEGER NOT NULL, PRIMARY KEY (session, packet_id)) WITHOUT ROWID;
CREATE TABLE message (
    number INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, flags INTEGER NOT NULL, properties BLOB,
    expires_at REAL);
CREATE TABLE delivery (
    number INTEGER PRIMARY KEY, session INTEGER NOT NULL, message INTEGER NOT NULL, flags INTEGER NOT NULL,
    identifiers TEXT, packet_id INTEGER NOT NULL, step INTEGER NOT NULL);
CREATE TABLE retained (
    topic TEXT PRIMARY KEY, payload BLOB NOT NULL, flags INTEGER NOT NULL, properties BLOB, expires_at REAL)
    WITHOUT ROWID;
"""
_QUEUED: Final = """
CREATE TABLE IF NOT EXISTS queued (
    number INTEGER PRIMARY KEY, tenant TEXT NOT NULL, address TEXT NOT NULL, message INTEGER NOT NULL,
    attempts INTEGER NOT NULL);
"""
"""New in schema 2: what queues hold."""


class Store:
    """The file, opened for one broker alone.

    Args:
        path: made when absent, mode 0600.
        durability: FSYNC or OS.

    Raises:
        StoreError: the file is no store, is damaged, is of a newer release, or another broker has it.
    """

    def __init__(self, path: Path, durability: Durability) -> None:
        self.path = path
        self._written_octets = 0
        try:
            path.touch(0o600)
            self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                "the store can't be opened", evidence=f"{path}: {error}", fix="check the path and its permissions"
            ) from None
        try:
            self._prepare("FULL" if durability is Durability.FSYNC else "NORMAL")
        except sqlite3.Error as error:
            self._db.close()
            raise store_error(path, error) from None
        except StoreError:
            self._db.close()
            raise

    def _prepare(self, synchronous: str) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        application, version = self._number("PRAGMA application_id"), self._number("PRAGMA user_version")
        is_new = not self._number("SELECT count(*) FROM sqlite_master")
        if not is_new and application != APPLICATION_ID:
            raise StoreError(
                "the file is no store of this broker",
                evidence=f"{self.path}: a database of another program",
                fix="set another [broker] store_file",
                code="MW-BRK-007",
            )
        if version > SCHEMA_VERSION:
            raise StoreError(
                "the store was written by a newer release",
                evidence=f"{self.path}: schema {version}, this release knows {SCHEMA_VERSION}",
                fix="run that release, or set another [broker] store_file",
                code="MW-BRK-008",
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {synchronous}")
        self._db.execute("PRAGMA wal_autocheckpoint = 0")  # see `tidy`
        self._db.execute("PRAGMA cache_size = -16384")
        if is_new:
            header = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {_QUEUED} {header} COMMIT;")
        elif version < SCHEMA_VERSION:
            self._db.executescript(f"BEGIN IMMEDIATE; {_QUEUED} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        unused, pages = self._number("PRAGMA freelist_count"), self._number("PRAGMA page_count")
        if unused > pages // 2 and unused * self._number("PRAGMA page_size") > SLACK_OCTETS:
            self._db.execute("VACUUM")

    def _number(self, query: str) -> int:
        (value,) = self._db.execute(query).fetchone()
        return int(value)

    # --- reading, at start --------------------------------------------------------------------------------------------

    def sessions(self) -> Iterator[Row]:
        yield from self._db.execute("SELECT * FROM session")

    def subscriptions(self) -> Iterator[Row]:
        yield from self._db.execute("SELECT * FROM subscription")

    def incoming(self) -> Iterator[Row]:
        yield from self._db.execute("SELECT * FROM incoming")

    def retained(self) -> Iterator[Row]:
        yield from self._db.execute("SELECT * FROM retained")

    def messages(self) -> Iterator[Row]:
        yield from self._db.execute("SELECT * FROM message")

    def deliveries(self) -> Iterator[Row]:
        """In the order in which they were made."""
        yield from self._db.execute("SELECT * FROM delivery ORDER BY number")

    def queued(self) -> Iterator[Row]:
        """What queues hold, in order."""
        yield from self._db.execute("SELECT * FROM queued ORDER BY number")

    def highest_numbers(self) -> tuple[int, int, int]:
        """Of sessions, messages, and deliveries with what is queued, which are numbered together; 0 where there is
        none.
        """
        session, message, delivery, queued = (
            self._number(f"SELECT ifnull(max(number), 0) FROM {table}")
            for table in ("session", "message", "delivery", "queued")
        )
        return session, message, max(delivery, queued)

    # --- writing ------------------------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> None:
        """One transaction; when it returns, the batch is as durable as was asked. Raises sqlite3.Error."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._delete(batch)
            self._insert(batch)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _delete(self, batch: Batch) -> None:
        for table, column in (("session", "number"), ("subscription", "session"), ("incoming", "session")):
            self._in_blocks(f"DELETE FROM {table} WHERE {column} IN (VALUES", "(?)", _single(batch.ended_sessions), ")")
        self._in_blocks("DELETE FROM delivery WHERE number IN (VALUES", "(?)", _single(batch.finished_deliveries), ")")
        self._in_blocks("DELETE FROM queued WHERE number IN (VALUES", "(?)", _single(batch.dequeued), ")")
        self._in_blocks("DELETE FROM message WHERE number IN (VALUES", "(?)", _single(batch.released_messages), ")")
        self._in_blocks("DELETE FROM retained WHERE topic IN (VALUES", "(?)", _single(batch.cleared_topics), ")")
        self._in_blocks(
            "DELETE FROM subscription WHERE (session, filter) IN (VALUES", "(?,?)", batch.cancelled_subscriptions, ")"
        )
        self._in_blocks(
            "DELETE FROM incoming WHERE (session, packet_id) IN (VALUES", "(?,?)", batch.closed_incoming, ")"
        )

    def _insert(self, batch: Batch) -> None:
        self._in_blocks("REPLACE INTO session VALUES", "(?,?,?,?,?,?,?,?,?,?,?,?,?)", batch.sessions)
        self._in_blocks("REPLACE INTO subscription VALUES", "(?,?,?,?)", batch.subscriptions)
        self._in_blocks("REPLACE INTO message VALUES", "(?,?,?,?,?,?)", batch.messages)
        self._in_blocks("REPLACE INTO delivery VALUES", "(?,?,?,?,?,?,?)", batch.deliveries)
        self._in_blocks("REPLACE INTO queued VALUES", "(?,?,?,?,?)", batch.queued)
        self._in_blocks("REPLACE INTO retained VALUES", "(?,?,?,?,?)", batch.retained)
        self._in_blocks("REPLACE INTO incoming VALUES", "(?,?)", batch.incoming)
        self._written_octets += _log_octets(batch)

    def _in_blocks(self, head: str, row_text: str, rows: Sequence[Row], tail: str = "") -> None:
        position, left = 0, len(rows)
        for size in BLOCK_SIZES:
            while left >= size:
                values = ",".join((row_text,) * size)
                block = rows[position : position + size]
                self._db.execute(f"{head} {values}{tail}", tuple(chain.from_iterable(block)))
                position, left = position + size, left - size

    def tidy(self) -> None:
        """Moves the log into the tables when there is enough of it; nobody waits for that."""
        if self._written_octets > CHECKPOINT_OCTETS:
            self._written_octets = 0
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Closes the file; the log is moved into the tables."""
        self._db.close()


def _log_octets(batch: Batch) -> int:
    """About what the batch adds to the log: rows that stand together by their number, and others, each on a page of its
    own.
    """
    payloads = sum(len(row[2]) for row in batch.messages if isinstance(row[2], bytes))
    payloads += sum(len(row[1]) for row in batch.retained if isinstance(row[1], bytes))
    together = len(batch.messages) + len(batch.released_messages) + len(batch.queued) + len(batch.dequeued)
    together += (
        len(batch.deliveries) + len(batch.finished_deliveries) + len(batch.incoming) + len(batch.closed_incoming)
    )
    apart = len(batch.retained) + len(batch.cleared_topics) + len(batch.sessions) + len(batch.ended_sessions)
    apart += len(batch.subscriptions) + len(batch.cancelled_subscriptions)
    return payloads + 100 * together + PAGE_OCTETS * (apart + 1)


def _single(keys: Iterable[int | str]) -> list[Row]:
    return [(key,) for key in keys]


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What SQLite said, as a person needs it."""
    if isinstance(error, sqlite3.OperationalError) and "lock" in str(error):
        return StoreError(
            "the store is in use",
            evidence=f"{path}: {error}",
            fix="end the other broker, or set another [broker] store_file",
            code="MW-BRK-009",
        )
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return StoreError(
            "the store is damaged",
            evidence=f"{path}: {error}",
            fix="put a backup in its place, or move it away and start without the queues it held",
            code="MW-BRK-010",
        )
    return StoreError("the store failed", evidence=f"{path}: {error}", fix="check the disk and its free space")
