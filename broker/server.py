"""The broker as one object: listeners, the shared parts of all connections, and what happens by the clock.

`Broker.run` is the assembly; it returns only by cancellation and leaves no socket, task or thread behind.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import structlog
from argon2 import PasswordHasher

from broker.admission import Admission
from broker.connection import Connection, Surroundings
from broker.credentials import Authenticator, UsersFile
from broker.engine import Engine
from broker.errors import ListenError
from broker.flusher import Flusher
from broker.settings import BrokerSettings, ListenerSettings
from broker.statistics import Ending, Statistics
from broker.sys_topics import sys_topics
from meshwire.identity import Role
from meshwire.mqtt import ReasonCode
from meshwire.site import Site

__all__ = ["GATEWAY_USER", "Broker"]

GATEWAY_USER = "gateway"
"""The one user a new users file has; its password is the site's secret `gateway-mqtt`."""

TICK_S = 1.0
"""Time between looks at sessions that expire, wills that are due and readers that are stuck."""

_log = structlog.get_logger()


class Broker:
    """An MQTT 3.1, 3.1.1 and 5.0 broker.

    Args:
        settings: section `[broker]`.
        site: where the users file, the key set and the gateway's password are when the settings do not say; None:
            `Site.default()`.
        hasher: argon2id costs for users added here; None: the library's defaults (RFC 9106, low memory).
        wall_clock: Unix time in seconds, for the expiry of tokens.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        site: Site | None = None,
        hasher: PasswordHasher | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.statistics = Statistics()
        self.ready = asyncio.Event()
        self.ports: tuple[int, ...] = ()
        self._site = site or Site.default()
        self._hasher = hasher
        self._wall_clock = wall_clock
        self._connections: set[Connection] = set()
        self._started_at = 0.0
        self.engine = Engine(settings, self.statistics)

    async def run(self) -> None:
        """Listens and serves until cancelled.

        Raises:
            ListenError: an address can't be bound.
            UsersFileError: the users file is not valid.
        """
        authenticator = Authenticator(self._users(), self._jwks_file(), self.settings, self._wall_clock)
        servers: list[asyncio.Server] = []
        try:
            async with asyncio.TaskGroup() as group:
                around = self._surroundings(authenticator, lambda work: _keep(group.create_task(work)))
                for listener in self.settings.listener:
                    servers.append(await _listen(around, listener))
                self._on_listening(servers)
                await self._tick_for_ever()
        except BaseExceptionGroup as errors:  # one fault is told as itself
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise
        finally:
            self.ready.clear()
            for server in servers:
                server.close()
            await self._shut_connections()
            authenticator.close()

    def _users(self) -> UsersFile:
        """The users file, made on first start with the gateway's own user and nobody else: there are no default
        passwords.
        """
        path = self.settings.users_file or self._site.path("broker", "users.json")
        is_new = not path.exists()
        users = UsersFile(path, self._hasher)
        if is_new:
            users.add(GATEWAY_USER, self._site.secret("gateway-mqtt"), roles=(Role.GATEWAY,))
            _log.info("users file made", path=str(path), users=[GATEWAY_USER])
        return users

    def _jwks_file(self) -> Path:
        return self.settings.jwks_file or self._site.jwks_path

    def _surroundings(
        self, authenticator: Authenticator, spawn: Callable[[Coroutine[None, None, None]], None]
    ) -> Surroundings:
        loop, limits = asyncio.get_running_loop(), self.settings.limits
        return Surroundings(
            loop=loop,
            settings=self.settings,
            engine=self.engine,
            authenticator=authenticator,
            admission=Admission(limits.unauthenticated_per_address, limits.unauthenticated_total),
            flusher=Flusher(loop),
            statistics=self.statistics,
            connections=self._connections,
            spawn=spawn,
            wall_clock=self._wall_clock,
        )

    def _on_listening(self, servers: list[asyncio.Server]) -> None:
        self.ports = tuple(server.sockets[0].getsockname()[1] for server in servers)
        self._started_at = asyncio.get_running_loop().time()
        self.ready.set()
        _log.info("broker listens", ports=self.ports)

    async def _tick_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        next_sys = loop.time()
        while True:
            now = loop.time()
            self.engine.tick(now)
            self._end_stuck_readers(now)
            if self.settings.sys_interval_s and now >= next_sys:
                next_sys = now + self.settings.sys_interval_s
                for topic, text in sys_topics(self.engine, self.statistics, now - self._started_at):
                    self.engine.publish_own(topic, text, now)
            await asyncio.sleep(TICK_S)

    def _end_stuck_readers(self, now: float) -> None:
        bound = self.settings.limits.slow_reader_timeout_s
        for connection in list(self._connections):
            since = connection.output.full_since
            if since is not None and now - since > bound:
                connection.end_slow_reader()

    async def _shut_connections(self) -> None:
        """Says good-bye and gives the loop the turns in which transports close; leaves none behind."""
        for connection in list(self._connections):
            connection.end(Ending.SHUTDOWN, ReasonCode.SERVER_SHUTTING_DOWN)
        for _turn in range(10):
            if not self._connections:
                return
            await asyncio.sleep(0)


def _keep(task: asyncio.Task[None]) -> None:
    """The task group holds its tasks; nobody waits for this one."""


async def _listen(around: Surroundings, listener: ListenerSettings) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(
            lambda: Connection(around),
            listener.host,
            listener.port,
            backlog=1_024,
            reuse_address=os.name == "posix" and sys.platform != "cygwin",
        )
    except OSError as error:
        raise ListenError(
            "broker can't listen",
            evidence=f"{listener.host}:{listener.port}: {error.strerror or error}",
            fix="stop the program that holds the port, or set another one in [[broker.listener]]",
        ) from None
