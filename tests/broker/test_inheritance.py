"""What a member of a shared subscription leaves behind (MQTT 5.0 section 4.8.2)."""

from typing import Any

import pytest

from broker.statistics import Drop
from meshwire.mqtt import (
    Connect,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    PubRec,
    Subscribe,
    TopicSubscription,
)

V5 = ProtocolVersion.V5


@pytest.fixture(params=["memory", "os"])
def durability(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shared(*, qos: int = 1) -> Subscribe:
    return Subscribe(1, (TopicSubscription("$share/g/a/+", qos),))


async def leave(running: Any, client: Any, eventually: Any) -> None:
    connected = running.broker.statistics.clients_connected
    await client.close()
    await eventually(lambda: running.broker.statistics.clients_connected == connected - 1)


async def payloads(client: Any, count: int) -> list[bytes]:
    found = []
    while len(found) < count:
        packet = await client.next()
        if isinstance(packet, Publish):
            found.append(packet.payload)
            client.send(PubAck(packet.packet_id))
    return found


async def test_another_member_gets_what_was_not_acknowledged(running: Any, join: Any, eventually: Any) -> None:
    leaving = await join(running, Connect("1", V5, properties=Properties(receive_maximum=1)))
    await leaving.ask(shared())
    publisher = await join(running, Connect("p", V5))
    for number in range(3):  # one on its way, two waiting
        await publisher.ask(Publish(f"a/{number}", b"%d" % number, 1, packet_id=1))
    staying = await join(running, Connect("2", V5))
    await staying.ask(shared())
    await leave(running, leaving, eventually)
    assert await payloads(staying, 3) == [b"0", b"1", b"2"]
    assert not running.broker.statistics.drops[Drop.SESSION_ENDED]
    await publisher.ask(Publish("a/0", b"3", 1, packet_id=1))
    assert await payloads(staying, 1) == [b"3"]


async def test_a_session_that_lives_on_keeps_its_messages(running: Any, join: Any, eventually: Any) -> None:
    lasting = Properties(session_expiry_interval=60)
    leaving = await join(running, Connect("1", V5, properties=lasting))
    await leaving.ask(shared())
    publisher = await join(running, Connect("p", V5))
    await publisher.ask(Publish("a/0", b"0", 1, packet_id=1))
    staying = await join(running, Connect("2", V5))
    await staying.ask(shared())
    await leave(running, leaving, eventually)
    again = await join(running, Connect("1", V5, clean_start=False, properties=lasting))
    assert await payloads(again, 1) == [b"0"]
    await leave(running, again, eventually)
    await join(running, Connect("1", V5))  # begins anew: everything was acknowledged
    await publisher.ask(Publish("a/0", b"1", 1, packet_id=1))
    assert await payloads(staying, 1) == [b"1"]


async def test_a_qos_2_message_on_its_way_goes_to_nobody_else(running: Any, join: Any, eventually: Any) -> None:
    leaving = await join(running, Connect("1", V5, properties=Properties(receive_maximum=1)))
    await leaving.ask(shared(qos=2))
    publisher = await join(running, Connect("p", V5))
    for number in (1, 2):
        await publisher.ask(Publish("a/0", b"%d" % number, 2, packet_id=number))
    first = await leaving.next()
    assert first.payload == b"1"
    leaving.send(PubRec(first.packet_id))
    await leaving.next()
    staying = await join(running, Connect("2", V5))
    await staying.ask(shared())
    await leave(running, leaving, eventually)
    assert await payloads(staying, 1) == [b"2"]
    assert running.broker.statistics.drops[Drop.SESSION_ENDED] == 1


async def test_what_an_own_subscription_may_have_brought_is_not_passed_on(
    running: Any, join: Any, eventually: Any
) -> None:
    leaving = await join(running, Connect("1", V5))
    await leaving.ask(shared())
    await leaving.ask(Subscribe(2, (TopicSubscription("a/#", 1),)))
    publisher = await join(running, Connect("p", V5))
    await publisher.ask(Publish("a/0", b"0", 1, packet_id=1))
    staying = await join(running, Connect("2", V5))
    await staying.ask(shared())
    await leave(running, leaving, eventually)
    assert running.broker.statistics.drops[Drop.SESSION_ENDED] == 2
