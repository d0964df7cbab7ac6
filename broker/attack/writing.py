"""Attacks that try to put something into tenant B's tree."""

import json

from broker.attack.arena import MAC, Arena, Ear, new_id, new_secret
from broker.attack.proof import Findings
from broker.attack.reading import short
from broker.attack.wire import raw_publish
from meshwire.mqtt import Properties, ProtocolVersion, PubAck, Publish, Will
from meshwire.mqtt.reasons import is_failure

__all__ = [
    "aliases",
    "control_topics",
    "forged_messages",
    "long_topics",
    "response_topics",
    "retained_messages",
    "wills",
]


async def throw(arena: Arena, found: Findings, topic: bytes, payload: bytes, *, retain: bool = False) -> None:
    """A publishes to a name of any octets, on a connection of its own, and waits for the broker's word."""
    found.tries += 1
    async with arena.connect(arena.target.attacker) as ear:
        is_v5 = arena.target.version is ProtocolVersion.V5
        ear.connection.send_octets(raw_publish(topic, payload, is_v5=is_v5, retain=retain))
        await ear.listen(arena.target.grace_s)
        found.reaction(reaction(ear))


def reaction(ear: Ear) -> str:
    """The broker's answer to one PUBLISH in words."""
    for packet in ear.acks:
        if isinstance(packet, PubAck):
            return "refused" if is_failure(packet.reason_code) else "acknowledged, not passed on"
    return "closed" if ear.connection.is_closed or ear.acks else "without an answer"


async def throw_all(arena: Arena, found: Findings, topics: list[bytes]) -> None:
    """Each topic once, with B and the gateway listening."""
    async with arena.victim_ear() as ear, arena.command_ear() as commands:
        marks: dict[bytes, bytes] = {}
        for topic in topics:
            mark = new_secret()
            marks[mark] = topic
            await throw(arena, found, topic, mark)
        await arena.settle(ear, arena.b)
        judge(arena, found, ear, marks)
        if commands is not None:
            await commands.drain(arena.target.grace_s / 2)
            judge(arena, found, commands, marks)


def judge(arena: Arena, found: Findings, ear: Ear, marks: dict[bytes, bytes]) -> None:
    """Whether somebody has heard one of A's marks in B's tree, or lost the connection."""
    for packet in ear.heard:
        for mark, topic in marks.items():
            if mark in packet.payload and not packet.topic.startswith(f"{arena.a}/"):
                found.breach(f"{short(topic.decode('utf-8', 'replace'))} arrived at {short(packet.topic)}")
    if ear.connection.is_closed:
        found.breach("the listener's connection was closed")


async def forged_messages(arena: Arena, found: Findings) -> None:
    """Readings, alarms, presence and command answers of B, in B's spelling and in others."""
    b = arena.b
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in b)
    names = [f"{b}/read/{MAC}/temp", f"{b}/alert/{MAC}/temp", f"{b}/presence/{MAC}", f"{b}/event/{MAC}"]
    names += [f"{b}/cmd/{MAC}/res/x", f"{b}/cmd/{MAC}/req/x", f"{b.upper()}/read/{MAC}/temp", f"{wide}/read/{MAC}/temp"]
    names += [
        f"{b}.read.{MAC}.temp",
        f"{arena.a}/../{b}/read/{MAC}/temp",
        f"$share/g/{b}/read/{MAC}/temp",
        f"/{b}/read",
    ]
    names += ["+/read/x/y", "#", f"{b}/read/#", f"{b}/read/+/temp", f"*/read/{MAC}/temp", f"{arena.a}/cmd/#", ""]
    topics = [name.encode() for name in names]
    topics += [f"{b}\0/read/{MAC}/temp".encode(), f"{b}/read\0/{MAC}/temp".encode()]
    topics += [b.encode() + b"\xc0\xaf" + f"read/{MAC}/temp".encode(), b.encode() + b"\xff/read/x/y"]
    await throw_all(arena, found, topics)


async def long_topics(arena: Arena, found: Findings) -> None:
    """Names as long and as deep as the wire allows."""
    b = arena.b
    topics = [f"{b}/read/{MAC}/" + "x" * 60_000, f"{b}/read" + "/y" * 300, f"{b}/read" + "/" * 5_000]
    topics += [f"{arena.a}/cmd/{MAC}/req/" + "x" * 65_400, f"{b}/read/" + "é" * 30_000]
    await throw_all(arena, found, [topic.encode() for topic in topics])


async def wills(arena: Arena, found: Findings) -> None:
    """A's will in B's tree: refused at CONNECT, or not published."""
    async with arena.victim_ear() as ear:
        marks: dict[bytes, bytes] = {}
        for topic in (f"{arena.b}/read/{MAC}/temp", f"{arena.b}/presence/{MAC}", f"{arena.b}/cmd/{MAC}/res/x"):
            found.tries += 1
            mark = new_secret()
            marks[mark] = topic.encode()
            login = await arena.target.attacker.login(new_id())
            async with arena.open(arena.target.attacker) as fallen:
                answer = await arena.greet(fallen, login, will=Will(topic, mark, 1, True))
                found.reaction("refused" if answer is None or answer.reason_code else "taken and not published")
        await ear.drain(arena.target.grace_s)
        await arena.settle(ear, arena.b)
        judge(arena, found, ear, marks)


async def retained_messages(arena: Arena, found: Findings) -> None:
    """A plants a retained message in B's tree, and clears one of B's."""
    if arena.target.service is None:
        found.skipped = "needs a service login that may publish presence"
        return
    topic, genuine, planted = f"{arena.b}/presence/{MAC}", new_secret(), new_secret()
    await arena.bait(genuine, retain=True)
    for payload in (planted, b""):
        await throw(arena, found, topic.encode(), payload, retain=True)
    async with arena.connect(arena.target.victim) as ear:
        await arena.subscribe(ear, topic)
        await ear.drain(arena.target.grace_s)
        if ear.has_heard(planted):
            found.breach("A's retained message was given to B")
        elif not ear.has_heard(genuine):
            found.breach("B's retained message is gone")


async def response_topics(arena: Arena, found: Findings) -> None:
    """A's request names a topic of B for the answer (MQTT 5): the broker itself must not act on it."""
    if arena.target.version is not ProtocolVersion.V5:
        found.skipped = "needs MQTT 5"
        return
    async with arena.victim_ear() as ear, arena.connect(arena.target.attacker) as sender:
        for topic in (f"{arena.b}/read/{MAC}/temp", f"{arena.b}/cmd/{MAC}/res/x"):
            found.tries += 1
            properties = Properties(response_topic=topic, correlation_data=b"x")
            mark = new_secret()
            sender.connection.send(Publish(f"{arena.a}/cmd/{MAC}/req/x", mark, 1, packet_id=9, properties=properties))
            await sender.listen(arena.target.grace_s)
            await arena.settle(ear, arena.b)
            judge(arena, found, ear, {mark: topic.encode()})


async def aliases(arena: Arena, found: Findings) -> None:
    """Topic aliases (MQTT 5): one that was set by a refused message, and one that B has set on its own connection."""
    if arena.target.version is not ProtocolVersion.V5:
        found.skipped = "needs MQTT 5"
        return
    topic = f"{arena.b}/read/{MAC}/temp".encode()
    async with arena.victim_ear() as ear:
        marks: dict[bytes, bytes] = {}
        for number, first in ((1, topic), (2, b"")):
            found.tries += 1
            async with arena.connect(arena.target.attacker) as sender:
                for name in (first, b""):
                    mark = new_secret()
                    marks[mark] = topic
                    sender.connection.send_octets(raw_publish(name, mark, is_v5=True, alias=number))
                    await sender.listen(arena.target.grace_s)
        ear.connection.send_octets(raw_publish(f"{arena.b}/cmd/{MAC}/req/x".encode(), b"own", is_v5=True, alias=2))
        await ear.listen(arena.target.grace_s)
        await arena.settle(ear, arena.b)
        judge(arena, found, ear, marks)


async def control_topics(arena: Arena, found: Findings) -> None:
    """Commands to the broker itself: Mosquitto's dynamic security, `$SYS`."""
    name, password = new_id(), "attack-password"
    opening = [{"acltype": kind, "allow": True} for kind in ("subscribe", "publishClientReceive")]
    commands = [
        {"command": "createClient", "username": name, "password": password},
        {"command": "setDefaultACLAccess", "acls": opening},
    ]
    command = json.dumps({"commands": commands}).encode()
    for topic in (b"$CONTROL/dynamic-security/v1", b"$SYS/broker/uptime", b"$CONTROL/v1"):
        await throw(arena, found, topic, command)
    login = await arena.target.attacker.login(name)
    async with arena.open(arena.target.attacker) as ear:
        answer = await arena.greet(ear, type(login)(name, name, password.encode()))
        if answer is not None and answer.reason_code == 0:
            found.breach("A has made itself a user")
