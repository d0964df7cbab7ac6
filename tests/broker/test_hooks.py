"""Custom code on the broker's events, contained when it fails; topic aliases; the `$SYS` tree."""

import asyncio
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from broker.aliases import OutgoingAliases
from broker.errors import HookError
from broker.plugins import BrokerHook, Client, Hooks, load_hooks
from broker.server import Broker
from broker.settings import BrokerSettings, Limits, ListenerSettings
from meshwire.mqtt import (
    Connect,
    Disconnect,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    Subscribe,
    TopicSubscription,
)
from meshwire.site import Site

V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5
ADMIN = Client("ssni", "c", "password")


def sub(text: str, qos: int = 1) -> Subscribe:
    return Subscribe(1, (TopicSubscription(text, qos),))


class Notes(BrokerHook):
    """Writes everything down."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def on_connect(self, client: Client) -> None:
        self.seen.append(("connect", client))

    def on_disconnect(self, client: Client, reason: str) -> None:
        self.seen.append(("disconnect", client, reason))

    def on_subscribe(self, client: Client, topic_filter: str, qos: int) -> None:
        self.seen.append(("subscribe", client, topic_filter, qos))

    def on_publish(self, client: Client | None, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        self.seen.append(("publish", client, topic, payload, qos, retain))

    def on_delivered(self, client: Client, topic: str, qos: int) -> None:
        self.seen.append(("delivered", client, topic, qos))

    def on_dropped(self, client: Client | None, topic: str | None, reason: str, count: int) -> None:
        self.seen.append(("dropped", client, topic, reason, count))


class Faulty(BrokerHook):
    def __init__(self, fault: BaseException | None = None) -> None:
        self._fault = fault or RuntimeError("a fault of the hook")

    def on_publish(self, client: Client | None, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        raise self._fault


async def test_every_event_is_told_in_order(start: Any, join: Any, eventually: Any) -> None:
    notes = Notes()
    running = await start(hooks={"notes": notes})
    client = await join(running, Connect("c", V5))
    await client.ask(sub("t"))
    await client.ask(Publish("nobody", b"1", 1, packet_id=1))
    client.send(Publish("t", b"2", 1, packet_id=2))
    await client.next()
    await client.next()
    client.send(PubAck(1), Publish("t", b"3"))
    await client.next()
    client.send(Disconnect())
    await eventually(lambda: notes.seen[-1][0] == "disconnect")
    assert notes.seen == [
        ("connect", ADMIN),
        ("subscribe", ADMIN, "t", 1),
        ("publish", ADMIN, "nobody", b"1", 1, False),
        ("dropped", None, "nobody", "no-subscriber", 1),
        ("publish", ADMIN, "t", b"2", 1, False),
        ("delivered", ADMIN, "t", 1),
        ("publish", ADMIN, "t", b"3", 0, False),
        ("delivered", ADMIN, "t", 0),
        ("disconnect", ADMIN, "client"),
    ]


async def test_drops_for_one_client_name_it(start: Any, join: Any, eventually: Any) -> None:
    notes = Notes()
    running = await start(hooks={"notes": notes}, limits=Limits(max_queued_messages=1))
    away = await join(running, Connect("away", V5, properties=Properties(session_expiry_interval=60)))
    await away.ask(sub("t"))
    await away.close()
    await eventually(lambda: notes.seen[-1] == ("disconnect", Client("ssni", "away", "password"), "network"))
    client = await join(running, Connect("c", V5))
    for number in range(1, 4):
        await client.ask(Publish("t", b"x", 1, packet_id=number))
    dropped = [item for item in notes.seen if item[0] == "dropped"]
    assert dropped == [("dropped", Client("ssni", "away", "password"), "t", "queue-full", 1)] * 2


@pytest.mark.parametrize("fault", [RuntimeError("its own"), SystemExit(1), asyncio.CancelledError()], ids=repr)
async def test_a_hook_that_fails_is_contained_and_counted(start: Any, join: Any, fault: BaseException) -> None:
    notes = Notes()
    running = await start(hooks={"faulty": Faulty(fault), "notes": notes})
    client = await join(running, Connect("c", V5))
    await client.ask(sub("t"))
    for number in (1, 2):
        client.send(Publish("t", b"x", 1, packet_id=number))
        assert {type(await client.next()), type(await client.next())} == {PubAck, Publish}
    assert running.broker.hooks.failures == {"faulty/publish": 2}
    assert len([item for item in notes.seen if item[0] == "publish"]) == 2


def test_what_is_not_overridden_is_not_called() -> None:
    hooks = Hooks({"faulty": Faulty()})
    assert len(hooks.publish) == 1
    assert not (hooks.connect or hooks.delivered or hooks.dropped)


class _Found:
    name = "notes"

    @staticmethod
    def load() -> type[Notes]:
        return Notes


def test_hooks_are_found_by_their_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(group: str) -> list[_Found]:
        return [_Found()] if group == "meshwire.broker.hooks" else []

    monkeypatch.setattr(metadata, "entry_points", found)
    assert isinstance(load_hooks({"notes": {}})["notes"], Notes)
    for wanted in ({"unknown": {}}, {"notes": {"argument": 1}}):
        with pytest.raises(HookError) as caught:
            load_hooks(wanted)
        assert caught.value.code == "MW-BRK-015"


# --- topic aliases towards clients ------------------------------------------------------------------------------------


def test_aliases_are_given_to_the_first_topics() -> None:
    aliases = OutgoingAliases(2)
    assert aliases.of("a") == (1, False)
    assert aliases.of("a") == (1, False), "not known before it was sent"
    aliases.sent("a", 1)
    assert aliases.of("a") == (1, True)
    aliases.sent("b", 2)
    assert aliases.of("c") == (0, False)


async def test_a_client_that_takes_aliases_gets_them(start: Any, join: Any, dial: Any) -> None:
    running = await start(limits=Limits(outgoing_topic_aliases=1))
    client = await join(running, Connect("c", V5, properties=Properties(topic_alias_maximum=10)))
    await client.ask(sub("#"))
    plain = await join(running, Connect("plain", V5))
    await plain.ask(sub("#"))
    publisher = await join(running, Connect("p", V5))
    publisher.send(*[Publish(topic, b"%d" % qos, qos, packet_id=qos) for topic in ("a", "b") for qos in (0, 1)])
    got = [await client.next() for _ in range(4)]
    assert [(p.topic, p.payload, p.properties.topic_alias) for p in got] == [
        ("a", b"0", 1),
        ("", b"1", 1),
        ("b", b"0", None),
        ("b", b"1", None),
    ]
    got = [await plain.next() for _ in range(4)]
    assert [(p.topic, p.properties.topic_alias) for p in got] == [("a", None), ("a", None), ("b", None), ("b", None)]


async def test_a_message_at_qos_2_names_its_topic(start: Any, join: Any) -> None:
    running = await start()
    client = await join(running, Connect("c", V5, properties=Properties(topic_alias_maximum=10)))
    await client.ask(sub("a", qos=2))
    publisher = await join(running, Connect("p", V5))
    publisher.send(Publish("a", b"0"), Publish("a", b"0"), Publish("a", b"2", 2, packet_id=2))
    got = [await client.next() for _ in range(3)]
    assert [(p.topic, p.properties.topic_alias) for p in got] == [("a", 1), ("", 1), ("a", None)]


async def test_aliases_end_with_the_connection(start: Any, join: Any, eventually: Any) -> None:
    running = await start()
    lasting = Properties(topic_alias_maximum=10, session_expiry_interval=60)
    client = await join(running, Connect("c", V5, properties=lasting))
    await client.ask(sub("a"))
    publisher = await join(running, Connect("p", V5))
    await publisher.ask(Publish("a", b"1", 1, packet_id=1))
    assert (await client.next()).properties.topic_alias == 1
    await client.close()
    await eventually(lambda: running.broker.statistics.clients_connected == 1)
    await publisher.ask(Publish("a", b"2", 1, packet_id=2))
    again = await join(running, Connect("c", V5, False, properties=lasting))
    got = [await again.next(), await again.next()]
    assert [(p.topic, p.payload, p.dup) for p in got] == [("a", b"1", True), ("a", b"2", False)]


# --- $SYS -------------------------------------------------------------------------------------------------------------


async def test_the_tree_says_what_went_through_and_what_waits(start: Any, join: Any, eventually: Any) -> None:
    running = await start(sys_interval_s=0.01)
    away = await join(running, Connect("away", V5, properties=Properties(session_expiry_interval=60)))
    await away.ask(sub("t"))
    await away.close()
    client = await join(running, Connect("c", V311))
    await eventually(lambda: running.broker.statistics.clients_connected == 1)
    await client.ask(Publish("t", b"12345", 1, packet_id=1))
    retained = running.broker.engine.retained

    def figure(name: str) -> bytes | None:
        found = retained.matching(["$SYS", "broker", *name.split("/")])
        return found[0].payload if found else None

    await eventually(
        lambda: figure("queues/messages") == b"1",
    )
    expected = {
        "queues/bytes": b"6",
        "queues/longest": b"1",
        "tenants/ssni/queued messages": b"1",
        "tenants/ssni/connections": b"1",
        "publish/bytes/received": b"5",
        "publish/bytes/received/qos1": b"5",
        "publish/messages/received/qos1": b"1",
        "clients/connected": b"1",
        "store/commits": b"0",
    }
    assert {name: figure(name) for name in expected} == expected


def test_unknown_hooks_are_told_before_anything_starts(tmp_path: Path) -> None:
    settings = BrokerSettings(listener=(ListenerSettings(port=0),), hook={"absent": {}})
    with pytest.raises(HookError):
        Broker(settings, site=Site(tmp_path))
