"""What holds for every route: bounds, bodies, media types, headers, problem documents, conditional requests."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from asgi_caller import Answer, call
from patience import PATIENCE_S

from gateway.api import Callers, create_app
from gateway.api.limits import MAX_CALLERS, Buckets, Limits, network_of
from gateway.api.methods import has_head
from gateway.api_settings import ApiSettings
from gateway.credentials import Credentials
from gateway.messaging.api import router as messaging_router
from gateway.messaging.service import MessagingService
from gateway.registry import Registry
from gateway.statistics import Event, Statistics
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")
ACME = TenantId("acme")
PROBLEM = "application/problem+json"


class Api:
    def __init__(self, folder: Path, **bounds: Any) -> None:
        self.now_s = 1000.0
        self.status: dict[str, Any] = {"bridge": {"enabled": False, "connected": False}}
        self.registry = Registry(None)
        self.registry.add_device(MAC, ACME)
        site = Site(folder)
        self.keys = site.signing_keys()
        self.statistics = Statistics()
        self.app = create_app(
            self.registry,
            self.keys,
            Credentials(self.registry),
            lambda: self.status,
            more=(messaging_router(MessagingService(self.registry, site)),),
            callers=Callers(
                self.keys.public(),
                self.registry,
                Limits(ApiSettings(**bounds), self.statistics, lambda: self.now_s),
            ),
        )

    async def call(
        self,
        method: str,
        path: str,
        body: object = b"",
        *,
        scope: str = "api admin",
        client: str = "10.0.0.1",
        **fields: str,
    ) -> Answer:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        token = self.keys.issue(ACME, (), now=time.time(), scope=scope)
        return await call(self.app, method, path, body, {"authorization": token} | headers, client=client)

    def refused(self, bound: str) -> int:
        return self.statistics.total(Event.HTTP_REFUSED, bound)


class Rewritten:
    """An application whose requests come with other parts of their scope."""

    def __init__(self, app: Any, parts: dict[str, Any]) -> None:
        self._app, self._parts = app, parts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, **self._parts}, receive, send)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets = Buckets(2.0, 3)
    assert [buckets.take("a", 10.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("a", 10.0) == 0.5 and buckets.take("b", 10.0) == 0.0
    assert buckets.take("a", 10.5) == 0.0 and buckets.take("a", 10.5) == 0.5
    assert [buckets.take("a", 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5], "no more than the burst gathers"
    assert Buckets(0.0, 1).take("a", 0.0) == Buckets(0.0, 1).take("a", 0.0) == 0.0, "0: no bound"
    for number in range(MAX_CALLERS + 10):
        buckets.take(str(number), 0.0)
    assert len(buckets) == MAX_CALLERS


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_of_ipv6_a_whole_64_counts_as_one_address(host: str, expected: str) -> None:
    assert network_of(host) == expected


async def test_too_many_requests_from_an_address_wait(tmp_path: Path) -> None:
    api = Api(tmp_path, address_requests_per_s=1, address_burst=3)
    assert [(await api.call("GET", "/healthz/live")).status for _ in range(4)] == [200, 200, 200, 429]
    answer = await api.call("GET", "/api/devices")
    assert (answer.status, answer.headers["retry-after"], answer.headers["content-type"]) == (429, "1", PROBLEM)
    assert (await api.call("GET", "/healthz/live", client="10.0.0.2")).status == 200
    api.now_s += 1
    assert (await api.call("GET", "/healthz/live")).status == 200
    assert api.refused("address") == 2


async def test_too_many_requests_of_an_account_wait_wherever_they_come_from(tmp_path: Path) -> None:
    api = Api(tmp_path, requests_per_s=0.5, burst=2)
    clients = [f"10.0.0.{number}" for number in range(3)]
    assert [(await api.call("GET", "/api/devices", client=each)).status for each in clients] == [200, 200, 429]
    assert (await api.call("GET", "/api/devices")).headers["retry-after"] == "2"
    assert (await api.call("GET", "/healthz/live")).status == 200
    api.now_s += 2
    assert (await api.call("GET", "/api/devices")).status == 200
    assert api.refused("account") == 2


async def test_guessing_a_secret_is_slow_and_locks_nobody_out(tmp_path: Path) -> None:
    api = Api(tmp_path, login_failures=2, login_pause_s=10)
    issued = api.registry.add_client(ACME, [Role.COMMAND_CLIENT])
    right = {"clientId": issued.id, "clientSecret": issued.secret}
    wrong = right | {"clientSecret": "x"}

    async def log_in(body: object, client: str) -> int:
        return (await api.call("POST", "/api/tokens", body, client=client)).status

    assert await log_in(right, "10.0.0.9") == 200
    assert [await log_in(wrong, "10.0.0.1") for _ in range(3)] == [401, 401, 429]
    answer = await api.call("POST", "/api/tokens", right)
    assert answer.status == 429 and answer.headers["retry-after"] == "10", "the right one is not looked at, either"
    elsewhere = [await log_in(wrong, f"10.0.1.{number}") for number in range(6)]
    assert elsewhere == [401] * 4 + [429] * 2, "of one name, from anywhere"
    assert await log_in(right, "10.0.0.9") == 200, "where the name is at home"
    api.now_s += 10
    assert await log_in(wrong, "10.0.0.1") == 401
    assert await log_in(wrong, "10.0.0.1") == 429
    assert api.refused("login") == 5


async def test_guessing_a_token_is_slow(tmp_path: Path) -> None:
    api = Api(tmp_path, login_failures=2)
    answers = [await api.call("GET", "/api/devices", authorization=f"x{number}") for number in range(3)]
    assert [answer.status for answer in answers] == [401, 401, 429]
    assert (await api.call("GET", "/api/devices", authorization="")).status == 401, "none is no guess"
    assert (await api.call("GET", "/api/devices")).status == 200, "one that holds is held up by nobody"
    client = api.registry.add_client(ACME, ())
    login = {"clientId": client.id, "clientSecret": client.secret}
    assert (await api.call("POST", "/api/tokens", login)).status == 200, "who has an old one may ask for a new one"


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_a_long_body_is_refused_whether_its_length_is_told_or_not(tmp_path: Path) -> None:
    api = Api(tmp_path, max_body_octets=1024)
    body = json.dumps({"id": "x" * 2000})
    for fields in ({}, {"content_length": "", "transfer_encoding": "chunked"}):
        answer = await api.call("POST", "/api/tenants", body, **fields)
        assert (answer.status, answer.headers["content-type"]) == (413, PROBLEM)
    rows = json.dumps([{"mac": f"{number:016x}"} for number in range(100)])
    assert len(rows) > 1024 and (await api.call("POST", "/api/devices/import", rows)).status == 200
    assert api.refused("body") == 2


async def test_a_long_body_of_an_update_is_refused_too(tmp_path: Path) -> None:
    api = Api(tmp_path, max_body_octets=1024)
    answer = await api.call("PATCH", f"/api/devices/{MAC}", b"x" * 2000, content_length="", transfer_encoding="chunked")
    assert (answer.status, answer.headers["content-type"], api.refused("body")) == (413, PROBLEM, 1)


async def test_json_is_asked_for_by_media_type_but_of_the_vendor_s_clients(api: Api) -> None:
    for media_type, status in [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ("application/merge-patch+json", 201),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("nonsense", 415),
    ]:
        answer = await api.call("POST", "/api/devices", {"mac": MAC.value}, content_type=media_type)
        assert answer.status == status, media_type
    assert (answer.headers["accept"], answer.headers["content-type"]) == ("application/json", PROBLEM)
    observations = {"observations": [{"temperature": "72.50"}]}
    for media_type in ("application/x-www-form-urlencoded", "text/plain", "application/json", ""):
        path = f"/api/solutions/sandbox/devices/{MAC}/observations"
        assert (await api.call("POST", path, observations, content_type=media_type)).status == 201, media_type


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe{}", b'{"id": "\xff"}', b"[" * 100_000, b'{"id": "\\ud800"}', b"NaN"])
async def test_no_body_makes_a_route_fail_inside(api: Api, body: bytes) -> None:
    for method, path in (("POST", "/api/tenants"), ("POST", "/api/tokens"), ("PATCH", f"/api/devices/{MAC}")):
        answer = await api.call(method, path, body)
        assert answer.status in (200, 400, 401, 422), "200: a member that nobody knows"


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_errors_are_problem_documents_with_the_headers_of_every_answer(api: Api) -> None:
    for method, path, status in [
        ("GET", "/nowhere", 404),
        ("GET", "/api/nowhere", 404),
        ("PUT", "/api/devices", 405),
        ("GET", f"/api/devices/{MAC}", 200),
        ("POST", "/api/tenants", 422),
    ]:
        answer = await api.call(method, path)
        assert answer.status == status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        if status != 200:
            assert answer.headers["content-type"] == PROBLEM and answer.json["status"] == status
    assert "there is no such path: /nowhere;" in (await api.call("GET", "/nowhere")).json["detail"]
    refused = await api.call("PUT", "/api/devices")
    assert refused.headers["allow"] == "GET, HEAD, OPTIONS, POST" and "PUT is not possible" in refused.json["detail"]
    assert (await api.call("GET", "/api/devices")).headers["cache-control"] == "private, no-cache"
    assert (await api.call("POST", "/api/tokens", {})).headers["cache-control"] == "no-store"
    assert api.statistics.total(Event.HTTP, "404") == 3


async def test_head_is_get_without_the_body_and_options_says_what_there_is(api: Api) -> None:
    for path in ("/api/devices", f"/api/devices/{MAC}", "/healthz/live", "/api/openapi.json"):
        get, head = await api.call("GET", path), await api.call("HEAD", path)
        assert (head.status, head.headers) == (200, get.headers), path
        assert (await api.call("HEAD", path, authorization="")).status in (200, 401)
    for path in ("/api/nowhere", f"/api/devices/{'0' * 16}"):
        assert (await api.call("HEAD", path)).status == 404
    options = await api.call("OPTIONS", f"/api/devices/{MAC}", authorization="", origin="https://elsewhere.example")
    assert (options.status, options.octets) == (204, b"")
    assert options.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
    assert not [name for name in options.headers if name.startswith("access-control")]
    assert (await api.call("OPTIONS", "/nowhere")).status == 404


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/messages", False),
        ("/api/messages/events", False),
        ("/api/consumers/1/messages", False),
        ("/api/events", False),
        ("/api/solutions/s/devices/1/commands/2/events", False),
        ("/console/live", False),
        ("/console/network/1/observe", False),
        ("/console/network", True),
        ("/api/solutions/s/commands", True),
        ("/metrics", True),
    ],
)
def test_head_is_not_where_get_takes_or_lasts(path: str, expected: bool) -> None:
    assert has_head(path) is expected


async def test_a_request_as_proxies_get_it_is_one_to_its_authority(api: Api) -> None:
    path = "/api/tenants?limit=1"
    url = {"path": "http://there:8080/api/tenants", "raw_path": b"http://there:8080/api/tenants"}
    headers = {"authorization": api.keys.issue(ACME, (), now=time.time(), scope="api admin"), "host": "else:1"}
    api.registry.add_tenant(TenantId("b"))
    answer = await call(Rewritten(api.app, url), "GET", path, b"", headers)
    assert (answer.status, len(answer.json["tenants"])) == (200, 1)
    assert answer.headers["next_page"].startswith("http://there:8080/api/tenants?")
    root = {"path": "http://there", "raw_path": b"http://there"}
    assert "path: /;" in (await call(Rewritten(api.app, root), "GET", path)).json["detail"]


async def test_a_body_whose_length_is_told_in_two_ways_or_that_is_packed_is_refused(api: Api) -> None:
    answer = await api.call("POST", "/api/tenants", {"id": "b"}, transfer_encoding="chunked")
    assert (answer.status, answer.headers["connection"], answer.headers["content-type"]) == (400, "close", PROBLEM)
    answer = await api.call("POST", "/api/tenants", {"id": "b"}, content_encoding="gzip")
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")
    assert (await api.call("POST", "/api/tenants", {"id": "b"}, content_encoding="identity")).status == 201


async def test_answers_are_counted_and_none_goes_to_other_sites(api: Api) -> None:
    answer = await api.call("GET", "/api/devices", origin="https://elsewhere.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await api.call("GET", "/api/devices", authorization="", cookie="meshwire_console=x")).status == 401


@pytest.mark.parametrize(
    ("bridge", "octets", "workers", "expected"),
    [
        ((True, True), 10, [], ("ready", True, True)),
        ((False, False), 10, [], ("ready", True, True)),
        ((True, False), 10, [], ("waiting for the broker", False, True)),
        ((True, True), 100, [], ("the outbox is full", True, False)),
        ((True, True), 100, [100], ("the outbox is full", True, False)),
        ((True, True), 100, [50], ("ready", True, True)),
        ((True, True), None, [], ("the outbox can't be written", True, False)),
        ((True, False), None, [], ("waiting for the broker; the outbox can't be written", False, False)),
    ],
)
async def test_ready_is_who_brings_notifications_through(
    tmp_path: Path, bridge: tuple[bool, bool], octets: int | None, workers: list[int], expected: tuple[str, bool, bool]
) -> None:
    """Of outboxes of 100 octets each; None: in use is nothing, and the disk is full."""
    api = Api(tmp_path)
    api.status = {
        "bridge": {"enabled": bridge[0], "connected": bridge[1]},
        "outbox": {
            "octets": octets or 0,
            "maxOctets": 100 * (1 + len(workers)),
            "writable": octets is not None,
        },
        "workers": [{"octets": each} for each in workers],
    }
    answer = await api.call("GET", "/healthz/ready")
    assert answer.status == (200 if expected[0] == "ready" else 503)
    assert tuple(answer.json[name] for name in ("status", "broker", "outbox")) == expected


# --- conditional requests ---------------------------------------------------------------------------------------------


async def test_what_the_reader_has_already_is_not_sent_again(api: Api) -> None:
    for path in (f"/api/devices/{MAC}", "/api/devices", "/api/tenants/acme", "/api/openapi.json"):
        answer = await api.call("GET", path)
        tag = answer.headers["etag"]
        for condition in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await api.call("GET", path, if_none_match=condition)
            assert (again.status, again.octets, again.headers["etag"]) == (304, b"", tag), (path, condition)
            assert "content-type" not in again.headers and "content-length" not in again.headers
        assert (await api.call("GET", path, if_none_match='"x"')).status == 200


async def test_an_update_of_what_has_changed_meanwhile_is_refused(api: Api) -> None:
    path = f"/api/devices/{MAC}"
    tag = (await api.call("GET", path)).headers["etag"]
    changed = await api.call("PATCH", path, {"tags": ["a"]}, if_match=tag)
    assert changed.status == 200
    assert changed.headers["etag"] == (await api.call("GET", path)).headers["etag"] != tag
    for method, where, body in [
        ("PATCH", path, {}),
        ("DELETE", path, b""),
        ("POST", f"{path}/move", {"tenant": "acme"}),
    ]:
        answer = await api.call(method, where, body, if_match=tag)
        assert (answer.status, answer.headers["content-type"]) == (412, PROBLEM)
        assert answer.headers["etag"] == changed.headers["etag"]
    assert (await api.call("PATCH", path, {"tags": ["b"]}, if_match=f'"x", {changed.headers["etag"]}')).status == 200
    assert (await api.call("PATCH", path, {"tags": ["c"]}, if_match="*")).status == 200
    assert (await api.call("PATCH", path, {"tags": ["d"]})).status == 200, "without a condition the last one wins"
    assert (await api.call("DELETE", path, if_match="*")).status == 204
    assert (await api.call("DELETE", path, if_match="*")).status == 412, "there is nothing to match"
    assert (await api.call("DELETE", path)).status == 404


async def test_nobody_waits_for_a_body_that_does_not_come(api: Api) -> None:
    """Not even those who have a token, for somebody who has none."""
    path, waits = f"/api/devices/{MAC}", asyncio.Event()

    async def receive() -> dict[str, Any]:
        waits.set()
        return await asyncio.Future()

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    scope = {"type": "http", "method": "PATCH", "path": path, "query_string": b"", "headers": headers}
    slow = asyncio.ensure_future(api.app(scope, receive, send))
    await waits.wait()
    async with asyncio.timeout(PATIENCE_S):
        assert (await api.call("PATCH", path, {"tags": ["a"]})).status == 200
    slow.cancel()


async def test_live_figures_do_not_stop_an_update(api: Api) -> None:
    from gateway.addresses import Address

    path = f"/api/devices/{MAC}"
    tag = (await api.call("GET", path)).headers["etag"]
    api.registry.seen(MAC, Address("fd00::5", 4849), 123.0)
    assert (await api.call("GET", path, if_none_match=tag)).status == 200, "there is news for a reader"
    assert (await api.call("PATCH", path, {"tags": ["a"]}, if_match=tag)).status == 200


async def test_a_condition_tells_nobody_what_belongs_to_others(api: Api) -> None:
    other = DeviceId("001350050047dd92")
    api.registry.add_device(other, TenantId("other"))
    tag = (await api.call("GET", f"/api/devices/{other}")).headers["etag"]
    answers = [
        await api.call("PATCH", f"/api/devices/{mac}", {}, scope="api", if_match=tag) for mac in (other, "0" * 16)
    ]
    assert answers[0] == answers[1] and answers[0].status == 412
    assert (await api.call("DELETE", "/api/tenants/acme", scope="api", if_match="*")).status == 403


async def test_every_resource_that_can_be_updated_has_a_tag_that_its_updates_look_at(api: Api) -> None:
    """By the application's own document: whatever has PUT, PATCH or DELETE on a path can be read there, or above it."""
    paths = (await api.call("GET", "/api/openapi.json")).json["paths"]
    for path, methods in paths.items():
        above = path.rsplit("/", 1)[0]
        if methods.keys() & {"put", "patch", "delete"} and path.endswith("}"):
            assert "get" in methods or path == "/api/solutions/{solution}/devices/{id}", path
        elif methods.keys() & {"put", "patch", "delete"}:
            assert "get" in paths[above], path


async def test_tags_of_accounts_and_what_is_set_below_them(api: Api) -> None:
    account = "/api/accounts/acme"
    tag = (await api.call("GET", account)).headers["etag"]
    assert (await api.call("PUT", f"{account}/connection-settings", {"options": None}, if_match='"x"')).status == 412
    answer = await api.call("PUT", f"{account}/connection-settings", {"options": []}, if_match=tag)
    assert answer.status in (200, 409)
    assert (await api.call("PUT", f"{account}/assignment", {"instance": "x"}, if_match="*")).status in (404, 409)
