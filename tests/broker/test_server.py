"""The broker over real TCP, spoken to with our own codec: logins, flows, limits, endings."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from broker.errors import ListenError
from broker.server import Broker
from broker.settings import BrokerSettings, Limits, ListenerSettings
from broker.statistics import Drop, Ending
from meshwire.mqtt import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    ReasonCode,
    SubAck,
    Subscribe,
    TopicSubscription,
    UnsubAck,
    Unsubscribe,
    Will,
)
from meshwire.site import Site

V31, V311, V5 = ProtocolVersion.V3_1, ProtocolVersion.V3_1_1, ProtocolVersion.V5
MAC = "001350050047dd92"


@pytest.fixture(params=["memory", "os"])
def durability(request: pytest.FixtureRequest) -> str:
    """What clients see is the same with and without a store."""
    return str(request.param)


def sub(*filters: str, qos: int = 2, packet_id: int = 1) -> Subscribe:
    return Subscribe(packet_id, tuple(TopicSubscription(text, qos) for text in filters))


# --- CONNECT ----------


async def test_the_vendors_client_gets_in_with_a_token(running: Any, dial: Any) -> None:
    client = await dial(running, V311)
    token = running.token("acme", "BUBBLE_UP_READ_CONSUMER").encode()
    connect = Connect("mqtt-client-0123456789abcdefghij", V311, True, 3, None, "notused", token)
    assert await client.ask(connect) == ConnAck()


@pytest.mark.parametrize("version", ProtocolVersion)
async def test_a_password_user_gets_in_with_every_version(running: Any, dial: Any, version: ProtocolVersion) -> None:
    client = await dial(running, version)
    connect = Connect("gw", version, username="gateway", password=running.gateway_password.encode())
    answer = await client.ask(connect)
    assert isinstance(answer, ConnAck)
    assert answer.reason_code == 0
    assert await client.ask(PingReq()) == PingResp()


REFUSED = [
    ("no-credentials", Connect("c", V311), 5),
    ("no-credentials", Connect("c", V5), 0x87),
    ("wrong-password", Connect("c", V311, username="admin", password=b"wrong"), 4),
    ("wrong-password", Connect("c", V5, username="admin", password=b"wrong"), 0x86),
    ("unknown-user", Connect("c", V311, username="nobody", password=b"wrong"), 4),
    ("invalid-token", Connect("c", V311, username="x", password=b"eyJhbGciOiJub25lIn0.e30."), 4),
    ("no-client-id", Connect("", V311, False), 2),
    ("no-client-id", Connect("", V31, True), 2),
    ("enhanced-authentication", Connect("c", V5, properties=Properties(authentication_method="X")), 0x8C),
]


@pytest.mark.parametrize(("cause", "connect", "code"), REFUSED, ids=str)
async def test_refusals_have_their_code_and_are_counted_by_cause(
    running: Any, dial: Any, cause: str, connect: Connect, code: int
) -> None:
    client = await dial(running, connect.version)
    assert await client.ask(connect) == ConnAck(False, code)
    assert await client.next() is None
    assert running.broker.statistics.logins_refused == {cause: 1}
    assert not running.broker.engine.sessions


@pytest.mark.parametrize(("level", "name"), [(6, b"MQTT"), (4, b"HTTP"), (0x85, b"MQTT")])
async def test_unknown_protocols_are_told(running: Any, dial: Any, level: int, name: bytes) -> None:
    client = await dial(running, V311)
    client.send_octets(b"\x10\x0d\0\x04" + name + bytes((level,)) + b"\x02\0\0\0\x01a")
    assert await client.next() == ConnAck(False, 1)
    assert await client.next() is None


async def test_a_token_for_password_roles_gets_nothing_from_them(running: Any, dial: Any) -> None:
    client = await dial(running)
    token = running.token("ssni", "ADMIN", "GATEWAY").encode()
    assert (await client.ask(Connect("c", V5, password=token))).reason_code == 0
    assert await client.ask(sub("#", "+/cmd/+/req/+")) == SubAck(1, (0x87, 0x87))
    assert await client.ask(Publish(f"ssni/read/{MAC}/temp", b"", 1, packet_id=2)) == PubAck(2, 0x87)
    assert running.broker.statistics.roles_without_effect == 2


async def test_an_expired_token_does_not_get_in_and_a_live_one_ends(start: Any, dial: Any) -> None:
    issued = 1_700_000_000
    now = issued + 59.8
    running = await start(wall_clock=lambda: now)
    late, client = await dial(running), await dial(running)
    expired = running.token("acme", now=issued - 60, ttl_s=60).encode()
    assert (await late.ask(Connect("c", V5, password=expired))).reason_code == 0x86
    token = running.token("acme", now=issued, ttl_s=60).encode()
    assert (await client.ask(Connect("c", V5, password=token))).reason_code == 0
    now = issued + 60.0
    assert await client.next() == Disconnect(ReasonCode.MAXIMUM_CONNECT_TIME)
    assert running.broker.statistics.endings[Ending.LOGIN_EXPIRED] == 1


async def test_client_ids_of_65535_octets_and_none_at_all(running: Any, join: Any) -> None:
    client = await join(running, Connect("x" * 65_535, V311))
    assert client.connack.reason_code == 0
    client = await join(running, Connect("", V5))
    assert client.connack.properties.assigned_client_identifier
    client = await join(running, Connect("", V311, True))
    assert client.connack.reason_code == 0


async def test_packets_sent_right_behind_connect_are_answered_after_the_login(running: Any, dial: Any) -> None:
    client = await dial(running, V311)
    client.send(Connect("c", V311, username="admin", password=b"admin-password"), sub("a"), PingReq())
    assert await client.next() == ConnAck()
    assert await client.next() == SubAck(1, (2,))
    assert await client.next() == PingResp()


async def test_a_client_that_goes_while_its_password_is_checked_leaves_nothing(
    running: Any, dial: Any, eventually: Any
) -> None:
    client = await dial(running, V311)
    client.send(Connect("c", V311, username="admin", password=b"admin-password"))
    await asyncio.sleep(0)
    client.abort()
    await eventually(lambda: running.broker.statistics.connections_open == 0)
    assert running.broker.statistics.clients_connected == 0


async def test_a_will_must_be_allowed_before_the_connection_is(running: Any, dial: Any) -> None:
    client = await dial(running)
    token = running.token("acme", "COMMAND_CLIENT").encode()
    will = Will(f"other/cmd/{MAC}/req/1", b"x")
    assert await client.ask(Connect("c", V5, will=will, password=token)) == ConnAck(False, 0x87)
    assert running.broker.statistics.logins_refused == {"will-not-allowed": 1}


async def test_mqtt_5_clients_are_told_the_limits(start: Any, join: Any) -> None:
    limits = Limits(max_keep_alive_s=30, max_session_expiry_s=100, receive_maximum=7, topic_alias_maximum=3)
    running = await start(limits=limits)
    client = await join(running, Connect("c", V5, properties=Properties(session_expiry_interval=1_000)))
    assert client.connack.properties == Properties(
        session_expiry_interval=100,
        receive_maximum=7,
        maximum_packet_size=limits.max_packet_octets,
        topic_alias_maximum=3,
        server_keep_alive=30,
    )


@pytest.mark.parametrize(("most", "answered"), [(4, None), (5, ConnAck(False, 0x95)), (12, ConnAck(False, 0x95))])
async def test_a_client_that_takes_no_connack_is_refused(
    running: Any, dial: Any, most: int, answered: ConnAck | None
) -> None:
    client = await dial(running, V5)
    token = running.token("acme", "COMMAND_CLIENT").encode()
    asked = Connect("c", V5, password=token, properties=Properties(maximum_packet_size=most))
    assert await client.ask(asked) == answered
    if answered is not None:
        assert await client.next() is None
    assert not running.broker.engine.sessions
    assert running.broker.statistics.logins_refused == {"maximum-packet-size-too-small": 1}


async def test_an_answer_too_long_for_the_client_ends_the_connection(running: Any, join: Any) -> None:
    client = await join(running, Connect("c", V5, properties=Properties(maximum_packet_size=40)))
    assert await client.ask(sub(*[f"a/{number}" for number in range(35)])) is not None
    assert await client.ask(sub(*[f"a/{number}" for number in range(36)])) == Disconnect(ReasonCode.PACKET_TOO_LARGE)


@pytest.mark.parametrize("version", [V31, V311])
async def test_a_bridge_does_not_hear_itself_and_is_told_what_is_retained(
    running: Any, join: Any, version: ProtocolVersion
) -> None:
    bridge = await join(running, Connect("bridge", version, is_bridge=True))
    await bridge.ask(sub("a"))
    await bridge.ask(Publish("a", b"own", 1, packet_id=1))
    other = await join(running, Connect("other", V311))
    await other.ask(Publish("a", b"other", 1, True, packet_id=1))
    heard = await bridge.next()
    assert (heard.payload, heard.retain) == (b"other", True)


# --- messages ----------


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
async def test_every_pair_of_qos(
    running: Any, join: Any, version: ProtocolVersion, published: int, granted: int
) -> None:
    listener = await join(running, Connect("s", version))
    assert await listener.ask(sub("a/+", qos=granted)) == SubAck(1, (granted,))
    sender = await join(running, Connect("p", version))
    sender.send(Publish("a/b", b"\x00\xff", published, packet_id=7 if published else 0))
    if published == 1:
        assert await sender.next() == PubAck(7)
    if published == 2:
        assert await sender.next() == PubRec(7)
        assert await sender.ask(PubRel(7)) == PubComp(7)
    packet = await listener.next()
    assert isinstance(packet, Publish)
    assert (packet.payload, packet.qos) == (b"\x00\xff", min(published, granted))
    if packet.qos == 2:
        assert await listener.ask(PubRec(packet.packet_id)) == PubRel(packet.packet_id)
        listener.send(PubComp(packet.packet_id))
    elif packet.qos == 1:
        listener.send(PubAck(packet.packet_id))
    assert await listener.ask(PingReq()) == PingResp()
    assert all(session.inflight_count == 0 for session in running.broker.engine.sessions.values())


async def test_a_repeated_qos_2_publish_is_delivered_once(running: Any, join: Any) -> None:
    listener = await join(running, Connect("s", V311))
    await listener.ask(sub("a", qos=0))
    sender = await join(running, Connect("p", V311, False))
    assert await sender.ask(Publish("a", b"1", 2, packet_id=5)) == PubRec(5)
    await sender.close()
    sender = await join(running, Connect("p", V311, False))
    assert sender.connack == ConnAck(True)
    assert await sender.ask(Publish("a", b"1", 2, dup=True, packet_id=5)) == PubRec(5)
    assert await sender.ask(PubRel(5)) == PubComp(5)
    assert await sender.ask(Publish("a", b"2", 2, packet_id=5)) == PubRec(5)
    assert [(await listener.next()).payload, (await listener.next()).payload] == [b"1", b"2"]


async def test_refused_publishes_by_version(running: Any, dial: Any) -> None:
    token = running.token("acme", "BUBBLE_UP_READ_CONSUMER").encode()
    for version, code in ((V311, 0), (V5, 0x87)):
        client = await dial(running, version)
        await client.ask(Connect("c", version, username="", password=token))
        assert await client.ask(Publish("acme/read/x", b"", 1, packet_id=1)) == PubAck(1, code)
        assert await client.ask(Publish("acme/read/x", b"", 2, packet_id=2)) == PubRec(2, code)
        client.send(Publish("acme/read/x"))
        assert await client.ask(PingReq()) == PingResp()
    assert running.broker.statistics.drops[Drop.PUBLISH_REFUSED] == 6
    assert not any(session.incoming for session in running.broker.engine.sessions.values())


async def test_tenants_do_not_see_each_other(running: Any, dial: Any, join: Any) -> None:
    ears = {}
    for tenant in ("acme", "other"):
        ears[tenant] = await dial(running)
        token = running.token(tenant, "BUBBLE_UP_READ_CONSUMER").encode()
        await ears[tenant].ask(Connect("same-id", V5, password=token))
        wanted = ("acme/read/#", "+/read/#", "#", "$share/g/acme/read/#", "acme/read/+/temp")
        expected = (2, 0x87, 0x87, 2, 2) if tenant == "acme" else (0x87,) * 5
        assert await ears[tenant].ask(sub(*wanted)) == SubAck(1, expected)
        await ears[tenant].ask(Unsubscribe(2, ("$share/g/acme/read/#",)))
    gateway = await dial(running)
    await gateway.ask(Connect("gw", V5, username="gateway", password=running.gateway_password.encode()))
    await gateway.ask(Publish(f"acme/read/{MAC}/temp", b"21", 1, packet_id=1))
    packet = await ears["acme"].next()
    assert packet.payload == b"21"
    assert await ears["other"].ask(PingReq()) == PingResp()


async def test_subscribe_refusal_by_version(running: Any, dial: Any) -> None:
    token = running.token("acme", "BUBBLE_UP_READ_CONSUMER").encode()
    for version, code in ((V31, 0x80), (V311, 0x80), (V5, 0x87)):
        client = await dial(running, version)
        await client.ask(Connect("c", version, username="", password=token))
        assert await client.ask(sub("acme/read/#", "#", qos=1)) == SubAck(1, (1, code))


async def test_properties_travel_with_the_message(running: Any, join: Any) -> None:
    listener = await join(running, Connect("s", V5))
    properties = Properties(subscription_identifiers=(9,))
    await listener.ask(Subscribe(1, (TopicSubscription("a/#", 1),), properties))
    old = await join(running, Connect("o", V311))
    await old.ask(sub("a/#", qos=0))
    sender = await join(running, Connect("p", V5))
    sent = Properties(
        payload_format_indicator=1,
        message_expiry_interval=60,
        content_type="application/cbor",
        response_topic="r/t",
        correlation_data=b"\x01",
        user_properties=(("device", MAC), ("key", "k"), ("key", "l")),
        topic_alias=3,
    )
    sender.send(Publish("a/b", b"x", 1, packet_id=1, properties=sent))
    sender.send(Publish("", b"y", 0, properties=Properties(topic_alias=3)))
    first, second = await listener.next(), await listener.next()
    expected = {name: getattr(sent, name) for name in Properties.__slots__}
    assert first.properties == Properties(**{**expected, "topic_alias": None, "subscription_identifiers": (9,)})
    assert (second.topic, second.payload) == ("a/b", b"y")
    assert await old.next() == Publish("a/b", b"x")


@pytest.mark.parametrize(
    ("packets", "reason"),
    [
        ([Publish("", b"", properties=Properties(topic_alias=1))], ReasonCode.PROTOCOL_ERROR),
        ([Publish("a", b"", properties=Properties(topic_alias=65))], ReasonCode.TOPIC_ALIAS_INVALID),
        ([Connect("c", V5)], ReasonCode.PROTOCOL_ERROR),
        ([Auth(0x19)], ReasonCode.PROTOCOL_ERROR),
        ([Disconnect(0, Properties(session_expiry_interval=5))], ReasonCode.PROTOCOL_ERROR),
        ([Publish("a", b"", 2, packet_id=n) for n in range(1, 5)], ReasonCode.RECEIVE_MAXIMUM_EXCEEDED),
        ([Publish("a", b"x" * 3_000)], ReasonCode.PACKET_TOO_LARGE),
    ],
    ids=str,
)
async def test_breaches_end_the_connection_with_their_reason(
    start: Any, join: Any, packets: list[Any], reason: ReasonCode
) -> None:
    running = await start(limits=Limits(receive_maximum=3, max_packet_octets=2_048))
    client = await join(running, Connect("c", V5))
    client.send(*packets)
    while isinstance(packet := await client.next(), PubRec):
        pass
    assert packet == Disconnect(reason)
    assert await client.next() is None
    assert running.broker.statistics.protocol_errors == {reason.name: 1}


async def test_an_acknowledgement_that_fits_no_step_ends_the_connection(running: Any, join: Any) -> None:
    client = await join(running, Connect("c", V5))
    await client.ask(sub("a", qos=1))
    client.send(Publish("a", b"", 1, packet_id=1))
    got = [await client.next(), await client.next()]
    assert {type(packet) for packet in got} == {Publish, PubAck}
    client.send(PubRec(1))
    assert await client.next() == Disconnect(ReasonCode.PROTOCOL_ERROR)


async def test_identifiers_nobody_knows_are_answered(running: Any, join: Any) -> None:
    client = await join(running, Connect("c", V5))
    assert await client.ask(PubRel(9)) == PubComp(9, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
    assert await client.ask(PubRec(9)) == PubRel(9, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
    client.send(PubAck(9))
    assert await client.ask(PingReq()) == PingResp()


async def test_publisher_learns_that_nobody_listens(running: Any, join: Any) -> None:
    client = await join(running, Connect("c", V5))
    answer = await client.ask(Publish("a", b"", 1, packet_id=1))
    assert answer == PubAck(1, ReasonCode.NO_MATCHING_SUBSCRIBERS)
    assert running.broker.statistics.drops[Drop.NO_SUBSCRIBER] == 1


async def test_unsubscribe(running: Any, join: Any) -> None:
    client = await join(running, Connect("c", V5))
    await client.ask(sub("a"))
    assert await client.ask(Unsubscribe(2, ("a", "b"))) == UnsubAck(2, (0, 0x11))


# --- sessions over connections ----------


async def test_messages_wait_for_a_persistent_session_and_come_in_order(running: Any, join: Any) -> None:
    client = await join(running, Connect("s", V311, False))
    await client.ask(sub("a/#", qos=1))
    client.send(Disconnect())
    assert await client.next() is None
    sender = await join(running, Connect("p", V311))
    for number in range(300):
        if number % 2:
            await sender.ask(Publish(f"a/{number % 7}", b"%d" % number, 1, packet_id=number))
        else:
            sender.send(Publish("a/0", b"never kept"))
    client = await join(running, Connect("s", V311, False))
    assert client.connack == ConnAck(True)
    got = [(await client.next()).payload for _ in range(150)]
    assert got == [b"%d" % number for number in range(1, 300, 2)]
    assert await client.ask(PingReq()) == PingResp()


async def test_take_over_tells_the_former_client(running: Any, join: Any, eventually: Any) -> None:
    first = await join(running, Connect("c", V5))
    second = await join(running, Connect("c", V5))
    assert await first.next() == Disconnect(ReasonCode.SESSION_TAKEN_OVER)
    assert await first.next() is None
    assert await second.ask(PingReq()) == PingResp()
    await eventually(lambda: running.broker.statistics.connections_open == 1)
    assert running.broker.statistics.endings == {Ending.TAKEN_OVER: 1}


async def test_wills(running: Any, join: Any) -> None:
    ear = await join(running, Connect("ear", V311))
    await ear.ask(sub("w/+", qos=1))
    client = await join(running, Connect("a", V311, will=Will("w/a", b"aborted")))
    client.abort()
    assert (await ear.next()).payload == b"aborted"
    client = await join(running, Connect("b", V311, will=Will("w/b", b"polite")))
    client.send(Disconnect())
    assert await client.next() is None
    client = await join(running, Connect("c", V5, will=Will("w/c", b"on purpose", 0, True)))
    client.send(Disconnect(ReasonCode.DISCONNECT_WITH_WILL))
    assert (await ear.next()).payload == b"on purpose"
    late = await join(running, Connect("late", V311))
    late.send(sub("w/#"))
    assert [await late.next(), await late.next()] == [SubAck(1, (2,)), Publish("w/c", b"on purpose", 0, True)]


async def test_silence_beyond_the_keep_alive_ends_the_connection(running: Any, join: Any) -> None:
    client = await join(running, Connect("c", V5, True, 1))
    assert await client.next() == Disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)
    assert running.broker.statistics.endings == {Ending.KEEP_ALIVE: 1}


async def test_no_connect_in_time_ends_the_connection(start: Any, dial: Any) -> None:
    running = await start(limits=Limits(connect_timeout_s=0.05))
    client = await dial(running)
    client.send_octets(b"\x10")
    assert await client.next() is None
    assert running.broker.statistics.endings == {Ending.CONNECT_TIMEOUT: 1}


async def test_silent_connections_shed_the_oldest_and_a_client_gets_in(start: Any, dial: Any, join: Any) -> None:
    running = await start(limits=Limits(unauthenticated_per_address=20))
    silent = [await dial(running) for _ in range(50)]
    client = await join(running, Connect("c", V311))
    assert await client.ask(PingReq()) == PingResp()
    assert await silent[0].next() is None
    assert running.broker.statistics.endings[Ending.EVICTED] == 31


async def test_a_reader_that_takes_nothing_is_bounded(start: Any, join: Any, eventually: Any) -> None:
    limits = Limits(qos0_backlog_octets=200_000, max_backlog_octets=4_000_000, slow_reader_timeout_s=0.5)
    running = await start(limits=limits)
    lazy = await join(running, Connect("lazy", V311))
    await lazy.ask(sub("a", qos=0))
    lazy._writer.transport.pause_reading()
    sender = await join(running, Connect("p", V311))
    statistics = running.broker.statistics
    for _ in range(200):
        sender.send(*[Publish("a", b"x" * 10_000)] * 20)
        assert await sender.ask(PingReq()) == PingResp()
        if statistics.drops[Drop.QOS0_BACKLOG]:
            break
    assert statistics.drops[Drop.QOS0_BACKLOG]
    await eventually(lambda: statistics.endings[Ending.SLOW_READER] == 1)
    assert await sender.ask(PingReq()) == PingResp()


async def test_sys_topics_are_for_the_administrator(running: Any, join: Any, dial: Any, eventually: Any) -> None:
    client = await join(running, Connect("c", V311))
    client.send(sub("$SYS/broker/clients/+", "#"))
    assert await client.next() == SubAck(1, (2, 2))
    names = ("total", "connected", "active", "disconnected", "inactive", "maximum", "expired")
    assert {(await client.next()).topic for _ in names} == {f"$SYS/broker/clients/{name}" for name in names}
    tenant = await dial(running)
    await tenant.ask(Connect("t", V5, password=running.token("acme", "BUBBLE_UP_READ_CONSUMER").encode()))
    assert await tenant.ask(sub("$SYS/#")) == SubAck(1, (0x87,))


# --- the process ----------


async def test_the_first_start_makes_one_user_with_a_generated_password(tmp_path: Path) -> None:
    site = Site(tmp_path)
    broker = Broker(BrokerSettings(listener=(ListenerSettings(port=0),)), site=site)
    users = broker._users_file()
    assert users.names() == ["gateway"]
    assert len(site.secret("gateway-mqtt")) >= 32
    (gateway,) = users.listing()
    assert (gateway.tenant.value, gateway.roles) == ("ssni", frozenset({"GATEWAY", "OPERATOR"}))


async def test_cancelling_leaves_nothing_behind(start: Any, join: Any) -> None:
    running = await start()
    client = await join(running, Connect("c", V5))
    before = asyncio.all_tasks()
    (task,) = [task for task in before if task.get_coro().__qualname__ == "Broker.run"]  # type: ignore[union-attr]
    task.cancel()
    assert await client.next() == Disconnect(ReasonCode.SERVER_SHUTTING_DOWN)
    assert await client.next() is None
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running.broker.statistics.connections_open == 0
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", running.port)


async def test_a_taken_port_is_told_in_words(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listener = (ListenerSettings(port=taken.getsockname()[1]),)
        with pytest.raises(ListenError, match="MW-BRK-002"):
            await Broker(BrokerSettings(listener=listener), site=Site(tmp_path)).run()
