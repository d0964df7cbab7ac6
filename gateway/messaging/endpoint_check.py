"""Trying an endpoint from this machine, step by step: name → connection → certificate → WebSocket → MQTT.

The first step that fails says what was seen and what to do; the others are not tried. No login is made: a CONNECT
without credentials that a broker answers in any way shows that MQTT is spoken there.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.messaging.rules import Endpoint, Scheme

__all__ = ["Step", "check_endpoint"]

TIMEOUT_S: Final = 5.0
ALERT_S: Final = 1.0
"""A listener that misses a certificate says so at once."""
SOON_S: Final = 14 * 86_400.0
"""A certificate that ends within this time is worth a word."""
_CONNECT: Final = bytes.fromhex("10 12 00 04 4d 51 54 54 04 02 00 05 00 06") + b"mw-try"
"""MQTT 3.1.1 CONNECT, clean session, without user name (section 3.1)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step and what came of it."""

    name: str
    ok: bool
    seen: str
    fix: str = ""


class _Failed(Exception):
    def __init__(self, step: Step) -> None:
        super().__init__(step.seen)
        self.step = step


async def check_endpoint(endpoint: Endpoint, context: ssl.SSLContext | None = None) -> list[Step]:
    """All steps up to the first that failed.

    Args:
        endpoint: what to try.
        context: whose authorities are trusted; None: the system's.
    """
    steps: list[Step] = []
    reader, writer = None, None
    trust = context or ssl.create_default_context()
    try:
        steps.append(await _resolve(endpoint))
        steps.append(await _reach(endpoint))
        reader, writer = await _open(endpoint, trust, steps)
        if endpoint.scheme in (Scheme.WS, Scheme.WSS):
            steps.append(await _upgrade(endpoint, reader, writer))
            writer.write(_masked(_CONNECT))
        else:
            writer.write(_CONNECT)
        steps.append(await _answer(endpoint, reader))
    except _Failed as failure:
        steps.append(failure.step)
        if (
            reader is not None
            and endpoint.scheme.is_tls
            and await asyncio.to_thread(_demands_certificate, endpoint, trust)
        ):
            seen = "the listener demands a client's certificate (mutual TLS); MQTT is not tried without one"
            steps[-1] = Step("mutual", True, seen)
    finally:
        if writer is not None:
            writer.close()
    return steps


async def _resolve(endpoint: Endpoint) -> Step:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = await loop.getaddrinfo(endpoint.domain, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else str(error)
        fix = "publish the name: `meshwire endpoint publish` shows the record"
        raise _Failed(Step("name", False, f"{endpoint.domain}: {reason}", fix)) from None
    return Step("name", True, f"{endpoint.domain} is {', '.join(sorted({str(each[4][0]) for each in found}))}")


async def _reach(endpoint: Endpoint) -> Step:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(endpoint.domain, endpoint.port)
    except (OSError, TimeoutError) as error:
        reason = f"no answer within {TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else str(error)
        fix = "start the broker, open the port in the firewall, or correct the endpoint's port"
        raise _Failed(Step("connection", False, reason, fix)) from None
    peer = writer.get_extra_info("peername")
    writer.close()
    return Step("connection", True, f"{peer[0]} port {peer[1]} answers")


async def _open(
    endpoint: Endpoint, context: ssl.SSLContext, steps: list[Step]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                endpoint.domain, endpoint.port, ssl=context if endpoint.scheme.is_tls else None
            )
    except ssl.SSLCertVerificationError as error:
        fix = "install a certificate for this name, from an authority that this machine trusts"
        raise _Failed(Step("certificate", False, error.verify_message, fix)) from None
    except (OSError, TimeoutError) as error:
        reason = str(error) or "no TLS answer"
        fix = "make the listener a TLS one, or the endpoint not secure"
        raise _Failed(Step("certificate", False, reason, fix)) from None
    if endpoint.scheme.is_tls:
        steps.append(_certificate(writer.get_extra_info("ssl_object")))
    return reader, writer


def _certificate(connection: ssl.SSLObject) -> Step:
    shown = connection.getpeercert() or {}
    until_s = ssl.cert_time_to_seconds(str(shown.get("notAfter", "Jan  1 00:00:00 1970 GMT")))
    left_s = until_s - datetime.now(UTC).timestamp()
    date = datetime.fromtimestamp(until_s, UTC).strftime("%Y-%m-%d")
    fix = "renew it soon" if left_s < SOON_S else ""
    return Step("certificate", True, f"{connection.version()}, valid until {date}", fix)


async def _upgrade(endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Step:
    """RFC 6455 section 4.1, with the sub-protocol of MQTT 5.0 section 6."""
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /mqtt HTTP/1.1\r\nHost: {endpoint.domain}:{endpoint.port}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        head = b""
    line = head.split(b"\r\n", 1)[0].decode("latin-1") or "no answer"
    if not line.startswith("HTTP/1.1 101"):
        fix = "make the listener a WebSocket one (ws, wss), or correct the endpoint's schema"
        raise _Failed(Step("websocket", False, line, fix))
    return Step("websocket", True, line)


async def _answer(endpoint: Endpoint, reader: asyncio.StreamReader) -> Step:
    is_websocket = endpoint.scheme in (Scheme.WS, Scheme.WSS)
    wanted = 6 if is_websocket else 4
    try:
        async with asyncio.timeout(TIMEOUT_S):
            octets = await reader.readexactly(wanted)
    except asyncio.IncompleteReadError as error:
        octets = error.partial
    except (OSError, TimeoutError):
        octets = b""
    packet = octets[2:] if is_websocket else octets
    if packet[:2] != b"\x20\x02":
        seen = f"octets {octets.hex(' ')}" if octets else "no answer to CONNECT"
        raise _Failed(Step("mqtt", False, seen, "let the endpoint lead to an MQTT listener"))
    return Step("mqtt", True, f"CONNACK with code {packet[3]}: MQTT is spoken here")


def _demands_certificate(endpoint: Endpoint, context: ssl.SSLContext) -> bool:
    """Whether the listener ends a connection that shows no certificate. It does so after the handshake, with an alert
    (RFC 8446 section 6.2) or, as ours, without a word, though nothing was written yet; others wait for CONNECT.
    """
    place = (endpoint.domain, endpoint.port)
    try:
        with (
            socket.create_connection(place, TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.domain) as secure,
        ):
            secure.settimeout(ALERT_S)
            return secure.recv(1) == b""
    except OSError as error:
        return isinstance(error, ssl.SSLError) and error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def _masked(octets: bytes) -> bytes:
    """One binary frame of a client (RFC 6455 section 5.2)."""
    mask = os.urandom(4)
    return bytes((0x82, 0x80 | len(octets))) + mask + bytes(octet ^ mask[n % 4] for n, octet in enumerate(octets))
