"""Receivers of a queue or an anycast address compete: in turn and by load, and no message is lost or doubled."""

import random

import pytest
from address_client import ORDERS, Client, engine_of, orders

from meshwire.mqtt import PubAck, Publish, Subscribe, TopicSubscription


@pytest.mark.parametrize("kind", ["queue", "anycast"])
def test_receivers_compete_in_turn_and_by_load(kind: str) -> None:
    engine = engine_of(orders(kind))
    first, second = Client(engine, "r1").connect(), Client(engine, "r2").connect()
    first.subscribe()
    second.subscribe("$share/g/" + ORDERS)  # the share name makes no difference
    sender = Client(engine, "s").connect()
    got: list[tuple[list[str], list[str]]] = []
    for payload in "wxyz":
        sender.publish(payload)
        got.append((first.received(), second.received()))
    assert got == [(["w"], []), ([], ["x"]), (["y"], []), ([], ["z"])], "in turn, though both are idle each time"
    for payload in "abcd":
        sender.publish(payload)
    assert (first.received(), second.received(acknowledge=False)) == (["a", "c"], ["b", "d"])
    for payload in "ef":
        sender.publish(payload)
    assert first.received() == ["e", "f"], "the second one has two messages that it has not acknowledged"


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["queue", "anycast"])
def test_no_message_is_lost_or_doubled_whatever_receivers_do(kind: str, seed: int) -> None:
    """Receivers come, go, refuse and acknowledge at random; in the end each message was taken once, or its sender knows
    better.
    """
    chance = random.Random(seed)
    engine = engine_of(orders(kind, max_deliveries=1_000), {"name": "other", "type": "queue"})
    sender = Client(engine, "s", receive_maximum=1_000).connect()
    receivers = [Client(engine, f"r{n}", receive_maximum=chance.randint(1, 4), expiry_s=60) for n in range(4)]
    held: dict[str, list[tuple[int, str]]] = {client.client_id: [] for client in receivers}
    connected: set[str] = set()
    taken: list[str] = []
    settled: dict[int, int] = {}
    number = 0

    def collect() -> None:
        for client in receivers:
            if client.client_id in connected:
                got = [item for item in client.packets() if isinstance(item, Publish)]
                held[client.client_id] += [(item.packet_id, item.payload.decode()) for item in got]
                assert len(held[client.client_id]) <= client.receive_maximum, "no more than the credit"
        for item in sender.packets():
            assert isinstance(item, PubAck) and item.packet_id not in settled
            settled[item.packet_id] = item.reason_code

    for _ in range(400):
        client = chance.choice(receivers)
        match chance.randrange(6):
            case 0 if client.client_id in connected:
                client.leave()
                connected.discard(client.client_id)
                held[client.client_id].clear()
            case 0 | 1:
                if client.client_id not in connected:
                    client.octets.clear()
                    client.connect(clean=False)
                    client.send(Subscribe(1, (TopicSubscription(ORDERS, 1),)), 0.0)
                    connected.add(client.client_id)
            case 2 | 3:
                number += 1
                sender.send(Publish(ORDERS, str(number).encode(), 1, packet_id=number), 0.0)
            case _ if held[client.client_id]:
                packet_id, payload = held[client.client_id].pop(0)
                refuses = chance.random() < 0.2
                client.send(PubAck(packet_id, 0x80 if refuses else 0), 0.0)
                if not refuses:
                    taken.append(payload)
        collect()
    for client in receivers:  # whoever is left leaves; one comes that takes everything
        if client.client_id in connected:
            client.leave()
    connected.clear()
    last = Client(engine, "last").connect()
    last.subscribe()
    while got := last.received():
        taken += got
    collect()
    assert len(taken) == len(set(taken)), "each once"
    if kind == "queue":
        assert set(settled.values()) == {0} and len(settled) == number
        assert sorted(map(int, taken)) == list(range(1, number + 1))
    else:
        assert len(settled) == number, "each sender's message has an answer"
        assert sorted(map(int, taken)) == sorted(packet_id for packet_id, code in settled.items() if code == 0)
    account = engine.tenants.of("acme")
    assert (account.queued_messages, account.queued_octets) == (0, 0)
