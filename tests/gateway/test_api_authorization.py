"""Every route of the HTTP application × every kind of caller × own, foreign and unknown targets.

The routes are the application's own; what to expect of each is the table in `support/api_access.py`. The rules are in
docs/reference/http-api.md: 401 without a token that holds, 403 for what a token may never do whatever is named, and for
what belongs to another tenant exactly the answer for what does not exist.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from api_access import API, COMMAND, FOREIGN, OWN, PAGES, UNKNOWN, Entry, Who
from asgi_caller import Answer, call, routes_of

from gateway.api_settings import ApiSettings
from gateway.commands.orders import OrderBody, order_of
from gateway.console.visitors import COOKIE, Visitors
from gateway.credentials import Credentials
from gateway.gateway import Gateway
from gateway.lab.api import router as lab_router
from meshwire.identity import DeviceId, LoginKind, Principal, Role, TenantId
from meshwire.site import Site
from meshwire.tokens import SigningKeys

ACME, OTHER, PLATFORM = TenantId("acme"), TenantId("other"), TenantId("ssni")
COMMANDS = {Role.COMMAND_CLIENT.value, Role.ADMIN.value}
"""Roles of `gateway.proxy.write_roles`."""
TABLE = API | PAGES
ROOMY = ApiSettings(requests_per_s=0, address_requests_per_s=0, login_failures=1_000_000)
PASSWORD = "correct horse"
URLENCODED = "application/x-www-form-urlencoded"


class NoBoards:
    """Stands in for the demo's boards: whom its routes let in is asked, not what they do."""

    def seated(self) -> list[Any]:
        return []

    async def replace(self, *_: Any) -> Any:
        raise LookupError("no such NIC")


@dataclass(frozen=True)
class Caller:
    """Somebody with a token; `refusal` is the status that every route but the open ones answers."""

    name: str
    token: str
    tenant: TenantId = ACME
    roles: frozenset[str] = frozenset()
    is_admin: bool = False
    refusal: int | None = None


class World:
    """The application, and what the table's targets are."""

    def __init__(self, gateway: Gateway, site: Site) -> None:
        self.gateway, self.app = gateway, gateway.http_app
        self.keys = site.signing_keys()
        self.groups: dict[str, str] = {}

    async def restore(self) -> None:
        """Put back what a request may have taken away."""
        registry, desk = self.gateway.registry, self.gateway._commands.desk  # type: ignore[union-attr]
        for mac, tenant in ((OWN, ACME), (FOREIGN, OTHER)):
            registry.add_device(DeviceId(mac), tenant)
        order = OrderBody(method="GET", path="x", mode="stored", ttl=3600)
        for mac, tenant in ((OWN, ACME), (FOREIGN, OTHER)):
            party = Principal("t", tenant, frozenset(COMMANDS), LoginKind.TOKEN)
            # What was cancelled keeps its id for a week: it is forgotten, so that another can have it.
            await desk._store.prune(time.time() + 1)
            await desk.submit(order_of(order.model_copy(update={"id": COMMAND})), DeviceId(mac), party, "http")
            group = await desk.submit_group(order_of(order), [DeviceId(mac)], "test", party, "http")
            self.groups[mac] = group.id

    def target(self, entry: Entry, mac: str) -> str:
        match entry.names:
            case "group":
                return self.groups.get(mac, "0" * 16)
            case "tenant":
                return {OWN: ACME.value, FOREIGN: OTHER.value}.get(mac, "nobody")
        return mac

    async def ask(self, route: str, entry: Entry, mac: str, headers: dict[str, str], **fields: str) -> Answer:
        method, path = route.split(" ", 1)
        target = self.target(entry, mac)
        for name, value in entry.at.items():
            path = path.replace(f"{{{name}}}", value.replace("{target}", target))
        assert "{" not in path, f"{route}: the table leaves a part of the path open"
        if entry.query:
            path += "?" + entry.query.replace("{target}", target)
        body: Any = b"" if entry.body is None else _put(entry.body, target)
        if entry.form is not None:
            filled = {**_put(dict(entry.form), target), **fields}
            kind, body = _parts(filled, entry.upload) if entry.upload else (URLENCODED, urlencode(filled))
            headers = {"content-type": kind, **headers}
        return await call(self.app, method, path, body, headers)


def _parts(fields: dict[str, str], upload: str) -> tuple[str, str]:
    """Content type and body of a form with a file."""
    heads = {f'name="{name}"': value for name, value in fields.items()}
    heads[f'name="{upload}"; filename="x"'] = "octets"
    parts = [f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n" for head, value in heads.items()]
    return "multipart/form-data; boundary=b", "".join(parts) + "--b--\r\n"


def _put(value: Any, target: str) -> Any:
    if isinstance(value, dict):
        return {name: _put(each, target) for name, each in value.items()}
    if isinstance(value, list):
        return [_put(each, target) for each in value]
    return value.replace("{target}", target) if isinstance(value, str) else value


def same(answer: Answer, target: str, other: Answer, other_target: str) -> bool:
    """Whether two answers are octet for octet the same but for what the caller had named himself."""
    octets = answer.octets.replace(target.encode(), other_target.encode())
    ours = {name: value for name, value in answer.headers.items() if name != "etag"}
    theirs = {name: value for name, value in other.headers.items() if name != "etag"}
    return (answer.status, octets, ours) == (other.status, other.octets, theirs)


@pytest.fixture
def site() -> Iterator[Site]:
    """In memory where there is such a place: thousands of requests that change something wait for no disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Site(Path(folder))


@pytest.fixture
async def world(site: Site, settings_for: Any, running: Any) -> AsyncIterator[World]:
    gateway = Gateway(
        settings_for(http="127.0.0.1:0", api=ROOMY),
        site,
        more_routes=lambda: [lab_router(NoBoards())],  # type: ignore[arg-type]
    )
    async with running(gateway):
        world = World(gateway, site)
        await world.restore()
        yield world


def callers(world: World, platform_roles: list[Role]) -> Iterator[Caller]:
    """Nobody, those whose token does not hold, and every role of a tenant and of the platform."""
    registry, keys, now = world.gateway.registry, world.keys, time.time()
    admin = {"scope": "api admin"}
    yield Caller("no token", "", refusal=401)
    yield Caller("rubbish", "Bearer rubbish", refusal=401)
    yield Caller("an expired token", keys.issue(PLATFORM, (), now=now - 7200, **admin), refusal=401)
    yield Caller("a token of the future", keys.issue(PLATFORM, (), now=now + 7200, **admin), refusal=401)
    yield Caller("another site's key", SigningKeys.generate().issue(PLATFORM, (), now=now, **admin), refusal=401)
    gone = registry.add_client(ACME, list(COMMANDS), scope="api admin")
    registry.remove_account(gone.id, "client")
    yield Caller("a client that was removed", keys.issue(ACME, (), now=now, client=gone.id, **admin), refusal=401)
    moved = registry.add_client(OTHER, [], scope="api admin")
    yield Caller("a client of another tenant", keys.issue(ACME, (), now=now, client=moved.id, **admin), refusal=401)
    closed = registry.add_client(ACME, [], scope="closed")
    yield Caller("a client without scopes", keys.issue(ACME, COMMANDS, now=now, client=closed.id, **admin), refusal=403)
    yield Caller("not for this API", keys.issue(ACME, COMMANDS, now=now, scope="mqtt"), refusal=403)
    lowered = registry.add_client(ACME, [], scope="api")
    yield Caller("a client that was lowered", keys.issue(ACME, COMMANDS, now=now, client=lowered.id, **admin))
    for tenant, its_roles in ((ACME, list(Role)), (PLATFORM, platform_roles)):
        yield Caller(f"{tenant}, no role", keys.issue(tenant, (), now=now), tenant)
        for role in its_roles:
            roles = frozenset({role.value})
            yield Caller(f"{tenant}, {role}", keys.issue(tenant, roles, now=now), tenant, roles)
        yield Caller(f"{tenant}, scope admin", keys.issue(tenant, (), now=now, **admin), tenant, is_admin=True)


def test_the_table_has_an_entry_for_every_route_and_no_other(world: World) -> None:
    assert routes_of(world.app) == set(TABLE), "say in support/api_access.py who may use it"


@pytest.mark.parametrize(
    "platform_roles",
    [
        pytest.param([Role.COMMAND_CLIENT, Role.GATEWAY, Role.ADMIN], id="some-platform-roles"),
        pytest.param(list(Role), id="every-platform-role", marks=pytest.mark.slow),
    ],
)
async def test_every_route_for_every_caller(world: World, platform_roles: list[Role]) -> None:
    wrong: list[str] = []
    asked = 0
    for caller in list(callers(world, platform_roles)):
        headers = {"authorization": caller.token} if caller.token else {}
        for route, entry in API.items():
            async for what, held in expectations(world, caller, route, entry, headers):
                asked += 1
                if not held:
                    wrong.append(f"{caller.name}: {route}: {what}")
    print(f"{asked} answers to {len(API)} routes")
    assert not wrong, f"{len(wrong)} of {asked}:\n" + "\n".join(wrong[:40])
    assert asked > 40 * len(API)


async def expectations(
    world: World, caller: Caller, route: str, entry: Entry, headers: dict[str, str]
) -> AsyncIterator[tuple[str, bool]]:
    """What is asked, and whether the answer was as it has to be."""
    answer = await world.ask(route, entry, OWN, headers)
    status = answer.status
    if entry.who is Who.OPEN:
        yield f"open, {status}", status in entry.ok
        return
    if caller.refusal is not None:
        is_problem = answer.headers.get("content-type") == "application/problem+json"
        challenge = answer.headers.get("www-authenticate")
        yield f"refused, {status}", status == caller.refusal and is_problem
        yield f"challenge {challenge}", (challenge == "Bearer") is (status == 401)
        return
    if entry.who is Who.ADMIN:
        is_in = status not in (401, 403) and status < 500
        yield f"admin, {status}", is_in if caller.is_admin else status == 403
        return
    may = entry.who is Who.TENANT or caller.is_admin or not COMMANDS.isdisjoint(caller.roles)
    foreign, unknown = (FOREIGN, UNKNOWN) if caller.tenant == ACME else (OWN, UNKNOWN)
    if not may:
        yield f"role may not, {status}", status == 403
        answers = [await world.ask(route, entry, mac, headers) for mac in (foreign, unknown)]
        targets = [world.target(entry, mac) for mac in (foreign, unknown)]
        yield "foreign and unknown alike", same(answers[0], targets[0], answers[1], targets[1])
        return
    has_target = "{target}" in f"{entry.at} {entry.query} {entry.body}"
    if caller.tenant == ACME or caller.is_admin or not has_target:
        yield f"own, {status}", status in ((*entry.ok, 409) if caller.is_admin else entry.ok)
        if entry.lists and not caller.is_admin:
            yield "names nothing foreign", not any(each in answer.text for each in (FOREIGN, '"other"'))
    if entry.spoils:
        await world.restore()
    if not has_target or not entry.alike:
        return
    answer = await world.ask(route, entry, foreign, headers)
    if caller.is_admin:
        yield f"administrator's, {answer.status}", answer.status in (*entry.ok, 409)
    else:
        other = await world.ask(route, entry, unknown, headers)
        yield f"foreign, {answer.status}", answer.status == entry.alike
        targets = world.target(entry, foreign), world.target(entry, unknown)
        yield "foreign and unknown alike", same(answer, targets[0], other, targets[1])
    if entry.spoils:
        await world.restore()


# --- pages: browser sessions ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Browser:
    """A browser with a cookie; `form_token` is that of its session."""

    name: str
    cookie: str
    form_token: str = ""
    is_in: bool = True
    is_admin: bool = False

    @property
    def headers(self) -> dict[str, str]:
        return {"cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {}


async def browsers(world: World) -> list[Browser]:
    """Nobody, those whose session has ended, a tenant's user, an administrator."""
    registry = world.gateway.registry
    accounts = Visitors(registry, Credentials(registry))
    await accounts.add_administrator("ada", PASSWORD)
    for name in ("tina", "gone", "left"):
        await accounts.add_tenant_user(name, PASSWORD, ACME)
    ada, tina, gone, left = [await sign_in(world, name) for name in ("ada", "tina", "gone", "left")]
    registry.remove_account("gone", "console")
    await call(
        world.app,
        "POST",
        "/console/sign-out",
        urlencode({"form_token": left.form_token}),
        {"content-type": URLENCODED, **left.headers},
    )
    return [
        Browser("nobody", "", is_in=False),
        Browser("a rubbish cookie", "x" * 43, is_in=False),
        Browser("an account that was removed", gone.cookie, gone.form_token, is_in=False),
        Browser("a session that was left", left.cookie, left.form_token, is_in=False),
        tina,
        Browser("ada", ada.cookie, ada.form_token, is_admin=True),
    ]


async def sign_in(world: World, name: str) -> Browser:
    form = urlencode({"name": name, "password": PASSWORD, "next": ""})
    answer = await call(world.app, "POST", "/console/sign-in", form, {"content-type": URLENCODED})
    cookie = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
    page = await call(world.app, "GET", "/console/network", b"", {"cookie": f"{COOKIE}={cookie}"})
    return Browser(name, cookie, page.text.partition('name="form_token" value="')[2].partition('"')[0])


async def test_every_page_for_every_visitor(world: World) -> None:
    wrong: list[str] = []
    asked = 0
    for browser in await browsers(world):
        # The one that ends the session comes last.
        for route, entry in sorted(PAGES.items(), key=lambda item: "sign-out" in item[0]):
            async for what, held in page_expectations(world, browser, route, entry):
                asked += 1
                if not held:
                    wrong.append(f"{browser.name}: {route}: {what}")
    assert not wrong, f"{len(wrong)} of {asked}:\n" + "\n".join(wrong[:40])
    assert asked > 5 * len(PAGES)


async def page_expectations(
    world: World, browser: Browser, route: str, entry: Entry
) -> AsyncIterator[tuple[str, bool]]:
    """What is asked, and whether the answer was as it has to be."""
    if entry.who is Who.PAGE_OPEN:
        answer = await world.ask(route, entry, OWN, browser.headers)
        yield f"open, {answer.status}", answer.status in entry.ok
        return
    sees = browser.is_in and (browser.is_admin or entry.who is Who.PAGE)
    if entry.form is not None:
        for name, token, origin in [
            ("without its token", "", {}),
            ("with another's token", "x" * 22, {}),
            ("from another site", browser.form_token, {"origin": "https://elsewhere.example"}),
            ("from a frame elsewhere", browser.form_token, {"origin": "null", "sec-fetch-site": "cross-site"}),
        ]:
            answer = await world.ask(route, entry, OWN, browser.headers | origin, form_token=token)
            refusal = 403 if sees else 404 if browser.is_in else 303
            yield f"a form {name}, {answer.status}", answer.status == refusal
    answer = await world.ask(route, entry, OWN, browser.headers, form_token=browser.form_token)
    if not browser.is_in:
        at_the_door = answer.headers.get("location", "").startswith("/console/sign-in")
        yield f"nobody, {answer.status}", answer.status == 303 and at_the_door and not answer.octets
        return
    if not sees:
        yield f"an administrator's page, {answer.status}", answer.status == 404 and "No such page" in answer.text
        return
    if entry.who is Who.PAGE_ADMIN:
        yield f"administrator, {answer.status}", answer.status < 500 and answer.status not in (401, 403)
        return
    yield f"own, {answer.status}", answer.status in entry.ok
    if browser.is_admin:
        return
    if entry.lists:
        yield "names nothing foreign", FOREIGN not in answer.text
    if "{target}" in f"{entry.at} {entry.query} {entry.form}":
        foreign, unknown = [
            await world.ask(route, entry, mac, browser.headers, form_token=browser.form_token)
            for mac in (FOREIGN, UNKNOWN)
        ]
        yield f"foreign, {foreign.status}", foreign.status == entry.alike
        targets = world.target(entry, FOREIGN), world.target(entry, UNKNOWN)
        yield "foreign and unknown alike", same(foreign, targets[0], unknown, targets[1])
    if entry.spoils:
        await world.restore()
