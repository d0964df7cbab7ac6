"""The MQTT packets of the client in a page, by node, against our own codec: both ways, whole and in pieces."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import pytest
from patience import PATIENCE_S

from meshwire.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketStream,
    PingReq,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    ReasonCode,
    Side,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    encode,
)

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
VERSIONS = {4: ProtocolVersion.V3_1_1, 5: ProtocolVersion.V5}


def run(script: str, given: Any) -> Any:
    """What the script makes of `given`; it sees the code under test as `Mqtt`."""
    code = (files("gateway.console") / "static" / "mqtt_packets.js").read_text()
    program = f"{code}\nconst given = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n{script}"
    assert NODE is not None
    done = subprocess.run(
        [NODE, "-e", program], input=json.dumps(given), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read(octets: str, level: int) -> list[Packet]:
    stream = PacketStream(Side.SERVER, VERSIONS[level])
    stream.feed(bytes.fromhex(octets))
    return list(stream.packets())


@pytest.mark.parametrize("level", [4, 5])
def test_what_the_page_says_is_what_it_means(level: int) -> None:
    payload = list(range(256)) * 100
    hexes = run(
        """
        const hex = (octets) => [...octets].map((each) => each.toString(16).padStart(2, "0")).join("");
        const { level, payload } = given;
        console.log(JSON.stringify([
          Mqtt.encode.connect({ level, clientId: "ü", username: "notused", password: "eyJ", keepAliveS: 300 }),
          Mqtt.encode.subscribe(level, 7, "acme/read/#", 1),
          Mqtt.encode.unsubscribe(level, 65535, "acme/+"),
          Mqtt.encode.publish(level, 0, { topic: "a/ä", payload: [], qos: 0, retain: true }),
          Mqtt.encode.publish(level, 300, { topic: "b", payload, qos: 1, retain: false }),
          Mqtt.encode.puback(258), Mqtt.encode.ping(), Mqtt.encode.disconnect(),
        ].map(hex)));
        """,
        {"level": level, "payload": payload},
    )
    connect, subscribe, unsubscribe, empty, long, puback, ping, goodbye = [
        packet for octets in hexes for packet in read(octets, level)
    ]
    assert isinstance(connect, Connect) and connect.version is VERSIONS[level]
    assert (connect.client_id, connect.username, connect.password) == ("ü", "notused", b"eyJ")
    assert connect.clean_start and connect.keep_alive == 300 and connect.will is None
    assert isinstance(subscribe, Subscribe) and subscribe.packet_id == 7
    assert [(each.topic_filter, each.qos) for each in subscribe.subscriptions] == [("acme/read/#", 1)]
    assert isinstance(unsubscribe, Unsubscribe) and unsubscribe.topic_filters == ("acme/+",)
    assert isinstance(empty, Publish) and (empty.topic, empty.payload, empty.retain, empty.qos) == ("a/ä", b"", True, 0)
    assert isinstance(long, Publish) and (long.payload, long.packet_id, long.retain) == (bytes(payload), 300, False)
    assert isinstance(puback, PubAck) and puback.packet_id == 258
    assert isinstance(ping, PingReq) and isinstance(goodbye, Disconnect)


PROPERTIES = Properties(
    content_type="application/cbor",
    user_properties=(("device", "x"), ("key", "ü")),
    message_expiry_interval=70_000,
    correlation_data=b"\x00\xff",
    response_topic="r",
    subscription_identifiers=(1, 300),
)
SAID: dict[int, list[Packet]] = {
    5: [
        ConnAck(False, ReasonCode.SUCCESS, Properties(receive_maximum=9, reason_string="hello", server_keep_alive=7)),
        SubAck(7, (1, 0x87)),
        UnsubAck(8, (0,)),
        Publish("acme/read/ü", bytes(range(200)), 1, True, packet_id=5, properties=PROPERTIES),
        Publish("q", b"", 0),
        PubAck(300, ReasonCode.NOT_AUTHORIZED, Properties(reason_string="no")),
        PubAck(301),
        Disconnect(ReasonCode.ADMINISTRATIVE_ACTION, Properties(reason_string="out")),
    ],
    4: [
        ConnAck(False, 5),
        SubAck(7, (1, 0x80)),
        Publish("acme/read/ü", bytes(range(200)), 1, True, packet_id=5),
        PubAck(300),
    ],
}


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("piece", [1, 3, 100_000])
def test_what_the_broker_says_is_understood_in_whatever_pieces_it_comes(level: int, piece: int) -> None:
    octets = b"".join(encode(packet, VERSIONS[level]) for packet in SAID[level])
    pieces = [octets[at : at + piece].hex() for at in range(0, len(octets), piece)]
    heard = run(
        """
        const stream = new Mqtt.Stream(given.level);
        const packets = given.pieces.flatMap((hex) =>
          stream.feed(Uint8Array.from(hex.match(/../g), (each) => parseInt(each, 16))));
        console.log(JSON.stringify(packets.map((packet) => ({
          ...packet, payload: packet.payload && [...packet.payload],
          words: packet.code === undefined ? "" : Mqtt.reason(packet.code, packet.properties, given.level),
        }))));
        """,
        {"level": level, "pieces": pieces},
    )
    assert len(heard) == len(SAID[level])
    suback = next(each for each in heard if each["type"] == 9)
    assert suback["id"] == 7 and suback["codes"] == ([1, 0x87] if level == 5 else [1, 0x80])
    message = next(each for each in heard if each["type"] == 3)
    assert message["topic"] == "acme/read/ü" and message["payload"] == list(range(200))
    assert message["retain"] and message["qos"] == 1 and message["id"] == 5
    words = [each["words"] for each in heard]
    if level == 4:
        assert words[0] == "0x05 not authorized"
        return
    assert message["properties"]["user"] == [["device", "x"], ["key", "ü"]]
    assert message["properties"]["3"] == "application/cbor" and message["properties"]["2"] == 70_000
    assert words[0] == "0x00 success: hello" and words[5] == "0x87 not authorized: no" and words[6] == "0x00 success"
    assert words[7] == "0x98 ended by an administrator: out"


@pytest.mark.parametrize("octets", ["30020005", "3003000161ff", "20ffffffff7f", "e00180", "3006000161037e0001"])
def test_nonsense_is_an_error_and_no_endless_loop(octets: str) -> None:
    outcome = run(
        """
        let outcome = "nothing";
        try {
          const stream = new Mqtt.Stream(5);
          const packets = stream.feed(Uint8Array.from(given.match(/../g), (each) => parseInt(each, 16)));
          outcome = packets.length ? "packet" : "waits";
        } catch (error) { outcome = error.constructor.name; }
        console.log(JSON.stringify(outcome));
        """,
        octets,
    )
    assert outcome in ("RangeError", "waits", "packet")
