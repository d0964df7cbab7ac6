"""Each type of address over HTTP, with curl: what a sender is told, who gets what, and when it is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from message_site import RECEIVER, SENDER, Place
from patience import PATIENCE_S

pytestmark = pytest.mark.server


async def test_a_queue_keeps_messages_for_competing_receivers(place: Place) -> None:
    sender, receiver = place.client(SENDER), place.client(RECEIVER)
    for number in range(6):
        answer = await sender.publish(f"m{number}", address="a-queue")
        assert (answer.status, answer.body) == (200, {"topic": "acme/address/a-queue", "outcome": "taken"})
    one, two = await receiver.open(address="a-queue", credit=2), await receiver.open(address="a-queue", credit=2)
    first = (await receiver.ask("GET", f"/api/consumers/{one}/messages", count=2)).body["messages"]
    second = (await receiver.ask("GET", f"/api/consumers/{two}/messages", count=2)).body["messages"]
    assert [each["payload"] for each in first + second] == ["m0", "m1", "m2", "m3"]
    again = (await receiver.ask("GET", f"/api/consumers/{one}/messages", wait=0)).body["messages"]
    assert again == first, "what is not acknowledged is told again"
    known = first[-1]["id"]
    beyond = await receiver.ask("GET", f"/api/consumers/{one}/messages", after=known, wait=0)
    assert beyond.body["messages"] == [], "credit is used up"
    assert (await receiver.settle(one, accepted=[each["id"] for each in first])).body == {"settled": 2}
    more = (await receiver.ask("GET", f"/api/consumers/{one}/messages", count=2)).body["messages"]
    assert [each["payload"] for each in more] == ["m4", "m5"]
    assert (await receiver.settle(one, accepted=[more[0]["id"]], refused=[more[1]["id"]])).body == {"settled": 2}
    assert (await receiver.ask("DELETE", f"/api/consumers/{two}")).status == 204
    # Refused, and not acknowledged by one who left: others get them, in one request that blocks until all are there.
    assert (await receiver.ask("DELETE", f"/api/consumers/{one}")).status == 204
    left = await receiver.take(address="a-queue", count=3)
    assert {each["payload"] for each in left} == {"m2", "m3", "m5"}
    assert await receiver.take(address="a-queue", wait=0.2) == []


async def test_a_topic_is_stored_for_a_named_consumer(place: Place) -> None:
    sender, receiver = place.client(SENDER), place.client(RECEIVER)
    id = await receiver.open(address="a-topic", name="desk", keep=60)
    assert (await sender.publish("one", address="a-topic")).body["outcome"] == "taken"
    (held,) = (await receiver.ask("GET", f"/api/consumers/{id}/messages")).body["messages"]
    assert held["payload"] == "one"
    # Another connection takes the session over; what was not acknowledged comes again there.
    taken_over = await receiver.open(address="a-topic", name="desk", keep=60)
    answer = await receiver.ask("GET", f"/api/consumers/{id}/messages", after=held["id"])
    assert answer.status == 410 and "taken over" in answer.body["detail"]
    (held,) = (await receiver.ask("GET", f"/api/consumers/{taken_over}/messages")).body["messages"]
    assert held["payload"] == "one"
    assert (await receiver.settle(taken_over, accepted=[held["id"]])).body == {"settled": 1}


@pytest.mark.parametrize("kind", ["anycast", "multicast"])
async def test_a_direct_address_tells_the_sender_that_a_receiver_took_it(place: Place, kind: str) -> None:
    sender, receiver = place.client(SENDER), place.client(RECEIVER)
    answer = await sender.publish("nobody", address=f"a-{kind}")
    assert (answer.status, answer.body["code"]) == (503, "MW-MSH-004")
    id = await receiver.open(address=f"a-{kind}")
    sending = asyncio.create_task(sender.publish("hello", address=f"a-{kind}", wait=20))
    (held,) = (await receiver.ask("GET", f"/api/consumers/{id}/messages")).body["messages"]
    assert not sending.done(), "nobody has acknowledged it"
    await receiver.settle(id, accepted=[held["id"]])
    assert (await sending).status == 200
    answer = await sender.publish("too slow", address=f"a-{kind}", wait=0.3)
    assert (answer.status, answer.body["code"]) == (504, "MW-MSH-006")


@pytest.mark.parametrize("kind", ["queue", "topic", "anycast", "multicast"])
async def test_ten_messages_as_an_event_stream(place: Place, kind: str) -> None:
    """Like the reference card's two scripts, with curl on both sides; each event is acknowledged as it is written."""
    sender, receiver = place.client(SENDER), place.client(RECEIVER)
    async with asyncio.timeout(PATIENCE_S), receiver.stream("/api/messages/events", address=f"a-{kind}") as events:
        await place.receivers(f"a-{kind}")
        for number in range(10):
            assert (await sender.publish(str(number), address=f"a-{kind}", wait=20)).status == 200
        got = [await anext(events) for _ in range(10)]
    assert [each["data"]["payload"] for each in got] == [str(number) for number in range(10)]
    assert [int(each["id"]) for each in got] == list(range(1, 11))


async def test_who_leaves_while_waiting_takes_no_message_along(place: Place) -> None:
    sender, receiver = place.client(SENDER), place.client(RECEIVER)
    waiting = await asyncio.create_subprocess_exec(*receiver.arguments("GET", "/api/messages", address="a-queue"))
    await place.receivers("a-queue")
    waiting.kill()
    await waiting.wait()
    await place.receivers("a-queue", 0)
    assert (await sender.publish("still here", address="a-queue")).status == 200
    assert [each["payload"] for each in await receiver.take(address="a-queue")] == ["still here"]


async def test_request_and_reply_with_all_that_mqtt_5_carries(place: Place) -> None:
    sender, receiver = place.client(SENDER), place.client(RECEIVER)
    answering = asyncio.create_task(sender.take(filter="acme/reply/#", wait=20))
    data = ["-H", "Content-Type: application/cbor", "--data-binary", "\u00ff"]
    asked = {"address": "a-queue", "ttl": 60, "responseTopic": "acme/reply/7", "correlation": "c0ffee"}
    answer = await sender.ask("POST", "/api/messages", *data, property=["a=1", "a=2", "b"], **asked)
    assert answer.status == 200, answer.text
    (request,) = await receiver.take(address="a-queue")
    assert request["contentType"] == "application/cbor" and request["payload"] == "\u00ff"
    assert request["responseTopic"] == "acme/reply/7" and request["correlation"] == "c0ffee"
    assert request["userProperties"] == [["a", "1"], ["a", "2"], ["b", ""]] and 50 < request["expiresIn"] <= 60
    async with asyncio.timeout(PATIENCE_S):
        while (await receiver.publish("done", topic="acme/reply/7")).status != 200:
            pass  # the sender listens in a moment
    (reply,) = await answering
    assert reply["payload"] == "done" and "contentType" not in reply, "what curl says by itself is not what it is"


async def test_octets_stay_as_they_are_and_have_a_bound(place: Place, tmp_path: Path) -> None:
    sender, receiver = place.client(SENDER), place.client(RECEIVER)
    octets, long = tmp_path / "octets", tmp_path / "long"
    octets.write_bytes(bytes(range(256)))
    long.write_bytes(bytes((1 << 20) + 1))
    assert (await sender.publish(f"@{octets}", address="a-queue")).status == 200
    (held,) = await receiver.take(address="a-queue")
    assert bytes.fromhex(held["payloadHex"]) == bytes(range(256)) and "payload" not in held
    for chunked in ([], ["-H", "Transfer-Encoding: chunked"]):
        answer = await sender.ask("POST", "/api/messages", *chunked, "--data-binary", f"@{long}", address="a-queue")
        assert answer.status == 413
