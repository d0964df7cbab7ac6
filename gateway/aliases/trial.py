"""`alias test`: the way to an alias's broker, one step after the other, and the cause where it ends.

DNS → TCP → TLS → WebSocket → CONNECT → CONNACK, with blocking sockets and the standard library's TLS, so that what is
seen at each step is what the system says. Nothing is published: CONNECT carries no last will, the client id is the
alias's own with `-test` behind it, so a running connection is not thrown out. DISCONNECT ends the walk.
"""

from __future__ import annotations

import base64
import errno
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.aliases.catalogue import Catalogue, PasswordMissing
from gateway.aliases.causes import (
    CLIENT_REFUSED,
    NOT_TLS,
    REFUSALS,
    V3_REASONS,
    VERIFY_CODES,
    Stop,
    described,
    subject_of,
    tcp_stop,
    version_name,
    words_of,
)
from gateway.aliases.checks import check
from gateway.aliases.errors import StoreFileError
from gateway.aliases.handshake import on_certificate_request
from gateway.aliases.host import BrokerAddress, parse_host
from gateway.aliases.records import AliasSettings
from gateway.aliases.route import login_of, tls_of
from gateway.aliases.websocket import WebSocketRefused, judge, masked, opening
from gateway.mqtt import Login
from meshwire.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    MqttError,
    PacketStream,
    ProtocolVersion,
    ReasonCode,
    Side,
    encode,
)
from meshwire.site import Site

__all__ = ["STEPS", "Step", "walk"]

STEPS: Final = ("fields", "dns", "tcp", "tls", "websocket", "connect", "connack")
DEFAULT_PATIENCE_S: Final = 30.0
_TEST_SUFFIX: Final = "-test"
_UNSUPPORTED_VERSION: Final = frozenset({0x01, 0x84})


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the walk; `code`, `cause` and `fix` are empty when it went well."""

    name: str
    took_ms: float
    evidence: str
    code: str = ""
    cause: str = ""
    fix: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the walk goes on."""
        return not self.code


class _WrongVersion(Exception):
    """The broker may speak another version of MQTT."""

    def __init__(self, reason: Stop) -> None:
        super().__init__(str(reason))
        self.reason = reason


def walk(alias: AliasSettings, catalogue: Catalogue, site: Site, environment: Mapping[str, str]) -> Iterator[Step]:
    """Each step as it is done; the last one given is the one that failed, or `connack`."""
    trial = _Trial(alias, catalogue, site, environment)
    try:
        for name, act in trial.steps():
            since = time.monotonic()
            try:
                evidence = act()
            except Stop as stop:
                took_ms = (time.monotonic() - since) * 1000
                yield Step(name, took_ms, stop.evidence, stop.code, stop.cause, stop.fix)
                return
            yield Step(name, (time.monotonic() - since) * 1000, evidence)
    finally:
        trial.close()


@dataclass(slots=True)
class _Trial:
    """The walk's state between its steps."""

    alias: AliasSettings
    catalogue: Catalogue
    site: Site
    environment: Mapping[str, str]
    login: Login | None = None
    tls: ssl.SSLContext | None = None
    version: ProtocolVersion = ProtocolVersion.V5
    addresses: list[tuple[socket.AddressFamily, tuple[str, int]]] = field(default_factory=list)
    sock: socket.socket | None = None
    received: bytes = b""
    is_asked: bool = False
    """The server has asked for a client certificate."""

    def steps(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """The steps of this alias, in order."""
        yield "fields", self._fields
        address = parse_host(self.alias.host)
        yield "dns", self._resolve
        yield "tcp", self._reach
        if address.is_tls:
            yield "tls", self._secure
        if address.is_websocket:
            yield "websocket", self._upgrade
        yield "connect", self._connect
        yield "connack", self._welcome

    def close(self) -> None:
        """Let go of the socket."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    @property
    def _address(self) -> BrokerAddress:
        return parse_host(self.alias.host)

    @property
    def _patience_s(self) -> float | None:
        return float(self.alias.connect_timeout_s) or None

    # --- the steps

    def _fields(self) -> str:
        problems = check(self.alias, self.catalogue, self.environment)
        if problems:
            raise Stop(
                "MW-ALI-001", "fields do not fit", "; ".join(map(str, problems)), "mend the fields named and save again"
            )
        try:
            self.login = login_of(self.alias, self.site, self.environment)
            self.tls = tls_of(self.alias, self.catalogue, self.environment)
        except (StoreFileError, PasswordMissing) as error:
            raise Stop("MW-ALI-005", "a store can't be used", str(error), "check the file and its password") from None
        return str(self._address)

    def _resolve(self) -> str:
        address = self._address
        try:
            found = socket.getaddrinfo(address.name, address.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            evidence = f"{address.name}: {error.strerror}"
            if error.errno == socket.EAI_AGAIN:
                raise Stop(
                    "MW-ALI-102", "the name server does not answer", evidence, "check the network and /etc/resolv.conf"
                ) from None
            raise Stop(
                "MW-ALI-101", "the host name is not known", evidence, "check the spelling of host, or add the name"
            ) from None
        except UnicodeError as error:
            raise Stop("MW-ALI-101", "the host name is none", str(error), "check the spelling of host") from None
        self.addresses = [(family, (str(where[0]), address.port)) for family, _, _, _, where in found]
        return ", ".join(dict.fromkeys(where[0] for _, where in self.addresses))

    def _reach(self) -> str:
        failures: list[tuple[str, OSError]] = []
        for family, where in self.addresses:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.settimeout(self._patience_s)
            try:
                sock.connect(where)
            except OSError as error:
                sock.close()
                failures.append((f"{where[0]} port {where[1]}", error))
                continue
            self.sock = sock
            mine = sock.getsockname()
            return f"{where[0]} port {where[1]} from {mine[0]} port {mine[1]}"
        raise tcp_stop(failures)

    def _secure(self) -> str:
        assert self.sock is not None and self.tls is not None
        self.watch_certificate_request(self.tls)
        try:
            secured = self.tls.wrap_socket(self.sock, server_hostname=self._address.name)
        except TimeoutError:
            raise Stop(
                "MW-ALI-121", "no TLS answer in time", str(self._address), "check that this port speaks TLS"
            ) from None
        except OSError as error:
            raise self._tls_stop(error) from None
        self.sock = secured
        evidence = f"{secured.version()}, {(secured.cipher() or ('?',))[0]}; {described(secured.getpeercert(True))}"
        if self.alias.keystore:
            evidence += f"; our key {self.alias.key_alias}"
        return evidence

    def watch_certificate_request(self, context: ssl.SSLContext) -> None:
        """Some servers hang up on a client without certificate and don't say so: remember that they asked for one."""

        def asked() -> None:
            self.is_asked = True

        on_certificate_request(context, asked)

    def _upgrade(self) -> str:
        assert self.sock is not None
        address = self._address
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        try:
            name = f"[{address.name}]" if ":" in address.name else address.name
            self.sock.sendall(opening(f"{name}:{address.port}", address.path, key))
            head = b""
            while b"\r\n\r\n" not in head and len(head) < 16_384:
                part = self.sock.recv(4096)
                if not part:
                    break
                head += part
            head, _, _ = head.partition(b"\r\n\r\n")
            judge(head, key)
        except WebSocketRefused as error:
            raise Stop(
                "MW-ALI-131",
                "no WebSocket opens",
                f"{address}: {error}",
                "check port and path of host; brokers often use /mqtt",
            ) from None
        except OSError as error:
            if isinstance(error, ssl.SSLError):
                raise self._tls_stop(error) from None
            raise Stop("MW-ALI-131", "no WebSocket opens", f"{address}: {words_of(error)}", "check the port") from None
        return f"{address.path}, sub-protocol mqtt"

    def _connect(self) -> str:
        self._say_connect()
        assert self.login is not None
        who = f"user {self.alias.username}" if self.alias.username else "no user name"
        return f"{version_name(self.version)}, client id {self.login.client_id}{_TEST_SUFFIX}, {who}"

    def _welcome(self) -> str:
        try:
            return self._hear_connack()
        except _WrongVersion as wrong:
            if self.version is not ProtocolVersion.V5:
                raise wrong.reason from None
        # Like the gateway itself: a broker that does not know MQTT 5 gets 3.1.1, on a new connection.
        self.version = ProtocolVersion.V3_1_1
        self.close()
        self._reach()
        if self._address.is_tls:
            self._secure()
        if self._address.is_websocket:
            self._upgrade()
        self._say_connect()
        try:
            return self._hear_connack()
        except _WrongVersion as wrong:
            raise wrong.reason from None

    # --- parts of the last two

    def _say_connect(self) -> None:
        assert self.login is not None
        has_password = bool(self.login.username and self.login.password)
        self._send(
            encode(
                Connect(
                    self.login.client_id + _TEST_SUFFIX,
                    self.version,
                    clean_start=True,
                    keep_alive=self.login.keepalive_s,
                    username=self.login.username or None,
                    password=self.login.password.encode() if has_password else None,
                ),
                self.version,
            )
        )

    def _send(self, octets: bytes) -> None:
        assert self.sock is not None
        framed = masked(2, octets) if self._address.is_websocket else octets
        try:
            self.sock.sendall(framed)
        except OSError:
            # Reading says why: TLS 1.3 refuses a client only after its handshake, by an alert.
            pass

    def _hear_connack(self) -> str:
        answer = self._first_packet()
        if answer.reason_code:
            raise self._refusal(answer)
        self._send(encode(Disconnect(), self.version))
        properties = answer.properties
        told = [version_name(self.version)]
        if properties.receive_maximum is not None:
            told.append(f"receive maximum {properties.receive_maximum}")
        if properties.maximum_qos is not None:
            told.append(f"maximum QoS {properties.maximum_qos}")
        if properties.server_keep_alive is not None:
            told.append(f"server keep alive {properties.server_keep_alive} s")
        if properties.retain_available is False:
            told.append("no retained messages")
        return ", ".join(told)

    def _first_packet(self) -> ConnAck:
        assert self.sock is not None
        # Without a time-out of its own the walk still ends: a broker that says nothing to CONNECT never will.
        self.sock.settimeout(self._patience_s or DEFAULT_PATIENCE_S)
        stream, seen = PacketStream(Side.CLIENT, self.version), b""
        while True:
            try:
                octets = self.sock.recv(4096)
                if not octets:
                    raise ConnectionResetError(errno.ECONNRESET, "the server has hung up")
            except OSError as error:
                raise self._nonsense(seen, words_of(error)) if seen else self._silence(error) from None
            seen += octets
            try:
                stream.feed(self._unframed(octets))
                packet = next(stream.packets(), None)
            except MqttError as error:
                raise self._nonsense(seen, str(error)) from None
            if isinstance(packet, ConnAck):
                return packet
            if packet is not None:
                raise self._nonsense(seen, f"{type(packet).__name__} in place of CONNACK")

    def _unframed(self, octets: bytes) -> bytes:
        """CONNACK comes in one short frame (RFC 6455 section 5.2)."""
        if not self._address.is_websocket:
            return octets
        self.received += octets
        if len(self.received) < 2 or len(self.received) < 2 + (self.received[1] & 0x7F):
            return b""
        plain, self.received = self.received[2 : 2 + (self.received[1] & 0x7F)], b""
        return plain

    def _nonsense(self, octets: bytes, reason: str) -> Exception:
        stop = Stop(
            "MW-ALI-142",
            "what answers does not speak MQTT",
            f"{reason}; first octets {octets[:16].hex(' ')} {octets[:16]!r}",
            "check the port; TLS ports need ssl://",
        )
        # MQTT 3.1.1 brokers answer a CONNECT of MQTT 5 in their own form.
        return _WrongVersion(stop) if octets[:1] == b"\x20" else stop

    def _silence(self, error: OSError) -> Exception:
        """After CONNECT: TLS 1.3 refuses a client only now; otherwise it may be the version."""
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return self._tls_stop(error)
        evidence = f"{self._address}: {words_of(error)}"
        if isinstance(error, TimeoutError):
            fix = "check the port; TLS ports need ssl://"
            return _WrongVersion(Stop("MW-ALI-141", "the server says nothing after CONNECT", evidence, fix))
        if self.is_asked and not self.alias.keystore:
            return self._client_certificate_stop(f"{evidence}; it had asked for one")
        if self.is_asked:
            return _WrongVersion(self._refused_certificate_stop(evidence))
        fix = "see the broker's log; TLS ports need ssl://; some brokers hang up on a client id"
        return _WrongVersion(Stop("MW-ALI-141", "the server hung up after CONNECT", evidence, fix))

    def _refusal(self, answer: ConnAck) -> Exception:
        code = answer.reason_code
        if self.version is ProtocolVersion.V5:
            name = ReasonCode(code).name.lower().replace("_", " ") if code in set(ReasonCode) else "unknown"
        else:
            name = V3_REASONS.get(code, "unknown")
        evidence = f"{version_name(self.version)} reason code {code:#04x} ({name})"
        if answer.properties.reason_string:
            evidence += f": {answer.properties.reason_string}"
        number, cause, fix = REFUSALS.get(
            code, ("MW-ALI-155", "the broker refuses", "see the broker's log for the reason")
        )
        stop = Stop(number, cause, evidence, fix)
        return _WrongVersion(stop) if code in _UNSUPPORTED_VERSION else stop

    # --- TLS

    def _tls_stop(self, error: OSError) -> Stop:
        text = words_of(error)
        evidence = f"{self._address}: {text}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._certificate_stop(error)
        upper = text.upper()
        if "CERTIFICATE_REQUIRED" in upper or "CERTIFICATE REQUIRED" in upper:
            return self._client_certificate_stop(evidence)
        if any(word in upper for word in CLIENT_REFUSED) and self.alias.keystore:
            return self._refused_certificate_stop(evidence)
        if "HANDSHAKE_FAILURE" in upper or "HANDSHAKE FAILURE" in upper:
            if not self.alias.keystore:
                return self._client_certificate_stop(evidence)
        elif any(word in upper for word in NOT_TLS) or isinstance(error, ssl.SSLEOFError | ConnectionResetError):
            return Stop(
                "MW-ALI-121",
                "the port does not speak TLS 1.2 or newer",
                evidence,
                "check the port: plain MQTT is tcp:// (1883), TLS ssl:// (8883)",
            )
        return Stop("MW-ALI-128", "the TLS handshake failed", evidence, "see the broker's log")

    def _refused_certificate_stop(self, evidence: str) -> Stop:
        return Stop(
            "MW-ALI-127",
            "the server does not accept the client certificate",
            f"{evidence}; {self._own_certificate()}",
            "use a key whose certificate is signed by an authority that the broker trusts, and is not expired",
        )

    def _client_certificate_stop(self, evidence: str) -> Stop:
        return Stop(
            "MW-ALI-126",
            "the server demands a client certificate",
            evidence,
            "give the alias a keystore and a key alias (Enable Client Cert Validation is on at the server)",
        )

    def _certificate_stop(self, error: ssl.SSLCertVerificationError) -> Stop:
        number, cause, fix = VERIFY_CODES.get(
            error.verify_code, ("MW-ALI-128", "the server's certificate does not hold", "see the reason")
        )
        evidence = f"{error.verify_message}; {self._peer_certificate()}"
        return Stop(number, cause, evidence, fix)

    def _peer_certificate(self) -> str:
        """The certificate that was not accepted, fetched once more without judging it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for family, where in self.addresses:
            try:
                with socket.socket(family, socket.SOCK_STREAM) as sock:
                    sock.settimeout(self._patience_s or DEFAULT_PATIENCE_S)
                    sock.connect(where)
                    with context.wrap_socket(sock, server_hostname=self._address.name) as secured:
                        return described(secured.getpeercert(True))
            except OSError:
                continue
        return "its certificate could not be fetched"

    def _own_certificate(self) -> str:
        entry = self.catalogue.key_entries(self.alias.keystore, self.environment)[self.alias.key_alias]
        return f"our certificate is of {subject_of(entry.certificate)}, valid to {entry.ends:%Y-%m-%d %H:%M} UTC"
