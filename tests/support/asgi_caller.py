"""Calls an ASGI application in this process; of an event stream, what comes before its first pause."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from patience import PATIENCE_S


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    octets: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.octets)

    @property
    def text(self) -> str:
        return self.octets.decode()


async def call(
    app: Any,
    method: str,
    path: str,
    body: bytes | str | object = b"",
    headers: Mapping[str, str] | None = None,
    *,
    client: str = "127.0.0.1",
) -> Answer:
    """One request; a stream is left as soon as its first piece has come."""
    parts = urllib.parse.urlsplit(path)
    octets = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    fields = {"host": "localhost"} | {name.lower(): value for name, value in (headers or {}).items()}
    if octets:
        fields = {"content-type": "application/json", "content-length": str(len(octets))} | fields
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": urllib.parse.unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        "server": ("localhost", 80),
        "client": (client, 50_000),
    }
    status, answered, received = 0, dict[str, str](), bytearray()
    sent, over = False, asyncio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": octets, "more_body": False}
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            answered.update((name.decode().lower(), value.decode()) for name, value in message["headers"])
        else:
            received.extend(message.get("body", b""))
            if received or not message.get("more_body"):
                over.set()

    async with asyncio.timeout(PATIENCE_S):
        await app(scope, receive, send)
    return Answer(status, answered, bytes(received))


def routes_of(app: Any) -> set[str]:
    """Every route of the application as `METHOD /path/{parameter}`, whether the OpenAPI document names it or not."""
    found: set[str] = set()

    def walk(routes: Any) -> None:
        for route in routes:
            inner = getattr(route, "original_router", None)
            if inner is not None:
                walk(inner.routes)
            elif (path := getattr(route, "path", None)) is not None:
                methods = getattr(route, "methods", None) or {"MOUNT"}
                found.update(f"{method} {path}" for method in methods if method != "HEAD")

    walk(app.routes)
    return found
