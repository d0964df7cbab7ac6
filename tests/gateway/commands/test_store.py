"""The commands' database: everything comes back as it was, in order, and a full disk is told."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_parts import ACME, FOREIGN_MAC, MAC, OTHER, T0, command, request

from gateway.commands.errors import CommandStoreError
from gateway.commands.lifecycle import Input, advance
from gateway.commands.queue import CommandQueue
from gateway.commands.records import Change, Command, CommandKey, Event, Group, Mode, Origin, ReplyTo, State, bare
from gateway.commands.store import CommandStore, Filter
from meshwire.coap import codes, options


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CommandStore]:
    store = CommandStore(tmp_path / "gateway" / "commands.db")
    yield store
    with contextlib.suppress(RuntimeError):
        # A test may have closed it.
        await store.close()


def accepted(one: Command) -> list[Change]:
    return CommandQueue().add(one, T0, is_present=True)


def full_one() -> Command:
    return command(
        "full",
        mode=Mode.DIRECT,
        request=request(payload=b"\0\xff").with_options([(options.CONTENT_FORMAT, bytes([60]))]),
        origin=Origin("mqtt", "né", OTHER),
        idempotent=True,
        group="g1",
        reply_to=ReplyTo("acme/cmd/me/res/1", b"\0corr"),
    )


async def test_everything_comes_back(store: CommandStore, tmp_path: Path) -> None:
    changes = accepted(full_one())
    now = changes[-1].command
    answer = bare(codes.CONTENT, ((options.ETAG, b"e"), (options.CONTENT_FORMAT, b"")), b"\x80")
    for happening, details in (
        (Input.SEND, {}),
        (Input.ACKNOWLEDGE, {}),
        (Input.ANSWER, {"answer": answer, "hop": "nic", "reason": "so"}),
    ):
        changes.append(advance(now, happening, T0 + 1, **details))  # type: ignore[arg-type]
        now = changes[-1].command
    await store.write(changes)
    assert await store.find(now.key) == now
    assert await store.events(now.key) == [change.event for change in changes]
    assert await store.events(now.key, after=4) == [changes[-1].event]
    assert await store.unfinished() == []
    again = CommandStore(tmp_path / "gateway" / "commands.db")
    assert await again.find(now.key) == now
    assert await again.last_rank() == now.rank
    await again.close()


async def test_unfinished_ones_come_in_the_order_of_ranks(store: CommandStore) -> None:
    ones = [command(each) for each in "abc"]
    for one in ones:
        await store.write(accepted(one))
    await store.write([Change(replace(accepted(ones[2])[-1].command, rank=-1.0))])
    assert [each.key.id for each in await store.unfinished()] == ["c", "a", "b"]


async def test_lists(store: CommandStore) -> None:
    foreign = command("x", key=CommandKey(OTHER, FOREIGN_MAC, "x"))
    grouped = command("g", group="g1")
    refused = CommandQueue().add(command("d", mode=Mode.DIRECT), T0, is_present=False)
    for changes in (accepted(command("a")), accepted(foreign), accepted(grouped), refused):
        await store.write(changes)

    async def ids(which: Filter) -> str:
        return "".join(each.key.id for each in await store.select(which))

    assert await ids(Filter()) == "dgxa"
    assert await ids(Filter(tenant=ACME)) == "dga"
    assert await ids(Filter(mac=FOREIGN_MAC)) == "x"
    assert await ids(Filter(group="g1")) == "g"
    assert await ids(Filter(unfinished=True)) == "gxa"
    assert await ids(Filter(unfinished=False)) == "d"
    assert await ids(Filter(limit=2)) == "dg"


async def test_groups(store: CommandStore) -> None:
    group = Group("g1", ACME, T0, Origin("http", "me", ACME), "tag=valves")
    first, second = command("a", group="g1"), command("b", group="g1")
    changes = accepted(first) + accepted(second)
    end = advance(changes[1].command, Input.CANCEL, T0)
    await store.write([*changes, end], [group])
    assert await store.group("g1") == group and await store.group("g2") is None
    assert await store.progress("g1") == {State.CANCELLED: 1, State.QUEUED: 1}
    assert await store.finals("g1") == {first.key: end.event}


async def test_untold_events_in_order_until_told(store: CommandStore, tmp_path: Path) -> None:
    changes = accepted(command("a")) + accepted(command("b"))
    await store.write(changes)
    untold = await store.untold(3)
    assert [each.event for each in untold] == [change.event for change in changes[:3]]
    assert untold[0].command == changes[1].command
    store.told(each.seq for each in untold)
    assert [each.event for each in await store.untold(10)] == [changes[3].event]
    # It is written with the next commit, or at the end.
    await store.write(accepted(command("c")))
    store.told(each.seq for each in await store.untold(1))
    await store.close()
    again = CommandStore(tmp_path / "gateway" / "commands.db")
    assert [each.event.kind for each in await again.untold(10)] == [State.ACCEPTED, State.QUEUED]
    await again.close()


async def test_many_writes_share_commits_and_keep_their_order(store: CommandStore) -> None:
    commits = []
    inner = store._commit
    store._commit = lambda batch: (commits.append(len(batch)), inner(batch))[1]  # type: ignore[method-assign]
    ones = [command(f"c{number}") for number in range(300)]
    await asyncio.gather(*(store.write(accepted(one)) for one in ones))
    assert len(commits) < 10 and sum(commits) == 300
    assert [each.key.id for each in await store.unfinished()] == [one.key.id for one in ones]


async def test_old_ones_are_forgotten(store: CommandStore) -> None:
    waits, ended = accepted(command("waits")), accepted(command("ended", group="g1"))
    group = Group("g1", ACME, T0, Origin("http", "me", ACME), "x")
    await store.write([*waits, *ended, advance(ended[-1].command, Input.CANCEL, T0 + 10)], [group])
    assert await store.prune(T0 + 10) == 0
    assert await store.group("g1") == group
    assert await store.prune(T0 + 11) == 1
    assert [each.key.id for each in await store.select(Filter())] == ["waits"]
    assert await store.events(ended[0].command.key) == [] and await store.group("g1") is None


async def test_a_disk_that_is_full_is_told_and_the_next_write_works(store: CommandStore) -> None:
    inner = store._commit

    def fail(batch: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    store._commit = fail  # type: ignore[assignment]
    with pytest.raises(CommandStoreError, match="disk is full"):
        await store.write(accepted(command("a")))
    store._commit = inner  # type: ignore[method-assign]
    await store.write(accepted(command("b")))
    assert [each.key.id for each in await store.unfinished()] == ["b"]


async def test_half_a_batch_is_never_written(store: CommandStore) -> None:
    await store.write(accepted(command("a")))
    bad = replace(accepted(command("b"))[0], event=Event(State.ACCEPTED, T0, 1, hop=["not", "text"]))  # type: ignore[arg-type]
    with pytest.raises(CommandStoreError):
        await store.write([*accepted(command("c")), bad])
    assert [each.key.id for each in await store.select(Filter())] == ["a"]
    assert len(await store.untold(10)) == 2


@pytest.mark.parametrize("content", [b"this is no database at all, whatever its name says" * 100, None])
async def test_a_file_that_can_not_be_used(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "commands.db"
    if content is None:
        database = sqlite3.connect(path)
        database.execute("PRAGMA user_version = 99")
        database.close()
    else:
        path.write_bytes(content)
    with pytest.raises(CommandStoreError, match="can't be opened") as caught:
        CommandStore(path)
    assert caught.value.code == "MW-CMD-007"


async def test_the_same_mac_at_two_tenants_is_two_commands(store: CommandStore) -> None:
    await store.write(accepted(command("a")))
    await store.write(accepted(command("a", key=CommandKey(OTHER, MAC, "a"))))
    assert len(await store.select(Filter(mac=MAC))) == 2


LONG = b"image" * 1000


async def test_a_long_payload_is_kept_once_and_goes_with_its_last_command(store: CommandStore, tmp_path: Path) -> None:
    ones = [accepted(command(id, request=request(payload=LONG))) for id in "ab"]
    other = accepted(command("c", request=request(payload=LONG + b"!")))
    await store.write([*ones[0], *ones[1], *other])
    assert store.bodies_octets == 2 * len(LONG) + 1
    assert [each.request.payload for each in await store.unfinished()] == [LONG, LONG, LONG + b"!"]
    assert (await store.untold(1))[0].command == ones[0][-1].command
    again = CommandStore(tmp_path / "gateway" / "commands.db")
    first, second, _ = await again.unfinished()
    assert first.request.payload is second.request.payload and again.bodies_octets == 2 * len(LONG) + 1
    await again.close()
    await store.write([advance(one[-1].command, Input.CANCEL, T0) for one in ones])
    found = await store.find(ones[0][0].command.key)
    assert found is not None and found.request.payload == LONG, "as long as it is remembered"
    assert await store.prune(T0 + 1) == 2
    assert store.bodies_octets == len(LONG) + 1


async def test_a_database_of_the_release_before_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "commands.db"
    before = CommandStore(path)
    await before.write(accepted(command("a")))
    await before.close()
    database = sqlite3.connect(path)
    database.executescript(
        "DROP INDEX commands_by_body; ALTER TABLE commands DROP COLUMN body; DROP TABLE bodies; PRAGMA user_version = 1"
    )
    database.close()
    now = CommandStore(path)
    await now.write(accepted(command("b", request=request(payload=LONG))))
    assert [each.request.payload for each in await now.unfinished()] == [b"", LONG]
    await now.close()
