"""The broker as one object: listeners, the shared parts of all connections, and what happens by the clock.

`Broker.run` is the assembly; it returns only by cancellation and leaves no socket, task or thread behind.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

import structlog
from argon2 import PasswordHasher

from broker.accounts import accounts_of
from broker.addresses.book import AddressBook
from broker.administration.counter import Counter
from broker.admission import Admission
from broker.announcement import Announcement, own_node
from broker.connection import Connection
from broker.credentials import Authenticator, UsersFile, open_users
from broker.doorman import Doorman
from broker.engine import Engine
from broker.journal import Journal
from broker.listener import Listener
from broker.operations import OPERATIONS_TOPIC, Operations
from broker.plugins import BrokerHook, Hooks, load_hooks
from broker.policy import Permissions, permissions_of
from broker.recovery import recover
from broker.revocation import Revocation
from broker.role_table import RoleTable
from broker.settings import BrokerSettings, Durability, ListenerSettings
from broker.statistics import Ending, Statistics
from broker.store import Store
from broker.surroundings import Surroundings
from broker.sys_topics import SysTopics
from broker.throttle import Throttle
from broker.turn import Turn
from broker.writer import Writer
from meshwire.identity import Principal
from meshwire.mqtt import ReasonCode
from meshwire.site import Site

__all__ = ["Broker"]


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
        hooks: by name; those of the settings come besides.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        site: Site | None = None,
        hasher: PasswordHasher | None = None,
        wall_clock: Callable[[], float] = time.time,
        hooks: Mapping[str, BrokerHook] | None = None,
    ) -> None:
        self.settings = settings
        self.statistics = Statistics()
        self.ready = asyncio.Event()
        self.ports: tuple[int, ...] = ()
        self._site = site or Site.default()
        self._hasher = hasher
        self._wall_clock = wall_clock
        self._connections: set[Connection] = set()
        self._is_ending = False
        self._started_at = 0.0
        self.hooks = Hooks({**(hooks or {}), **load_hooks(settings.hook)})
        self.engine = Engine(settings, self.statistics, None, self.hooks)
        self._roles: RoleTable | None = None
        self._users: UsersFile | None = None
        self._addresses: AddressBook | None = None
        self._accounts = accounts_of(settings.instance, self._site)

    async def run(self) -> None:
        """Listens and serves until cancelled.

        Raises:
            ListenError: an address can't be bound.
            UsersFileError: the users file is not valid.
            RolesFileError: the roles file is not valid.
            AddressError: the addresses file is not valid.
            TlsFilesError: a listener's certificate or key can't be used.
            StoreError: the store can't be opened, or, later, not be written.
        """
        self._roles = RoleTable(self.settings.roles_file or self._site.path("broker", "roles.json"))
        self._users = self._users_file()
        self._addresses = AddressBook(self.settings.addresses_file or self._site.path("broker", "addresses.json"))
        authenticator = Authenticator(self._users, self._jwks_file(), self.settings, self._wall_clock)
        try:
            if self.settings.durability is Durability.MEMORY:
                self.engine.addresses.apply(self._addresses, asyncio.get_running_loop().time())
                await self._serve(authenticator, Turn(asyncio.get_running_loop()), None)
            else:
                await self._serve_durably(authenticator)
        finally:
            authenticator.close()

    async def _serve_durably(self, authenticator: Authenticator) -> None:
        loop, settings = asyncio.get_running_loop(), self.settings
        path = settings.store_file or self._site.path("broker", "store.sqlite")
        store = Store(path, settings.durability)
        writer: Writer | None = None
        try:
            journal = Journal(self._wall_offset_s, *store.highest_numbers())
            self.engine = Engine(settings, self.statistics, journal, self.hooks)
            if self._addresses is not None:
                self.engine.addresses.apply(self._addresses, loop.time())
            offset = self._wall_offset_s()
            recover(self.engine, store, journal, permissions_of=self._permissions_of, now=loop.time(), offset=offset)
            writer = Writer(store, loop)
            writer.start()
            await self._serve(authenticator, Turn(loop, journal, writer, self.statistics), writer)
        finally:
            if writer is not None:
                writer.close()
            store.close()

    def _permissions_of(self, principal: Principal) -> Permissions:
        assert self._roles is not None
        self._roles.reload()
        return permissions_of(principal, self._roles.rules)

    def _wall_offset_s(self) -> float:
        return self._wall_clock() - asyncio.get_running_loop().time()

    async def _serve(self, authenticator: Authenticator, turn: Turn, writer: Writer | None) -> None:
        listeners: list[Listener] = []
        announcement: Announcement | None = None
        assert self._users is not None and self._roles is not None
        self.engine.addresses.book = self._addresses
        revocation = Revocation(self.engine, self._users, self._roles, authenticator, self._permissions_of)
        revocation.apply(asyncio.get_running_loop().time())  # what changed while the broker was away
        counter = Counter(self._users, self._roles, self.engine.addresses, revocation, self.settings)
        try:
            async with counter.open(self._site), asyncio.TaskGroup() as group:
                if writer is not None:
                    _keep(group.create_task(writer.watch()))
                _keep(group.create_task(authenticator.keep_keys_fresh()))
                around = self._surroundings(authenticator, turn, lambda work: _keep(group.create_task(work)))
                try:
                    for settings in self.settings.listener:
                        listeners.append(_listener(around, settings))
                        await listeners[-1].open()
                    self._on_listening(listeners)
                    named = list(zip(self.settings.listener, self.ports, strict=True))
                    operations = Operations(self.engine, self._roles, named, self._wall_offset_s)
                    self.engine.controls[OPERATIONS_TOPIC] = operations.answer
                    announcement = Announcement(self._site, own_node(self.settings.instance, named, self._wall_clock()))
                    await self._tick_for_ever(listeners, revocation, announcement)
                finally:  # before the group ends: whoever is connected may ask it for a task
                    self._is_ending = True
                    self.ready.clear()
                    if announcement is not None:
                        announcement.withdraw()
                    for listener in listeners:
                        listener.close()
                    await self._shut_connections(turn)
        except BaseExceptionGroup as errors:  # one fault is told as itself
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise

    def _users_file(self) -> UsersFile:
        """The users file, made on first start with the gateway's own user and nobody else: there are no default
        passwords.
        """
        path = self.settings.users_file or self._site.path("broker", "users.json")
        return open_users(path, self._site, self._hasher)

    def _jwks_file(self) -> Path:
        return self.settings.jwks_file or self._site.jwks_path

    def _surroundings(
        self, authenticator: Authenticator, turn: Turn, spawn: Callable[[Coroutine[None, None, None]], None]
    ) -> Surroundings:
        loop, limits = asyncio.get_running_loop(), self.settings.limits
        return Surroundings(
            loop=loop,
            settings=self.settings,
            engine=self.engine,
            doorman=Doorman(authenticator, Throttle(), loop),
            accounts=self._accounts,
            permissions_of=self._permissions_of,
            admission=Admission(
                limits.unauthenticated_per_address, limits.unauthenticated_total, limits.unauthenticated_octets
            ),
            turn=turn,
            statistics=self.statistics,
            connections=self._connections,
            spawn=spawn,
            is_ending=lambda: self._is_ending,
            wall_clock=self._wall_clock,
            log=_log.bind(),
        )

    def _on_listening(self, listeners: list[Listener]) -> None:
        self.ports = tuple(listener.port for listener in listeners)
        self._started_at = asyncio.get_running_loop().time()
        self.ready.set()
        _log.info("broker listens", ports=self.ports)

    async def _tick_for_ever(
        self, listeners: list[Listener], revocation: Revocation, announcement: Announcement
    ) -> None:
        loop = asyncio.get_running_loop()
        next_sys = loop.time()
        figures = SysTopics(self.engine, self.statistics)
        while True:
            now = loop.time()
            self.engine.tick(now)
            self._end_stuck_readers(now)
            revocation.check(now)
            if self._addresses is not None and self._addresses.reload():
                self.engine.addresses.apply(self._addresses, now)
            if self._accounts.reload():
                for connection in list(self._connections):
                    connection.judge_account()
            announcement.tell(now, self._wall_clock(), self._connected_tenants)
            for listener in listeners:
                await listener.reload()
            if self.settings.sys_interval_s and now >= next_sys:
                next_sys = now + self.settings.sys_interval_s
                for topic, text in figures.tell(now - self._started_at):
                    self.engine.publish_own(topic, text, now)
            await asyncio.sleep(TICK_S)

    def _connected_tenants(self) -> list[str]:
        return [key.tenant for key, session in self.engine.sessions.items() if session.outlet is not None]

    def _end_stuck_readers(self, now: float) -> None:
        bound = self.settings.limits.slow_reader_timeout_s
        for connection in list(self._connections):
            since = connection.output.full_since
            if since is not None and now - since > bound:
                connection.end_slow_reader()

    async def _shut_connections(self, turn: Turn) -> None:
        """Says good-bye and gives the loop the turns in which transports close; leaves none behind."""
        for connection in list(self._connections):
            connection.end(Ending.SHUTDOWN, ReasonCode.SERVER_SHUTTING_DOWN)
        await turn.drain()
        for _turn in range(10):
            if not self._connections:
                return
            await asyncio.sleep(0)


def _keep(task: asyncio.Task[None]) -> None:
    """The task group holds its tasks; nobody waits for this one."""


def _listener(around: Surroundings, settings: ListenerSettings) -> Listener:
    return Listener(settings, lambda: Connection(around, settings), around.settings.limits.connect_timeout_s)
