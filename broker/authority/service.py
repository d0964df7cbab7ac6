"""The authority as one object: listener, routes, and the watch over rights that end.

`Authority.run` is the assembly; it returns only by cancellation and leaves no socket, task or thread behind. Whatever
goes wrong inside a question is answered with that engine's "deny".
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from broker.accounts import accounts_of
from broker.adapters.connection import BrokerAddress
from broker.adapters.mosquitto.control import DynamicSecurity
from broker.adapters.mosquitto.tokens import TokenExchange
from broker.adapters.mosquitto.users import UsersInStep
from broker.adapters.takeover import TakeOver
from broker.authority import emqx, go_auth, rabbitmq, vernemq
from broker.authority import exchange as exchange_module
from broker.authority.admissions import Admissions, Enforcer
from broker.authority.callers import Callers, is_loopback
from broker.authority.client_ids import ClientIds
from broker.authority.emqx import EmqxHooks
from broker.authority.errors import AuthorityError, ListenError
from broker.authority.exchange import Exchange
from broker.authority.go_auth import GoAuthHooks
from broker.authority.http import Bounds, Handler, HttpConnection, Request, Response
from broker.authority.nodes import NodeWatch
from broker.authority.rabbitmq import RabbitHooks
from broker.authority.settings import AuthoritySettings, CallerRule
from broker.authority.vernemq import VerneHooks
from broker.credentials import Authenticator, UsersFile
from broker.role_table import RoleTable
from broker.settings import BrokerSettings
from meshwire.site import Site

__all__ = ["Authority"]

SHORTEST_SECRET: Final = 16
FORBIDDEN: Final = Response(403, b"deny")
NOT_FOUND: Final = Response(404, b"deny")

_log = structlog.get_logger()

Route = Callable[[tuple[str, ...], Request], Awaitable[Response]]


class Authority:
    """The policy served to engines of other makers.

    Args:
        settings: section `[authority]`.
        broker: section `[broker]`: users file, key set, default roles.
        site: where files and secrets are that the settings do not name; None: `Site.default()`.
        wall_clock: Unix time in seconds.
    """

    def __init__(
        self,
        settings: AuthoritySettings,
        broker: BrokerSettings,
        *,
        site: Site | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.ready = asyncio.Event()
        self.port = 0
        self._broker = broker
        self._site = site or Site.default()
        self._wall_clock = wall_clock
        self._connections: set[HttpConnection] = set()

    @property
    def secret(self) -> str:
        """The secret that callers show."""
        path = self.settings.secret_file
        if path is None:
            return self._site.secret("broker-authority")
        try:
            secret = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AuthorityError("secret can't be read", evidence=f"{path}: {error}", code="MW-AUT-004") from None
        if len(secret) < SHORTEST_SECRET:
            evidence = f"{path}: {len(secret)} characters"
            raise AuthorityError("secret is too short", evidence=evidence, code="MW-AUT-004")
        return secret

    async def run(self) -> None:
        """Serves until cancelled.

        Raises:
            AuthorityError: the settings contradict each other, or the address can't be bound.
            UsersFileError: the users file is not valid.
        """
        self._check()
        users = UsersFile(self._broker.users_file or self._site.path("broker", "users.json"))
        roles = RoleTable(self._broker.roles_file or self._site.path("broker", "roles.json"))
        keys = self._broker.jwks_file or self._site.jwks_path
        logins = Authenticator(users, keys, self._broker, self._wall_clock)
        client_ids = ClientIds(self._client_ids_file(), self.settings.client_ids_per_tenant)
        interval_s = self.settings.check_interval_s
        try:
            async with asyncio.TaskGroup() as group:
                admissions = self._admissions(logins, users, roles, client_ids)
                exchange = None
                if self.settings.mosquitto.control:
                    # Each of the watchers notices changes for itself, so each reads the files for itself.
                    own_users, own_roles = UsersFile(users.path), RoleTable(roles.path)
                    tokens = TokenExchange(lambda: self._open_control(own_roles), self._wall_clock)
                    exchange = Exchange(logins, tokens, accounts_of(self._broker.instance, self._site))
                    group.create_task(tokens.run(interval_s))
                    step = UsersInStep(own_users, own_roles, lambda: self._open_control(own_roles))
                    group.create_task(step.run(interval_s))
                group.create_task(admissions.run(interval_s))
                if (engine := self.settings.engine) is not None and self.settings.node:
                    name, _, release = engine.value.partition("-")
                    nodes = self.settings.node
                    watch = NodeWatch(
                        self._broker.instance.name, name, release, lambda: nodes, self._site, self._wall_clock
                    )
                    group.create_task(watch.run())
                await self._serve(self._routes(admissions, exchange))
        except BaseExceptionGroup as errors:  # one fault is told as itself
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise
        finally:
            logins.close()
            client_ids.close()

    async def _serve(self, handler: Handler) -> None:
        server = await self._listen(handler)
        try:
            self.port = server.sockets[0].getsockname()[1]
            self.ready.set()
            _log.info("authority listens", host=self.settings.host, port=self.port)
            await asyncio.get_running_loop().create_future()
        finally:
            self.ready.clear()
            server.close()
            for connection in list(self._connections):
                connection.close()
            await asyncio.sleep(0)

    def _admissions(
        self, logins: Authenticator, users: UsersFile, roles: RoleTable, client_ids: ClientIds
    ) -> Admissions:
        return Admissions(
            logins,
            users,
            roles,
            client_ids,
            rule=self.settings.client_ids,
            enforcers=self._enforcers(),
            ender_secret=self._site.secret("session-ender"),
            wall_clock=self._wall_clock,
            accounts=accounts_of(self._broker.instance, self._site),
        )

    def _open_control(self, roles: RoleTable) -> DynamicSecurity:
        mosquitto = self.settings.mosquitto
        password = self._site.secret("mosquitto-control")
        return DynamicSecurity(_address(mosquitto.control), mosquitto.username, password, roles.rules)

    def _check(self) -> None:
        if self.settings.caller is CallerRule.LOOPBACK and not is_loopback(self.settings.host):
            raise AuthorityError(
                "authority would answer anybody",
                evidence=f'caller = "loopback" with host = "{self.settings.host}"',
                fix='set caller = "secret", or a loopback host',
                code="MW-AUT-003",
            )

    def _client_ids_file(self) -> Path:
        return self.settings.client_ids_file or self._site.path("authority", "client-ids.db")

    def _enforcers(self) -> Mapping[str, Enforcer]:
        secret = self._site.secret("session-ender")
        return {name: TakeOver(_address(text), secret) for name, text in self.settings.end_sessions_at.items()}

    def _routes(self, admissions: Admissions, exchange: Exchange | None) -> Handler:
        rabbit = RabbitHooks(admissions, self.settings.rabbitmq)
        emqx_hooks, verne, go = EmqxHooks(admissions), VerneHooks(admissions), GoAuthHooks(admissions)
        table: dict[str, tuple[Route, Response]] = {
            "rabbitmq": (lambda rest, request: rabbit.answer("/".join(rest), request), rabbitmq.DENY),
            "emqx": (lambda rest, request: emqx_hooks.answer("/".join(rest), request), emqx.DENY),
            "vernemq": (lambda rest, request: verne.answer(request), vernemq.DENY),
            "mosquitto": (lambda rest, request: go.answer("/".join(rest), request), go_auth.DENY),
        }
        callers = Callers(self.settings.caller, self.secret)

        async def answer(request: Request) -> Response:
            if exchange is not None and request.target == "/exchange":
                return await _denied_by_faults(exchange.answer(request), "exchange", exchange_module.DENY)
            path = callers.path_of(request)
            if path is None:
                _log.warning("a caller without the secret was refused", peer=request.peer)
                return FORBIDDEN
            if len(path) < 2 or path[0] != "hooks" or path[1] not in table:
                return NOT_FOUND
            route, deny = table[path[1]]
            return await _denied_by_faults(route(path[2:], request), path[1], deny)

        return answer

    async def _listen(self, handler: Handler) -> asyncio.Server:
        loop, bounds = asyncio.get_running_loop(), Bounds()
        try:
            return await loop.create_server(
                lambda: HttpConnection(handler, bounds, self._connections),
                self.settings.host,
                self.settings.port,
                reuse_address=os.name == "posix" and sys.platform != "cygwin",
            )
        except OSError as error:
            raise ListenError(
                "authority can't listen",
                evidence=f"{self.settings.host}:{self.settings.port}: {error.strerror or error}",
                fix="stop the program that holds the port, or set [authority] port",
            ) from None


async def _denied_by_faults(answering: Awaitable[Response], subject: str, deny: Response) -> Response:
    """Whatever goes wrong in a question denies it."""
    try:
        return await answering
    except Exception as error:
        _log.warning("a question was denied by a fault", subject=subject, error=type(error).__name__)
        return deny


def _address(endpoint: str) -> BrokerAddress:
    host, _, port = endpoint.rpartition(":")
    return BrokerAddress(host.strip("[]"), int(port))
