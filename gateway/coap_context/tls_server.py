"""CoAP over TLS for clients (RFC 8323, coaps+tcp): aiocoap's server on a listening socket and certificate of ours.

Each connection is somebody of its own (`Address.security`): a session opened on it serves no other, and ends with it.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiocoap
import structlog
from aiocoap.transports.tcp import TcpConnection
from aiocoap.transports.tls import TLSServer

from gateway.addresses import Address
from gateway.coap_context.translation import to_ours, to_theirs
from gateway.errors import AddressInUseError, CertificateError
from gateway.exchange import Handler, Response
from meshwire.coap import codes

__all__ = ["TlsListener", "server_context"]

MAX_CONNECTIONS: Final = 2_000
HANDSHAKE_S: Final = 20.0

_log = structlog.get_logger(__name__)

# aiocoap is not annotated; these are the calls into it, named once.
_init_context: Callable[..., None] = aiocoap.Context.__init__
_new_server: Callable[[], Any] = TLSServer
_new_connection: Callable[..., Any] = TcpConnection


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and above with a certificate chain and its key, both PEM.

    Raises:
        CertificateError: they can't be read, or do not fit together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["coap"])  # RFC 8323 section 8.2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            "the certificate for CoAP over TLS can't be used",
            evidence=f"{certificate}, {key}: {error}",
            fix="check gateway.tls.certificate_file and key_file: PEM, of each other, readable by this user",
        ) from None
    return context


class _Context(aiocoap.Context):
    """Hands each request to the handler; block assembly and path matching are not aiocoap's business here."""

    def __init__(self, handler: Handler, address_of: Callable[[Any], Address]) -> None:
        _init_context(self, loggername="gateway.tls")
        self._handler = handler
        self._address_of = address_of

    def render_to_pipe(self, pipe: Any) -> None:
        """Called by aiocoap for each request; the end of the client's interest ends what is done for it."""
        is_over = False

        def reply(response: Response) -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = response.last
            message = to_theirs(response.code, response.options, response.payload)
            # Given back so that aiocoap may keep the answer to itself (RFC 7967).
            message.opt.no_response = pipe.request.opt.no_response
            pipe.add_response(message, is_last=response.last)

        try:
            give_up = self._handler(to_ours(pipe.request), self._address_of(pipe.request.remote), reply)
        except Exception:  # The client must not wait for ever because of a fault of ours.
            _log.exception("a request could not be answered")
            reply(Response(codes.INTERNAL_SERVER_ERROR, b"gateway: internal error"))
            return

        def end() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                if give_up is not None:
                    give_up()

        pipe.on_interest_end(end)


class TlsListener:
    """See the module's text.

    Args:
        handler: answers requests.
        context: certificate and versions.
        hosts: IP addresses to bind.
        port: TCP port on all of them; 0: the system chooses.
        on_gone: told the address of a connection that has ended.

    Raises:
        AddressInUseError: an address can't be bound.
    """

    def __init__(
        self,
        handler: Handler,
        context: ssl.SSLContext,
        hosts: list[str],
        port: int,
        on_gone: Callable[[Address], object],
    ) -> None:
        self._on_gone = on_gone
        self._tls = context
        self._addresses: dict[Any, Address] = {}
        self._numbers = itertools.count(1)
        self._sockets: list[socket.socket] = []
        for host in hosts:
            self._sockets.append(_bound(host, port))
            port = self._sockets[0].getsockname()[1]
        self.port = port
        self._context: Any = _Context(handler, self._address)
        self._listeners: list[asyncio.Server] = []
        self._server: Any = None

    async def open(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()

        async def make(manager: Any) -> Any:
            self._server = _new_server()
            self._server._tokenmanager = manager
            self._server.log = self._context.log
            # aiocoap tells its pool of ended connections, and closes this when it shuts down.
            self._server._evict_from_pool = self._gone
            return self._server

        await self._context._append_tokenmanaged_transport(make)
        for sock in self._sockets:
            self._listeners.append(
                await loop.create_server(self._connection, sock=sock, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_S)
            )

    async def close(self) -> None:
        """End every connection."""
        for listener in self._listeners:
            listener.close()
        for sock in self._sockets:
            sock.close()
        for connection in list(self._server._pool) if self._server is not None else ():
            if connection._transport is not None:
                connection._transport.abort()

    def _connection(self) -> Any:
        pool = self._server._pool
        connection = _new_connection(self._server, self._context.log, asyncio.get_running_loop(), is_server=True)
        if len(pool) >= MAX_CONNECTIONS:
            _log.warning("a TLS connection is refused", connections=len(pool))
            return asyncio.Protocol()  # Nobody answers; the client's own time-out ends it.
        pool.add(connection)
        return connection

    def _address(self, connection: Any) -> Address:
        address = self._addresses.get(connection)
        if address is None:
            host, port = connection._transport.get_extra_info("peername")[:2]
            address = self._addresses[connection] = Address(host, port, f"tls {next(self._numbers)}")
        return address

    def _gone(self, connection: Any) -> None:
        self._server._pool.discard(connection)
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._on_gone(address)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise AddressInUseError(
            "the socket for CoAP over TLS can't be bound",
            evidence=f"{host} port {port}: {error.strerror or error}",
            fix="stop the program that holds the port, or choose another: gateway.tls.listen, gateway.tls.port",
        ) from None
    return sock
