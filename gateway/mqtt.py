"""MQTT as the gateway uses it: one connection, publishing with the broker's verdict on each message.

This is the gateway's only file that knows aiomqtt (pinned below 3). It decides how a connection is made and told to
be lost. aiomqtt drops the reason code of PUBACK, which says whether a broker has refused a message; so publishing
goes to the paho client inside it, whose callback carries the code. MQTT 5 is spoken first; a broker that does not
know it gets 3.1.1, where a refusal can't be told from success.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeVar

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.broker_tls.errors import BrokerTlsError
from gateway.broker_tls.tls import BrokerTls
from gateway.cancellation import to_its_end

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

__all__ = [
    "Arrival",
    "ConnectFailure",
    "Connection",
    "ConnectionLost",
    "Login",
    "MqttVersion",
    "Publication",
    "client_id",
    "connect_failure",
]

ResultT = TypeVar("ResultT")
_CONNECT_TIMEOUT_S: Final = 5.0
_CLIENT_ID_CHARACTERS: Final = 23
_REFUSED: Final = 0x80
"""SUBACK: this reason code and those above it are refusals (MQTT 5.0 section 3.9.3)."""
_UNSUPPORTED_VERSION: Final = frozenset({0x01, 0x84})
"""CONNACK: 3.1.1 section 3.2.2.3 return code 1, and 5.0 section 3.2.2.2 reason code 0x84."""


# What paho logs of failing sockets is told by `ConnectFailure` and `ConnectionLost` already.
_quiet = logging.getLogger("gateway.mqtt.paho")
_quiet.setLevel(logging.CRITICAL)


class MqttVersion(Enum):
    """Protocol levels we speak."""

    V5 = aiomqtt.ProtocolVersion.V5
    V311 = aiomqtt.ProtocolVersion.V311


class ConnectFailure(Exception):
    """No connection.

    Args:
        reason: in words.
        version_refused: another protocol version may help.
        says_so: the broker has said that it is the version; otherwise it may be something in front of the broker that
            hangs up, or says nothing, because the broker is away.
        trouble: what is wrong with TLS, where it is that.
        is_refusal: the broker was reached and does not let us in.
    """

    def __init__(
        self,
        reason: str,
        *,
        version_refused: bool = False,
        says_so: bool = False,
        trouble: BrokerTlsError | None = None,
        is_refusal: bool = False,
    ) -> None:
        super().__init__(reason)
        self.trouble = trouble
        self.is_refusal = is_refusal
        self.version_refused = version_refused
        self.says_so = says_so


class ConnectionLost(Exception):
    """The connection has ended; `code` is the reason code of the broker's DISCONNECT, or None."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Login:
    """Where to connect, and as whom."""

    host: str
    port: int
    client_id: str
    username: str
    password: str
    keepalive_s: int = 15
    is_lasting: bool = False
    """Whether a later process will come by the same client id, and for the same session."""
    speaks_5: bool = False
    """Whether an earlier process has spoken MQTT 5 with this broker."""
    tls: BrokerTls | None = None
    """None: in plain."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One message for the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    content_type: str | None = None
    properties: tuple[tuple[str, str], ...] = ()
    """MQTT 5 user properties; not sent by 3.1.1."""
    correlation: bytes | None = None
    """MQTT 5 correlation data; not sent by 3.1.1."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message from the broker; what only MQTT 5 carries is None with 3.1.1."""

    topic: str
    payload: bytes
    retain: bool
    expiry_s: int | None = None
    """What is left of the message expiry interval, in seconds."""
    response_topic: str | None = None
    correlation: bytes | None = None


async def connect_failure(login: Login, error: BaseException, *, version_refused: bool) -> ConnectFailure:
    """A failed attempt in words; when TLS is what failed, with its code, and it is not the version.

    Args:
        login: where and as whom.
        error: what the system or OpenSSL said.
        version_refused: see `ConnectFailure`; for failures that are not TLS.
    """
    trouble = None if login.tls is None else await login.tls.explain(error)
    if trouble is None:
        return ConnectFailure(str(error), version_refused=version_refused)
    return ConnectFailure(str(trouble), trouble=trouble)


def client_id(prefix: str, name: str) -> str:
    """`<prefix>-<name>` padded with random letters to 23 characters, what every broker must take."""
    name = f"{prefix}-{name}"
    return name + secrets.token_hex(_CLIENT_ID_CHARACTERS)[: max(0, _CLIENT_ID_CHARACTERS - len(name))]


class Connection:
    """One connection, from `async with` to `wait_lost`; not used again afterwards.

    Args:
        login: where and as whom.
        version: protocol version.
        will: published by the broker when we go without a word.
    """

    def __init__(self, login: Login, version: MqttVersion, will: Publication | None = None) -> None:
        self.receive_maximum = 65_535
        """Messages that the broker takes at once (MQTT 5.0 section 3.2.2.3.3)."""
        self._version = version
        self._login = login
        self._waiting: dict[int, Callable[[int], None]] = {}
        self._client = aiomqtt.Client(
            login.host,
            login.port,
            username=login.username,
            password=login.password,
            identifier=login.client_id,
            protocol=version.value,
            keepalive=login.keepalive_s,
            logger=_quiet,
            timeout=_CONNECT_TIMEOUT_S,
            clean_session=True if version is MqttVersion.V311 else None,
            max_inflight_messages=65_535,
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, will.qos, will.retain),
        )
        self._paho: PahoClient = self._client._client
        self._inner_on_connect = self._paho.on_connect
        self._paho.on_connect = self._on_connect
        self._paho.on_publish = self._on_publish
        self._loop = asyncio.get_running_loop()
        self._paho.on_socket_register_write = self._on_socket_register_write

    async def __aenter__(self) -> Connection:
        """Connect; raises ConnectFailure."""
        connecting = asyncio.create_task(self._connect(), name="connecting to the broker")
        try:
            await _whole(connecting)
        except asyncio.CancelledError:
            if connecting.exception() is None:
                await self.__aexit__(None, None, None)
            raise
        return self

    async def _connect(self) -> None:
        try:
            if self._login.tls is not None:
                self._paho.tls_set_context(await asyncio.to_thread(_context, self._login.tls))
            await self._client.__aenter__()
        except MqttConnectError as error:
            self._abandon()
            refused = _code(error.rc) in _UNSUPPORTED_VERSION
            reason = f"refused: {error}"
            raise ConnectFailure(reason, version_refused=refused, says_so=refused, is_refusal=not refused) from None
        except BrokerTlsError as error:
            raise ConnectFailure(str(error), trouble=error) from None
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            # Old brokers hang up on a version that they do not know, and aiomqtt waits for CONNACK till it is tired.
            self._abandon()
            # aiomqtt repeats what the system or OpenSSL said, and leaves the error itself behind.
            behind = error.__context__
            cause = behind if isinstance(behind, OSError) and not isinstance(behind, TimeoutError) else error
            raise await connect_failure(self._login, cause, version_refused="timed out" in str(error)) from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye where there is still somebody."""
        self._waiting.clear()
        goodbye = self._client.__aexit__(kind, error, trace)
        try:
            await _whole(asyncio.create_task(goodbye, name="goodbye to the broker"))
        except aiomqtt.MqttError:
            self._abandon()
        ended = self._client._disconnected
        if ended.done() and not ended.cancelled():
            # Looked at, so that asyncio does not complain of it when nobody waited for the end.
            ended.exception()

    def publish(self, publication: Publication, done: Callable[[int], None]) -> None:
        """Send a message; returns at once.

        Args:
            publication: what to send.
            done: called with the reason code of PUBACK or PUBCOMP, or with 0 when a QoS 0 message has left;
                never called when the connection is lost before.

        Raises:
            ConnectionLost: it can't be sent any more.
        """
        properties = self._properties(publication) if self._version is MqttVersion.V5 else None
        try:
            info = self._paho.publish(
                publication.topic, publication.payload, publication.qos, publication.retain, properties
            )
        except (ValueError, OSError) as error:
            raise ConnectionLost(f"can't be sent: {error}") from None
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionLost(f"can't be sent: {MQTTErrorCode(info.rc).name}")
        if info.is_published():
            done(0)
        else:
            self._waiting[info.mid] = done

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe; raises ConnectionLost, also when the broker refuses."""
        subscribing = self._client.subscribe(topic_filter, qos)
        try:
            granted = await _whole(asyncio.create_task(subscribing, name=f"subscribing to {topic_filter}"))
        except (aiomqtt.MqttError, ValueError) as error:
            raise ConnectionLost(f"can't subscribe to {topic_filter}: {error}") from None
        if any((_code(code) or 0) >= _REFUSED for code in granted):
            raise ConnectionLost(f"the broker refuses the subscription to {topic_filter}")

    async def wait_lost(self, on_message: Callable[[Arrival], None] | None = None) -> ConnectionLost:
        """Return when the connection has ended; until then messages go to `on_message`, in their order."""
        try:
            async for message in self._client.messages:
                if on_message is not None:
                    on_message(_arrival(message))
        except aiomqtt.MqttError as error:
            cause = error.__cause__
            code = _code(cause.rc) if isinstance(cause, aiomqtt.MqttCodeError) else None
            return ConnectionLost(str(cause or error), code)
        return ConnectionLost("closed")

    def _properties(self, publication: Publication) -> Properties:
        properties = Properties(PacketTypes.PUBLISH)
        if publication.content_type is not None:
            properties.ContentType = publication.content_type
        if publication.properties:
            properties.UserProperty = list(publication.properties)
        if publication.correlation is not None:
            properties.CorrelationData = publication.correlation
        return properties

    def _abandon(self) -> None:
        """Close the socket of a client that aiomqtt has given up: it leaves it open."""
        self._paho.disconnect()

    def _on_connect(
        self,
        client: PahoClient,
        userdata: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.receive_maximum = int(getattr(properties, "ReceiveMaximum", 65_535))
        if self._inner_on_connect is not None:
            self._inner_on_connect(client, userdata, flags, reason, properties)  # type: ignore[call-arg, arg-type]

    def _on_socket_register_write(self, client: PahoClient, userdata: object, sock: SocketLike) -> None:
        """Called by paho, on any thread: there is something to write.

        aiomqtt remembers the descriptor's number for the next turn of the loop; by then the socket may be closed, and
        the number even another's. We remember the socket.
        """

        def add_writer() -> None:
            if sock.fileno() >= 0 and client.socket() is sock:
                self._loop.add_writer(sock.fileno(), client.loop_write)

        self._loop.call_soon_threadsafe(add_writer)

    def _on_publish(
        self, client: PahoClient, userdata: object, mid: int, reason: ReasonCode, properties: Properties
    ) -> None:
        done = self._waiting.pop(mid, None)
        if done is not None:
            done(_code(reason) or 0)


async def _whole(step: asyncio.Task[ResultT]) -> ResultT:
    """Wait for a step of aiomqtt though we are cancelled, and raise the cancellation then.

    aiomqtt waits in a way that swallows a cancellation that comes together with the broker's answer, so that whoever is
    told to stop goes on for ever; and it leaves its socket open after a cancellation.
    """
    try:
        return await to_its_end(step)
    except asyncio.CancelledError:
        if not step.cancelled():
            # Looked at, so that asyncio does not complain of it.
            step.exception()
        raise


def _context(tls: BrokerTls) -> ssl.SSLContext:
    """The context for paho, which knows the broker by its host alone."""
    context = tls.context()
    wrap = context.wrap_socket

    def wrap_socket(
        sock: socket.socket, *, server_hostname: str | None = None, do_handshake_on_connect: bool
    ) -> ssl.SSLSocket:
        return wrap(sock, server_hostname=tls.name, do_handshake_on_connect=do_handshake_on_connect)

    context.wrap_socket = wrap_socket  # type: ignore[method-assign, assignment]
    return context


def _arrival(message: aiomqtt.Message) -> Arrival:
    properties, payload = message.properties, message.payload
    return Arrival(
        str(message.topic),
        payload if isinstance(payload, bytes) else str(payload or "").encode(),
        message.retain,
        getattr(properties, "MessageExpiryInterval", None),
        getattr(properties, "ResponseTopic", None),
        getattr(properties, "CorrelationData", None),
    )


def _code(reason: object) -> int | None:
    if isinstance(reason, ReasonCode):
        return int(reason.value)
    return reason if isinstance(reason, int) else None
