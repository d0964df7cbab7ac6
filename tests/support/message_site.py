"""A site whose HTTP API is asked by curl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from patience import PATIENCE_S, until

from broker.addresses.address import Address, AddressType
from broker.server import Broker
from gateway.gateway import Gateway
from meshwire.identity import Role, TenantId
from meshwire.site import Site

ADDRESSES = [Address(tenant="acme", name=f"a-{kind}", type=kind) for kind in AddressType]
SENDER, RECEIVER = Role.ADDRESS_SENDER, Role.ADDRESS_RECEIVER


@dataclass(frozen=True)
class Answer:
    """What curl has got."""

    status: int
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


class Client:
    """Somebody with a token and curl."""

    def __init__(self, base: str, token: str) -> None:
        self.base, self.token = base, token

    def arguments(self, method: str, path: str, *more: str, **query: object) -> list[str]:
        pairs = [
            part
            for name, value in query.items()
            for each in (value if isinstance(value, list) else [value])
            for part in ("--url-query", f"{name}={each}")
        ]
        bearer = ["-H", f"Authorization: Bearer {self.token}"] if self.token else []
        return ["curl", "-sS", "-N", "-X", method, *bearer, *pairs, *more, f"{self.base}{path}"]

    async def ask(self, method: str, path: str, *more: str, **query: object) -> Answer:
        command = self.arguments(method, path, "-w", "\n%{http_code}", *more, **query)
        curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await curl.communicate()
        text, _, status = out.decode().rpartition("\n")
        return Answer(int(status), text)

    async def publish(self, body: str, **query: object) -> Answer:
        return await self.ask("POST", "/api/messages", "--data-binary", body, **query)

    async def take(self, **query: object) -> list[dict[str, Any]]:
        answer = await self.ask("GET", "/api/messages", **query)
        assert answer.status == 200, answer.text
        found: list[dict[str, Any]] = answer.body["messages"]
        return found

    async def open(self, **body: object) -> str:
        data = json.dumps(body)
        answer = await self.ask("POST", "/api/consumers", "-H", "Content-Type: application/json", "-d", data)
        assert answer.status == 201, answer.text
        id: str = answer.body["id"]
        return id

    async def settle(self, id: str, **numbers: list[int]) -> Answer:
        data = json.dumps(numbers)
        path = f"/api/consumers/{id}/acknowledge"
        return await self.ask("POST", path, "-H", "Content-Type: application/json", "-d", data)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, *more: str, **query: object) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Server-sent events, as they come."""
        command = self.arguments("GET", path, *more, **query)
        curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert curl.stdout is not None
        try:
            yield _events(curl.stdout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                curl.kill()
            await curl.wait()


async def _events(lines: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    while line := (await lines.readline()).decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if name:
            event[name] = value
        elif "event" in event:
            yield event | ({"data": json.loads(event["data"])} if event["event"] == "message" else {})
            event = {}


class Place:
    """The site."""

    def __init__(self, broker: Broker, gateway: Gateway, site: Site) -> None:
        self.broker, self.gateway, self._site = broker, gateway, site

    def token(self, *roles: Role, tenant: str = "acme", ttl_s: float = 3600.0) -> str:
        return self._site.signing_keys().issue(TenantId(tenant), roles, now=time.time(), ttl_s=ttl_s)

    def client(self, *roles: Role, **token: Any) -> Client:
        return Client(f"http://127.0.0.1:{self.gateway.http_port}", self.token(*roles, **token))

    async def receivers(self, name: str, count: int = 1) -> None:
        """Wait until so many receive from an address."""
        addresses = self.broker.engine.addresses

        def are_there() -> bool:
            live = addresses.of("acme", name)
            return live is not None and addresses.receivers(live) == count

        await until(are_there, lambda: f"{count} receive from {name}")
