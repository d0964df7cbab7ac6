"""`$SYS/broker/…`: Mosquitto's names are ours, and of the same traffic both tell the same figures."""

from typing import Any

import pytest

from meshwire.mqtt import Properties, Publish

pytestmark = pytest.mark.server

PREFIX = "$SYS/broker/"
NOT_TOLD = {"heap/current", "heap/maximum", "store/messages/bytes"}
"""What Mosquitto alone can know: its allocator and its store."""
SAME = (
    "clients/total",
    "clients/connected",
    "clients/active",
    "clients/disconnected",
    "clients/inactive",
    "clients/expired",
    "subscriptions/count",
    "shared_subscriptions/count",
    "messages/received",
    "bytes/received",
    "publish/messages/received",
    "publish/messages/dropped",
    "publish/bytes/received",
)
TICKS_MAX = 4


def traffic(world: Any) -> Any:
    """Some of everything; returns a client that watches the figures."""
    away = world.join(client_id="away", clean=False, properties=Properties(session_expiry_interval=100))
    world.subscribe(away, "a")
    world.leave(away)
    reader = world.join(client_id="reader")
    world.subscribe(reader, "a", "$share/g/w/a", "$share/g/w/b", qos=0)
    sender = world.join(client_id="sender")
    for qos in (0, 1, 2):
        world.publish(sender, "a", b"x" * 10, qos)
    world.publish(sender, "nobody", b"x", 1)
    watch = world.join(client_id="watch")
    world.subscribe(watch, f"{PREFIX}#", qos=0)
    return watch


def note(figures: dict[str, str], packet: Any) -> None:
    assert isinstance(packet, Publish) and packet.topic.startswith(PREFIX)
    figures[packet.topic.removeprefix(PREFIX)] = packet.payload.decode()


def test_names_and_figures_are_mosquittos(fresh_worlds: Any) -> None:
    ours, theirs = fresh_worlds
    watch = traffic(ours)
    ours.settle(11.0)
    told: dict[str, str] = {}
    for packet in watch.fenced():
        note(told, packet)
    watch = traffic(theirs)
    expected = {name: told[name] for name in SAME}
    # Mosquitto 2.0.11 leaves QoS 2 (and retained messages) out.
    expected["publish/messages/received"] = str(sum(int(told[f"publish/messages/received/qos{qos}"]) for qos in (0, 1)))
    peer: dict[str, str] = {}
    ticks = 0
    while {name: peer.get(name) for name in SAME} != expected and ticks < TICKS_MAX:
        packet = watch.next()
        note(peer, packet)
        ticks += packet.topic == f"{PREFIX}uptime"
    assert {name: peer[name] for name in SAME} == expected
    assert set(peer) - set(told) == NOT_TOLD
