"""What every request passes before a route sees it, and every answer after: bounds, bodies, headers, counts.

Refused here, as problem documents: too many requests from an address (429), a body that is too long (413, before it is
read when its length is told), a body of another media type than the route takes, or packed (415), and one whose length
is told in two ways (400: who stands between might believe the other one). Answers get the headers that keep browsers
from guessing, framing and keeping them, unless the route has said otherwise.

HEAD is GET without the body (RFC 9110 section 9.3.2), but where GET takes something away or does not end.

The vendor's clients (dialect part F) name media types of all kinds for their JSON: on their paths any is taken.
"""

from __future__ import annotations

import math
import re
import urllib.parse
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.limits import Limits, network_of
from gateway.api.methods import has_head
from gateway.api.problems import problem
from gateway.statistics import Event

__all__ = ["HEADERS", "Front"]

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""For every answer; a route's own value counts before."""
JSON: Final = b"application/json"
_LONG: Final = re.compile(r"/api/(devices|packages)/import|/console/network/[^/]+/software")
LONG_OCTETS: Final = 32 << 20
"""Longest body of an import, and of what a page refuses in words of its own."""
_VENDOR: Final = re.compile(r"(/api)?/tokens|/api/solutions/.*")
_ANY_TYPE: Final = re.compile(r"/api/(devices/import|messages)")
_IS_JSON: Final = re.compile(r"application/([a-z0-9.+-]+\+)?json", re.IGNORECASE)
_SCHEMES: Final = ("http://", "https://")


class Front:
    """See the module.

    Args:
        app: what is behind.
        limits: bounds; its statistics count answers by status code.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(_SCHEMES):
            scope = _in_origin_form(scope)
        send = self._with_headers(scope, send)
        if scope["method"] == "HEAD" and has_head(scope["path"]):
            scope = {**scope, "method": "GET"}
        refusal = self._refused_address(scope) or self._refused_body(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _counted(receive, self._longest(scope), lambda: self._too_long(scope)), send)

    # --- on the way in

    def _refused_address(self, scope: Scope) -> ASGIApp | None:
        client = scope.get("client")
        wait_s = self._limits.request_from(network_of(client[0] if client else ""))
        if not wait_s:
            return None
        headers = {"Retry-After": str(math.ceil(wait_s))}
        return problem(429, "too many requests from this address", headers=headers)

    def _refused_body(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self._longest(scope):
            error = self._too_long(scope)
            return problem(error.status_code, error.detail, headers=error.headers)
        if length and "transfer-encoding" in headers:
            words = "a body has Content-Length or Transfer-Encoding, never both"
            return problem(400, words, headers={"Connection": "close"})
        has_body = length not in ("", "0") or "transfer-encoding" in headers
        path = scope["path"]
        if not has_body or not (path.startswith("/api/") or path == "/tokens"):
            return None
        if (packed := headers.get("content-encoding", "identity")) != "identity":
            return problem(
                415, f"{packed[:80]!r}: the body has to come as it is", headers={"Accept-Encoding": "identity"}
            )
        if _ANY_TYPE.fullmatch(path):
            return None
        media_type = headers.get("content-type", "").partition(";")[0].strip()
        if _VENDOR.fullmatch(path) or not media_type:
            _set_json(scope)
            return None
        if _IS_JSON.fullmatch(media_type):
            return None
        return problem(
            415, f"{media_type[:80]!r}: the body has to be application/json", headers={"Accept": JSON.decode()}
        )

    def _longest(self, scope: Scope) -> int:
        return LONG_OCTETS if _LONG.fullmatch(scope["path"]) else self._limits.settings.max_body_octets

    def _too_long(self, scope: Scope) -> HTTPException:
        self._limits.count("body")
        return HTTPException(413, f"the body is longer than {self._longest(scope)} octets", {"Connection": "close"})

    # --- on the way out

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        is_private = scope["path"].startswith("/api/") or scope["path"] == "/tokens"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._limits.statistics.count(Event.HTTP, str(message["status"]))
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if is_private:
                    # A reader may keep an answer, but has to ask whether it still holds (If-None-Match).
                    reads = scope["method"] in ("GET", "HEAD") and message["status"] in (200, 304)
                    headers.setdefault("Cache-Control", "private, no-cache" if reads else "no-store")
            await send(message)

        return send_with_headers


def _counted(receive: Receive, longest: int, refuse: Callable[[], HTTPException]) -> Receive:
    """Counts a body's octets as they come, for one whose length was not told."""
    octets = 0

    async def receive_counted() -> Message:
        nonlocal octets
        message = await receive()
        if message["type"] == "http.request":
            octets += len(message.get("body", b""))
            if octets > longest:
                raise refuse()
        return message

    return receive_counted


def _in_origin_form(scope: Scope) -> Scope:
    """A request as proxies get it, by a whole URL: its authority counts, `Host` does not (RFC 9112 section 3.2.2)."""
    _, _, rest = scope["raw_path"].partition(b"://")
    authority, slash, path = rest.partition(b"/")
    raw_path = slash + path or b"/"
    headers = [pair for pair in scope["headers"] if pair[0] != b"host"] + [(b"host", authority)]
    return {**scope, "raw_path": raw_path, "path": urllib.parse.unquote(raw_path.decode()), "headers": headers}


def _set_json(scope: Scope) -> None:
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"content-type"] + [(b"content-type", JSON)]
