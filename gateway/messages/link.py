"""One MQTT connection in the name of a caller: packets to and from the broker, each request with its answer.

Decides how a connection begins (MQTT 5; 3.1.1 where the broker knows no other), is kept and ends. Leaves to
`senders` and `consumer` what is sent and when a message is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from gateway.broker_tls.errors import BrokerTlsError
from gateway.broker_tls.tls import BrokerTls, tls_options
from gateway.messages.errors import BrokerAway, MessageError, TooMany, reason_name, refusal
from meshwire.mqtt import (
    NO_PROPERTIES,
    ConnAck,
    Connect,
    Disconnect,
    MqttError,
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
    TopicSubscription,
    encode,
)

__all__ = ["BrokerPlace", "Link", "Visitor"]

CONNECT_TIMEOUT_S: Final = 5.0
KEEP_ALIVE_S: Final = 30
IGNORED_USER: Final = "notused"
"""In the user name field beside a token."""
LARGEST_IDENTIFIER: Final = 65_535
_VERSION_REFUSED: Final = frozenset({0x01, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION})
_FROM_V3: Final = {
    2: ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
    3: ReasonCode.SERVER_UNAVAILABLE,
    4: ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    5: ReasonCode.NOT_AUTHORIZED,
}
"""CONNACK return codes of 3.1.1 (section 3.2.2.3) as MQTT 5 says them."""

AnswerT = TypeVar("AnswerT", PubAck, SubAck)


@dataclass(frozen=True, slots=True)
class BrokerPlace:
    """Where the broker is, and how it is spoken to; `tls` is None: in plain."""

    host: str
    port: int
    tls: BrokerTls | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who comes to the broker, and how.

    Args:
        token: the caller's.
        client_id: empty: the broker chooses.
        credit: messages that the visitor takes without acknowledging (MQTT 5: Receive Maximum).
        keep_s: how long the broker keeps the session when the connection is gone; 0: not.
    """

    token: str = field(repr=False)
    client_id: str = ""
    credit: int = LARGEST_IDENTIFIER
    keep_s: int = 0


class Link:
    """See the module's text; made by `open`.

    Args:
        version: spoken with the broker.
        reader: from the broker.
        writer: to it.
    """

    def __init__(self, version: ProtocolVersion, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.version = version
        self.on_message: Callable[[Publish], None] = lambda message: None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the connection has ended, in words."""
        self.receive_maximum = LARGEST_IDENTIFIER
        self._reader = reader
        self._writer = writer
        self._stream = PacketStream(Side.CLIENT, version)
        self._waiting: dict[int, asyncio.Future[PubAck | SubAck]] = {}
        self._last_identifier = 0
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, place: BrokerPlace, visitor: Visitor) -> Link:
        """Connect and log in.

        Raises:
            BrokerAway: nobody answers.
            MessageError: the broker refuses; its kind says why.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                link = await cls._try(place, visitor, ProtocolVersion.V5)
                return link or await cls._old(place, visitor)
        except (OSError, TimeoutError, MqttError, BrokerTlsError) as error:
            await cls._blame_tls(place, error)
            raise BrokerAway(
                "the broker does not answer",
                evidence=f"{place}: {str(error) or 'silence'}",
                fix="see whether it runs, and gateway.bridge.host and port",
            ) from None

    @staticmethod
    async def _blame_tls(place: BrokerPlace, error: Exception) -> None:
        """Raises BrokerAway when it was TLS that failed."""
        trouble = None if place.tls is None else await place.tls.explain(error)
        if trouble is not None:
            evidence = f"{trouble.evidence} [{trouble.code}]"
            raise BrokerAway(trouble.what, evidence=evidence, fix=trouble.fix)

    @classmethod
    async def _old(cls, place: BrokerPlace, visitor: Visitor) -> Link:
        hung_up = ConnectionResetError("the broker has hung up")
        if visitor.keep_s:
            await cls._blame_tls(place, hung_up)
            raise MessageError("this broker keeps no sessions for a time", evidence="MQTT 3.1.1", fix="leave keep out")
        link = await cls._try(place, visitor, ProtocolVersion.V3_1_1)
        if link is None:
            await cls._blame_tls(place, hung_up)
            raise BrokerAway("the broker speaks neither MQTT 5 nor 3.1.1", evidence=str(place))
        return link

    @classmethod
    async def _try(cls, place: BrokerPlace, visitor: Visitor, version: ProtocolVersion) -> Link | None:
        """A link; None: the broker does not know the version."""
        reader, writer = await asyncio.open_connection(place.host, place.port, **await tls_options(place.tls))
        link = cls(version, reader, writer)
        try:
            answer = await link._login(visitor)
        except BaseException:
            writer.close()
            raise
        if answer is not None and not answer.reason_code:
            link.receive_maximum = answer.properties.receive_maximum or LARGEST_IDENTIFIER
            link._task = asyncio.create_task(link._run(), name="mqtt over http")
            return link
        writer.close()
        if answer is None or answer.reason_code in _VERSION_REFUSED:
            return None
        code = answer.reason_code if version is ProtocolVersion.V5 else _FROM_V3.get(answer.reason_code, 0x80)
        raise refusal(code, answer.properties.reason_string)

    async def _login(self, visitor: Visitor) -> ConnAck | None:
        properties = NO_PROPERTIES
        if self.version is ProtocolVersion.V5:
            expiry = visitor.keep_s or None
            properties = Properties(receive_maximum=visitor.credit, session_expiry_interval=expiry)
        password, is_new = visitor.token.encode(), visitor.keep_s == 0
        self._send(
            Connect(visitor.client_id, self.version, is_new, KEEP_ALIVE_S, None, IGNORED_USER, password, properties)
        )
        while True:
            octets = await self._reader.read(65_536)
            if not octets:
                return None
            self._stream.feed(octets)
            for packet in self._stream.packets():
                return packet if isinstance(packet, ConnAck) else None

    # --- requests

    async def publish(self, message: Publish) -> PubAck:
        """Send a message at QoS 1 and give the broker's verdict; raises MessageError when the connection ends."""
        identifier = self._identifier()
        packet = Publish(
            message.topic, message.payload, 1, message.retain, packet_id=identifier, properties=message.properties
        )
        return await self._answered(packet, identifier, PubAck)

    def publish_and_forget(self, message: Publish) -> None:
        """Send a message at QoS 0."""
        self._send(message)

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe; raises what the broker's refusal means."""
        identifier = self._identifier()
        # Retained messages once: a session that was kept has had them.
        handling = 1 if self.version is ProtocolVersion.V5 else 0
        subscription = TopicSubscription(topic_filter, qos, retain_as_published=handling == 1, retain_handling=handling)
        answer = await self._answered(Subscribe(identifier, (subscription,)), identifier, SubAck)
        if answer.reason_codes[0] >= ReasonCode.UNSPECIFIED_ERROR:
            code = answer.reason_codes[0]
            is_old = self.version is not ProtocolVersion.V5
            raise refusal(ReasonCode.NOT_AUTHORIZED if is_old else code, answer.properties.reason_string)

    def send(self, *packets: Packet) -> None:
        """Send what has no answer."""
        self._send(*packets)

    async def _answered(self, packet: Packet, identifier: int, kind: type[AnswerT]) -> AnswerT:
        if self.ended.done():
            raise self._gone()
        answer: asyncio.Future[PubAck | SubAck] = asyncio.get_running_loop().create_future()
        self._waiting[identifier] = answer
        try:
            self._send(packet)
            found = await answer
        finally:
            # Where nobody waits any more, the identifier stays taken until the broker answers.
            if not answer.cancelled():
                self._waiting.pop(identifier, None)
        assert isinstance(found, kind)
        return found

    def _identifier(self) -> int:
        if len(self._waiting) >= min(self.receive_maximum, LARGEST_IDENTIFIER):
            raise TooMany(
                "too many messages wait for a verdict", evidence=str(len(self._waiting)), fix="try again later"
            )
        while True:
            self._last_identifier = self._last_identifier % LARGEST_IDENTIFIER + 1
            if self._last_identifier not in self._waiting:
                return self._last_identifier

    def _gone(self) -> BrokerAway:
        return BrokerAway("the broker has ended the connection", evidence=self.ended.result(), fix="try again")

    def _send(self, *packets: Packet) -> None:
        try:
            self._writer.write(b"".join(encode(packet, self.version) for packet in packets))
        except MqttError as error:
            raise MessageError("MQTT can't say this", evidence=str(error)) from None

    # --- the connection

    async def close(self, *last: Packet) -> None:
        """Say goodbye, after the last packets; the session is kept as CONNECT said."""
        if not self.ended.done():
            self._send(*last, *(() if any(isinstance(each, Disconnect) for each in last) else (Disconnect(),)))
            self._end("closed")
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._writer.close()
                await self._writer.wait_closed()

    async def _run(self) -> None:
        """Read until the end; ping meanwhile."""
        loop = asyncio.get_running_loop()
        ping_at = loop.time() + KEEP_ALIVE_S / 2
        reason = "closed by the broker"
        try:
            while True:
                try:
                    async with asyncio.timeout_at(ping_at):
                        octets = await self._reader.read(65_536)
                except TimeoutError:
                    ping_at = loop.time() + KEEP_ALIVE_S / 2
                    self._send(PingReq())
                    continue
                if not octets:
                    return
                self._stream.feed(octets)
                for packet in self._stream.packets():
                    if isinstance(packet, Disconnect):
                        words = packet.properties.reason_string or reason_name(packet.reason_code)
                        reason = f"0x{packet.reason_code:02x} {words}"
                    else:
                        self._take(packet)
        except (OSError, MqttError, ValueError) as error:
            reason = str(error)
        finally:
            self._end(reason)

    def _take(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self.on_message(packet)
            case PubAck(packet_id=identifier) | SubAck(packet_id=identifier):
                waiting = self._waiting.get(identifier)
                if waiting is not None and not waiting.done():
                    waiting.set_result(packet)
                else:
                    self._waiting.pop(identifier, None)
            case _:
                pass  # PINGRESP, UNSUBACK: nobody waits for them

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(self._gone())
        self._waiting.clear()
