"""Commands over HTTP: orders, lists, waiting, event streams, groups, and who may see and change what."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from command_parts import ACME, FOREIGN_MAC, MAC, OTHER
from patience import PATIENCE_S
from udp_nic import UdpNic, closing

from gateway.addresses import Address
from gateway.gateway import Gateway
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.site import Site

BASE = "/api/solutions/sandbox"
COMMANDS = f"{BASE}/devices/{MAC}/commands"
GROUPS = f"{BASE}/command-groups"
STORED = {"method": "PUT", "path": "snsr/arduino/temp?cfg=C", "mode": "stored", "ttl": 60}
SECOND_MAC = DeviceId("001350050047dc9b")


class Api:
    def __init__(self, port: int, site: Site) -> None:
        self.port = port
        keys, now = site.signing_keys(), time.time()
        self.tokens = {
            "acme": keys.issue(ACME, [Role.COMMAND_CLIENT], now=now),
            "other": keys.issue(OTHER, [Role.COMMAND_CLIENT], now=now),
            "reader": keys.issue(ACME, [Role.BUBBLE_UP_READ_CONSUMER], now=now),
            "admin": keys.issue(TenantId("ssni"), [], now=now, scope="api admin"),
            "nobody": "rubbish",
        }

    def _call(self, method: str, path: str, body: object, who: str) -> tuple[int, Any, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        headers = {"Content-Type": "application/json", "Authorization": self.tokens[who]}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        octets = response.read()
        connection.close()
        return response.status, json.loads(octets) if octets else None, response.headers

    async def call(self, method: str, path: str, body: object = None, who: str = "acme") -> tuple[int, Any]:
        return (await asyncio.to_thread(self._call, method, path, body, who))[:2]

    async def stream(self, path: str, *lines: str, who: str = "acme") -> AsyncIterator[dict[str, Any]]:
        """Server-sent events by hand, so that they are seen as they come."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = (f"GET {path} HTTP/1.1", "Host: x", f"Authorization: {self.tokens[who]}", "Connection: close", *lines)
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        try:
            while line := (await asyncio.wait_for(reader.readline(), PATIENCE_S)).decode():
                if line.startswith("data: "):
                    yield json.loads(line[6:])
        finally:
            writer.close()


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
def api(gateway: Gateway, site: Site) -> Api:
    return Api(gateway.http_port, site)


@pytest.fixture
async def nic(gateway: Gateway) -> AsyncIterator[UdpNic]:
    nic = UdpNic()
    await nic.open()
    with closing(nic):
        yield nic


def appear(gateway: Gateway, nic: UdpNic, mac: DeviceId = MAC) -> None:
    gateway.registry.registered(mac, Address("127.0.0.1", nic.port), time.time(), 60.0)


async def test_a_stored_command_from_order_to_answer(api: Api, gateway: Gateway, nic: UdpNic) -> None:
    status, ordered = await api.call("POST", COMMANDS, STORED | {"payload": "hello", "contentFormat": 0})
    assert status == 202
    assert (ordered["state"], ordered["position"], ordered["final"]) == ("queued", 0, False)
    assert [event["event"] for event in ordered["events"]] == ["accepted", "queued"]
    place = f"{COMMANDS}/{ordered['id']}"
    waiting = asyncio.create_task(api.call("GET", f"{place}?wait=20"))
    await asyncio.sleep(0.05)
    appear(gateway, nic)
    status, done = await waiting
    assert status == 200 and done["state"] == "answered"
    assert done["result"] == {
        "success": True,
        "code": "2.04",
        "contentFormat": 0,
        "payload": "did it",
        "payloadHex": "646964206974",
    }
    assert [event["event"] for event in done["events"]] == ["accepted", "queued", "sent", "delivered", "answered"]
    assert (done["by"]["via"], done["by"]["tenant"], done["attempts"]) == ("http", "acme", 1)
    assert nic.executed[0][0].payload == b"hello"


async def test_long_payloads_are_shared_and_have_a_bound(
    api: Api, gateway: Gateway, site: Site, settings_for: Any
) -> None:
    long = STORED | {"payload": "x" * 5000}
    first = (await api.call("POST", COMMANDS, long))[1]
    assert (first["payloadOctets"], "payload" in first, "payloadHex" in first) == (5000, False, False)
    await api.call("POST", COMMANDS, long)
    service = gateway._commands
    assert service is not None
    one, other = service.queue.long_payloads()
    assert one is other and service.store.bodies_octets == 5000
    service.desk._settings.max_payloads_octets = 9000
    assert (await api.call("POST", COMMANDS, long))[0] == 202, "it is there already"
    status, answer = await api.call("POST", COMMANDS, STORED | {"payload": "y" * 5000})
    assert (status, answer["code"]) == (503, "MW-CMD-006")
    assert (await api.call("POST", COMMANDS, STORED | {"payload": "y" * 1024}))[0] == 202


async def test_a_direct_command(api: Api, gateway: Gateway, nic: UdpNic) -> None:
    direct = {"method": "GET", "path": "snsr/arduino/temp?sens"}
    status, answer = await api.call("POST", COMMANDS, direct)
    assert (status, answer["code"], answer["detail"]) == (503, "MW-CMD-008", "device is not reachable")
    appear(gateway, nic)
    status, answer = await api.call("POST", f"{COMMANDS}?wait=20", direct)
    assert (status, answer["state"], answer["result"]["code"]) == (200, "answered", "2.05")
    status, answer = await api.call("GET", f"{COMMANDS}?state=ended")
    assert [each["state"] for each in answer["commands"]] == ["answered", "failed"]


async def test_the_queue_is_seen_moved_and_cancelled(api: Api) -> None:
    for name in "abcd":
        assert (await api.call("POST", COMMANDS, STORED | {"id": name, "path": name}))[0] == 202
    status, moved = await api.call("PUT", f"{COMMANDS}/d/position", {"position": 0})
    assert (status, moved["position"]) == (200, 0)
    status, cancelled = await api.call("DELETE", f"{COMMANDS}/b")
    assert (status, cancelled["state"]) == (200, "cancelled")
    _, listed = await api.call("GET", f"{COMMANDS}?state=open")
    assert [(each["id"], each["position"]) for each in listed["commands"]] == [("d", 0), ("a", 1), ("c", 2)]
    _, everything = await api.call("GET", f"{BASE}/commands?state=all&limit=3")
    assert [each["id"] for each in everything["commands"]] == ["d", "c", "b"]
    status, answer = await api.call("DELETE", f"{COMMANDS}/b")
    assert (status, answer["code"]) == (409, "MW-CMD-005")
    status, answer = await api.call("DELETE", f"{COMMANDS}/x")
    assert (status, answer["code"]) == (404, "MW-CMD-004")


async def test_replace_older(api: Api) -> None:
    await api.call("POST", COMMANDS, STORED | {"id": "old"})
    await api.call("POST", COMMANDS, STORED | {"id": "new", "path": "snsr/arduino/temp?cfg=F", "replace": True})
    _, old = await api.call("GET", f"{COMMANDS}/old")
    assert (old["state"], old["result"]["reason"]) == ("cancelled", "replaced by new")


async def test_an_id_is_taken_once(api: Api) -> None:
    assert (await api.call("POST", COMMANDS, STORED | {"id": "once"}))[0] == 202
    status, again = await api.call("POST", COMMANDS, STORED | {"id": "once"})
    assert (status, again["state"]) == (200, "queued")
    status, other = await api.call("POST", COMMANDS, STORED | {"id": "once", "path": "something/else"})
    assert (status, other["code"]) == (409, "MW-CMD-005")
    assert len((await api.call("GET", COMMANDS))[1]["commands"]) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ttl": None}, "MW-CMD-001"),
        ({"ttl": 0}, "MW-CMD-001"),
        ({"ttl": 3e6}, "MW-CMD-001"),
        ({"method": "TRACE"}, "MW-CMD-001"),
        ({"id": "a b"}, "MW-CMD-001"),
        ({"payload": "x" * ((256 << 10) + 1)}, "MW-CMD-001"),
        ({"mode": "whenever"}, None),
        ({"when": "now"}, None),
    ],
)
async def test_what_is_no_order(api: Api, change: dict[str, Any], code: str | None) -> None:
    status, answer = await api.call("POST", COMMANDS, STORED | change)
    assert (status, answer.get("code")) == (422, code)
    assert (await api.call("GET", COMMANDS))[1] == {"commands": []}


async def test_who_may_see_and_change_what(api: Api) -> None:
    await api.call("POST", COMMANDS, STORED | {"id": "mine"})
    for method, path, body in [
        ("POST", COMMANDS, STORED),
        ("GET", COMMANDS, None),
        ("GET", f"{COMMANDS}/mine", None),
        ("DELETE", f"{COMMANDS}/mine", None),
        ("PUT", f"{COMMANDS}/mine/position", {"position": 0}),
        ("GET", f"{COMMANDS}/mine/events", None),
    ]:
        assert (await api.call(method, path, body, "nobody"))[0] == 401
        foreign = await api.call(method, path, body, "other")
        unknown = await api.call(method, path.replace(MAC.value, "0000000000000001"), body, "other")
        assert foreign == unknown and foreign[0] == 404
    assert (await api.call("POST", COMMANDS, STORED, "reader"))[0] == 403
    assert (await api.call("DELETE", f"{COMMANDS}/mine", None, "reader"))[0] == 403
    assert (await api.call("GET", f"{COMMANDS}/mine", None, "reader"))[0] == 200
    assert (await api.call("GET", f"{BASE}/commands", None, "other"))[1] == {"commands": []}
    _, seen = await api.call("GET", f"{BASE}/commands", None, "admin")
    assert [each["id"] for each in seen["commands"]] == ["mine"]
    status, ordered = await api.call("POST", COMMANDS, STORED, "admin")
    assert (status, ordered["tenant"], ordered["by"]["tenant"]) == (202, "acme", "ssni")


async def test_events_as_they_happen(api: Api, gateway: Gateway, nic: UdpNic) -> None:
    await api.call("POST", COMMANDS, STORED | {"id": "one"})
    seen = []
    async for event in api.stream(f"{COMMANDS}/one/events"):
        seen.append(event)
        if event["event"] == "queued":
            appear(gateway, nic)
    assert [event["event"] for event in seen] == ["accepted", "queued", "sent", "delivered", "answered"]
    assert [event["number"] for event in seen] == [1, 2, 3, 4, 5]
    assert [event["final"] for event in seen] == [False] * 4 + [True]
    later = [event["event"] async for event in api.stream(f"{COMMANDS}/one/events", "Last-Event-ID: 3")]
    assert later == ["delivered", "answered"]


# --- groups


async def test_a_group_by_tag_with_progress_and_results(api: Api, gateway: Gateway, nic: UdpNic) -> None:
    gateway.registry.set_device(MAC, tags=["valves"])
    gateway.registry.add_device(SECOND_MAC, ACME, tags=["valves"])
    gateway.registry.add_device(DeviceId("001350050047dc9c"), ACME)
    order = {"select": {"tag": "valves"}, "command": STORED}
    status, group = await api.call("POST", GROUPS, order)
    assert status == 202
    assert (group["devices"], group["ended"], group["states"]) == (2, 0, {"queued": 2})
    assert group["selector"] == "tenant=acme tag=valves"
    steps = []
    async for step in api.stream(f"{GROUPS}/{group['id']}/events"):
        steps.append(step["ended"])
        appear(gateway, nic, SECOND_MAC if step["ended"] else MAC)
    assert steps[0] == 0 and steps[-1] == 2
    status, done = await api.call("GET", f"{GROUPS}/{group['id']}?wait=10")
    assert (status, done["final"], done["states"]) == (200, True, {"answered": 2})
    assert [(each["device"], each["result"]["payload"]) for each in done["commands"]] == [
        (MAC.value, "did it"),
        (SECOND_MAC.value, "did it"),
    ]


async def test_groups_by_list_and_of_all(api: Api, gateway: Gateway) -> None:
    gateway.registry.add_device(SECOND_MAC, ACME, type="LNIC")
    for select, count in [
        ({"devices": [MAC.value, SECOND_MAC.host("x.net"), MAC.value]}, 2),
        ({"all": True}, 2),
        ({"all": True, "type": "LNIC"}, 1),
    ]:
        status, group = await api.call("POST", GROUPS, {"select": select, "command": STORED})
        assert (status, group.get("devices")) == (202, count), group
    status, cancelled = await api.call("DELETE", f"{GROUPS}/{group['id']}")
    assert (status, cancelled["cancelled"], cancelled["states"]) == (200, 1, {"cancelled": 1})


async def test_a_direct_group_tells_each_device_that_is_away(api: Api, gateway: Gateway, nic: UdpNic) -> None:
    gateway.registry.add_device(SECOND_MAC, ACME)
    appear(gateway, nic)
    order = {"select": {"all": True}, "command": {"method": "GET", "path": "a"}}
    _, group = await api.call("POST", GROUPS, order)
    _, done = await api.call("GET", f"{GROUPS}/{group['id']}?wait=10")
    assert done["states"] == {"answered": 1, "failed": 1}
    assert [each["state"] for each in done["commands"]] == ["answered", "failed"]


async def test_a_group_is_taken_whole_or_not_at_all(api: Api, gateway: Gateway, nic: UdpNic) -> None:
    for select, status in [
        ({"devices": [MAC.value, FOREIGN_MAC.value]}, 404),
        ({"devices": [MAC.value, "0000000000000001"]}, 404),
        ({"devices": []}, 422),
        ({"devices": [MAC.value], "all": True}, 422),
        ({}, 422),
        ({"tag": "nothing"}, 404),
        ({"all": True, "tenant": "other"}, 403),
    ]:
        answer = await api.call("POST", GROUPS, {"select": select, "command": STORED})
        assert answer[0] == status, answer
    answer = await api.call("POST", GROUPS, {"select": {"all": True}, "command": STORED | {"id": "x"}})
    assert answer[0] == 422
    assert (await api.call("GET", f"{BASE}/commands"))[1] == {"commands": []}


async def test_groups_of_others_are_not_seen(api: Api) -> None:
    _, group = await api.call("POST", GROUPS, {"select": {"all": True}, "command": STORED})
    for method in ("GET", "DELETE"):
        foreign = await api.call(method, f"{GROUPS}/{group['id']}", None, "other")
        unknown = await api.call(method, f"{GROUPS}/0123", None, "other")
        assert foreign == unknown and foreign[0] == 404
    assert (await api.call("GET", f"{GROUPS}/{group['id']}", None, "admin"))[0] == 200


async def test_the_openapi_document_and_the_status_page_know_of_commands(api: Api) -> None:
    _, document = await api.call("GET", "/api/openapi.json")
    assert f"{BASE.replace('sandbox', '{solution}')}/command-groups" in document["paths"]
    await api.call("POST", COMMANDS, STORED)
    _, status = await api.call("GET", "/api/status", None, "admin")
    assert status["commands"] == {"open": 1}
    assert status["counters"]["commands"] == {"accepted": 1, "queued": 1}


async def test_a_full_queue_is_told(site: Site, settings_for: Any, running: Any, tmp_path: Any) -> None:
    elsewhere = Site(tmp_path / "full")
    settings = settings_for(http="127.0.0.1:0", commands={"max_waiting_per_device": 1})
    async with running(Gateway(settings, elsewhere)) as gateway:
        api = Api(gateway.http_port, elsewhere)
        assert (await api.call("POST", COMMANDS, STORED))[0] == 202
        status, answer = await api.call("POST", COMMANDS, STORED)
        assert (status, answer["code"]) == (503, "MW-CMD-006")
