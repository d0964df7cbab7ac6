"""One address to listen on: plain or TLS, MQTT or WebSocket; its TLS files are read again when they change.

Decides how connections come in. Who they are and what they may do is decided later.
"""

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from broker.errors import ListenError, TlsFilesError
from broker.peer_certificate import VerifyingObject
from broker.settings import ListenerSettings
from broker.websocket_transport import WebSocketProtocol
from meshwire.identity import LoginKind

__all__ = ["Listener"]

BACKLOG = 1_024

_log = structlog.get_logger()

Stamp = tuple[tuple[int, int, int] | None, ...]


class Listener:
    """See the module.

    Args:
        settings: its section `[[broker.listener]]`.
        make_connection: a new protocol for each connection, speaking MQTT.
        handshake_timeout_s: for TLS.
    """

    def __init__(
        self, settings: ListenerSettings, make_connection: Callable[[], asyncio.Protocol], handshake_timeout_s: float
    ) -> None:
        self.settings = settings
        self._make_connection = make_connection
        self._handshake_timeout_s = handshake_timeout_s
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._seen: Stamp = ()

    @property
    def port(self) -> int:
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    async def open(self) -> None:
        """Binds and listens.

        Raises:
            ListenError: the address can't be bound.
            TlsFilesError: a certificate or key can't be read or does not fit.
        """
        self._seen = self._stamp()
        context = _context(self.settings) if self.settings.is_tls else None
        self._socket = await _bind(self.settings.host, self.settings.effective_port)
        self._server = await self._serve(self._socket, context)

    async def reload(self) -> None:
        """Takes changed TLS files into use for new connections; files that are not valid leave the former in use."""
        if not self.settings.is_tls or self._socket is None:
            return
        stamp = self._stamp()
        if stamp == self._seen or None in stamp:
            return
        self._seen = stamp
        try:
            context = _context(self.settings)
        except TlsFilesError as error:
            _log.warning("TLS files are not valid, the former ones stay", error=str(error))
            return
        former, self._server = self._server, await self._serve(self._socket, context)
        if former is not None:
            await _retire(former)
        _log.info("TLS files read", port=self.port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            self._socket.close()

    async def _serve(self, bound: socket.socket, context: ssl.SSLContext | None) -> asyncio.Server:
        """A server on the same listening socket: while one takes the place of another, no client is refused."""
        loop = asyncio.get_running_loop()
        make: Callable[[], asyncio.Protocol] = self._make_connection
        if self.settings.is_websocket:
            make = lambda: WebSocketProtocol(self._make_connection())  # noqa: E731
        return await loop.create_server(
            make,
            sock=bound.dup(),
            backlog=BACKLOG,
            ssl=context,
            ssl_handshake_timeout=self._handshake_timeout_s if context else None,
            ssl_shutdown_timeout=1.0 if context else None,
        )

    def _stamp(self) -> Stamp:
        settings = self.settings
        return tuple(
            _file_stamp(path)
            for path in (settings.certificate_file, settings.key_file, settings.client_ca_file)
            if path is not None
        )


async def _retire(server: asyncio.Server) -> None:
    """Closes a server that another one has taken the place of. asyncio's own loop begins a connection one turn after it
    was accepted, and forgets one whose server was closed meanwhile; so the server first stops to accept.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    server.close()


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


async def _bind(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    bound: socket.socket | None = None
    try:
        (family, kind, protocol, _, address), *_ = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.socket(family, kind, protocol)
        if os.name == "posix" and sys.platform != "cygwin":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # handed down to every accepted socket: a client without keep-alive may be half open
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
        bound.setblocking(False)
        return bound
    except OSError as error:
        if bound is not None:
            bound.close()
        raise ListenError(
            "broker can't listen",
            evidence=f"{host}:{port}: {error.strerror or error}",
            fix="stop the program that holds the port, or set another one in [[broker.listener]]",
        ) from None


def _context(settings: ListenerSettings) -> ssl.SSLContext:
    """TLS 1.2 and newer; client certificates are asked for where they are a way to log in, and required where they are
    the only one, or are to be validated in any case.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # MQTT clients do not resume; two tickets cost a quarter of a handshake, and would outlive a revoked certificate.
    context.num_tickets = 0
    assert settings.certificate_file is not None
    try:
        context.load_cert_chain(settings.certificate_file, settings.key_file)
        if LoginKind.CERTIFICATE in settings.authentication or settings.enable_client_cert_validation:
            context.load_verify_locations(settings.client_ca_file)
            only = settings.enable_client_cert_validation or set(settings.authentication) == {LoginKind.CERTIFICATE}
            context.verify_mode = ssl.CERT_REQUIRED if only else ssl.CERT_OPTIONAL
            context.sslobject_class = VerifyingObject
    except (OSError, ssl.SSLError) as error:
        names = [str(path) for path in (settings.certificate_file, settings.key_file, settings.client_ca_file) if path]
        raise TlsFilesError(
            "TLS files can't be used",
            evidence=f"{', '.join(names)}: {error}",
            fix="check the paths, and that key and certificate fit; `meshwire cert make` makes a set for trials",
        ) from None
    return context
