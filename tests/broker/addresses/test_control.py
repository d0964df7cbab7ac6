"""Requests about addresses: list, browse, purge, put and remove."""

import json
from pathlib import Path

from address_client import ORDERS, Client, engine_of, orders, reasons

from broker.addresses.book import AddressBook
from broker.addresses.control import CONTROL_TOPIC
from broker.tenants import Plan
from meshwire.mqtt import Properties, PubAck, Publish, ReasonCode


def ask(admin: Client, **request: object) -> dict[str, object]:
    properties = Properties(response_topic="acme/reply/admin", correlation_data=b"1")
    payload = json.dumps(request).encode()
    packets = admin.take(Publish(CONTROL_TOPIC, payload, 1, packet_id=9, properties=properties))
    (answer,) = [item for item in packets if isinstance(item, Publish)]
    assert answer.properties.correlation_data == b"1"
    admin.take(PubAck(answer.packet_id))
    body = json.loads(answer.payload)
    assert isinstance(body, dict)
    return body


def test_browsing_takes_nothing() -> None:
    engine = engine_of(orders("queue"), {"name": "news", "type": "topic"})
    admin = Client(engine, "admin", roles=("ADMIN",)).connect()
    admin.subscribe("acme/reply/admin")
    sender = Client(engine, "s").connect()
    for payload in "abc":
        sender.publish(payload)
    page = ask(admin, command="browse", tenant="acme", address="orders", limit=2)
    assert [item["payload"] for item in page["messages"]] == ["YQ==", "Yg=="]  # type: ignore[attr-defined]
    rest = ask(admin, command="browse", tenant="acme", address="orders", after=page["next"])
    assert [item["sequence"] for item in rest["messages"]] == [3]  # type: ignore[attr-defined]
    reader = Client(engine, "r").connect()
    reader.subscribe("acme/address/news")
    listed = ask(admin, command="list", tenant="acme")["addresses"]
    assert [(item["name"], item["type"], item.get("stored"), item["receivers"]) for item in listed] == [  # type: ignore[attr-defined]
        ("orders", "queue", 3, 0),
        ("news", "topic", None, 1),
    ]
    assert ask(admin, command="purge", tenant="acme", address="orders") == {"purged": 3}
    assert "error" in ask(admin, command="browse", tenant="acme", address="news")
    assert "error" in ask(admin, command="browse", tenant="acme", address="nothing")
    assert "error" in ask(admin, command="explode")
    assert "error" in ask(admin, command="put", definition={"tenant": "acme", "name": "x", "type": "queue"})
    assert "error" in ask(admin, command="remove", tenant="acme", address="news")
    assert reasons(sender.publish("{}", CONTROL_TOPIC)) == [ReasonCode.NOT_AUTHORIZED]


def test_addresses_are_put_and_removed_on_request(tmp_path: Path) -> None:
    engine = engine_of(plan=Plan(max_addresses=2))
    engine.addresses.book = AddressBook(tmp_path / "addresses.json")
    admin = Client(engine, "admin", roles=("ADMIN",)).connect()
    admin.subscribe("acme/reply/admin")
    receiver, sender = Client(engine, "r").connect(), Client(engine, "s").connect()
    receiver.subscribe()
    definition: dict[str, object] = {"tenant": "acme", "name": "orders", "type": "queue", "max_ttl_s": 60}
    assert ask(admin, command="put", definition=definition) == {"put": "orders"}
    sender.publish("a")
    assert receiver.received() == ["a"]
    (listed,) = ask(admin, command="list")["addresses"]  # type: ignore[misc]
    assert (listed["max_ttl_s"], listed["topic_filter"], listed["senders"], listed["receivers"]) == (60, ORDERS, 1, 1)
    overlapping = definition | {"name": "x", "filter": "address/#"}
    assert "two addresses" in str(ask(admin, command="put", definition=overlapping)["error"])
    assert ask(admin, command="put", definition=definition | {"name": "second"}) == {"put": "second"}
    assert "plan" in str(ask(admin, command="put", definition=definition | {"name": "third"})["error"])
    assert "put needs" in str(ask(admin, command="put")["error"])
    assert ask(admin, command="remove", tenant="acme", address="orders") == {"removed": "orders"}
    assert [item.name for item in AddressBook(tmp_path / "addresses.json")] == ["second"]
