"""Conditional requests (RFC 9110 section 13) for every resource of the HTTP API, in one place.

Reads: each answer to GET has an ETag; If-None-Match with it is answered 304. Updates: PUT, PATCH, DELETE, and the
actions on a resource (`…/move`, `…/enable`), are carried out with If-Match only when the resource still is what its
reader has seen, else 412; without If-Match the last one wins. What a resource is, its own GET says: so a route that is
added takes part without a line of its own.

A resource shows live figures, too (when a device was heard last). They are part of what If-None-Match compares, and no
part of what If-Match does: the tag is `"<what is administered>.<the rest>"`, and an update looks at the first part.
Updates of one resource by this API are carried out one after the other, so nothing comes between check and change; the
body of each is here before its turn comes, so nobody waits for a client that sends slowly.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from typing import Final
from weakref import WeakValueDictionary

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.problems import problem

__all__ = ["Preconditions", "entity_tag", "is_conditional"]

_ACTION: Final = re.compile(
    r"(/api/(?:devices|clients|console-users|accounts|aliases|triggers|packages)/[^/]+|/api/solutions/.+/commands/[^/]+)"
    r"/(?:move|key|secret|password|assignment|connection-settings|enable|disable|position)"
)
"""Paths that change the resource above them."""
_UPDATES: Final = frozenset({"PUT", "PATCH", "DELETE"})
_LIVE: Final[dict[str, frozenset[str]]] = {
    "devices": frozenset({"address", "seen"}),
    "tenants": frozenset({"devices", "clients"}),
    "instances": frozenset({"state", "announced", "accounts", "nodes"}),
    "aliases": frozenset({"live"}),
    "triggers": frozenset({"live"}),
    "boards": frozenset({"state"}),
}
"""Members of a resource that change by themselves, by the collection that it is in."""


def entity_tag(path: str, octets: bytes) -> str:
    """The tag of a JSON representation, with its quotes.

    Args:
        path: of the resource.
        octets: what GET answers.
    """
    live = _LIVE.get(path.rstrip("/").rsplit("/", 2)[-2], frozenset())
    document = json.loads(octets) if live else None
    if not isinstance(document, dict):
        return f'"{_digest(octets)}"'
    administered = {name: value for name, value in document.items() if name not in live}
    return f'"{_digest(json.dumps(administered, sort_keys=True).encode())}.{_digest(octets)}"'


def is_conditional(method: str, path: str) -> bool:
    """Whether a request is an update, which If-Match and If-None-Match may stop."""
    return path.startswith("/api/") and (method in _UPDATES or _ACTION.fullmatch(path) is not None)


def _digest(octets: bytes) -> str:
    return hashlib.blake2b(octets, digest_size=9).hexdigest()


class Preconditions:
    """See the module.

    Args:
        app: what is behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        action = _ACTION.fullmatch(scope["path"])
        if scope["method"] == "GET":
            await self._app(scope, receive, _Tagging(scope["path"], send, headers.get("if-none-match")))
        elif is_conditional(scope["method"], scope["path"]):
            path = action[1] if action is not None else scope["path"]
            try:
                receive = await _read(receive)
            except HTTPException as error:
                await problem(error.status_code, error.detail, headers=error.headers)(scope, receive, send)
                return
            async with self._locks.setdefault(path, asyncio.Lock()):
                if (refusal := await self._refusal(scope, path, headers)) is not None:
                    await refusal(scope, receive, send)
                    return
                # The other actions answer with something else than the resource.
                shows_it = scope["method"] in ("PUT", "PATCH") and not scope["path"].endswith("/position")
                await self._app(scope, receive, _Tagging(path, send, None) if shows_it else send)
        else:
            await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope, path: str, headers: Headers) -> ASGIApp | None:
        match, none_match = headers.get("if-match"), headers.get("if-none-match")
        if match is None and none_match is None:
            return None
        status, tag = await self._current(scope, path)
        if status in (401, 403):
            return None  # the route itself refuses
        if match is not None and not _holds(match, tag):
            words = "there is nothing of that name" if tag is None else "it has changed since; read it again"
        elif none_match is not None and _is_among(none_match, tag):
            words = "it exists already"
        else:
            return None
        return problem(412, words, headers={} if tag is None else {"ETag": tag})

    async def _current(self, scope: Scope, path: str) -> tuple[int, str | None]:
        """What GET of the resource says to this caller: status, and the tag of a 200."""
        kept = [pair for pair in scope["headers"] if pair[0] in (b"authorization", b"host")]
        asked = {**scope, "method": "GET", "path": path, "raw_path": None, "query_string": b"", "headers": kept}
        status, octets = 500, bytearray()

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                octets.extend(message.get("body", b""))

        await self._app(asked, receive, send)
        return status, entity_tag(path, bytes(octets)) if status == 200 else None


async def _read(receive: Receive) -> Receive:
    """Wait for the whole body; gives what tells it once more."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    messages.reverse()

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


class _Tagging:
    """Puts the tag on a JSON answer that comes in one piece; answers 304 when the reader has it already."""

    def __init__(self, path: str, send: Send, if_none_match: str | None) -> None:
        self._path = path
        self._send = send
        self._if_none_match = if_none_match
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            media_type = Headers(raw=message["headers"]).get("content-type", "")
            if message["status"] in (200, 201) and media_type.startswith("application/json"):
                self._start = message
                return
        elif self._start is not None:
            start, self._start = self._start, None
            if not message.get("more_body", False):
                tag = entity_tag(self._path, message.get("body", b""))
                if self._if_none_match is not None and _is_among(self._if_none_match, tag):
                    await self._send(_not_modified(start, tag))
                    await self._send({"type": "http.response.body", "body": b""})
                    return
                MutableHeaders(scope=start)["ETag"] = tag
            await self._send(start)
        await self._send(message)


def _not_modified(start: Message, tag: str) -> Message:
    kept = [pair for pair in start["headers"] if pair[0] not in (b"content-length", b"content-type")]
    return {**start, "status": 304, "headers": [*kept, (b"etag", tag.encode())]}


def _listed(header: str) -> list[str]:
    return [each.strip() for each in header.split(",")]


def _holds(header: str, tag: str | None) -> bool:
    """If-Match (RFC 9110 section 13.1.1): strong comparison of what is administered."""
    if tag is None:
        return False
    return "*" in _listed(header) or _administered(tag) in map(_administered, _listed(header))


def _administered(tag: str) -> str:
    return tag.strip('"').partition(".")[0] if tag.startswith('"') else ""


def _is_among(header: str, tag: str | None) -> bool:
    """If-None-Match (RFC 9110 section 13.1.2): weak comparison."""
    if tag is None:
        return False
    return "*" in _listed(header) or tag in [each.removeprefix("W/") for each in _listed(header)]
