"""What `$SYS/broker/…` tells: packets, clients, what is held, and loads."""

from typing import Any

import pytest

from broker.load import Load
from broker.settings import Limits
from broker.sys_topics import SysTopics
from meshwire.mqtt import (
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    TopicSubscription,
)

V5 = ProtocolVersion.V5
KEEP = Properties(session_expiry_interval=100)


def told(running: Any, uptime_s: float = 60.0) -> dict[str, str]:
    broker = running.broker
    prefix = "$SYS/broker/"
    topics = SysTopics(broker.engine, broker.statistics).tell(uptime_s)
    return {topic.removeprefix(prefix): text for topic, text in topics if topic.startswith(prefix)}


@pytest.mark.parametrize("durability", ["memory", "os"])
async def test_every_packet_is_counted(start: Any, join: Any, dial: Any, durability: str) -> None:
    running = await start(sys_interval_s=0)
    client = await join(running, Connect("c", V5, properties=KEEP))
    assert await client.ask(Subscribe(1, (TopicSubscription("a", 1),))) == SubAck(1, (1,))
    client.send(Publish("a", b"12345", 1, packet_id=2), PingReq(), PingReq())
    answers = [await client.next() for _ in range(4)]
    assert PubAck(2) in answers and answers.count(PingResp()) == 2
    client.send(PubAck(1))
    client.send_octets(b"\xc1\x00")  # not a packet
    assert isinstance(await client.next(), Disconnect)
    refused = await dial(running)
    await refused.ask(Connect("d", V5, username="admin", password=b"wrong"))
    figures = told(running)
    assert figures["messages/received"] == "7", "2 CONNECT, SUBSCRIBE, PUBLISH, 2 PINGREQ, PUBACK"
    assert figures["messages/sent"] == "8", "2 CONNACK, SUBACK, PUBLISH, PUBACK, 2 PINGRESP, DISCONNECT"
    assert (figures["publish/messages/received"], figures["publish/bytes/sent"]) == ("1", "5")
    assert (figures["load/messages/received/1min"], figures["load/connections/1min"]) == ("4.42", "1.26")


async def test_clients_and_what_is_held_for_them(start: Any, join: Any, eventually: Any) -> None:
    running = await start(sys_interval_s=0, limits=Limits(max_queued_messages=2))
    filters = (TopicSubscription("a", 1), TopicSubscription("$share/g/a", 1), TopicSubscription("$share/g/b", 1))
    away = await join(running, Connect("away", V5, properties=KEEP))
    await away.ask(Subscribe(1, filters))
    sender = await join(running, Connect("sender", V5))
    await away.close()
    await eventually(lambda: running.broker.statistics.clients_connected == 1)
    for topic in ("a", "a", "nobody", "nobody"):  # the first reaches it as a member of the group as well
        await sender.ask(Publish(topic, b"x", 1, packet_id=1))
    await sender.ask(Publish("kept", b"x", 1, retain=True, packet_id=1))
    figures = told(running)
    clients = {name.removeprefix("clients/"): text for name, text in figures.items() if name.startswith("clients/")}
    assert clients == {
        "total": "2",
        "connected": "1",
        "active": "1",
        "disconnected": "1",
        "inactive": "1",
        "maximum": "2",
        "expired": "0",
    }
    assert (figures["subscriptions/count"], figures["shared_subscriptions/count"]) == ("1", "2")
    assert [figures[name] for name in ("retained messages/count", "queues/messages", "messages/stored")] == list("123")
    assert figures["publish/messages/dropped"] == "2", "a full queue; that nobody asked for it is no loss"
    assert figures["publish/messages/dropped/no-subscriber"] == "3"


async def test_a_retransmitted_message_counts_with_its_payload(start: Any, join: Any) -> None:
    running = await start(sys_interval_s=0)
    client = await join(running, Connect("c", V5, properties=KEEP))
    await client.ask(Subscribe(1, (TopicSubscription("a", 1),)))
    client.send(Publish("a", b"12345", 1, packet_id=2))
    assert {type(await client.next()) for _ in range(2)} == {PubAck, Publish}
    again = await join(running, Connect("c", V5, clean_start=False, properties=KEEP))
    assert isinstance(await again.next(), Publish)
    figures = told(running)
    assert (figures["publish/messages/sent"], figures["publish/bytes/sent"]) == ("2", "10")


def test_a_load_is_reckoned_as_mosquitto_does() -> None:
    load = Load()
    load.update(1, 2.0)  # as Mosquitto 2.0.11 told it of one client, two seconds after its start
    assert [f"{average:.2f}" for average in load.averages.values()] == ["0.98", "0.20", "0.07"]
    for count in range(2, 2_000):
        load.update(count, 2.0)
    assert load.averages == {name: pytest.approx(30.0, rel=0.02) for name in ("1min", "5min", "15min")}
    load.update(1_999, 60.0)
    assert load.averages["1min"] == pytest.approx(30.0 / 2.718, rel=0.001)
    assert load.averages["15min"] > load.averages["5min"] > load.averages["1min"]
