"""Live events: the feed and its bounds, what is told of, and the stream over HTTP, of one tenant and of all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from asgi_caller import call
from patience import PATIENCE_S, until

from gateway.addresses import Address
from gateway.api import Callers, Limits
from gateway.api.event_streams import EventStreams, sent
from gateway.api_settings import ApiSettings
from gateway.gateway import Gateway
from gateway.live import Dropped, Kind, LiveEvent, LiveFeed, Places, Reset, Sources, Wanted
from gateway.presence import PresenceState
from gateway.registry import Registry
from gateway.sessions import Sessions
from gateway.statistics import Event, Statistics
from meshwire.coap import codes, encode
from meshwire.identity import DeviceId, LoginKind, Principal, Role, TenantId
from meshwire.site import Site

MAC, FOREIGN_MAC = DeviceId("001350050047dc9a"), DeviceId("001350050047dd92")
ACME, OTHER = TenantId("acme"), TenantId("other")
EVERYTHING = Wanted(None)


def tell(feed: LiveFeed, number: int, tenant: TenantId | None = ACME, kind: Kind = Kind.READING) -> None:
    feed.publish(kind, tenant, MAC, {"n": number})


async def next_of(follower: AsyncGenerator[LiveEvent | Reset | Dropped]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(follower)


async def nothing_more(follower: AsyncGenerator[LiveEvent | Reset | Dropped]) -> None:
    waiting = asyncio.ensure_future(anext(follower))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


# --- the feed ---------------------------------------------------------------------------------------------------------


async def test_a_follower_gets_what_is_its_own_and_wanted() -> None:
    feed = LiveFeed()
    followers = {
        "everything": feed.follow(EVERYTHING, f"{feed.epoch}-0"),
        "acme": feed.follow(Wanted(ACME), f"{feed.epoch}-0"),
        "alarms": feed.follow(Wanted(ACME, frozenset({Kind.ALARM})), f"{feed.epoch}-0"),
        "a device": feed.follow(Wanted(None, device=FOREIGN_MAC), f"{feed.epoch}-0"),
    }
    for number, (tenant, kind) in enumerate(
        [(ACME, Kind.READING), (OTHER, Kind.READING), (None, Kind.ALARM), (ACME, Kind.ALARM)]
    ):
        tell(feed, number, tenant, kind)
    expected = {"everything": [0, 1, 2, 3], "acme": [0, 3], "alarms": [3], "a device": []}
    for name, numbers in expected.items():
        assert [(await next_of(followers[name])).data["n"] for _ in numbers] == numbers, name
        await nothing_more(followers[name])


async def test_a_follower_goes_on_after_the_last_one_it_has() -> None:
    feed = LiveFeed(kept=4)
    for number in range(6):
        tell(feed, number)
    assert (await next_of(feed.follow(EVERYTHING, f"{feed.epoch}-4"))).data["n"] == 4
    assert (await next_of(feed.follow(EVERYTHING, f"{feed.epoch}-2"))).data["n"] == 2, "the oldest that is kept"
    for last, reason in [
        (f"{feed.epoch}-1", "too long ago"),
        ("00000000-5", "the gateway has started anew"),
        ("rubbish", "the gateway has started anew"),
        (f"{feed.epoch}-x", "the gateway has started anew"),
    ]:
        follower = feed.follow(EVERYTHING, last)
        assert await next_of(follower) == Reset(reason)
        await nothing_more(follower)
    await nothing_more(feed.follow(EVERYTHING, f"{feed.epoch}-99"))


async def test_a_follower_that_the_ring_overtakes_is_told_and_left() -> None:
    feed = LiveFeed(kept=4)
    follower = feed.follow(EVERYTHING)
    await nothing_more(feed.follow(EVERYTHING))
    tell(feed, 0)
    reading = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    tell(feed, 1)
    assert isinstance(await reading, LiveEvent)
    for number in range(2, 8):
        tell(feed, number)
    assert await next_of(follower) == Dropped(6)
    with pytest.raises(StopAsyncIteration):
        await next_of(follower)
    assert not feed.is_followed(Kind.READING)


# --- the sources ------------------------------------------------------------------------------------------------------


@dataclass
class Looked:
    """What the sources look at, in our hands."""

    registry: Registry = field(default_factory=lambda: Registry(None))
    offline: set[DeviceId] = field(default_factory=set)
    sessions: Sessions = field(
        default_factory=lambda: Sessions(lifetime_s=1e6, max_per_account=9, statistics=Statistics())
    )
    states: dict[str, dict[str, Any]] = field(default_factory=lambda: {"broker": {"state": "connected"}})
    alarms: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, object]] = field(default_factory=list)
    has_direct: bool = False

    async def ask(self, question: dict[str, object]) -> list[dict[str, object]]:
        self.asked.append(question)
        return self.answers

    def places(self) -> Places:
        return Places(
            self.registry,
            lambda device, now_s: PresenceState.OFFLINE if device.mac in self.offline else PresenceState.ONLINE,
            self.ask,
            self.sessions.all,
            lambda: self.states,
            lambda silent: self.alarms,
            self.has_direct,
        )


@pytest.fixture
def parts() -> tuple[Looked, LiveFeed, Sources]:
    site, feed = Looked(), LiveFeed()
    site.registry.add_device(MAC, ACME)
    return site, feed, Sources(feed, site.places(), lambda: 1000.0)


@contextlib.asynccontextmanager
async def followed(feed: LiveFeed) -> AsyncIterator[AsyncGenerator[LiveEvent | Reset | Dropped]]:
    """Somebody follows: the sources look only then."""
    follower = feed.follow(EVERYTHING)
    first = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)

    async def events() -> AsyncGenerator[LiveEvent | Reset | Dropped]:
        yield await first
        async for event in follower:
            yield event

    yield events()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
        await first
    await follower.aclose()


async def test_nobody_looks_while_nobody_follows(parts: Any) -> None:
    site, feed, sources = parts
    await sources.look_at_readings()
    sources.look_at_devices()
    await sources.look_at_connections()
    sources.look_at_alarms()
    assert not site.asked and not feed.is_followed(Kind.READING)


async def test_readings_of_every_lane_are_told_once(parts: Any) -> None:
    site, feed, sources = parts
    item = {"key": "k", "device": MAC.value, "tenant": "acme", "path": "snsr/arduino/temp", "payload": b"1,2".hex()}
    async with followed(feed) as events:
        site.answers = [{"lane": 0, "last": 7, "skipped": 0, "notifications": []}, {}]
        await sources.look_at_readings()
        site.answers = [{"lane": 0, "last": 9, "skipped": 3, "notifications": [item]}]
        await sources.look_at_readings()
        assert [question["since"] for question in site.asked] == [None, [[0, 7]]]
        assert (await next_of(events)).data == {"skipped": 3, "lane": 0}
        event = await next_of(events)
        assert (event.tenant, event.device, event.data["payload"]) == (ACME, MAC, b"1,2".hex())


async def test_a_device_that_comes_goes_and_is_moved(parts: Any) -> None:
    site, feed, sources = parts
    async with followed(feed) as events:
        sources.look_at_devices()
        site.registry.seen(MAC, Address("fd00::5", 4849), 999.0)
        sources.look_at_devices()
        event = await next_of(events)
        assert (event.kind, event.tenant, event.data["state"]) == (Kind.PRESENCE, ACME, "online")
        assert event.data["address"] == "[fd00::5]:4849"
        site.offline.add(MAC)
        sources.look_at_devices()
        assert (await next_of(events)).data["state"] == "offline"
        alarm = await next_of(events)
        assert (alarm.kind, alarm.tenant, alarm.data["raised"]) == (Kind.ALARM, ACME, True)
        site.offline.clear()
        site.registry.add_tenant(OTHER)
        site.registry.move_device(MAC, OTHER)
        sources.look_at_devices()
        left, came = await next_of(events), await next_of(events)
        assert (left.tenant, left.data["state"], came.tenant) == (ACME, "removed", OTHER)
        assert "other" not in json.dumps(left.data)
        site.registry.remove_device(MAC)
        sources.look_at_devices()
        gone = await next_of(events)
        assert (gone.tenant, gone.data["state"]) == (OTHER, "removed")


async def test_connections_and_alarms(parts: Any) -> None:
    site, feed, sources = parts
    async with followed(feed) as events:
        await sources.look_at_connections()
        source = Address("127.0.0.1", 1)
        site.sessions.open(source, "a", Principal("x", ACME, frozenset(), LoginKind.TOKEN), 0.0)
        await sources.look_at_connections()
        opened = await next_of(events)
        assert (opened.tenant, opened.data["what"], opened.data["state"]) == (ACME, "session", "opened")
        site.sessions.close(source, 1.0)
        site.states = {"instance a": {"state": "running", "clients": 2}}
        await sources.look_at_connections()
        told = [
            (event.tenant, event.data["what"], event.data["state"]) for event in [await next_of(events) for _ in "123"]
        ]
        assert told == [(ACME, "session", "closed"), (None, "broker", "gone"), (None, "instance a", "running")]
        site.alarms = {"The broker is away": {"what": "The broker is away", "severity": "warning"}}
        for _ in range(2):
            sources.look_at_alarms()
        assert (await next_of(events)).data["raised"] is True
        site.alarms = {}
        sources.look_at_alarms()
        assert (await next_of(events)).data == {"what": "The broker is away", "time": 1000.0, "raised": False}


# --- over HTTP --------------------------------------------------------------------------------------------------------


class Reader:
    """A client of the stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, token: str, query: str = "", last: str = "") -> Reader:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [f"GET /api/events{query} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"]
        lines += [f"Last-Event-ID: {last}"] if last else []
        writer.write("\r\n".join([*lines, "", ""]).encode())
        opened = cls(reader, writer)
        assert await reader.readuntil(b"\r\n\r\n")
        await opened.line(":")
        return opened

    async def line(self, begins: str) -> str:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                line = (await self.reader.readline()).decode().strip()
                if line.startswith(begins):
                    return line

    async def event(self) -> tuple[str, str, Any]:
        """Id, name and data of the next one."""
        head = await self.line("id: ")
        return head[4:], (await self.line("event: "))[7:], json.loads((await self.line("data: "))[6:])

    def close(self) -> None:
        self.writer.close()


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


async def test_readings_and_commands_reach_their_tenant_and_no_other(
    gateway: Gateway, site: Site, connect: Any, bubble_up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = [], Sources.look_at_readings

    async def counted(sources: Sources) -> None:
        await look(sources)
        looks.append(sources)

    monkeypatch.setattr(Sources, "look_at_readings", counted)
    keys, now = site.signing_keys(), time.time()
    tokens = {
        "acme": keys.issue(ACME, [Role.COMMAND_CLIENT], now=now),
        "other": keys.issue(OTHER, [], now=now),
        "admin": keys.issue(TenantId("ssni"), [], now=now, scope="api admin"),
    }
    query = "?kind=reading&kind=command"
    readers = {name: await Reader.open(gateway.http_port, token, query) for name, token in tokens.items()}
    # The first look only notes where the log ends; one that is under way may have begun before.
    await until(lambda seen=len(looks): len(looks) >= seen + 2)  # type: ignore[misc]
    client = connect()
    client.send(encode(bubble_up(MAC, observe=1)))
    assert (await client.receive()).code == codes.CHANGED
    for name in ("acme", "admin"):
        last, kind, data = await readers[name].event()
        assert (kind, data["device"], data["tenant"], data["path"]) == (
            "reading",
            MAC.value,
            "acme",
            "snsr/arduino/temp",
        )
    order = {"method": "GET", "path": "x", "mode": "stored", "ttl": 60}
    answer = await call(
        gateway.http_app,
        "POST",
        f"/api/solutions/sandbox/devices/{MAC}/commands",
        order,
        {"authorization": tokens["acme"]},
    )
    assert answer.status == 202
    _, kind, data = await readers["acme"].event()
    assert (kind, data["event"], data["device"]) == ("command", "accepted", MAC.value)
    client.send(encode(bubble_up(FOREIGN_MAC, observe=2, mid=77)))
    assert (await readers["other"].event())[2]["device"] == FOREIGN_MAC.value, "the first that it sees"
    again = await Reader.open(gateway.http_port, tokens["acme"], query, last)
    assert (await again.event())[2]["event"] == "accepted", "goes on where it was"
    anew = await Reader.open(gateway.http_port, tokens["acme"], query, "00000000-1")
    assert await anew.line("event: ") == "event: reset"
    for reader in (*readers.values(), again, anew):
        reader.close()


async def test_whose_events_may_be_asked_for(gateway: Gateway, site: Site) -> None:
    token = site.signing_keys().issue(ACME, [], now=time.time())
    headers = {"authorization": token}
    for query, status in [
        ("?tenant=other", 403),
        (f"?device={FOREIGN_MAC}", 404),
        ("?kind=rubbish", 422),
        ("?tenant=acme", 200),
        (f"?device={MAC}", 200),
    ]:
        assert (await call(gateway.http_app, "GET", f"/api/events{query}", b"", headers)).status == status, query


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def registry() -> Registry:
    return Registry(None)


def streams(tmp_path: Path, registry: Registry, **bounds: Any) -> tuple[EventStreams, Statistics, Principal]:
    statistics = Statistics()
    callers = Callers(
        Site(tmp_path).signing_keys().public(), registry, Limits(ApiSettings(**bounds), statistics), lambda: 1000.0
    )
    caller = Principal("x", ACME, frozenset(), LoginKind.TOKEN, 2000.0, frozenset({"api"}))
    return EventStreams(callers, send_s=0.05), statistics, caller


async def test_an_account_has_so_many_streams_and_gets_its_places_back(tmp_path: Path, registry: Registry) -> None:
    counted, statistics, caller = streams(tmp_path, registry, max_streams_per_account=2, max_streams=3)

    async def lines() -> AsyncGenerator[str]:
        while True:
            yield sent({}, "x")

    def opened(who: Principal) -> Any:
        return counted.answer(lines(), who).body_iterator

    async def first(stream: Any) -> Any:
        assert await anext(stream) == ":\n\n"
        return stream

    first_one, _ = await first(opened(caller)), await first(opened(caller))
    with pytest.raises(Exception, match="event streams open") as refused:
        opened(caller)
    assert refused.value.status_code == 429 and refused.value.headers == {"Retry-After": "30"}
    another = Principal("y", OTHER, frozenset(), LoginKind.TOKEN, 2000.0, frozenset({"api"}))
    kept = await first(opened(another))
    with pytest.raises(Exception, match="too many event streams") as refused:
        opened(another)
    assert refused.value.status_code == 503
    await first_one.aclose()
    await first(opened(caller))
    assert statistics.total(Event.HTTP_REFUSED, "streams") == 2
    await kept.aclose()


async def test_who_does_not_read_is_cut_off(tmp_path: Path, registry: Registry) -> None:
    counted, statistics, caller = streams(tmp_path, registry)
    closed = asyncio.Event()

    async def lines() -> AsyncGenerator[str]:
        try:
            while True:
                yield sent({}, "x")
        finally:
            closed.set()

    async def send(message: Any) -> None:
        if message.get("body", b"").startswith(b"event"):
            await asyncio.Event().wait()

    async def receive() -> Any:
        return await asyncio.Event().wait()

    scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
    async with asyncio.timeout(PATIENCE_S):
        await counted.answer(lines(), caller)(scope, receive, send)
    assert closed.is_set() and statistics.total(Event.HTTP_REFUSED, "slow") == 1


async def test_a_stream_ends_with_the_right_to_it(tmp_path: Path, registry: Registry) -> None:
    counted, *_ = streams(tmp_path, registry)
    client = registry.add_client(ACME, [])
    for ended in (
        Principal("x", ACME, frozenset(), LoginKind.TOKEN, 999.0, frozenset({"api"})),
        Principal("x", ACME, frozenset(), LoginKind.TOKEN, 2000.0, frozenset({"api"}), client="nobody"),
        Principal("x", ACME, frozenset(), LoginKind.TOKEN, 2000.0, frozenset({"api", "admin"}), client=client.id),
    ):

        async def lines() -> AsyncGenerator[str]:
            yield sent({}, "x")

        answered = [part async for part in counted.answer(lines(), ended).body_iterator]
        assert answered[0] == ":\n\n" and "does not hold" in str(answered[1]) and len(answered) == 2


async def test_not_every_event_costs_a_question_to_the_database(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, _, caller = streams(tmp_path, registry)
    asked = 0

    async def holds(self: Callers, principal: Principal) -> bool:
        nonlocal asked
        asked += 1
        return True

    async def lines() -> AsyncGenerator[str]:
        for number in range(200):
            yield sent({"number": number}, "x")

    monkeypatch.setattr(Callers, "holds", holds)
    answered = [part async for part in counted.answer(lines(), caller).body_iterator]
    assert len(answered) == 201 and 1 <= asked < 100
