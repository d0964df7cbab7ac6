"""Triggers: what is missed while away comes on return, actions run at least once, each kind of action."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.aliases.catalogue import Kind
from gateway.aliases.store import AliasStore
from gateway.aliases.subscriber_session import SubscriberSession
from meshwire.mqtt import ConnAck, Packet, PacketStream, ProtocolVersion, Publish, PubRec, PubRel, Side, SubAck, encode

V5 = ProtocolVersion.V5
server = pytest.mark.server
COMMAND = {"kind": "command", "tenant": "acme", "device": "{2}", "method": "PUT", "path": "snsr/arduino/{3}"}
TOPIC = "set/001350050047dc9a/led"


def alias(works: Any, port: int, **fields: Any) -> None:
    works.add("plant", f"tcp://127.0.0.1:{port}", **fields)


@server
async def test_a_command_reaches_the_device(works: Any, mosquitto: Any, publish: Any, eventually: Any) -> None:
    alias(works, mosquitto.port)
    works.add_trigger("set", "plant", "set/+/+", action=COMMAND)
    await works.connected("set", Kind.TRIGGER)
    await publish(mosquitto.port, TOPIC, "1", "-q", "1")
    await eventually(lambda: bool(works.commands.asked))
    assert works.commands.asked == [("acme", "001350050047dc9a", "PUT", "snsr/arduino/led", "1")]


@server
@pytest.mark.parametrize("qos", [1, 2])
async def test_missed_messages_come_after_a_restart(
    store: AliasStore, works_on: Any, mosquitto: Any, publish: Any, eventually: Any, qos: int
) -> None:
    first = works_on(store)
    await first.start()
    alias(first, mosquitto.port)
    first.add_trigger("set", "plant", "set/+/+", qos, action=COMMAND)
    await first.connected("set", Kind.TRIGGER)
    await first.stop()
    for number in range(5):
        await publish(mosquitto.port, TOPIC, str(number), "-q", str(qos))
    second = works_on(AliasStore(store.site, environment={}))
    await second.start()
    await eventually(lambda: len(second.commands.asked) >= 5)
    assert [asked[-1] for asked in second.commands.asked] == list("01234")
    await eventually(lambda: second.state("set", Kind.TRIGGER)["done"] == 5)


@server
async def test_a_clean_session_forgets_what_was_missed(
    store: AliasStore, works_on: Any, mosquitto: Any, publish: Any, eventually: Any
) -> None:
    first = works_on(store)
    await first.start()
    alias(first, mosquitto.port, clean_session=True)
    first.add_trigger("set", "plant", "set/+/+", action=COMMAND)
    await first.connected("set", Kind.TRIGGER)
    await first.stop()
    await publish(mosquitto.port, TOPIC, "missed", "-q", "1")
    second = works_on(AliasStore(store.site, environment={}))
    await second.start()
    await second.connected("set", Kind.TRIGGER)
    await publish(mosquitto.port, TOPIC, "seen", "-q", "1")
    await eventually(lambda: bool(second.commands.asked))
    assert [asked[-1] for asked in second.commands.asked] == ["seen"]


@server
async def test_new_subscriptions_are_added_to_those_that_are_kept(
    works: Any, mosquitto: Any, publish: Any, eventually: Any
) -> None:
    alias(works, mosquitto.port)
    works.add_trigger("set", "plant", "set/+/+", action=COMMAND)
    await works.connected("set", Kind.TRIGGER)
    both = [{"filter": "set/+/+"}, {"filter": "put/+/+"}]
    works.store.change(Kind.TRIGGER, "set", {"subscriptions": both})
    await works.service.apply()
    await works.connected("set", Kind.TRIGGER)
    await publish(mosquitto.port, TOPIC, "1", "-q", "1")
    await publish(mosquitto.port, TOPIC.replace("set", "put"), "2", "-q", "1")
    await eventually(lambda: len(works.commands.asked) == 2)


@server
async def test_an_action_that_fails_is_tried_again(works: Any, mosquitto: Any, publish: Any, eventually: Any) -> None:
    works.commands.failing = 1
    alias(works, mosquitto.port)
    works.add_trigger("set", "plant", "set/+/+", action=COMMAND)
    await works.connected("set", Kind.TRIGGER)
    await publish(mosquitto.port, TOPIC, "1", "-q", "1")
    await eventually(lambda: works.state("set", Kind.TRIGGER)["done"] == 1)
    state = works.state("set", Kind.TRIGGER)
    assert (state["retried"], state["failed"], len(works.commands.asked)) == (1, 0, 2)


@server
async def test_a_message_is_given_up_after_its_attempts_and_the_next_one_runs(
    works: Any, mosquitto: Any, publish: Any, eventually: Any
) -> None:
    works.commands.failing = 1
    alias(works, mosquitto.port)
    works.add_trigger("set", "plant", "set/+/+", action=COMMAND, attempts=1)
    await works.connected("set", Kind.TRIGGER)
    for text in ("bad", "good"):
        await publish(mosquitto.port, TOPIC, text, "-q", "1")
    await eventually(lambda: works.state("set", Kind.TRIGGER)["done"] == 1)
    state = works.state("set", Kind.TRIGGER)
    assert (state["failed"], state["lastFailure"]) == (1, "device is asleep")


@server
async def test_what_is_not_done_at_the_end_is_done_after_it(
    store: AliasStore, works_on: Any, mosquitto: Any, publish: Any, eventually: Any
) -> None:
    first = works_on(store)
    first.commands.failing = 1000
    await first.start()
    alias(first, mosquitto.port)
    first.add_trigger("set", "plant", "set/+/+", action=COMMAND, attempts=1000)
    await first.connected("set", Kind.TRIGGER)
    await publish(mosquitto.port, TOPIC, "1", "-q", "2")
    await eventually(lambda: bool(first.commands.asked))
    await first.stop()
    second = works_on(AliasStore(store.site, environment={}))
    await second.start()
    await eventually(lambda: second.state("set", Kind.TRIGGER).get("done") == 1)


@server
async def test_messages_go_on_to_another_alias(works: Any, mosquitto: Any, publish: Any, witness: Any) -> None:
    seen = await witness(mosquitto.port, "copy/#")
    alias(works, mosquitto.port)
    works.add("other", f"tcp://127.0.0.1:{mosquitto.port}")
    await works.connected("other")
    action = {"kind": "publish", "alias": "other", "topic": "copy/{2}/{topic}", "qos": 2}
    works.add_trigger("copy", "plant", "set/+/+", action=action)
    await works.connected("copy", Kind.TRIGGER)
    for text in ("one", "two"):
        await publish(mosquitto.port, TOPIC, text, "-q", "1")
    for text in ("one", "two"):
        assert await seen.summary() == (f"copy/001350050047dc9a/{TOPIC}", text, 2, 0)


@server
async def test_a_filter_that_the_broker_refuses_is_told(works: Any, mosquitto: Any, eventually: Any) -> None:
    await mosquitto.kill()
    mosquitto.configure("allow_anonymous true\nacl_file /dev/null")
    await mosquitto.start()
    alias(works, mosquitto.port)
    works.add_trigger("set", "plant", "$share/g/set/#", action={"kind": "log"})
    await works.connected("plant")
    assert works.state("set", Kind.TRIGGER)["state"] in ("connected", "connecting")


class Receiver(http.server.BaseHTTPRequestHandler):
    """Fails once, then takes."""

    answers: list[int]
    bodies: list[tuple[bytes, str | None, str | None]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append((body, self.headers["X-MQTT-Topic"], self.headers["Content-Type"]))
        self.send_response(self.answers.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Silent."""


@pytest.fixture
def web() -> Iterator[tuple[str, type[Receiver]]]:
    handler = type("Handler", (Receiver,), {"answers": [503, 204], "bodies": []})
    httpd = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/hook", handler
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@server
async def test_messages_are_posted_to_an_http_server(
    works: Any, mosquitto: Any, publish: Any, eventually: Any, web: tuple[str, type[Receiver]]
) -> None:
    url, receiver = web
    alias(works, mosquitto.port)
    works.add_trigger("hook", "plant", "set/+/+", action={"kind": "http", "url": url, "content_type": "text/plain"})
    await works.connected("hook", Kind.TRIGGER)
    await publish(mosquitto.port, TOPIC, "payload", "-q", "1")
    await eventually(lambda: works.state("hook", Kind.TRIGGER)["done"] == 1)
    assert receiver.bodies == [(b"payload", TOPIC, "text/plain")] * 2


@server
async def test_the_log_gets_a_line(
    works: Any, mosquitto: Any, publish: Any, eventually: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    alias(works, mosquitto.port)
    works.add_trigger("note", "plant", "set/+/+")
    await works.connected("note", Kind.TRIGGER)
    await publish(mosquitto.port, TOPIC, "hello", "-q", "1")
    await eventually(lambda: works.state("note", Kind.TRIGGER)["done"] == 1)
    assert "hello" in capsys.readouterr().out


# --- the session


def session(*filters: tuple[str, int]) -> SubscriberSession:
    made = SubscriberSession(filters or (("a/#", 2),))
    made.begin(V5, session_present=False)
    return made


def said(session: SubscriberSession) -> list[Packet]:
    stream = PacketStream(Side.SERVER, V5)
    stream.feed(session.data_to_send())
    return list(stream.packets())


def test_a_message_is_acknowledged_when_it_is_settled() -> None:
    ours = session()
    said(ours)
    (delivery,) = ours.receive(encode(Publish("a/b", b"x", 1, packet_id=7), V5))
    assert said(ours) == []
    ours.settle(delivery)
    assert [type(packet).__name__ for packet in said(ours)] == ["PubAck"]
    ours.settle(delivery)
    assert said(ours) == []


def test_qos_2_is_told_once_until_it_is_released() -> None:
    ours = session()
    said(ours)
    publication = encode(Publish("a/b", b"x", 2, packet_id=7), V5)
    (delivery,) = ours.receive(publication)
    assert ours.receive(encode(Publish("a/b", b"x", 2, dup=True, packet_id=7), V5)) == []
    ours.settle(delivery)
    assert said(ours) == [PubRec(7)]
    assert ours.receive(encode(Publish("a/b", b"x", 2, dup=True, packet_id=7), V5)) == []
    assert said(ours) == [PubRec(7)]
    ours.receive(encode(PubRel(7), V5))
    assert [type(packet).__name__ for packet in said(ours)] == ["PubComp"]
    assert len(ours.receive(publication)) == 1


def test_what_came_on_an_earlier_connection_is_not_acknowledged_on_this_one() -> None:
    ours = session()
    (delivery,) = ours.receive(encode(Publish("a/b", b"x", 1, packet_id=7), V5))
    ours.begin(V5, session_present=True)
    said(ours)
    ours.settle(delivery)
    assert said(ours) == []


def test_a_refused_subscription_ends_the_connection() -> None:
    ours = session(("a/#", 1), ("b/#", 1))
    ours.receive(encode(SubAck(1, (1, 0x87)), V5))
    assert ours.ended is not None and "b/# (0x87)" in ours.ended and not ours.is_subscribed


@pytest.mark.parametrize("octets", [b"\xf0", b"\x00\x00", encode(ConnAck(), V5)])
def test_nonsense_ends_the_connection(octets: bytes) -> None:
    ours = session()
    ours.receive(octets + b"\0" * 8)
    assert ours.ended is not None


async def test_an_enabled_trigger_waits_for_its_alias(works: Any) -> None:
    works.add("plant", "tcp://127.0.0.1:9", enabled=False)
    works.add_trigger("note", "plant", "a/#")
    await works.service.apply()
    await asyncio.sleep(0)
    assert works.state("note", Kind.TRIGGER)["state"] == "alias-disabled"
