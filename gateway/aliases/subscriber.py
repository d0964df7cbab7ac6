"""A trigger's connection: subscribes at its alias's broker and hands messages on, one after the other.

Does: connect over any transport, keep alive, hold back what the trigger can't take yet. Does not: try again
(`gateway/reconnecting.py`), run actions (`trigger.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, cast

from gateway.aliases.publisher import Health
from gateway.aliases.route import Route
from gateway.aliases.subscriber_session import Delivery, SubscriberSession
from gateway.mqtt import ConnectFailure, ConnectionLost, Login, MqttVersion
from meshwire.mqtt import (
    NO_PROPERTIES,
    ConnAck,
    Connect,
    Disconnect,
    MqttError,
    PacketStream,
    PingReq,
    Properties,
    ProtocolVersion,
    Side,
    encode,
)

__all__ = ["SubscriberConnection"]

KEPT_FOR_S: Final = 7 * 24 * 3600
"""For so long an MQTT 5 broker is asked to keep the session of a trigger that is away."""
RECEIVE_MAXIMUM: Final = 20
"""Messages of QoS 1 and 2 that an MQTT 5 broker may send before the first is settled."""
MAX_WAITING: Final = 256
"""Above it reading stops until the trigger has caught up; 3.1.1 brokers know no Receive Maximum."""
_UNSUPPORTED_VERSION: Final = frozenset({0x01, 0x84})
_VERSIONS: Final = {MqttVersion.V5: ProtocolVersion.V5, MqttVersion.V311: ProtocolVersion.V3_1_1}


class SubscriberConnection(asyncio.Protocol):
    """One connection, from `async with` to `wait_lost`; not used again afterwards.

    Args:
        route: how the broker is reached.
        login: as whom.
        version: protocol version.
        session: outlives the connection.
        clean: whether the broker forgets the session before and after.
        health: told how it goes.
        on_delivery: takes a message; `settle` it later.
    """

    def __init__(
        self,
        route: Route,
        login: Login,
        version: MqttVersion,
        session: SubscriberSession,
        *,
        clean: bool,
        health: Health,
        on_delivery: Callable[[Delivery], None],
    ) -> None:
        self._route = route
        self._login = login
        self._version = _VERSIONS[version]
        self._session = session
        self._clean = clean
        self._health = health
        self._on_delivery = on_delivery
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self._connack: asyncio.Future[ConnAck] = self._loop.create_future()
        self._lost: asyncio.Future[ConnectionLost] = self._loop.create_future()
        self._first: PacketStream | None = PacketStream(Side.CLIENT, self._version)
        self._transport: asyncio.Transport | None = None
        self._keep_alive_s = login.keepalive_s
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = self._loop.time()

    async def __aenter__(self) -> Self:
        """Connect; raises ConnectFailure."""
        try:
            async with asyncio.timeout(self._route.connect_timeout_s):
                await self._route.open(lambda: self)
                answer = await self._connack
        except TimeoutError:
            raise self._failed("timed out", version_refused=True) from None
        except MqttError as error:
            raise self._failed(f"the broker breaks the protocol: {error}", version_refused=True) from None
        except OSError as error:
            raise self._failed(str(error), version_refused=self._transport is not None) from None
        except BaseException:
            self._close()
            raise
        if answer.reason_code:
            refused = answer.reason_code in _UNSUPPORTED_VERSION
            raise self._failed(f"refused: reason code {answer.reason_code:#04x}", version_refused=refused)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye; a session that is to be kept stays."""
        self._health.is_connected = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(Disconnect(), self._version))
        self._close()

    async def wait_lost(self) -> ConnectionLost:
        """Return when the connection has ended."""
        lost = await asyncio.shield(self._lost)
        self._health.is_connected, self._health.reason = False, str(lost)
        return lost

    def settle(self, delivery: Delivery) -> None:
        """A message is dealt with: acknowledge it, and read on."""
        self._session.settle(delivery)
        self._flush()
        self._waiting -= 1
        if self._waiting == MAX_WAITING // 2 and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(encode(self._connect(), self._version))

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        if self._first is not None:
            data = self._await_connack(self._first, data)
        if not data or self._lost.done():
            return
        deliveries = self._session.receive(data)
        self._flush()
        if self._session.is_subscribed and not self._health.is_connected:
            self._health.is_connected, self._health.reason = True, ""
            self._health.connects += 1
        self._waiting += len(deliveries)
        if self._waiting > MAX_WAITING and self._transport is not None:
            self._transport.pause_reading()
        for delivery in deliveries:
            self._on_delivery(delivery)
        if self._session.ended is not None:
            self._end(ConnectionLost(self._session.ended))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionLost(str(exc or "the broker has hung up")))
        error = exc if isinstance(exc, OSError) else ConnectionResetError("the broker has hung up")
        if not self._connack.done():
            self._connack.set_exception(error)

    # --- private

    def _connect(self) -> Connect:
        five = self._version is ProtocolVersion.V5
        properties = NO_PROPERTIES
        if five:
            kept_s = 0 if self._clean else KEPT_FOR_S
            properties = Properties(session_expiry_interval=kept_s, receive_maximum=RECEIVE_MAXIMUM)
        has_password = bool(self._login.username and self._login.password)
        return Connect(
            self._login.client_id,
            self._version,
            clean_start=self._clean,
            keep_alive=self._login.keepalive_s,
            username=self._login.username or None,
            password=self._login.password.encode() if has_password else None,
            properties=properties,
        )

    def _await_connack(self, stream: PacketStream, data: bytes) -> bytes:
        """The first packet has to be CONNACK; what a kept session sends may follow it at once. Gives what follows."""
        stream.feed(data)
        try:
            packet = next(stream.packets(), None)
        except MqttError as error:
            self._refuse(error)
            return b""
        if packet is None:
            return b""
        if not isinstance(packet, ConnAck):
            self._refuse(ConnectionResetError(f"{type(packet).__name__} in place of CONNACK"))
            return b""
        rest = data[len(data) - stream.buffered_octets :] if stream.buffered_octets else b""
        self._first = None
        if not packet.reason_code:
            self._welcome(packet)
        if not self._connack.done():
            self._connack.set_result(packet)
        return b"" if packet.reason_code else rest

    def _welcome(self, answer: ConnAck) -> None:
        if answer.properties.server_keep_alive is not None:
            self._keep_alive_s = answer.properties.server_keep_alive
        self._session.begin(self._version, session_present=answer.session_present)
        self._flush()
        if self._keep_alive_s:
            self._timer = self._loop.call_later(self._keep_alive_s / 2, self._keep_alive)

    def _keep_alive(self) -> None:
        if self._loop.time() - self._heard_at > 1.5 * self._keep_alive_s:
            self._end(ConnectionLost("the broker is silent"))
        elif self._transport is not None:
            self._transport.write(encode(PingReq(), self._version))
            self._timer = self._loop.call_later(self._keep_alive_s / 2, self._keep_alive)

    def _flush(self) -> None:
        octets = self._session.data_to_send()
        if octets and self._transport is not None:
            self._transport.write(octets)

    def _refuse(self, error: OSError | MqttError) -> None:
        if not self._connack.done():
            self._connack.set_exception(error)

    def _failed(self, reason: str, *, version_refused: bool) -> ConnectFailure:
        self._health.reason = reason
        self._close()
        return ConnectFailure(reason, version_refused=version_refused)

    def _end(self, lost: ConnectionLost) -> None:
        if not self._lost.done():
            self._lost.set_result(lost)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._connack.done():
            self._connack.cancel()
        elif not self._connack.cancelled():
            self._connack.exception()
        if self._transport is not None:
            self._transport.close()
        if not self._lost.done():
            self._lost.set_result(ConnectionLost("closed"))
