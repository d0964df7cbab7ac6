"""Sending to and receiving from an address over MQTT, as the two scripts of the reference card do.

Decides how a sender waits for a receiver (it asks again while the broker says "nobody there" or "full"), and that a
receiver takes exactly as many messages as it was asked for: its Receive Maximum is one, and it ends its subscription
before it acknowledges the last.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from broker.adapters.connection import BrokerAddress, MqttConnection
from broker.errors import BrokerNotReachable, SendError, SendTimedOut
from meshwire.mqtt import (
    NO_PROPERTIES,
    Connect,
    MqttError,
    Packet,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    ReasonCode,
    SubAck,
    Subscribe,
    TopicSubscription,
    Unsubscribe,
)

__all__ = ["Login", "Place", "receive", "request", "send"]

RETRY_S: Final = 0.2
"""Between two tries of a sender whom nobody listens to."""
CONNECT_TIMEOUT_S: Final = 5.0
WINDOW: Final = 100
"""Unacknowledged messages of a receiver without end."""
WAITS_FOR: Final = (ReasonCode.NO_MATCHING_SUBSCRIBERS, ReasonCode.QUOTA_EXCEEDED)

V5: Final = ProtocolVersion.V5
P = TypeVar("P", bound=Packet)


@dataclass(frozen=True, slots=True)
class Login:
    """User name and password; a token is a password, and the user name is ignored then."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go, as whom, and in which version (5.0 or 3.1.1)."""

    broker: BrokerAddress
    login: Login
    version: ProtocolVersion = V5


async def send(
    place: Place, topic: str, payloads: Iterable[bytes], *, ttl_s: int | None = None, timeout_s: float
) -> AsyncIterator[int]:
    """Sends one message after the other at QoS 1; yields the number of those that were taken.

    Args:
        ttl_s: life of each message (MQTT 5).
        timeout_s: how long one message may wait until it is stored or a receiver took it.

    Raises:
        SendError: no broker, no login, no right, or nobody took a message in time.
    """
    properties = (
        NO_PROPERTIES if ttl_s is None or place.version is not V5 else Properties(message_expiry_interval=ttl_s)
    )
    async with _Visit(place) as visit:
        await visit.login()
        for number, payload in enumerate(payloads, 1):
            packet = Publish(topic, payload, 1, packet_id=(number - 1) % 65_535 + 1, properties=properties)
            await visit.deliver(packet, timeout_s)
            yield number


async def receive(
    place: Place,
    topic: str,
    count: int | None,
    *,
    timeout_s: float | None,
    on_ready: Callable[[], None] | None = None,
) -> AsyncIterator[Publish]:
    """Yields messages, each acknowledged after it was worked off; with a count it ends after so many.

    Args:
        timeout_s: longest wait for one message; None: for ever.
        on_ready: called when the broker has taken the subscription.

    Raises:
        SendError: no broker, no login, no right, or nothing came in time.
    """
    async with _Visit(place) as visit:
        await visit.login(1 if count is not None else WINDOW)
        await visit.subscribe(topic)
        if on_ready is not None:
            on_ready()
        left = count
        while left is None or left > 0:
            packet = await visit.next(Publish, timeout_s)
            left = None if left is None else left - 1
            yield packet
            if left == 0:
                visit.connection.send(Unsubscribe(2, (topic,)))  # before the credit for one more
            if packet.qos:
                visit.connection.send(PubAck(packet.packet_id))
        await visit.connection.disconnect()


async def request(place: Place, topic: str, payload: bytes, reply_topic: str, *, timeout_s: float) -> bytes:
    """One request and its reply.

    Raises:
        SendError: no broker, no login, no right, or no reply in time.
    """
    async with _Visit(place) as visit:
        await visit.login()
        await visit.subscribe(reply_topic)
        visit.connection.send(Publish(topic, payload, 0, properties=Properties(response_topic=reply_topic)))
        reply = await visit.next(Publish, timeout_s)
        await visit.connection.disconnect()
        return reply.payload


class _Visit:
    """One connection from login to good-bye."""

    def __init__(self, place: Place) -> None:
        self.connection = MqttConnection(place.broker, place.version, CONNECT_TIMEOUT_S)
        self._place = place

    async def __aenter__(self) -> "_Visit":
        try:
            await self.connection.__aenter__()
        except (OSError, TimeoutError) as error:
            raise BrokerNotReachable(
                "no MQTT broker answers",
                evidence=f"{self._place.broker}: {error}",
                fix="start `meshwire broker`, or check -h and -p",
            ) from None
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.connection.__aexit__(None, None, None)

    async def login(self, receive_maximum: int = 65_535) -> None:
        place, login = self._place, self._place.login
        properties = Properties(receive_maximum=receive_maximum) if place.version is V5 else NO_PROPERTIES
        connect = Connect("", place.version, True, 0, None, login.username, login.password.encode(), properties)
        try:
            answer, seen = await self.connection.login(connect), "hangs up on a login"
        except TimeoutError:
            answer, seen = None, f"has not answered a login for {CONNECT_TIMEOUT_S:g} s"
        if answer is None:
            raise BrokerNotReachable(
                "no MQTT broker answers",
                evidence=f"{place.broker}: it {seen}",
                fix="check -h and -p: the port is of another service, or one for TLS",
            )
        if answer.reason_code:
            raise _refused("the broker refused the login", answer.reason_code, answer.properties)

    async def subscribe(self, topic: str) -> None:
        self.connection.send(Subscribe(1, (TopicSubscription(topic, 1),)))
        answer = await self.next(SubAck, CONNECT_TIMEOUT_S)
        if answer.reason_codes[0] >= 0x80:
            raise _refused(f"the broker refused to let us receive from {topic}", answer.reason_codes[0])

    async def deliver(self, packet: Publish, timeout_s: float) -> None:
        """Until it was taken."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while True:
            self.connection.send(packet)
            answer = await self.next(PubAck, max(0.001, end - loop.time()))
            if not answer.reason_code:
                return
            if answer.reason_code not in WAITS_FOR:
                raise _refused(f"the broker refused a message to {packet.topic}", answer.reason_code, answer.properties)
            if loop.time() + RETRY_S >= end:
                words = answer.properties.reason_string or ReasonCode(answer.reason_code).name
                raise _late(
                    f"{packet.topic}: {words}",
                    "start a receiver, see that there is such an address, or allow a longer --timeout",
                )
            await asyncio.sleep(RETRY_S)

    async def next(self, kind: type[P], timeout_s: float | None) -> P:
        """The next packet of a kind; others are passed over."""
        try:
            while True:
                packet = await self.connection.receive(31_536_000.0 if timeout_s is None else timeout_s)
                if isinstance(packet, kind):
                    return packet
                if packet is None:
                    raise _refused("the broker ended the connection", None)
        except TimeoutError:
            raise _late("the broker is silent", "look whether somebody sends; allow a longer --timeout") from None
        except MqttError as error:
            raise _refused(f"the broker does not speak MQTT: {error}", None) from None


def _refused(what: str, code: int | None, properties: Properties = NO_PROPERTIES) -> SendError:
    name = "" if code is None else f"0x{code:02x}"
    words = properties.reason_string or ""
    fix = "check the login, its tenant, and its roles ADDRESS_SENDER and ADDRESS_RECEIVER"
    return SendError(what, evidence=": ".join(filter(None, (name, words))), fix=fix)


def _late(evidence: str, fix: str) -> SendTimedOut:
    return SendTimedOut("not done in time", evidence=evidence, fix=fix)
