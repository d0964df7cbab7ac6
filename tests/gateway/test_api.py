"""The HTTP API over a real socket: tokens, devices, tenants, clients, status."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from patience import PATIENCE_S

from gateway.addresses import Address
from gateway.gateway import Gateway
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.site import Site
from meshwire.tokens import VerifyingKeys

MAC = DeviceId("001350050047dc9a")
FOREIGN_MAC = DeviceId("001350050047dd92")
DEVICES = "/api/solutions/sandbox/devices"


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


class Api:
    def __init__(self, port: int, site: Site) -> None:
        self._port = port
        keys = site.signing_keys()
        self.tokens = {
            "acme": keys.issue(TenantId("acme"), [], now=time.time()),
            "empty": keys.issue(TenantId("empty"), [], now=time.time()),
            "admin": keys.issue(TenantId("ssni"), [], now=time.time(), scope="api admin"),
            "expired": keys.issue(TenantId("acme"), [], now=time.time() - 7200),
            "rubbish": "rubbish",
        }

    def _call(self, method: str, path: str, body: object, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"} | headers)
        response = connection.getresponse()
        octets = response.read()
        connection.close()
        return Answer(response.status, json.loads(octets) if octets else None, response.headers)

    async def raw(
        self, method: str, path: str, body: object = None, *, who: str | None = None, bearer: bool = False
    ) -> Answer:
        headers = {} if who is None else {"Authorization": ("Bearer " if bearer else "") + self.tokens[who]}
        return await asyncio.to_thread(self._call, method, path, body, headers)

    async def call(
        self, method: str, path: str, body: object = None, *, who: str | None = None, bearer: bool = False
    ) -> tuple[int, Any]:
        answer = await self.raw(method, path, body, who=who, bearer=bearer)
        return answer.status, answer.body


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
def api(gateway: Gateway, site: Site) -> Api:
    return Api(gateway.http_port, site)


async def test_a_client_gets_a_token_that_holds(api: Api, gateway: Gateway, site: Site) -> None:
    issued = gateway.registry.add_client(TenantId("acme"), [Role.COMMAND_CLIENT])
    status, answer = await api.call("POST", "/api/tokens", {"clientId": issued.id, "clientSecret": issued.secret})
    assert status == 200 and answer.keys() == {"accessToken"}
    principal = VerifyingKeys.load(site.jwks_path).verify(answer["accessToken"], now=time.time())
    assert (principal.tenant, principal.roles) == (TenantId("acme"), {"COMMAND_CLIENT"})
    assert principal.expires_at is not None and 3500 < principal.expires_at - time.time() <= 3600
    for wrong in ({"clientId": issued.id, "clientSecret": "x"}, {"clientId": "nobody", "clientSecret": issued.secret}):
        status, answer = await api.call("POST", "/api/tokens", wrong)
        detail = "unknown client, or wrong secret"
        assert answer == {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": detail}
    assert (await api.call("POST", "/api/tokens", {"clientId": "x"}))[0] == 422


@pytest.mark.parametrize("who", [None, "expired", "rubbish"])
async def test_without_a_token_that_holds_401(api: Api, who: str | None) -> None:
    for method, path, body in [
        ("GET", DEVICES, None),
        ("POST", DEVICES, {"deviceType": "MILLI", "domainInfo": {"nic_macID": MAC.value}}),
        ("DELETE", f"{DEVICES}/{MAC}", None),
        ("POST", "/api/tenants", {"id": "x"}),
        ("POST", "/api/clients", {"tenant": "x"}),
        ("GET", "/api/status", None),
    ]:
        status, answer = await api.call(method, path, body, who=who)
        assert status == 401 and "token" in answer["detail"]


@pytest.mark.parametrize("bearer", [False, True])
async def test_a_tenant_sees_its_own_devices(api: Api, gateway: Gateway, bearer: bool) -> None:
    for path in (DEVICES, f"{DEVICES}/"):
        status, answer = await api.call("GET", path, who="acme", bearer=bearer)
        assert status == 200
        assert answer == {"devices": [{"id": MAC.value, "deviceType": "MILLI", "domainInfo": {"nic_macID": MAC.value}}]}
    assert (await api.call("GET", f"{DEVICES}?deviceType=MILLI", who="acme"))[0] == 200
    assert (await api.call("GET", f"{DEVICES}?deviceType=OTHER", who="acme"))[0] == 404
    assert (await api.call("GET", DEVICES, who="empty"))[0] == 404


async def test_an_administrator_sees_all_with_tenant_and_address(api: Api, gateway: Gateway) -> None:
    gateway.registry.seen(MAC, Address("fd00::5", 4849), 123.0)
    status, answer = await api.call("GET", DEVICES, who="admin")
    assert status == 200
    first, second = answer["devices"]
    assert (first["tenant"], first["address"], first["seen"]) == ("acme", "[fd00::5]:4849", 123.0)
    assert second["tenant"] == "other" and "address" not in second


async def test_devices_are_added_and_removed(api: Api, gateway: Gateway) -> None:
    body: dict[str, Any] = {"deviceType": "LNIC", "domainInfo": {"nic_macID": "00:13:50:05:00:47:AA:01"}}
    status, answer = await api.call("POST", f"{DEVICES}/", body, who="acme")
    assert (status, answer) == (201, {"id": "001350050047aa01"})
    device = gateway.registry.device(DeviceId("001350050047aa01"))
    assert device is not None and (device.tenant, device.type) == (TenantId("acme"), "LNIC")
    assert (await api.call("DELETE", f"{DEVICES}/{answer['id']}", who="empty"))[0] == 404
    assert (await api.call("DELETE", f"{DEVICES}/{answer['id']}", who="acme")) == (200, answer)
    assert (await api.call("DELETE", f"{DEVICES}/{answer['id']}", who="acme"))[0] == 404


async def test_foreign_and_unknown_devices_can_not_be_told_apart(api: Api) -> None:
    foreign = await api.call("DELETE", f"{DEVICES}/{FOREIGN_MAC}", who="acme")
    unknown = await api.call("DELETE", f"{DEVICES}/0000000000000001", who="acme")
    assert foreign == unknown and (foreign[0], foreign[1]["detail"]) == (404, "no such device")


async def test_only_an_administrator_names_a_tenant(api: Api, gateway: Gateway) -> None:
    body = {"deviceType": "MILLI", "domainInfo": {"nic_macID": "0013500500000001"}, "tenant": "third"}
    assert (await api.call("POST", DEVICES, body, who="acme"))[0] == 403
    assert (await api.call("POST", DEVICES, body, who="admin"))[0] == 201
    assert TenantId("third") in gateway.registry.tenants()
    taken = body | {"tenant": "acme"}
    status, answer = await api.call("POST", DEVICES, taken, who="admin")
    assert status == 409 and "third" not in json.dumps(answer)
    assert (await api.call("POST", DEVICES, body | {"domainInfo": {"nic_macID": "xyz"}}, who="admin"))[0] == 422
    assert (await api.call("POST", DEVICES, body | {"tenant": "a/b"}, who="admin"))[0] == 422


async def test_tenants_and_clients(api: Api) -> None:
    assert (await api.call("POST", "/api/tenants", {"id": "third"}, who="acme"))[0] == 403
    assert (await api.call("POST", "/api/clients", {"tenant": "third"}, who="acme"))[0] == 403
    assert await api.call("POST", "/api/tenants", {"id": "third"}, who="admin") == (201, {"id": "third", "title": ""})
    assert (await api.call("POST", "/api/tenants", {"id": "third"}, who="admin"))[0] == 409
    status, client = await api.call("POST", "/api/clients", {"tenant": "third"}, who="admin")
    assert status == 201 and client.keys() == {"clientId", "clientSecret", "tenant"}
    status, _ = await api.call("POST", "/api/tokens", {k: client[k] for k in ("clientId", "clientSecret")})
    assert status == 200


async def test_status_and_health(api: Api) -> None:
    assert (await api.call("GET", "/api/status", who="acme"))[0] == 403
    status, answer = await api.call("GET", "/api/status", who="admin")
    assert status == 200
    assert answer["outbox"]["depth"] == 0 and answer["losses"] == {} and answer["devices"] == 2
    assert answer["bridge"] == {"enabled": False, "connected": False, "trouble": None}
    for path in ("/healthz", "/healthz/live"):
        assert await api.call("GET", path) == (200, {"status": "ok"})
    for path in ("/readyz", "/healthz/ready"):
        assert (await api.call("GET", path))[0] == 200
    status, document = await api.call("GET", "/api/openapi.json")
    assert status == 200 and "/api/tokens" in document["paths"]


async def test_not_ready_without_the_broker(site: Site, settings_for: Any, running: Any) -> None:
    async with running(Gateway(settings_for(broker_port=1, http="127.0.0.1:0"), site)) as gateway:
        assert (await Api(gateway.http_port, site).call("GET", "/readyz"))[0] == 503


async def test_errors_are_problem_documents(api: Api) -> None:
    for status, call in [
        (404, api.raw("GET", "/nowhere", who="acme")),
        (405, api.raw("PUT", "/api/tokens", who="acme")),
        (401, api.raw("GET", DEVICES)),
        (422, api.raw("POST", "/api/tokens", {"clientId": "x"})),
        (409, api.raw("POST", DEVICES, {"domainInfo": {"nic_macID": FOREIGN_MAC.value}}, who="acme")),
    ]:
        answer = await call
        assert answer.status == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.body.keys() >= {"type", "title", "status", "detail"} and answer.body["status"] == status
    answer = await api.raw("POST", "/api/tokens", {"clientId": "x"})
    assert answer.body["errors"] == [{"pointer": "body/clientSecret", "detail": "Field required"}]
    answer = await api.raw("POST", DEVICES, {"domainInfo": {"nic_macID": FOREIGN_MAC.value}}, who="acme")
    assert answer.body["code"] == "MW-GWY-003"


async def test_the_registry_s_devices(api: Api, gateway: Gateway) -> None:
    new = {"mac": "00:13:50:05:00:47:aa:01", "type": "LNIC", "tags": ["roof", "east"], "domain": "x.net"}
    status, made = await api.call("POST", "/api/devices", new, who="acme")
    assert (status, made["mac"], made["tenant"], made["tags"]) == (201, "001350050047aa01", "acme", ["east", "roof"])
    status, listed = await api.call("GET", "/api/devices?tag=roof", who="acme")
    assert status == 200 and listed["devices"] == [made]
    path = f"/api/devices/{made['mac']}"
    status, changed = await api.call("PATCH", path, {"enabled": False}, who="acme")
    assert status == 200 and changed == made | {"enabled": False}
    device = gateway.registry.device(DeviceId(made["mac"]))
    assert device is not None and not device.enabled
    assert (await api.call("PATCH", path, {"tags": ["a b"]}, who="acme"))[0] == 409
    for method, body in (("GET", None), ("PATCH", {"enabled": True}), ("DELETE", None)):
        foreign = await api.call(method, f"/api/devices/{FOREIGN_MAC}", body, who="acme")
        unknown = await api.call(method, "/api/devices/0000000000000009", body, who="acme")
        assert foreign == unknown and foreign[0] == 404, method
    assert (await api.call("GET", "/api/devices?tenant=other", who="acme"))[0] == 403
    assert (await api.call("POST", "/api/devices", new | {"tenant": "other"}, who="acme"))[0] == 403
    assert await api.call("DELETE", path, who="acme") == (204, None)
    assert (await api.call("GET", path, who="acme"))[0] == 404


async def test_a_device_is_moved_by_an_administrator_only(api: Api, gateway: Gateway) -> None:
    path = f"/api/devices/{MAC}/move"
    assert (await api.call("POST", path, {"tenant": "other"}, who="acme"))[0] == 403
    assert (await api.call("POST", path, {"tenant": "nobody"}, who="admin"))[0] == 409
    status, moved = await api.call("POST", path, {"tenant": "other"}, who="admin")
    assert (status, moved["tenant"]) == (200, "other")
    assert (await api.call("GET", f"/api/devices/{MAC}", who="acme"))[0] == 404
    status, log = await api.call("GET", f"/api/audit?subject={MAC}&action=device.", who="acme")
    assert status == 200 and [line["action"] for line in log["entries"]] == ["device.move-out", "device.add"]
    assert (await api.call("GET", "/api/audit?tenant=other", who="acme"))[0] == 403
    status, log = await api.call("GET", "/api/audit?limit=1&action=device.move", who="admin")
    assert log["entries"][0]["detail"] == {"former": "acme", "tenant": "other"}
    assert log["entries"][0]["by"] == "a token of ssni"


async def test_pages_of_devices(api: Api, gateway: Gateway) -> None:
    answer = await api.raw("GET", "/api/devices?limit=1", who="admin")
    assert [device["mac"] for device in answer.body["devices"]] == [MAC.value]
    following = answer.headers["next_page"]
    assert following.startswith("http://127.0.0.1:")
    answer = await api.raw("GET", "/" + following.split("/", 3)[3], who="admin")
    assert [device["mac"] for device in answer.body["devices"]] == [FOREIGN_MAC.value]
    assert "next_page" not in answer.headers


async def test_devices_come_and_go_in_bulk(api: Api, gateway: Gateway) -> None:
    rows = [{"mac": f"{number:016x}", "tags": ["bulk"]} for number in range(1, 4)]
    assert await api.call("POST", "/api/devices/import", rows, who="acme") == (
        200,
        {"added": 3, "changed": 0, "refused": []},
    )
    bad = [*rows, {"mac": "xyz"}, {"mac": FOREIGN_MAC.value}, {"mac": "9" * 16, "tenant": "other"}]
    answer = await api.raw("POST", "/api/devices/import", bad, who="acme")
    assert answer.status == 422 and answer.headers["Content-Type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.body["errors"]] == ["line 4", "line 5", "line 6"]
    status, done = await api.call("POST", "/api/devices/import?good_rows_only=true", bad, who="acme")
    assert (status, done["added"], done["changed"], len(done["refused"])) == (200, 0, 3, 3)
    status, exported = await api.call("GET", "/api/devices/export?format=json&tag=bulk", who="acme")
    assert status == 200 and [device["mac"] for device in exported] == [row["mac"] for row in rows]
    assert (await api.call("POST", "/api/devices/import", exported, who="admin"))[1]["changed"] == 3


async def test_clients_are_listed_changed_renewed_and_removed(api: Api) -> None:
    _, client = await api.call("POST", "/api/clients", {"tenant": "acme"}, who="admin")
    path = f"/api/clients/{client['clientId']}"
    status, listed = await api.call("GET", "/api/clients?tenant=acme", who="admin")
    assert [each["clientId"] for each in listed["clients"]] == [client["clientId"]]
    assert client["clientSecret"] not in json.dumps(listed)
    status, changed = await api.call("PATCH", path, {"roles": ["COMMAND_CLIENT"]}, who="admin")
    assert (status, changed["roles"], changed["scope"]) == (200, ["COMMAND_CLIENT"], "api")
    assert (await api.call("PATCH", path, {"roles": ["two words"]}, who="admin"))[0] == 422
    status, renewed = await api.call("POST", f"{path}/secret", who="admin")
    assert status == 200 and renewed["clientSecret"] != client["clientSecret"]
    for answer, expected in ((client, 401), (renewed, 200)):
        pair = {key: answer[key] for key in ("clientId", "clientSecret")}
        assert (await api.call("POST", "/tokens", pair))[0] == expected
    assert (await api.call("DELETE", path, who="admin"))[0] == 204
    assert (await api.call("GET", path, who="admin"))[0] == 404


async def test_tenants_are_listed_changed_and_removed(api: Api) -> None:
    status, answer = await api.call("GET", "/api/tenants", who="admin")
    assert status == 200 and [tenant["id"] for tenant in answer["tenants"]] == ["acme", "other"]
    assert (await api.call("PATCH", "/api/tenants/acme", {"title": "Acme"}, who="admin"))[1]["title"] == "Acme"
    assert (await api.call("PATCH", "/api/tenants/acme", {"title": "a\x00"}, who="admin"))[0] == 422
    assert (await api.call("DELETE", "/api/tenants/acme", who="admin"))[0] == 409, "it has a device"
    assert (await api.call("POST", "/api/tenants", {"id": "third"}, who="admin"))[0] == 201
    assert (await api.call("DELETE", "/api/tenants/third", who="admin"))[0] == 204
    assert (await api.call("GET", "/api/tenants/third", who="admin"))[0] == 404


OBSERVATION = {"timestamp": "2016-09-14T00:21:40.000Z", "temperature": "72.50", "macId": MAC.value}


async def test_observations_as_the_vendor_s_clients_store_and_read_them(api: Api) -> None:
    path = f"{DEVICES}/{MAC}/observations"
    assert (await api.call("POST", path, {"observations": [OBSERVATION]}, who="acme"))[0] == 201
    later = OBSERVATION | {"timestamp": "2016-09-14T00:22:40.000Z", "tags": ["noon"]}
    assert (await api.call("POST", path, {"observations": [later, later]}, who="acme"))[0] == 201
    everything = {"observations": [OBSERVATION, later, later]}
    for read in (path, "/api/solutions/sandbox/observations"):
        assert await api.call("GET", read, who="acme") == (200, everything)
        answer = await api.raw("GET", f"{read}?limit=2&from=2016-09-14", who="acme")
        assert answer.body == {"observations": [OBSERVATION, later]}
        answer = await api.raw("GET", "/" + answer.headers["next_page"].split("/", 3)[3], who="acme")
        assert answer.body == {"observations": [later]} and "next_page" not in answer.headers
        for query in ("to=2016-09-14T00:22:00Z", "to=1473812520000", "to=1473812520"):
            assert (await api.call("GET", f"{read}?{query}", who="acme"))[1] == {"observations": [OBSERVATION]}, query
        assert (await api.call("GET", f"{read}?tags=noon&from=2016-09-14T00:22:00Z", who="acme"))[1] == {
            "observations": [later, later]
        }
        assert (await api.call("GET", f"{read}?from=yesterday", who="acme"))[0] == 422
    assert (await api.call("GET", "/api/solutions/sandbox/observations", who="empty")) == (200, {"observations": []})
    for method, body in (("GET", None), ("POST", {"observations": [OBSERVATION]})):
        assert (await api.call(method, path, body, who="empty"))[0] == 404
    for wrong in ({"observations": []}, {"observations": [{"timestamp": "never"}]}, {"observations": [{"tags": 1}]}):
        assert (await api.call("POST", path, wrong, who="acme"))[0] == 422


async def test_device_templates(api: Api) -> None:
    path = "/api/solutions/sandbox/devicetemplates"
    status, made = await api.call("POST", path, {"deviceType": "X"}, who="acme")
    assert status == 201 and made["id"]
    assert (await api.call("PUT", f"{path}/{made['id']}", {"deviceType": "Y"}, who="acme"))[0] == 200
    assert await api.call("GET", path, who="acme") == (
        200,
        {"deviceTemplates": [{"id": made["id"], "deviceType": "Y"}]},
    )
    assert (await api.call("GET", path, who="empty"))[1] == {"deviceTemplates": []}
    status, answer = await api.call("GET", "/api/tenants/systemTenant/devicetemplates", who="acme")
    assert status == 200 and "MILLI" in [each["deviceType"] for each in answer["deviceTemplates"]]
