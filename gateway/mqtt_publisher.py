"""A connection to the broker for publishing only: the session of `mqtt_session.py` on a TCP socket.

Does: connect, write everything of a turn of the loop as one piece, keep alive, notice the end. Does not: try again
(`reconnecting.py`), choose what to publish (`bridge.py`). MQTT 5 asks the broker to keep the session for
`SESSION_EXPIRY_S`, so that QoS 2 stays exact over a lost connection and a restart of ours; with 3.1.1 every connection
begins anew, because nothing would ever end a session that is kept there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, cast

from gateway.broker_tls.errors import BrokerTlsError
from gateway.broker_tls.tls import tls_options
from gateway.buffered import BufferedReader
from gateway.mqtt import ConnectFailure, ConnectionLost, Login, MqttVersion, connect_failure
from gateway.mqtt_session import PublishSession, Verdict
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

__all__ = ["PublisherConnection"]

CONNECT_TIMEOUT_S: float = 5.0
SESSION_EXPIRY_S: Final = 3600
"""For so long after a lost connection the broker remembers the QoS 2 messages that it holds of us."""
HIGH_WATER_OCTETS: Final = 1 << 18
REST_S: Final = 0.002
"""Under load acknowledgements are read so often: brokers send each by itself, and a turn of the loop for a few of them
costs as much as for hundreds."""
_UNSUPPORTED_VERSION: Final = frozenset({0x01, 0x84})
_VERSIONS: Final = {MqttVersion.V5: ProtocolVersion.V5, MqttVersion.V311: ProtocolVersion.V3_1_1}


class PublisherConnection(asyncio.Protocol):
    """One connection, from `async with` to `wait_lost`; not used again afterwards.

    Args:
        login: where and as whom.
        version: protocol version.
        session: outlives the connection.
        resume: whether the broker is asked for the session of an earlier connection, be it of an earlier process.
    """

    def __init__(self, login: Login, version: MqttVersion, session: PublishSession, *, resume: bool) -> None:
        self.receive_maximum = 65_535
        """Messages that the broker takes at once (MQTT 5.0 section 3.2.2.3.3)."""
        self.version = _VERSIONS[version]
        self.session_present = False
        """Whether the broker has kept the session of an earlier connection."""
        self.is_writable = True
        """Whether the socket takes more; a message written all the same waits in memory."""
        self.on_verdicts: Callable[[list[Verdict]], None] = lambda verdicts: None
        self.on_writable: Callable[[], None] = lambda: None
        self.may_rest: Callable[[], bool] = lambda: False
        """Whether nobody waits for the next acknowledgements."""
        self.connect_timeout_s: float | None = CONNECT_TIMEOUT_S
        """From the first packet of TCP to CONNACK; None: as long as it takes."""
        self.login = login
        self.session = session
        self._resume = resume and self.version is ProtocolVersion.V5
        self._stream: PacketStream | None = PacketStream(Side.CLIENT, self.version)
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._connack: asyncio.Future[ConnAck] = loop.create_future()
        self._lost: asyncio.Future[ConnectionLost] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._keep_alive_s = login.keepalive_s
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = loop.time()

    async def __aenter__(self) -> PublisherConnection:
        """Connect; raises ConnectFailure."""
        try:
            async with asyncio.timeout(self.connect_timeout_s):
                await self.open_transport()
                answer = await self._connack
        except TimeoutError:
            # Some old brokers say nothing to a version that they do not know.
            self._close()
            raise ConnectFailure("timed out", version_refused=True) from None
        except MqttError as error:
            # A broker of another version answers in that version's form.
            self._close()
            reason = f"the broker breaks the protocol: {error}"
            raise ConnectFailure(reason, version_refused=True, says_so=True) from None
        except (OSError, BrokerTlsError) as error:
            # RabbitMQ 3.10, for one, hangs up on a CONNECT of MQTT 5 without a word.
            hung_up = self._transport is not None
            self._close()
            raise await connect_failure(self.login, error, version_refused=hung_up) from None
        except BaseException:
            self._close()
            raise
        self._welcome(answer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye where there is still somebody."""
        if self._transport is not None and not self._transport.is_closing():
            # Told to stop, and nobody will come back for the session.
            ends = kind is not None and self.version is ProtocolVersion.V5 and not self.login.is_lasting
            properties = Properties(session_expiry_interval=0) if ends else NO_PROPERTIES
            self._write(encode(Disconnect(properties=properties), self.version))
        self._close()

    async def open_transport(self) -> None:
        """Reach the broker, so that `connection_made` is called; raises OSError or BrokerTlsError."""
        login = self.login
        await self._loop.create_connection(
            lambda: BufferedReader(self), login.host, login.port, **await tls_options(login.tls)
        )

    async def wait_lost(self) -> ConnectionLost:
        """Return when the connection has ended."""
        return await asyncio.shield(self._lost)

    def give_up(self, reason: ConnectionLost) -> None:
        """Have done with this connection."""
        if not self._lost.done():
            self._lost.set_result(reason)

    def flush(self) -> None:
        """Write what the session wants to say."""
        octets = self.session.data_to_send()
        if octets:
            self._write(octets)

    def deliver(self, verdicts: list[Verdict]) -> None:
        """Hand the broker's verdicts on."""
        self.on_verdicts(verdicts)

    def connect_packet(self) -> Connect:
        """What the connection begins with."""
        five = self.version is ProtocolVersion.V5
        return Connect(
            self.login.client_id,
            self.version,
            clean_start=not self._resume,
            keep_alive=self.login.keepalive_s,
            username=self.login.username,
            password=self.login.password.encode(),
            properties=Properties(session_expiry_interval=SESSION_EXPIRY_S) if five else NO_PROPERTIES,
        )

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast and no check: uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_OCTETS)
        self._write(encode(self.connect_packet(), self.version))

    def data_received(self, data: bytes) -> None:
        heard_before, self._heard_at = self._heard_at, self._loop.time()
        if self._stream is not None:
            data = self._await_connack(self._stream, data)
        if not data or self._lost.done():
            return
        self.deliver(self.session.receive(data))
        ended = self.session.ended
        if ended is not None:
            self._end(ConnectionLost(str(ended), ended.code))
        elif self._heard_at - heard_before < REST_S and self._transport is not None and self.may_rest():
            self._transport.pause_reading()
            self._loop.call_later(REST_S, self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionLost(str(exc or "the broker has hung up")))
        if not self._connack.done():
            error = exc if isinstance(exc, OSError) else ConnectionResetError("the broker has hung up")
            self._connack.set_exception(error)

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self.on_writable()

    # --- private

    def _await_connack(self, stream: PacketStream, data: bytes) -> bytes:
        """The first packet has to be CONNACK; nothing follows it before we have published."""
        stream.feed(data)
        try:
            packet = next(stream.packets(), None)
        except MqttError as error:
            self._fail(error)
            return b""
        if isinstance(packet, ConnAck):
            self._stream = None
            if not self._connack.done():
                self._connack.set_result(packet)
        elif packet is not None:
            self._fail(ConnectionResetError(f"{type(packet).__name__} in place of CONNACK"))
        return b""

    def _fail(self, error: OSError | MqttError) -> None:
        if not self._connack.done():
            self._connack.set_exception(error)

    def _welcome(self, answer: ConnAck) -> None:
        if answer.reason_code:
            self._close()
            refused = answer.reason_code in _UNSUPPORTED_VERSION
            reason = f"refused: reason code {answer.reason_code:#04x}"
            raise ConnectFailure(reason, version_refused=refused, says_so=refused, is_refusal=not refused)
        properties = answer.properties
        if properties.receive_maximum is not None:
            self.receive_maximum = properties.receive_maximum
        if properties.server_keep_alive is not None:
            self._keep_alive_s = properties.server_keep_alive
        self.session_present = answer.session_present and self._resume
        self.session.begin(self.version, session_present=self.session_present)
        if self._keep_alive_s:
            self._timer = self._loop.call_later(self._keep_alive_s / 2, self._keep_alive)

    def _keep_alive(self) -> None:
        """Half as often as promised, so that one look a period is enough."""
        now = self._loop.time()
        if now - self._heard_at > 1.5 * self._keep_alive_s:
            self._end(ConnectionLost("the broker is silent"))
            return
        self._write(encode(PingReq(), self.version))
        self._timer = self._loop.call_later(self._keep_alive_s / 2, self._keep_alive)

    def _write(self, octets: bytes) -> None:
        if self._transport is not None:
            self._transport.write(octets)

    def _end(self, lost: ConnectionLost) -> None:
        if not self._lost.done():
            self._lost.set_result(lost)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        """Let go; what has been written is still sent."""
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
