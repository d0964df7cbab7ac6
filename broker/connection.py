"""One client's connection from accept to end: CONNECT and login, timers, and the end of it, whoever causes that.

States: WAITING (for CONNECT) → VERIFYING (its login; later octets stay unread) → ACTIVE → CLOSED. Nothing is changed
anywhere before login and policy said yes. Whatever goes wrong here ends this connection and no other; it is counted by
reason. What the packets of an ACTIVE client mean is `dialogue`.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Final, cast

import structlog

from broker import handshake
from broker.accounts import Protection
from broker.credentials import RefusedLogin
from broker.dialogue import Dialogue
from broker.doorman import Credentials
from broker.engine import OpenRequest
from broker.handshake import GrantedConnect, RefusedConnect
from broker.outlet import ConnectionFacts
from broker.output import Output
from broker.policy import Permissions
from broker.session import Session
from broker.settings import ListenerSettings
from broker.statistics import Ending
from broker.surroundings import Surroundings
from meshwire.identity import Principal
from meshwire.mqtt import (
    NO_PROPERTIES,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PacketError,
    PacketStream,
    PacketType,
    Properties,
    ProtocolVersion,
    ReasonCode,
    Side,
    encode,
)

__all__ = ["Connection"]

_V5: Final = ProtocolVersion.V5
LOGGED_CLIENT_ID_MAX: Final = 256
"""Characters of a refused client's identifier that go to the log."""
LOGIN_CHECK_MAX_S: Final = 3_600.0
"""A token's end is wall-clock time; it is looked at at least so often, in case the clock is set."""

_log = structlog.get_logger()


class State(Enum):
    """How far a connection has come."""

    WAITING = auto()
    VERIFYING = auto()
    ACTIVE = auto()
    CLOSED = auto()


_CLOSED: Final = State.CLOSED
_VERIFYING: Final = State.VERIFYING


class Connection(asyncio.Protocol):
    """See the module."""

    __slots__ = (
        "_address",
        "_around",
        "_clock",
        "_dialogue",
        "_ending",
        "_has_unread",
        "_heard_at",
        "_keep_alive_s",
        "_listener",
        "_session",
        "_state",
        "_statistics",
        "_stream",
        "_timers",
        "_transport",
        "_with_will",
        "output",
    )

    def __init__(self, around: Surroundings, listener: ListenerSettings) -> None:
        limits = around.settings.limits
        self._listener = listener
        self.output = Output(
            around.turn,
            limits,
            around.statistics,
            on_room=self._on_room,
            on_overflow=self.end_slow_reader,
            on_taken_over=lambda: self.end(Ending.TAKEN_OVER, ReasonCode.SESSION_TAKEN_OVER),
            on_revoked=lambda: self.end(Ending.REVOKED, ReasonCode.NOT_AUTHORIZED),
            on_kicked=lambda: self.end(
                Ending.KICKED, ReasonCode.ADMINISTRATIVE_ACTION, words="an administrator ended the connection"
            ),
        )
        self._around = around
        self._clock = around.loop.time
        self._statistics = around.statistics
        self._state = State.WAITING
        self._stream = PacketStream(Side.SERVER, max_packet_octets=limits.max_connect_octets)
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._session: Session | None = None
        self._dialogue: Dialogue | None = None
        self._keep_alive_s = 0.0
        self._heard_at = 0.0
        self._has_unread = False
        """What was received waits for `work_off`."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._with_will = True
        self._ending: Ending | None = None

    # --- transport --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        around = self._around
        self._transport = cast(asyncio.Transport, transport)
        self.output.open(self._transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else "local"
        if self._listener.is_tls and hasattr(socket, "TCP_QUICKACK"):
            # behind a TLS handshake nothing of ours carries the acknowledgement that a CONNECT may wait for
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._statistics.connections_accepted += 1
        self._statistics.connections_open += 1
        around.connections.add(self)
        self._arm("connect", around.settings.limits.connect_timeout_s, self._on_connect_timeout)
        evicted = around.admission.enter(self._address, self)
        if evicted is not None:
            evicted.end(Ending.EVICTED, ReasonCode.CONNECTION_RATE_EXCEEDED)
        if around.is_ending():
            self.end(Ending.SHUTDOWN, ReasonCode.SERVER_SHUTTING_DOWN)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._clock()
        self._statistics.octets_received += len(data)
        if self._state is _CLOSED:
            return
        self._stream.feed(data)
        if self._dialogue is None or self._has_unread:
            self._work()  # a CONNECT need not wait; and when so much comes, it must not pile up
        else:
            self._has_unread = True
            self._around.turn.heard(self)

    def work_off(self) -> None:
        """All sockets are read: works off what this one brought."""
        self._has_unread = False
        if self._state is not _CLOSED:
            self._work()

    def _slow_down(self, pause_s: float) -> None:
        """Publishers above their tenant's rate, or faster than the store, are not read for a while; TCP tells them."""
        transport = self._transport
        if transport is not None and "pause" not in self._timers and self._state is not _CLOSED:
            transport.pause_reading()
            self._statistics.pauses += 1
            self._arm("pause", pause_s, self._on_pause_end)

    def _on_pause_end(self) -> None:
        """What was read before goes first, and may lead to the next pause."""
        del self._timers["pause"]
        self._heard_at = self._clock()
        if self._transport is not None:
            self._transport.resume_reading()
            self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._transport = None
        self.output.lost()
        self._statistics.connections_open -= 1
        self._around.connections.discard(self)

    def pause_writing(self) -> None:
        self.output.pause(self._clock())

    def resume_writing(self) -> None:
        self.output.resume()
        self._on_room()

    def _on_room(self) -> None:
        if self._session is not None:
            self._session.pump(self._clock())

    # --- ending -----------------------------------------------------------------------------------------------------

    def end(self, ending: Ending, reason: ReasonCode, *, abort: bool = False, words: str = "") -> None:
        """Ends the connection from our side; an MQTT 5 client is told the reason, but never before CONNACK
        ([MQTT-3.14.0-1]).
        """
        if self._state is State.CLOSED:
            return
        self._statistics.endings[ending] += 1
        self._ending = ending
        if self._state is State.ACTIVE and self.output.version is _V5 and not abort:
            self._send(Disconnect(reason, Properties(reason_string=words)) if words else Disconnect(reason))
        self._close(abort=abort)

    def end_slow_reader(self) -> None:
        """The client does not read what it asked for."""
        self.end(Ending.SLOW_READER, ReasonCode.QUOTA_EXCEEDED, abort=True)

    def _on_disconnect(self, with_will: bool) -> None:
        self._with_will = with_will
        self._close()

    def _close(self, *, abort: bool = False) -> None:
        self._leave()  # first: a TLS transport that closes still hands over what has come
        self.output.close(abort=abort)

    def _leave(self) -> None:
        """Everything that ends with a connection, whichever way it ends; harmless when called again."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._stream.discard()  # nothing of it is worked off any more, and no segment stays in memory for its sake
        self._around.admission.leave(self._address, self)
        session, self._session, self._dialogue = self._session, None, None
        if session is not None:
            self._statistics.clients_connected -= 1
            session.tenant.connections -= 1
            reason = self._ending.value if self._ending else "network" if self._with_will else "client"
            self._around.log.info(
                "client left", tenant=session.key.tenant, client_id=session.key.client_id, reason=reason
            )
            now, hooks = self._clock(), self._around.engine.hooks
            if hooks.disconnect:
                hooks.fire(hooks.disconnect, session.client, reason)
            self._around.engine.close(session, self.output, with_will=self._with_will, now=now)

    # --- timers -----------------------------------------------------------------------------------------------------

    def _arm(self, name: str, delay_s: float, callback: Callable[[], None]) -> None:
        self._timers[name] = self._around.loop.call_later(delay_s, callback)

    def _on_connect_timeout(self) -> None:
        if self._state is State.WAITING:
            self.end(Ending.CONNECT_TIMEOUT, ReasonCode.MAXIMUM_CONNECT_TIME)

    def _check_keep_alive(self) -> None:
        """[MQTT-3.1.2-22]: one and a half times the keep-alive in silence. Re-armed when it fires, not with every
        packet.
        """
        quiet_s = self._clock() - self._heard_at
        if "pause" in self._timers:
            quiet_s = 0.0  # we did not listen
        if quiet_s >= self._keep_alive_s:
            self.end(Ending.KEEP_ALIVE, ReasonCode.KEEP_ALIVE_TIMEOUT)
        else:
            self._arm("keep-alive", self._keep_alive_s - quiet_s, self._check_keep_alive)

    def _check_login(self, expires_at: float) -> None:
        left_s = expires_at - self._around.wall_clock()
        if left_s <= 0:
            self.end(Ending.LOGIN_EXPIRED, ReasonCode.MAXIMUM_CONNECT_TIME)
        else:
            self._arm("login", min(left_s, LOGIN_CHECK_MAX_S), lambda: self._check_login(expires_at))

    # --- octets in --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Packets as they come, until there are no more or until one of them must be waited for."""
        try:
            if self._dialogue is None and self._state is not _VERIFYING:
                first = self._stream.next_packet()
                if first is not None:
                    self._statistics.packets_received += 1
                    self._take_first(first)
                elif self._stream.next_kind not in (None, PacketType.CONNECT):
                    raise PacketError(ReasonCode.PROTOCOL_ERROR, "this is not MQTT")  # told without waiting for more
                else:
                    self._wait_for_connect()
            dialogue = self._dialogue
            if dialogue is not None:
                dialogue.work(self._stream, self._heard_at)
                if dialogue.has_published:
                    dialogue.has_published = False
                    pause_s = self._around.engine.pause_s(dialogue.tenant, self._heard_at)
                    if pause_s:
                        self._slow_down(pause_s)
        except PacketError as error:
            self._on_packet_error(error)
        except Exception:  # the top of this connection's work: a fault of ours ends this connection and no other
            _log.exception("connection failed", address=self._address)
            self.end(Ending.INTERNAL_ERROR, ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)

    def _wait_for_connect(self) -> None:
        """What is announced as a CONNECT may be long, and many may announce one."""
        evicted = self._around.admission.hold(self._address, self, self._stream.buffered_octets)
        if evicted is not None:
            evicted.end(Ending.EVICTED, ReasonCode.CONNECTION_RATE_EXCEEDED)

    def _on_packet_error(self, error: PacketError) -> None:
        self._statistics.protocol_errors[error.reason.name] += 1
        _log.debug("protocol error", address=self._address, error=str(error))
        if self._state is State.WAITING and error.reason is ReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
            self._refuse(RefusedConnect(error.reason, "unsupported-protocol-version"))
        else:
            self.end(Ending.PROTOCOL_ERROR, error.reason)

    # --- CONNECT ----------------------------------------------------------------------------------------------------

    def _take_first(self, packet: Packet) -> None:
        if not isinstance(packet, Connect):
            raise PacketError(ReasonCode.PROTOCOL_ERROR, "first packet is not CONNECT")  # [MQTT-3.1.0-1]
        self._statistics.connects_received += 1
        self._around.admission.leave(self._address, self)
        self.output.version = packet.version
        self.output.max_packet_octets = packet.properties.maximum_packet_size or self.output.max_packet_octets
        refused = handshake.judge_connect(packet)
        if refused is not None:
            self._refuse(refused, packet.client_id)
            return
        transport = self._transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        shown = Credentials(packet.username, packet.password, self._address, self._listener, certificate)
        login = self._around.doorman.at_once(shown)
        if login is not None:
            self._on_login(packet, login)
            return
        self._state = State.VERIFYING
        if transport is not None:
            transport.pause_reading()
        self._around.spawn(self._verify(packet, shown))

    async def _verify(self, packet: Connect, shown: Credentials) -> None:
        try:
            login = await self._around.doorman.settle(shown)
            if self._state is not State.VERIFYING or self._transport is None:
                return
            self._transport.resume_reading()
            self._heard_at = self._clock()
            self._on_login(packet, login)
            if self._session is not None:
                self._work()
        except Exception:  # the top of this task: one login that fails in an unforeseen way must not end the broker
            _log.exception("login failed", address=self._address)
            self.end(Ending.INTERNAL_ERROR, ReasonCode.UNSPECIFIED_ERROR)

    def _on_login(self, packet: Connect, login: Principal | RefusedLogin) -> None:
        judged = handshake.judge_login(packet, login, self._protection(), self._around)
        if isinstance(judged, RefusedConnect):
            tenant = login.tenant.value if isinstance(login, Principal) else None
            self._refuse(judged, packet.client_id, tenant)
        else:
            self._accept(packet, judged)

    def _protection(self) -> Protection:
        """How this connection is protected."""
        if not self._listener.is_tls:
            return Protection.PLAIN
        shown = self._transport.get_extra_info("peercert") if self._transport is not None else None
        return Protection.MUTUAL if shown else Protection.TLS

    def judge_account(self) -> None:
        """The accounts document has changed: ends the connection when its account is served no longer. The session
        stays, for the account may come back; the will is not published.
        """
        session = self._session
        if session is None or session.principal is None:
            return
        words = self._around.accounts.refusal(session.principal, self._protection())
        if words is not None:
            key = session.key
            _log.warning(
                "account is not served any more",
                tenant=key.tenant,
                client_id=key.client_id,
                address=self._address,
                reason=words,
            )
            self._with_will = False
            self.end(Ending.ACCOUNT_NOT_SERVED, ReasonCode.NOT_AUTHORIZED, words=words)

    def _refuse(self, refused: RefusedConnect, client_id: str = "", tenant: str | None = None) -> None:
        self._statistics.logins_refused[refused.cause] += 1
        _log.warning(
            "connect refused",
            cause=refused.cause,
            detail=refused.detail or refused.words or None,
            address=self._address,
            tenant=tenant,
            client_id=client_id[:LOGGED_CLIENT_ID_MAX] or None,
            code=refused.reason.name,
        )
        self._send(handshake.refusal_packet(refused, self.output.version))
        self.end(Ending.LOGIN_REFUSED, refused.reason)

    def _accept(self, packet: Connect, granted: GrantedConnect) -> None:
        """Everything was judged; from here on things change."""
        around, limits, now = self._around, self._around.settings.limits, self._clock()
        principal, permissions, key = granted.principal, granted.permissions, granted.key
        self._statistics.roles_without_effect += len(permissions.refused_roles)
        self.output.receive_maximum = min(limits.max_inflight, packet.properties.receive_maximum or limits.max_inflight)
        wanted = handshake.session_expiry_s(packet)
        facts = self._facts(principal)
        request = OpenRequest(key, principal, permissions, self.output, packet.clean_start, wanted, packet.will, facts)
        opened = around.engine.open(request, now)
        if opened is None:
            refused = RefusedConnect(ReasonCode.QUOTA_EXCEEDED, "too-many-sessions")
            self._refuse(refused, packet.client_id, key.tenant)
            return
        session, present = opened
        self._session, self._state = session, State.ACTIVE
        session.may_explain = packet.properties.request_problem_information != 0
        session.aliases = handshake.outgoing_aliases(packet, limits)
        self._dialogue = Dialogue(
            around.engine,
            session,
            self.output,
            limits,
            self._statistics,
            self._on_disconnect,
            is_bridge=packet.is_bridge,
        )
        self._statistics.client_joined()
        session.tenant.connections += 1
        self._stream.max_packet_octets = limits.max_packet_octets
        self._log_connected(packet, principal, permissions, present)
        self._send(handshake.welcome(packet, key, session.expiry_s, present, limits))
        self._start_timers(packet, principal)
        if around.engine.hooks.connect:
            around.engine.hooks.fire(around.engine.hooks.connect, session.client)
        session.pump(now)

    def _facts(self, principal: Principal) -> ConnectionFacts:
        user, protection = principal.client or principal.name, self._protection()
        return ConnectionFacts(
            user, self._address, self._listener.kind.value, protection.value, self._around.wall_clock()
        )

    def _log_connected(self, packet: Connect, principal: Principal, permissions: Permissions, present: bool) -> None:
        self._around.log.info(
            "client connected",
            tenant=principal.tenant.value,
            client_id=packet.client_id,
            kind=principal.kind.value,
            version=packet.version.name,
            session_present=present,
            roles_without_effect=permissions.refused_roles or None,
        )

    def _start_timers(self, packet: Connect, principal: Principal) -> None:
        self._timers.pop("connect").cancel()
        keep_alive_s = handshake.keep_alive_s(packet, self._around.settings.limits)
        if keep_alive_s:
            self._keep_alive_s = 1.5 * keep_alive_s
            self._arm("keep-alive", self._keep_alive_s, self._check_keep_alive)
        if principal.expires_at is not None:
            self._check_login(principal.expires_at)

    def _send(self, packet: ConnAck | Disconnect) -> None:
        """Without its words where they would make it too long for the client ([MQTT-3.2.2-19], [MQTT-3.14.2-3]), and
        not at all where even that does not help. A CONNACK that welcomes fits: `handshake` saw to it.
        """
        output = self.output
        data = encode(packet, output.version)
        if len(data) > output.max_packet_octets:
            data = encode(replace(packet, properties=NO_PROPERTIES), output.version)
        if len(data) <= output.max_packet_octets:
            output.write(data)
