"""The commands' database: records, their events, groups; one SQLite file, one thread, one commit for many.

A payload that is too long for one message is kept once, however many commands bring it (an image for all devices).

`write` returns when what it was given survives power loss (WAL, synchronous = FULL). While one commit runs, further
changes gather for the next. Events are also the outbox towards MQTT: they are kept until told, in order.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from gateway.blocks import MAX_PAYLOAD_OCTETS
from gateway.commands.errors import CommandStoreError
from gateway.commands.records import (
    FINAL_STATES,
    Change,
    Command,
    CommandKey,
    Event,
    Group,
    Mode,
    Origin,
    ReplyTo,
    State,
)
from meshwire.coap import Message, decode, encode
from meshwire.identity import DeviceId, TenantId

__all__ = ["CommandStore", "Filter", "Untold"]

SCHEMA_VERSION: Final = 2
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS commands (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, mac TEXT NOT NULL, id TEXT NOT NULL, mode TEXT NOT NULL, request BLOB NOT NULL,
    created_s REAL NOT NULL, expires_s REAL NOT NULL, via TEXT NOT NULL, principal TEXT NOT NULL,
    principal_tenant TEXT NOT NULL, rank REAL NOT NULL, state TEXT NOT NULL, idempotent INTEGER NOT NULL,
    grp TEXT, reply_topic TEXT, correlation BLOB, attempts INTEGER NOT NULL, events INTEGER NOT NULL, ended_s REAL,
    body BLOB, UNIQUE (tenant, mac, id));
CREATE INDEX IF NOT EXISTS commands_unfinished ON commands (rank) WHERE ended_s IS NULL;
CREATE INDEX IF NOT EXISTS commands_ended ON commands (ended_s) WHERE ended_s IS NOT NULL;
CREATE INDEX IF NOT EXISTS commands_by_group ON commands (grp) WHERE grp IS NOT NULL;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, mac TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL,
    at_s REAL NOT NULL, hop TEXT, reason TEXT, position INTEGER, answer BLOB, told INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS events_by_command ON events (tenant, mac, id, number);
CREATE INDEX IF NOT EXISTS events_untold ON events (seq) WHERE told = 0;
CREATE TABLE IF NOT EXISTS bodies (digest BLOB PRIMARY KEY, octets BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS commands_by_body ON commands (body) WHERE body IS NOT NULL;
CREATE TABLE IF NOT EXISTS groups (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, created_s REAL NOT NULL, via TEXT NOT NULL, principal TEXT NOT NULL,
    principal_tenant TEXT NOT NULL, selector TEXT NOT NULL) WITHOUT ROWID;
"""
_COMMAND: Final = (
    "tenant, mac, id, mode, request, created_s, expires_s, via, principal, principal_tenant, rank, state, idempotent, "
    "grp, reply_topic, correlation, attempts, events, body"
)
_UPSERT: Final = f"""
INSERT INTO commands ({_COMMAND}, ended_s) VALUES ({", ".join("?" * 20)})
ON CONFLICT (tenant, mac, id) DO UPDATE SET
    rank = excluded.rank, state = excluded.state, attempts = excluded.attempts, events = excluded.events,
    ended_s = excluded.ended_s
"""
_EVENT: Final = "tenant, mac, id, number, kind, at_s, hop, reason, position, answer"
_KEY: Final = "tenant = ? AND mac = ? AND id = ?"
_PRUNE_AT_ONCE: Final = 2000

ResultT = TypeVar("ResultT")
_Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which commands are listed."""

    tenant: TenantId | None = None
    mac: DeviceId | None = None
    group: str | None = None
    unfinished: bool | None = None
    limit: int = 1000
    after: float | None = None
    """`place` of the last command of the page before."""

    @property
    def in_turn(self) -> bool:
        """Whether they come in the order in which their device gets them; else the youngest come first."""
        return self.mac is not None and self.unfinished is True


@dataclass(frozen=True, slots=True)
class Untold:
    """An event that MQTT does not know yet, and the command as it is now."""

    seq: int
    event: Event
    command: Command


class CommandStore:
    """See the module's text. Belongs to one event loop.

    Args:
        path: the SQLite file.

    Raises:
        CommandStoreError: it is of a newer release or no database.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commands")
        self._gathered: list[tuple[Sequence[Change], Sequence[Group], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._told: deque[tuple[int]] = deque()
        """Events that MQTT knows, not written yet: that waits for the next commit, for it costs one of its own."""
        self._told_up_to = 0
        self.bodies_octets = 0
        """Of all long payloads that are kept."""
        try:
            self._database = self._thread.submit(self._open).result()
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise CommandStoreError(
                "the commands' database can't be opened",
                evidence=f"{path}: {error}",
                fix="check the file and its folder's permissions, or use the release that wrote it",
            ) from None

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA busy_timeout = 2000")
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version}; this release reads {SCHEMA_VERSION}")
        if version == 1:
            database.execute("ALTER TABLE commands ADD COLUMN body BLOB")
        database.executescript(_SCHEMA)
        self._measure(database)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return database

    async def _do(self, work: Callable[[], ResultT]) -> ResultT:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise CommandStoreError(
                "the commands' database failed", evidence=f"{self._path}: {error}", fix="see whether the disk is full"
            ) from None

    async def close(self) -> None:
        """Let go of the file when what was begun is done."""
        while self._writing is not None:
            await asyncio.wait({self._writing})
        self._thread.submit(self._write_last).result()
        self._thread.shutdown()

    def _write_last(self) -> None:
        with suppress(sqlite3.Error), _transaction(self._database):
            self._write_told(self._database)
        self._database.close()

    # --- writing

    def write(self, changes: Sequence[Change], groups: Sequence[Group] = ()) -> asyncio.Future[None]:
        """Take changes in, in the order of the calls; the future is done when they are durable.

        It holds a CommandStoreError when none of them is.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not changes and not groups:
            written.set_result(None)
            return written
        self._gathered.append((changes, groups, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name="commands' commits")
        return written

    async def _write_all(self) -> None:
        while self._gathered:
            batch, self._gathered = self._gathered, []
            try:
                await self._do(lambda batch=batch: self._commit(batch))  # type: ignore[misc]
            except CommandStoreError as error:
                for _, _, written in batch:
                    if not written.done():
                        written.set_exception(error)
                        # Looked at, so that asyncio does not complain where nobody waits for it.
                        written.exception()
            else:
                for _, _, written in batch:
                    if not written.done():
                        written.set_result(None)
        self._writing = None

    def _commit(self, batch: list[tuple[Sequence[Change], Sequence[Group], asyncio.Future[None]]]) -> None:
        database = self._database
        with _transaction(database):
            self._write_told(database)
            for changes, groups, _ in batch:
                database.executemany("INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?, ?)", map(_group_row, groups))
                for change in changes:
                    self._keep_body(database, change)
                    database.execute(_UPSERT, _command_row(change))
                    if change.event is not None:
                        row = _event_row(change.command.key, change.event)
                        database.execute(f"INSERT INTO events ({_EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _keep_body(self, database: sqlite3.Connection, change: Change) -> None:
        payload = change.command.request.payload
        if change.event is not None and change.event.number == 1 and _is_long(payload):
            database.execute("INSERT OR IGNORE INTO bodies VALUES (?, ?)", (_digest(payload), payload))
            self._measure(database)

    def _measure(self, database: sqlite3.Connection) -> None:
        row = database.execute("SELECT COALESCE(SUM(LENGTH(octets)), 0) FROM bodies").fetchone()
        self.bodies_octets = int(row[0])

    def told(self, seqs: Iterable[int]) -> None:
        """Note that MQTT knows these events, the oldest untold ones; a crash soon after may make it forgotten."""
        rows = [(seq,) for seq in seqs]
        self._told.extend(rows)
        self._told_up_to = max(self._told_up_to, *(seq for (seq,) in rows))

    def _write_told(self, database: sqlite3.Connection) -> None:
        # On the database's own thread, while the loop may add more.
        rows = [self._told.popleft() for _ in range(len(self._told))]
        database.executemany("UPDATE events SET told = 1 WHERE seq = ?", rows)

    async def prune(self, before_s: float) -> int:
        """Forget some commands that ended before that time, and their events; gives how many."""
        return await self._do(lambda: self._prune(before_s))

    def _prune(self, before_s: float) -> int:
        database = self._database
        with _transaction(database):
            self._write_told(database)
        query = f"SELECT tenant, mac, id FROM commands WHERE ended_s < ? ORDER BY ended_s LIMIT {_PRUNE_AT_ONCE}"
        rows = database.execute(query, (before_s,)).fetchall()
        with _transaction(database):
            database.executemany(f"DELETE FROM events WHERE {_KEY}", rows)
            database.executemany(f"DELETE FROM commands WHERE {_KEY}", rows)
            if rows:
                database.execute(
                    "DELETE FROM bodies WHERE NOT EXISTS (SELECT 1 FROM commands WHERE commands.body = bodies.digest)"
                )
                self._measure(database)
            database.execute(
                "DELETE FROM groups WHERE created_s < ? AND NOT EXISTS (SELECT 1 FROM commands WHERE grp = groups.id)",
                (before_s,),
            )
        return len(rows)

    # --- reading

    async def unfinished(self) -> list[Command]:
        """What an earlier run left."""
        query = f"SELECT {_COMMAND} FROM commands WHERE ended_s IS NULL ORDER BY rank"
        return await self._commands(query, ())

    async def find(self, key: CommandKey) -> Command | None:
        """One command, ended or not."""
        found = await self._commands(f"SELECT {_COMMAND} FROM commands WHERE {_KEY}", _key_row(key))
        return found[0] if found else None

    async def select(self, which: Filter) -> list[Command]:
        """Commands, the youngest first; a device's waiting ones in turn."""
        clauses, arguments = ["1"], list[str | float]()
        for clause, value in (("tenant = ?", which.tenant), ("mac = ?", which.mac), ("grp = ?", which.group)):
            if value is not None:
                clauses.append(clause)
                arguments.append(str(value))
        if which.unfinished is not None:
            clauses.append("ended_s IS NULL" if which.unfinished else "ended_s IS NOT NULL")
        if which.after is not None:
            clauses.append("rank > ?" if which.in_turn else "number < ?")
            arguments.append(which.after)
        order = "rank" if which.in_turn else "number DESC"
        where = " AND ".join(clauses)
        query = f"SELECT {_COMMAND} FROM commands WHERE {where} ORDER BY {order} LIMIT {int(which.limit)}"
        return await self._commands(query, tuple(arguments))

    async def place(self, command: Command, which: Filter) -> float:
        """Where a command stands in such a list."""
        if which.in_turn:
            return command.rank
        query = f"SELECT number FROM commands WHERE {_KEY}"
        rows = await self._do(lambda: self._database.execute(query, _key_row(command.key)).fetchall())
        return float(rows[0][0]) if rows else 0.0

    async def _commands(self, query: str, arguments: tuple[str | float, ...]) -> list[Command]:
        return await self._do(lambda: self._with_bodies(self._database.execute(query, arguments).fetchall()))

    def _with_bodies(self, rows: Sequence[Sequence[object]]) -> list[Command]:
        """Commands of rows; those with the same body share its octets."""
        bodies: dict[object, bytes] = {}
        for digest in {row[-1] for row in rows} - {None}:
            found = self._database.execute("SELECT octets FROM bodies WHERE digest = ?", (digest,)).fetchone()
            bodies[digest] = found[0]
        return [_command(row, bodies) for row in rows]

    async def events(self, key: CommandKey, after: int = 0) -> list[Event]:
        """A command's events after number `after`, in order."""
        query = f"SELECT {_EVENT} FROM events WHERE {_KEY} AND number > ? ORDER BY number"
        arguments = (*_key_row(key), after)
        return await self._do(lambda: [_event(row) for row in self._database.execute(query, arguments)])

    async def finals(self, group: str) -> dict[CommandKey, Event]:
        """The last events of a group's commands that have ended."""
        events = ", ".join(f"events.{name}" for name in _EVENT.split(", "))
        query = (
            f"SELECT {events} FROM commands JOIN events ON events.tenant = commands.tenant "
            "AND events.mac = commands.mac AND events.id = commands.id AND events.number = commands.events "
            "WHERE grp = ? AND ended_s IS NOT NULL"
        )
        rows = await self._do(lambda: self._database.execute(query, (group,)).fetchall())
        return {CommandKey(TenantId(row[0]), DeviceId(row[1]), row[2]): _event(row) for row in rows}

    async def untold(self, limit: int) -> list[Untold]:
        """The oldest events that MQTT does not know."""
        events = ", ".join(f"events.{name}" for name in _EVENT.split(", "))
        commands = ", ".join(f"commands.{name}" for name in _COMMAND.split(", "))
        query = (
            f"SELECT events.seq, {events}, {commands} FROM events JOIN commands USING (tenant, mac, id) "
            f"WHERE told = 0 AND seq > {int(self._told_up_to)} ORDER BY seq LIMIT {int(limit)}"
        )
        count = len(_EVENT.split(", ")) + 1

        def read() -> list[Untold]:
            rows = self._database.execute(query).fetchall()
            commands = self._with_bodies([row[count:] for row in rows])
            return [Untold(row[0], _event(row[1:count]), command) for row, command in zip(rows, commands, strict=True)]

        return await self._do(read)

    async def group(self, id: str) -> Group | None:
        """One group."""
        rows = await self._do(lambda: self._database.execute("SELECT * FROM groups WHERE id = ?", (id,)).fetchall())
        return _group(rows[0]) if rows else None

    async def progress(self, id: str) -> dict[State, int]:
        """How many of a group's commands are in which state."""
        query = "SELECT state, COUNT(*) FROM commands WHERE grp = ? GROUP BY state"
        rows = await self._do(lambda: self._database.execute(query, (id,)).fetchall())
        return {State(state): count for state, count in rows}

    async def last_rank(self) -> float:
        """The highest rank ever given."""
        rows = await self._do(lambda: self._database.execute("SELECT MAX(rank) FROM commands").fetchall())
        return float(rows[0][0] or 0.0)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _key_row(key: CommandKey) -> tuple[str, str, str]:
    return key.tenant.value, key.mac.value, key.id


def _command_row(change: Change) -> _Row:
    command = change.command
    ended_s = change.event.at_s if command.state in FINAL_STATES and change.event is not None else None
    origin, reply_to, request = command.origin, command.reply_to, command.request
    body = _digest(request.payload) if _is_long(request.payload) else None
    return (
        *_key_row(command.key),
        command.mode.value,
        encode(request if body is None else replace(request, payload=b"")),
        command.created_s,
        command.expires_s,
        origin.via,
        origin.principal,
        origin.tenant.value,
        command.rank,
        command.state.value,
        command.idempotent,
        command.group,
        reply_to.topic,
        reply_to.correlation,
        command.attempts,
        command.events,
        body,
        ended_s,
    )


def _is_long(payload: bytes) -> bool:
    return len(payload) > MAX_PAYLOAD_OCTETS


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def _command(row: Sequence[object], bodies: Mapping[object, bytes]) -> Command:
    (tenant, mac, id, mode, request, created_s, expires_s, via, principal, principal_tenant, rank, state) = row[:12]
    (idempotent, group, topic, correlation, attempts, events, body) = row[12:]
    assert isinstance(request, bytes)
    message = decode(request)
    return Command(
        CommandKey(TenantId(str(tenant)), DeviceId(str(mac)), str(id)),
        Mode(str(mode)),
        message if body is None else replace(message, payload=bodies[body]),
        _float(created_s),
        _float(expires_s),
        Origin(str(via), str(principal), TenantId(str(principal_tenant))),
        _float(rank),
        State(str(state)),
        bool(idempotent),
        _text(group),
        ReplyTo(_text(topic), correlation if isinstance(correlation, bytes) else None),
        _int(attempts),
        _int(events),
    )


def _event_row(key: CommandKey, event: Event) -> _Row:
    answer = None if event.answer is None else encode(event.answer)
    return (
        *_key_row(key),
        event.number,
        event.kind.value,
        event.at_s,
        event.hop,
        event.reason,
        event.position,
        answer,
    )


def _event(row: Sequence[object]) -> Event:
    number, kind, at_s, hop, reason, position, answer = row[3:]
    message: Message | None = decode(answer) if isinstance(answer, bytes) else None
    place = None if position is None else _int(position)
    return Event(State(str(kind)), _float(at_s), _int(number), _text(hop), _text(reason), place, message)


def _group_row(group: Group) -> _Row:
    origin = group.origin
    return (
        group.id,
        group.tenant.value,
        group.created_s,
        origin.via,
        origin.principal,
        origin.tenant.value,
        group.selector,
    )


def _group(row: Sequence[object]) -> Group:
    id, tenant, created_s, via, principal, principal_tenant, selector = row
    origin = Origin(str(via), str(principal), TenantId(str(principal_tenant)))
    return Group(str(id), TenantId(str(tenant)), _float(created_s), origin, str(selector))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _float(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
