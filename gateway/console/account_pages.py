"""First start, sign-in, sign-out, and the console's own accounts."""

from __future__ import annotations

import ipaddress
import math
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request, Response

from gateway.console.rendering import PageRoute, Pages
from gateway.console.visitors import COOKIE, LIFETIME_S

__all__ = ["elsewhere", "router"]


def router(pages: Pages) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    @routes.get("/console/setup")
    async def setup(request: Request) -> Response:
        """Make the administrator; there is no default password."""
        if not await pages.visitors.needs_setup():
            return pages.go("/console/sign-in")
        _must_be_here(request)
        return pages.page("setup.html", None, error=None, name="")

    @routes.post("/console/setup")
    async def set_up(request: Request) -> Response:
        if not await pages.visitors.needs_setup():
            return pages.go("/console/sign-in")
        _must_be_here(request)
        fields = await pages.fields(request)
        name, password = fields.get("name", "").strip(), fields.get("password", "")
        if password != fields.get("again", ""):
            return pages.page("setup.html", None, status=422, error="The two passwords differ.", name=name)
        error = await pages.visitors.add_administrator(name, password)
        if error is not None:
            return pages.page("setup.html", None, status=422, error=error, name=name)
        return await enter(request, name, password, "/console/start")

    @routes.get("/console/sign-in")
    async def sign_in(request: Request, next: str = "/console/") -> Response:
        if await pages.visitors.needs_setup():
            return pages.go("/console/setup")
        return pages.page("sign_in.html", None, error=None, name="", next=next)

    @routes.post("/console/sign-in")
    async def signed_in(request: Request) -> Response:
        fields = await pages.fields(request)
        return await enter(request, fields.get("name", "").strip(), fields.get("password", ""), fields.get("next", ""))

    async def enter(request: Request, name: str, password: str, after: str) -> Response:
        address = request.client.host if request.client else ""
        wait_s = pages.visitors.wait_s(address, pages.now_s())
        after = after if after.startswith("/console/") and "\\" not in after else "/console/"
        if wait_s:
            error = f"Too many wrong passwords from your address: try again in {wait_s:.0f} seconds."
            refusal = pages.page("sign_in.html", None, status=429, error=error, name=name, next=after)
            refusal.headers["Retry-After"] = str(math.ceil(wait_s))
            return refusal
        session = await pages.visitors.sign_in(name, password, address, pages.now_s())
        if session is None:
            error = "Name or password is wrong."
            return pages.page("sign_in.html", None, status=403, error=error, name=name, next=after)
        pages.visitors.sign_out(request.cookies.get(COOKIE))  # the one that this browser had before
        answer = pages.go(after)
        answer.set_cookie(
            COOKIE,
            session,
            max_age=int(LIFETIME_S),
            path="/console",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @routes.post("/console/sign-out")
    async def sign_out(request: Request) -> Response:
        await pages.form(request)
        pages.visitors.sign_out(request.cookies.get(COOKIE))
        answer = pages.go("/console/sign-in")
        answer.delete_cookie(COOKIE, path="/console")
        return answer

    return routes


def elsewhere(pages: Pages) -> APIRouter:
    """The route for paths below `/console/` that no page has."""
    routes = APIRouter(route_class=PageRoute)

    @routes.get("/console/{rest:path}")
    async def nowhere(request: Request, rest: str) -> Response:
        await pages.visitor(request)
        raise HTTPException(404, "no such page")

    return routes


def _must_be_here(request: Request) -> None:
    """Whoever comes first becomes the administrator, so the first one has to sit at this machine.

    And asks for it by address: a name from elsewhere that is made to lead here would let that site's page do it.
    """
    host = request.client.host if request.client else ""
    if not (_is_loopback(host) and _names_loopback(request.headers.get("host", ""))):
        raise HTTPException(
            403,
            "the administrator is made from the gateway's own machine: open this page there, at localhost or 127.0.0.1",
        )


def _names_loopback(asked: str) -> bool:
    """Whether a `Host` is `localhost`, or a loopback address, with a port or without."""
    try:
        name = urlsplit(f"//{asked}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
