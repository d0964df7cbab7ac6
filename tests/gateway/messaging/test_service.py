"""The messaging service on its database: the document that brokers read, instances that announce themselves, and what
is in use; and its HTTP API.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.api import create_app
from gateway.credentials import Credentials
from gateway.messaging import announcements
from gateway.messaging.api import router
from gateway.messaging.endpoint_check import check_endpoint
from gateway.messaging.errors import InUseError, MessagingError, UnknownError
from gateway.messaging.publication import accounts_path
from gateway.messaging.rules import Endpoint, Instance, Option, Scheme
from gateway.messaging.service import MessagingService
from gateway.registry import Registry
from gateway.registry.audit import AuditLog
from gateway.tools.local_api import _ask
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

PLAIN, TLS, MUTUAL = Option.PLAIN, Option.TLS, Option.MUTUAL


class Bench:
    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.registry = Registry(None)
        self.service = MessagingService(self.registry, self.site)

    def announce(self, name: str, *options: str, node: str = "one", age_s: float = 0.0, **accounts: int) -> Path:
        """What a broker writes when it has started."""
        path = self.site.path("messaging", "instances", f"{name}@{node}.json")
        now_s = time.time()
        said = {"instance": name, "node": node, "engine": "embedded", "at": now_s - age_s, "started": now_s - 100}
        listener = {"kind": "mqtt", "host": "127.0.0.1", "port": 1883}
        path.write_text(
            json.dumps({**said, "options": options or ["plain"], "listeners": [listener], "accounts": accounts})
        )
        return path

    def told(self) -> dict[str, tuple[str | None, list[str]]]:
        """What brokers read."""
        document = json.loads(accounts_path(self.site).read_text())
        return {id: (account["instance"], account["options"]) for id, account in document["accounts"].items()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_started_instance_appears_by_itself_and_stays_when_it_stops(bench: Bench) -> None:
    assert bench.service.instance_states() == []
    path = bench.announce("main", "plain", "tls")
    bench.announce("main", "plain", node="two")
    (state,) = bench.service.instance_states()
    assert (state.instance.name, state.state, state.announced) == ("main", "running", True)
    assert [node.node for node in state.nodes] == ["one", "two"]
    assert state.instance.options == {PLAIN, TLS} and state.instance.has_tls and not state.instance.has_mutual
    path.unlink()
    bench.announce("main", "plain", node="two", age_s=announcements.STALE_S + 1)
    (state,) = bench.service.instance_states()
    assert (state.state, state.nodes) == ("stopped", ())
    bench.site.path("messaging", "instances", "spoilt.json").write_text("{")
    assert len(bench.service.instance_states()) == 1


def test_what_an_instance_tells_of_itself_is_followed(bench: Bench) -> None:
    bench.announce("main", "plain", "tls")
    bench.service.keep()
    bench.service.set_instance("main", options=frozenset({TLS}), title="Main")
    with pytest.raises(MessagingError, match="announces itself"):
        bench.service.set_instance("main", has_tls=False)
    bench.service.keep()
    assert bench.service.picture().instance("main").options == {TLS}, "an administrator's choice stays"
    bench.announce("main", "plain")
    bench.service.keep()
    instance = bench.service.picture().instance("main")
    assert (instance.options, instance.has_tls, instance.title) == ({PLAIN}, False, "Main")


def test_what_listeners_add_is_offered_and_what_an_administrator_took_out_is_not(bench: Bench) -> None:
    def told(*options: str) -> frozenset[Option]:
        bench.announce("main", *options)
        bench.service.keep()
        return bench.service.picture().instance("main").options

    assert told("plain") == {PLAIN}
    assert told("plain", "tls") == {PLAIN, TLS}
    bench.service.set_instance("main", options=frozenset({TLS}))
    assert told("plain", "tls", "mutual") == {TLS, MUTUAL}
    assert told("tls") == {TLS}
    with pytest.raises(MessagingError, match="plain needs a listener without TLS"):
        bench.service.set_instance("main", options=frozenset({PLAIN, TLS}))


def test_a_node_that_was_killed_says_nothing_any_more(bench: Bench) -> None:
    service, dead_s = bench.service, announcements.STALE_S + 1
    bench.announce("main", "plain", "tls", acme=3)
    bench.announce("main", "plain", node="two")
    service.add_account(TenantId("acme"))
    service.keep()
    service.assign("acme", "main")
    endpoint = service.add_endpoint("acme", Scheme.MQTT, "broker.example.net", 1883)
    assert service.uses(endpoint.id) == ["account acme: 3 connected clients"]
    bench.announce("main", "plain", "tls", age_s=dead_s, acme=3)
    assert service.uses(endpoint.id) == []
    service.keep()
    assert service.picture().instance("main").options == {PLAIN}, "what no node has any more"
    bench.announce("main", "plain", node="two", age_s=dead_s)
    service.unassign("acme")
    service.remove_instance("main")
    assert service.instance_states() == [], "it does not come back by the file that it left"


def test_the_life_of_an_assignment_and_what_brokers_hear(bench: Bench) -> None:
    bench.announce("main")
    bench.announce("other", "plain", "tls")
    service = bench.service
    service.add_account(TenantId("acme"), title="Acme")
    service.add_account(TenantId("acme-east"), parent="acme")
    bench.registry.add_device(DeviceId("0000000000000001"), TenantId("riverside"))
    service.keep()
    nobody: tuple[str | None, list[str]] = (None, [])
    assert bench.told() == {"ssni": nobody, "acme": nobody, "acme-east": nobody, "riverside": nobody}
    service.assign("acme", "main", by="ann")
    assert bench.told()["acme"] == bench.told()["acme-east"] == ("main", ["plain"])
    with pytest.raises(MessagingError, match="inherits the assignment of acme"):
        service.assign("acme-east", "other")
    service.assign("acme", "other")
    assert bench.told()["acme-east"] == ("other", ["plain", "tls"])
    service.set_options("acme", frozenset({TLS}))
    assert bench.told()["acme-east"] == ("other", ["tls"])
    with pytest.raises(MessagingError, match="does not offer mutual"):
        service.set_options("acme-east", frozenset({MUTUAL}))
    with pytest.raises(MessagingError, match="settings of acme want tls"):
        service.assign("acme", "main")
    service.unassign("acme")
    assert bench.told()["acme"] == bench.told()["acme-east"] == nobody
    service.assign("riverside", "main")
    assert bench.told()["riverside"] == ("main", ["plain"]), "a tenant is an account on level one"
    log = AuditLog(bench.registry.database)
    assert [entry.action for entry in log.entries(tenant="acme", action="account.")][::-1] == [
        "account.add",
        "account.assign",
        "account.assign",
        "account.options",
        "account.unassign",
    ]
    assert log.entries(action="account.assign")[-1].by == "ann"
    (settings,) = log.entries(action="account.options")
    assert settings.detail == {"former": None, "options": "tls"}
    service.set_instance("main", title="Main", by="ann")
    (renamed,) = log.entries(action="instance.set")
    assert renamed.detail == {
        "engine": "embedded",
        "title": "Main",
        "plain": True,
        "tls": False,
        "mutual": False,
        "options": "plain",
        "former": {"title": ""},
    }


def test_another_process_s_tenants_are_told_by_keep(bench: Bench) -> None:
    bench.service.keep()
    bench.registry.add_tenant(TenantId("new"))
    assert "new" not in bench.told()
    bench.service.keep()
    assert "new" in bench.told()
    stamp = accounts_path(bench.site).stat().st_mtime_ns
    bench.service.keep()
    assert accounts_path(bench.site).stat().st_mtime_ns == stamp, "nothing new, nothing written"


def test_an_instance_that_does_not_announce_itself(bench: Bench) -> None:
    service = bench.service
    with pytest.raises(MessagingError, match="needs TLS"):
        service.add_instance(Instance("rabbit", "rabbitmq", options=frozenset({TLS})))
    service.add_instance(Instance("rabbit", "rabbitmq", has_tls=True, options=frozenset({PLAIN, TLS})))
    with pytest.raises(MessagingError, match="exists"):
        service.add_instance(Instance("rabbit", "rabbitmq"))
    (state,) = service.instance_states()
    assert (state.state, state.announced) == ("unknown", False)
    service.add_account(TenantId("acme"))
    service.assign("acme", "rabbit")
    service.set_options("acme", frozenset({TLS}))
    with pytest.raises(MessagingError, match="settings of acme want tls"):
        service.set_instance("rabbit", options=frozenset({PLAIN}))
    with pytest.raises(MessagingError, match="accounts are assigned to it: acme"):
        service.remove_instance("rabbit")
    service.unassign("acme")
    service.remove_instance("rabbit")
    with pytest.raises(UnknownError):
        service.set_instance("rabbit", title="x")


def test_an_endpoint_in_use_is_changed_only_when_confirmed(bench: Bench) -> None:
    service = bench.service
    service.add_account(TenantId("acme"))
    service.add_account(TenantId("acme-east"), parent="acme")
    endpoint = service.add_endpoint("acme", Scheme.MQTT, "Broker.Example.net", 1883)
    assert endpoint.url == "mqtt://broker.example.net:1883"
    assert service.picture().endpoints_of("acme-east") == [endpoint]
    moved = service.set_endpoint(endpoint.id, port=1884)
    assert moved.port == 1884, "nobody uses it"
    bench.announce("main", **{"acme-east": 2})
    bench.registry.add_device(DeviceId("0000000000000001"), TenantId("acme"))
    bench.registry.add_client(TenantId("acme"), [])
    with pytest.raises(InUseError) as caught:
        service.set_endpoint(endpoint.id, port=1885)
    assert caught.value.uses == ["account acme: 1 device, 1 credential", "account acme-east: 2 connected clients"]
    with pytest.raises(InUseError):
        service.remove_endpoint(endpoint.id)
    with pytest.raises(MessagingError, match="must be secure"):
        service.set_endpoint(endpoint.id, scheme=Scheme.MQTTS, confirmed=True)
    own = service.add_endpoint("acme-east", Scheme.MQTT, "east.example.net", 1883)
    assert service.uses(endpoint.id) == ["account acme: 1 device, 1 credential"]
    assert service.set_endpoint(endpoint.id, scheme=Scheme.MQTTS, secure=True, confirmed=True).secure
    service.remove_endpoint(endpoint.id, confirmed=True)
    assert service.picture().endpoints == (own,)
    with pytest.raises(UnknownError):
        service.remove_endpoint(endpoint.id)


def test_the_root_account_is_assigned_like_any_other(bench: Bench) -> None:
    bench.announce("main")
    bench.service.assign("ssni", "main")
    assert bench.told() == {"ssni": ("main", ["plain"])}
    bench.service.add_account(TenantId("acme"))
    assert bench.told()["acme"] == (None, []), "its children are assigned one by one"


# --- HTTP

Call = Callable[..., Any]


@pytest.fixture
def call(bench: Bench) -> Call:
    keys = bench.site.signing_keys()
    app = create_app(bench.registry, keys, Credentials(bench.registry), dict, more=(router(bench.service),))

    async def call(method: str, path: str, body: object = None, *, scope: str = "api admin") -> tuple[int, Any]:
        token = keys.issue(TenantId("acme"), (), now=time.time(), scope=scope)
        text = "" if body is None else json.dumps(body)
        headers = {"Authorization": token, "Content-Type": "application/json"}
        status, _, answer = await _ask(app, method, path, text, headers)
        return status, json.loads(answer) if answer else None

    return call


async def test_a_new_account_over_http(bench: Bench, call: Call) -> None:
    bench.announce("main", "plain", "tls")
    status, listed = await call("GET", "/api/messaging/instances")
    assert status == 200 and [(each["name"], each["state"]) for each in listed["instances"]] == [("main", "running")]
    assert listed["instances"][0]["nodes"][0]["listeners"][0]["port"] == 1883
    status, made = await call("POST", "/api/accounts", {"id": "acme", "title": "Acme"})
    assert (status, made["level"], made["instance"], made["options"]) == (201, 1, None, [])
    status, problem = await call("PUT", "/api/accounts/acme/connection-settings", {"options": ["tls"]})
    assert status == 409 and "assign it first" in problem["detail"] and problem["code"] == "MW-MSG-001"
    status, assigned = await call("PUT", "/api/accounts/acme/assignment", {"instance": "main"})
    assert (status, assigned["instance"], assigned["options"]) == (200, "main", ["plain", "tls"])
    status, narrowed = await call("PUT", "/api/accounts/acme/connection-settings", {"options": ["tls"]})
    assert (status, narrowed["options"], narrowed["ownOptions"]) == (200, ["tls"], ["tls"])
    endpoint = {"schema": "mqtts", "domain": "b.example.net", "port": 8883, "secure": True}
    status, added = await call("POST", "/api/accounts/acme/endpoints", endpoint)
    assert status == 201 and added == endpoint | {
        "id": added["id"],
        "account": "acme",
        "url": "mqtts://b.example.net:8883",
    }
    status, tree = await call("GET", "/api/accounts")
    assert [(account["id"], account["level"]) for account in tree["accounts"]] == [("ssni", 0), ("acme", 1)]
    assert (await call("GET", f"/api/endpoints/{added['id']}/publishing?address=10.0.0.1"))[1]["records"][0] == (
        "b.example.net. 300 IN A 10.0.0.1"
    )
    status, cut = await call("DELETE", "/api/accounts/acme/assignment")
    assert (status, cut["instance"], cut["options"]) == (200, None, [])
    assert bench.told()["acme"] == (None, [])


async def test_what_is_in_use_is_told_over_http(bench: Bench, call: Call) -> None:
    await call("POST", "/api/accounts", {"id": "acme"})
    _, added = await call(
        "POST", "/api/accounts/acme/endpoints", {"schema": "mqtt", "domain": "b.example.net", "port": 1883}
    )
    assert added["secure"] is False, "the default"
    bench.registry.add_device(DeviceId("0000000000000001"), TenantId("acme"))
    path = f"/api/endpoints/{added['id']}"
    for method, body in (("PATCH", {"port": 1884}), ("DELETE", None)):
        status, problem = await call(method, path, body)
        assert status == 409 and problem["errors"] == [{"pointer": "uses", "detail": "account acme: 1 device"}]
    assert (await call("PATCH", f"{path}?confirm=true", {"port": 1884}))[1]["port"] == 1884
    assert (await call("DELETE", f"{path}?confirm=true"))[0] == 204
    assert (await call("GET", path))[0] == 404


async def test_only_administrators_and_only_what_there_is(call: Call) -> None:
    for method, path, body in [
        ("GET", "/api/messaging/instances", None),
        ("POST", "/api/messaging/instances", {"name": "x", "engine": "mosquitto"}),
        ("PATCH", "/api/messaging/instances/x", {"title": "y"}),
        ("DELETE", "/api/messaging/instances/x", None),
        ("GET", "/api/accounts", None),
        ("POST", "/api/accounts", {"id": "beta"}),
        ("GET", "/api/accounts/acme", None),
        ("PUT", "/api/accounts/acme/assignment", {"instance": "main"}),
        ("DELETE", "/api/accounts/acme/assignment", None),
        ("PUT", "/api/accounts/acme/connection-settings", {"options": ["plain"]}),
        ("GET", "/api/accounts/acme/endpoints", None),
        ("POST", "/api/accounts/acme/endpoints", {"schema": "mqtt", "domain": "x.net", "port": 1}),
        ("GET", "/api/endpoints", None),
        ("GET", "/api/endpoints/1", None),
        ("PATCH", "/api/endpoints/1", {"port": 1}),
        ("DELETE", "/api/endpoints/1", None),
        ("GET", "/api/endpoints/1/publishing", None),
        ("POST", "/api/endpoints/1/check", None),
    ]:
        assert (await call(method, path, body, scope="api"))[0] == 403, (method, path)
        if path[-1] in "1x" or "acme" in path:
            assert (await call(method, path, body))[0] == 404, (method, path)
    assert (await call("POST", "/api/accounts/ssni/endpoints", {"schema": "amqp", "domain": "x", "port": 1}))[0] == 422


# --- trying an endpoint


async def test_an_endpoint_is_tried_step_by_step(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting, blind = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(trusting)

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.read(100))[:1] == b"\x10":
            writer.write(b"\x20\x02\x00\x05")
        else:
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        writer.close()

    plain = await asyncio.start_server(broker, "127.0.0.1", 0)
    tls = await asyncio.start_server(broker, "127.0.0.1", 0, ssl=context)
    demanding = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(demanding)
    demanding.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(demanding)
    mutual = await asyncio.start_server(broker, "127.0.0.1", 0, ssl=demanding)
    plain_port, tls_port, mutual_port = (each.sockets[0].getsockname()[1] for each in (plain, tls, mutual))
    async with plain, tls, mutual:
        for scheme, domain, port, trust, ends in [
            (Scheme.MQTT, "localhost", plain_port, blind, "ok mqtt"),
            (Scheme.MQTTS, "localhost", tls_port, trusting, "ok mqtt"),
            (Scheme.MQTTS, "localhost", tls_port, blind, "no certificate"),
            (Scheme.MQTTS, "127.0.0.1", tls_port, trusting, "no certificate"),
            (Scheme.MQTTS, "localhost", plain_port, trusting, "no certificate"),
            (Scheme.MQTTS, "localhost", mutual_port, trusting, "ok mutual"),
            (Scheme.WSS, "localhost", mutual_port, trusting, "ok mutual"),
            (Scheme.WS, "localhost", plain_port, blind, "no websocket"),
            (Scheme.MQTT, "localhost", 9, blind, "no connection"),
            (Scheme.MQTT, "nowhere.invalid", 1883, blind, "no name"),
        ]:
            steps = await check_endpoint(Endpoint("1", "acme", scheme, domain, port, scheme.is_tls), trust)
            last = steps[-1]
            assert f"{'ok' if last.ok else 'no'} {last.name}" == ends, (scheme, domain, steps)
            assert all(step.ok for step in steps[:-1]) and bool(last.fix) is not last.ok
            assert last.seen, (scheme, port)
