"""Requests of operators about the broker itself, on a real socket: who is connected, kick, topics, plan, roles."""

import json
from dataclasses import replace
from typing import Any

import pytest

from broker.credentials import UsersFile
from broker.settings import ListenerSettings
from broker.tenants import Plan
from meshwire.mqtt import (
    Connect,
    Disconnect,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    ReasonCode,
    SubAck,
    Subscribe,
    TopicSubscription,
)

TOPIC = "$CONTROL/broker/v1"


class Operator:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def ask(self, command: str, topic: str = TOPIC, response_topic: str | None = None, **more: object) -> Any:
        properties = Properties(correlation_data=b"7", response_topic=response_topic)
        body = json.dumps({"command": command, **more}).encode()
        self._client.send(Publish(topic, body, 1, packet_id=9, properties=properties))
        answer: Any = None
        for _ in range(2):
            packet = await self._client.next()
            if isinstance(packet, Publish):
                assert packet.properties.correlation_data == b"7"
                answer = packet
        assert answer is not None and answer.topic == f"{topic}/response"
        return json.loads(answer.payload)


@pytest.fixture
async def operator(running: Any, join: Any) -> Operator:
    return await operator_of(running, join)


async def operator_of(running: Any, join: Any) -> Operator:
    users = UsersFile(running.site.path("broker", "users.json"))
    users.add("op", "op-password-1", roles=("OPERATOR",))
    running.broker._users.reload()
    client = await join(running, Connect("op", ProtocolVersion.V5, username="op", password=b"op-password-1"))
    await subscribe(client, f"{TOPIC}/response")
    return Operator(client)


async def subscribe(client: Any, topic_filter: str) -> tuple[int, ...]:
    packet = await client.ask(Subscribe(1, (TopicSubscription(topic_filter, 0),)))
    assert isinstance(packet, SubAck)
    return packet.reason_codes


async def test_connections_are_told_with_what_an_operator_wants_to_know(
    operator: Operator, running: Any, join: Any
) -> None:
    token = running.token("acme", "BUBBLE_UP_READ_CONSUMER").encode()
    meter = await join(running, Connect("meter", ProtocolVersion.V3_1_1, username="notused", password=token))
    await subscribe(meter, "acme/read/#")
    admin = await join(running, Connect("admin", ProtocolVersion.V5))
    assert isinstance(await admin.ask(Publish("acme/read/x", b"1", 1, packet_id=3)), PubAck)
    await meter.next()

    everybody = await operator.ask("connections")
    assert everybody["total"] == 3
    assert [(each["tenant"], each["client"]) for each in everybody["connections"]] == [
        ("acme", "meter"),
        ("ssni", "admin"),
        ("ssni", "op"),
    ]
    (one,) = (await operator.ask("connections", tenant="acme"))["connections"]
    assert one.pop("since") > 1e9 and one.pop("user")
    assert one == {
        "tenant": "acme",
        "client": "meter",
        "login": "token",
        "address": "127.0.0.1",
        "version": "3.1.1",
        "listener": "mqtt",
        "protection": "plain",
        "received": 0,
        "sent": 1,
        "queued": 0,
        "inflight": 0,
        "subscriptions": ["acme/read/#"],
        "subscription_count": 1,
    }
    found = await operator.ask("connections", find="ADMI")
    assert [(each["client"], each["received"]) for each in found["connections"]] == [("admin", 1)]
    page = await operator.ask("connections", after=1, limit=1)
    assert [each["client"] for each in page["connections"]] == ["admin"] and page["total"] == 3


async def test_a_kicked_client_hears_why_and_may_come_back(operator: Operator, running: Any, join: Any) -> None:
    token = running.token("acme", "BUBBLE_UP_READ_CONSUMER").encode()
    login = Connect("meter", ProtocolVersion.V5, username="notused", password=token)
    meter = await join(running, login)
    who = {"tenant": "acme", "client": "meter", "login": "token"}
    assert await operator.ask("kick", **who) == {"kicked": "meter"}
    goodbye = await meter.next()
    assert isinstance(goodbye, Disconnect) and goodbye.reason_code == ReasonCode.ADMINISTRATIVE_ACTION
    assert "administrator" in (goodbye.properties.reason_string or "")
    assert await meter.next() is None
    assert "is not connected" in (await operator.ask("kick", **who))["error"]
    assert "is not connected" in (await operator.ask("kick", **who | {"tenant": "globex"}))["error"]
    small = await join(running, replace(login, properties=Properties(maximum_packet_size=30)))
    assert (await operator.ask("connections", tenant="acme"))["total"] == 1
    await operator.ask("kick", **who)
    assert await small.next() == Disconnect(ReasonCode.ADMINISTRATIVE_ACTION), "the code without the words"


async def test_topics_are_a_tenants_own_with_retained_ones(operator: Operator, running: Any, join: Any) -> None:
    admin = await join(running, Connect("admin", ProtocolVersion.V5))
    for topic, retain in (
        ("acme/read/x", False),
        ("acme/read/x", False),
        ("acme/presence/y", True),
        ("globex/z", False),
    ):
        await admin.ask(Publish(topic, b"1", 1, packet_id=3, retain=retain))
    answer = await operator.ask("topics", tenant="acme")
    assert answer["total"] == 2 and answer["forgotten"] == 0
    assert [(each["topic"], each["messages"], each["retained"]) for each in answer["topics"]] == [
        ("acme/presence/y", 1, True),
        ("acme/read/x", 2, False),
    ]
    assert all(each["last"] > 1e9 for each in answer["topics"])
    assert (await operator.ask("topics", tenant="acme", find="READ"))["total"] == 1
    assert (await operator.ask("topics", tenant="acme", limit=1))["total"] == 2


async def test_plan_roles_and_listeners(start: Any, join: Any) -> None:
    listeners = (ListenerSettings(port=0), ListenerSettings(kind="ws", port=0))
    running = await start(plan={"acme": Plan(max_connections=7)}, listener=listeners)
    operator = await operator_of(running, join)
    plan = await operator.ask("plan", tenant="acme")
    assert plan["plan"]["max_connections"] == 7 and plan["plan"]["max_messages_per_s"] is None
    assert (plan["connections"], plan["addresses"]) == (0, 0)
    roles = {each["name"]: each for each in (await operator.ask("roles"))["roles"]}
    assert roles["COMMAND_CLIENT"]["publish"] == ["{tenantId}/cmd/+/req/+"] and roles["ADMIN"]["password_only"]
    found = (await operator.ask("listeners"))["listeners"]
    assert [(each["kind"], each["port"]) for each in found] == [
        ("mqtt", running.broker.ports[0]),
        ("ws", running.broker.ports[1]),
    ]


async def test_what_is_not_understood_is_said(operator: Operator) -> None:
    for wrong in ({"command": "dance"}, {"command": "kick"}, {"command": "topics", "tenant": "a", "limit": 0}):
        assert "not valid" in (await operator.ask(**wrong))["error"]


async def test_nobody_publishes_by_asking(operator: Operator, running: Any, join: Any) -> None:
    """A response topic that the operator itself may not hear is not used."""
    assert (await operator.ask("roles", response_topic="acme/read/forged"))["roles"]


async def test_operators_have_no_part_in_tenants_messages(operator: Operator, running: Any, join: Any) -> None:
    assert await subscribe(operator._client, "acme/read/#") == (ReasonCode.NOT_AUTHORIZED,)
    token = running.token("acme", "OPERATOR", "ADMIN", "GATEWAY").encode()
    meter = await join(running, Connect("m", ProtocolVersion.V5, username="notused", password=token))
    refused = await meter.ask(Publish(TOPIC, b'{"command": "roles"}', 1, packet_id=1))
    assert isinstance(refused, PubAck) and refused.reason_code == ReasonCode.NOT_AUTHORIZED
    assert await subscribe(meter, f"{TOPIC}/response") == (ReasonCode.NOT_AUTHORIZED,)


def test_the_gateways_own_user_may_ask(tmp_path: Any) -> None:
    from broker.credentials import open_users
    from meshwire.site import Site

    users = open_users(tmp_path / "users.json", Site(tmp_path))
    (gateway,) = users.listing()
    assert gateway.roles == {"GATEWAY", "OPERATOR"}


async def test_very_long_names_are_told_short_and_can_be_kicked_all_the_same(
    operator: Operator, running: Any, join: Any
) -> None:
    token = running.token("acme", "BUBBLE_UP_READ_CONSUMER").encode()
    names = ["x" * 60_000 + end for end in ("one", "two")]
    clients = [
        await join(running, Connect(name, ProtocolVersion.V5, username="notused", password=token)) for name in names
    ]
    for client in clients:
        await subscribe(client, "acme/read/" + "y" * 60_000)
    rows = (await operator.ask("connections", tenant="acme"))["connections"]
    assert len({row["client"] for row in rows}) == 2 and all(len(row["client"]) == 256 for row in rows)
    assert all(len(each) == 200 for row in rows for each in row["subscriptions"])
    assert "kicked" in await operator.ask("kick", tenant="acme", client=rows[1]["client"], login="token")
    left = (await operator.ask("connections", tenant="acme"))["connections"]
    assert [row["client"] for row in left] == [rows[0]["client"]]


async def test_an_answer_is_bounded_and_the_next_one_goes_on(
    operator: Operator, running: Any, join: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.operations.ANSWER_OCTETS", 1)
    await join(running, Connect("admin", ProtocolVersion.V5))
    first = await operator.ask("connections")
    second = await operator.ask("connections", after=1)
    assert [row["client"] for answer in (first, second) for row in answer["connections"]] == ["admin", "op"]
    assert first["total"] == second["total"] == 2


async def test_retained_messages_nobody_sent_since_are_topics_as_well(
    operator: Operator, running: Any, join: Any
) -> None:
    engine = running.broker.engine
    for number in range(5):
        engine.publish_own(f"acme/presence/{number}", "online", 0.0)
    engine.publish_own("globex/presence/1", "online", 0.0)
    answer = await operator.ask("topics", tenant="acme", limit=3)
    assert len(answer["topics"]) == 3 and answer["total"] >= 3
    assert all(each["retained"] and each["last"] is None and each["messages"] == 0 for each in answer["topics"])
    assert (await operator.ask("topics", tenant="acme", find="/4"))["total"] == 1
