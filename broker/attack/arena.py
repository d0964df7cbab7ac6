"""The moves that attacks are made of: connect as somebody, lay out bait, listen, see what arrived.

Nothing waits for "nothing": after a try, a control message is published that the listener may have; what the try should
not have brought has come before it, or a short grace later.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from secrets import randbelow
from typing import Final

from broker.adapters.connection import MqttConnection
from broker.attack.target import ANY_NAME, Login, Party, Target
from meshwire.mqtt import (
    ConnAck,
    Connect,
    Packet,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    PubRec,
    SubAck,
    Subscribe,
    TopicSubscription,
    Will,
)

__all__ = ["Arena", "Ear", "MAC", "RefusedLogin"]

MAC: Final = "0013500500666666"
"""A device that no site has."""
BRANCHES: Final = ("read", "alert")
PATIENCE_S: Final = 8.0
FORGERY_PATIENCE_S: Final = 1.5
"""For an answer to a login that should not hold; one that holds is answered at once."""


class RefusedLogin(Exception):
    """A login that must hold did not: the credentials given to the attack are not what they should be."""


@dataclass(slots=True)
class Ear:
    """A connection that listens, and all it has heard."""

    connection: MqttConnection
    heard: list[Publish] = field(default_factory=list)
    acks: list[Packet] = field(default_factory=list)

    async def listen(self, timeout_s: float) -> bool:
        """Takes one packet; False when none came."""
        try:
            packet = await self.connection.receive(timeout_s)
        except TimeoutError:
            return False
        if isinstance(packet, Publish):
            self.heard.append(packet)
            self._acknowledge(packet)
        elif packet is not None:
            self.acks.append(packet)
        return packet is not None

    def _acknowledge(self, packet: Publish) -> None:
        if packet.qos == 1:
            self.connection.send(PubAck(packet.packet_id))
        elif packet.qos == 2:
            self.connection.send(PubRec(packet.packet_id))

    async def until(self, mark: bytes, timeout_s: float) -> bool:
        """Listens until a message with this text in it has come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.has_heard(mark):
                    if not await self.listen(timeout_s):
                        return False
                return True
        return self.has_heard(mark)

    async def drain(self, grace_s: float) -> None:
        """Listens until nothing comes for so long."""
        while await self.listen(grace_s):
            pass

    def granted(self) -> tuple[int, ...] | None:
        """The reason codes of a SUBACK that has come, once."""
        for packet in self.acks:
            if isinstance(packet, SubAck):
                self.acks.remove(packet)
                return packet.reason_codes
        return None

    def has_heard(self, mark: bytes) -> bool:
        return any(mark in packet.payload for packet in self.heard)


class Arena:
    """Moves against one target.

    Args:
        target: what is attacked.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.a = target.attacker.tenant
        self.b = target.victim.tenant

    @asynccontextmanager
    async def connect(
        self, party: Party, client_id: str = "", *, clean: bool = True, will: Will | None = None
    ) -> AsyncIterator[Ear]:
        """A connection of somebody whose login must hold; raises RefusedLogin."""
        login = await party.login(client_id or new_id())
        async with self.open(party) as ear:
            answer = await self.greet(ear, login, clean=clean, will=will)
            if answer is None or answer.reason_code != 0:
                raise RefusedLogin(f"tenant {party.tenant}: {'closed' if answer is None else hex(answer.reason_code)}")
            yield ear

    @asynccontextmanager
    async def open(self, party: Party) -> AsyncIterator[Ear]:
        """A connection that has not said anything."""
        async with MqttConnection(party.address or self.target.address, self.target.version, PATIENCE_S) as connection:
            yield Ear(connection)

    async def is_let_in(self, login: Login) -> bool:
        """Whether a forged login holds. Each comes from another address of the loopback, where the broker is there: a
        broker that slows guessing would slow the proof. One that waits with its answer has not let it in.
        """
        address = self.target.attacker.address or self.target.address
        if login.username == ANY_NAME:
            login = replace(login, username=new_id())
        source = f"127.{randbelow(256)}.{randbelow(256)}.{randbelow(254) + 1}" if address.host == "127.0.0.1" else ""
        try:
            async with MqttConnection(address, self.target.version, FORGERY_PATIENCE_S, source) as connection:
                answer = await self.greet(Ear(connection), login)
        except TimeoutError:
            return False
        return answer is not None and answer.reason_code == 0

    async def greet(self, ear: Ear, login: Login, *, clean: bool = True, will: Will | None = None) -> ConnAck | None:
        """CONNECT and its answer; None: closed."""
        version = self.target.version
        connect = Connect(login.client_id, version, clean, 60, will, login.username, login.password)
        if not clean and version is ProtocolVersion.V5:
            connect = with_expiry(connect)
        return await ear.connection.login(connect)

    async def subscribe(self, ear: Ear, *filters: str, qos: int = 1) -> tuple[int, ...] | None:
        """Reason codes; None when the broker closed the connection."""
        wanted = tuple(TopicSubscription(text, qos) for text in filters)
        ear.connection.send(Subscribe(17, wanted))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while await ear.listen(PATIENCE_S):
                    if (codes := ear.granted()) is not None:
                        return codes
        return None

    async def publish(self, ear: Ear, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """A QoS 1 message; whether it was acknowledged."""
        ear.connection.send(Publish(topic, payload, 1, retain, packet_id=23))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while await ear.listen(PATIENCE_S):
                    if any(isinstance(packet, PubAck) for packet in ear.acks):
                        ear.acks.clear()
                        return True
        return False

    async def bait(self, secret: bytes, *, retain: bool = False) -> None:
        """Publishes a secret in all branches of B."""
        service = self.target.service
        if service is not None:
            async with self.connect(service) as ear:
                for branch in BRANCHES:
                    await self.publish(ear, f"{self.b}/{branch}/{MAC}/temp", secret)
                for branch in ("presence", "event"):
                    await self.publish(ear, f"{self.b}/{branch}/{MAC}", secret, retain=retain)
                await self.publish(ear, f"{self.b}/cmd/{MAC}/res/bait", secret)
        else:
            async with self.connect(self.target.victim) as ear:
                await self.publish(ear, f"{self.b}/cmd/{MAC}/req/bait", secret)

    async def settle(self, ear: Ear, tenant: str) -> None:
        """Lets arrive what is on its way: a control message that this listener of `tenant` may have, then a grace."""
        service = self.target.service
        if service is not None and not ear.connection.is_closed:
            mark = new_secret()
            async with self.connect(service) as sender:
                await self.publish(sender, f"{tenant}/read/{MAC}/control", mark)
            await ear.until(mark, self.target.grace_s * 4)
        await ear.drain(self.target.grace_s if service is None else self.target.grace_s / 5)

    @asynccontextmanager
    async def command_ear(self) -> AsyncIterator[Ear | None]:
        """The gateway's ear for B's commands, which B itself does not hear; None without a service."""
        if self.target.service is None:
            yield None
            return
        async with self.connect(self.target.service) as ear:
            await self.subscribe(ear, f"{self.b}/cmd/+/req/+")
            yield ear

    @asynccontextmanager
    async def victim_ear(self, client_id: str = "", *, clean: bool = True) -> AsyncIterator[Ear]:
        """B, listening to all its roles allow."""
        b = self.b
        async with self.connect(self.target.victim, client_id, clean=clean) as ear:
            for text in (f"{b}/read/#", f"{b}/alert/#", f"{b}/presence/#", f"{b}/event/#", f"{b}/cmd/+/res/+"):
                if await self.subscribe(ear, text) is None:
                    raise RefusedLogin(f"tenant {b} may not subscribe to {text}")
            await ear.drain(self.target.grace_s / 5)
            ear.heard.clear()
            yield ear


def new_id() -> str:
    """A client id that nobody has."""
    return f"attack-{secrets.token_hex(6)}"


def new_secret() -> bytes:
    """A payload that can't come about by chance."""
    return f"secret-{secrets.token_hex(12)}".encode()


def with_expiry(connect: Connect) -> Connect:
    """The same CONNECT with a session that outlives its connection (MQTT 5)."""
    fields = {name: getattr(connect, name) for name in connect.__slots__}
    return Connect(**(fields | {"properties": Properties(session_expiry_interval=300)}))
