"""How a request becomes a page: who asks, which template, which headers; and what a form must bring.

`Pages` is what every file of routes works with. A page without a visitor is the sign-in page; a form without the
visitor's form token is refused before anything is changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, quote

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.console.multipart import parse_multipart
from gateway.console.static_files import asset
from gateway.console.visitors import COOKIE, Visitor, Visitors

__all__ = ["SECURITY_HEADERS", "Form", "PageRoute", "Pages", "is_socket_origin"]

SECURITY_HEADERS: Final[dict[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MAX_FORM_OCTETS: Final = 65_536
_ORIGIN: Final = re.compile(r"wss?://(\[[0-9a-f:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}")

_environment = Environment(
    loader=PackageLoader("gateway.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_environment.globals["asset"] = asset


def _age(seconds: float | None) -> str:
    """A duration as people say it: `12 s`, `5 min`, `3 h`, `4 d`."""
    if seconds is None:
        return "never"
    for limit, unit, divisor in ((120, "s", 1), (7_200, "min", 60), (172_800, "h", 3_600)):
        if seconds < limit:
            return f"{max(0, seconds) / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _utc(unix_s: float | None) -> str:
    return "" if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _rate(per_s: float) -> str:
    """Messages a second, at the resolution that is worth reading."""
    return f"{per_s:.0f}" if per_s >= 100 else f"{per_s:.1f}"


def _tag(text: str) -> str:
    """A text of any kind as part of an element's id."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


_environment.filters["age"] = _age
_environment.filters["rate"] = _rate
_environment.filters["tag"] = _tag
_environment.filters["utc"] = _utc


class PageRoute(APIRoute):
    """A route whose refusals are pages for people, where the HTTP API answers by problem documents."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_for_people(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError:
                return _refusal(request, 422, "The address of this page has a part that does not fit.", None)
            except HTTPException as error:
                return _refusal(request, error.status_code, str(error.detail), error.headers)

        return handle_for_people


def is_socket_origin(text: str) -> bool:
    """The text is the origin of a WebSocket and nothing more: it may stand in a page's policy."""
    return _ORIGIN.fullmatch(text) is not None


def _headers(connect_to: str) -> dict[str, str]:
    if not connect_to:
        return SECURITY_HEADERS
    if not is_socket_origin(connect_to):
        raise ValueError(f"no origin of a WebSocket: {connect_to!r}")
    policy = SECURITY_HEADERS["Content-Security-Policy"].replace(
        "connect-src 'self'", f"connect-src 'self' {connect_to}"
    )
    return SECURITY_HEADERS | {"Content-Security-Policy": policy}


def _refusal(request: Request, status: int, detail: str, headers: Mapping[str, str] | None) -> Response:
    """A page that says why there is no other one, with the ways on of a visitor who is signed in."""
    headers = SECURITY_HEADERS | dict(headers or {})
    if status == HTTPStatus.SEE_OTHER:
        return Response(status_code=status, headers=headers)
    title = HTTPStatus(status).phrase
    visitor = getattr(request.state, "visitor", None)
    text = Pages.text("refusal.html", visitor, title=title, detail=detail)
    return HTMLResponse(text, status, headers)


def _must_be_from_here(request: Request) -> None:
    """By what browsers say of a form: newer ones whose it is, others where it comes from (`null`: nobody may know)."""
    origin, site = request.headers.get("origin", ""), request.headers.get("sec-fetch-site")
    is_foreign = bool(origin) and origin.partition("://")[2] != request.headers.get("host")
    if (is_foreign and not (origin == "null" and site == "same-origin")) or site == "cross-site":
        raise HTTPException(403, "the form came from another site")


async def _body(request: Request, longest: int, too_long: str) -> bytes:
    octets = bytearray()
    async for chunk in request.stream():
        octets += chunk
        if len(octets) > longest:
            raise HTTPException(413, too_long)
    return bytes(octets)


@dataclass(frozen=True, slots=True)
class Form:
    """What a visitor sent, already proved to be from a page of ours."""

    visitor: Visitor
    fields: Mapping[str, str]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A field without blanks around it; empty when it is absent."""
        return self.fields.get(name, "").strip()


class Pages:
    """See the module.

    Args:
        visitors: who may look.
        now_s: monotonic time.
    """

    def __init__(self, visitors: Visitors, now_s: Callable[[], float]) -> None:
        self.visitors = visitors
        self.now_s = now_s

    # --- who

    async def visitor(self, request: Request) -> Visitor:
        """Who asks.

        Raises:
            HTTPException: 303 to the sign-in page, or to the setup page while nobody can sign in.
        """
        visitor = await self.visitors.visitor(request.cookies.get(COOKIE), self.now_s())
        if visitor is None:
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            where = (
                "/console/setup"
                if await self.visitors.needs_setup()
                else f"/console/sign-in?next={quote(here if request.method == 'GET' else request.url.path)}"
            )
            raise HTTPException(303, headers={"Location": where})
        request.state.visitor = visitor
        return visitor

    async def administrator(self, request: Request) -> Visitor:
        """Who asks, if it is a platform administrator; 404 otherwise: others do not learn that the page exists."""
        visitor = await self.visitor(request)
        if not visitor.is_admin:
            raise HTTPException(404, "no such page")
        return visitor

    def may_still(self, request: Request, right: Callable[[], bool] = lambda: True) -> Callable[[], Awaitable[bool]]:
        """A question for live streams: whether the visitor is still signed in, and has the right that it had."""
        session = request.cookies.get(COOKIE)

        async def ask() -> bool:
            return await self.visitors.is_signed_in(session) and right()

        return ask

    async def form(self, request: Request) -> Form:
        """The form of a signed-in visitor; 403 when it is not from a page of ours."""
        visitor = await self.visitor(request)
        return self._proved(Form(visitor, await self.fields(request)))

    async def upload(self, request: Request, longest: int) -> Form:
        """As `form`, of a form with a file of at most `longest` octets; 413 when there is more, 422 when it is no
        such form.
        """
        visitor = await self.visitor(request)
        _must_be_from_here(request)
        too_long = f"the file is longer than the {longest} octets that a device can be sent"
        octets = await _body(request, longest + MAX_FORM_OCTETS, too_long)
        try:
            fields, files = parse_multipart(request.headers.get("content-type", ""), octets)
        except ValueError:
            raise HTTPException(422, "the form can't be read") from None
        form = self._proved(Form(visitor, fields, files))
        if any(len(file) > longest for file in files.values()):
            raise HTTPException(413, too_long)
        return form

    def _proved(self, form: Form) -> Form:
        if not self.visitors.is_ours(form.visitor, form.fields.get("form_token", "")):
            raise HTTPException(403, "the form is not of this session: go back, reload the page, and send it again")
        return form

    async def fields(self, request: Request) -> dict[str, str]:
        """The fields of any form; 403 from another site, 413 when it is too long."""
        _must_be_from_here(request)
        octets = await _body(request, MAX_FORM_OCTETS, "the form is too long")
        try:
            pairs = parse_qs(octets.decode(), keep_blank_values=True, max_num_fields=200)
        except ValueError:
            raise HTTPException(422, "the form can't be read") from None
        return {name: values[-1] for name, values in pairs.items()}

    # --- what they see

    def page(
        self,
        template: str,
        visitor: Visitor | None,
        *,
        status: int = HTTPStatus.OK,
        connect_to: str = "",
        **values: Any,
    ) -> HTMLResponse:
        """A template as a page; `values` are its names.

        Args:
            connect_to: origin of a WebSocket that the page's scripts may open, beside our own.
        """
        return HTMLResponse(self.text(template, visitor, **values), status, _headers(connect_to))

    @staticmethod
    def text(template: str, visitor: Visitor | None, **values: Any) -> str:
        """A template's text, for a stream."""
        return _environment.get_template(template).render(visitor=visitor, **values)

    @staticmethod
    def go(path: str) -> Response:
        """To another page after a form was taken."""
        return RedirectResponse(path, HTTPStatus.SEE_OTHER, SECURITY_HEADERS)
