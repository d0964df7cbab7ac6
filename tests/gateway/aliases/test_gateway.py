"""Aliases in a gateway at work: from a NIC's datagram to another broker, the HTTP API, requests to devices."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fake_nic import FakeNic, serving
from patience import PATIENCE_S

from broker.certificates import TrialAuthority
from gateway.addresses import Address
from gateway.aliases.catalogue import Kind
from gateway.aliases.records import AliasSettings
from gateway.aliases.store import AliasStore, build
from gateway.envelope import StoredNotification, pack
from gateway.gateway import Gateway
from gateway.outbox import Outbox
from gateway.registry import Registry
from gateway.registry.opening import open_database
from gateway.settings import BridgeSettings, RegistrySettings
from gateway.storage import FileStorage
from meshwire.coap import codes, encode
from meshwire.identity import DeviceId, TenantId
from meshwire.notification import Notification
from meshwire.site import Site

pytestmark = pytest.mark.server
MAC = DeviceId("001350050047dc9a")
ALL = [{"topic": "out/{tenant}/{type}"}]


class Api:
    """The HTTP API as administrator."""

    def __init__(self, gateway: Gateway, site: Site) -> None:
        self.gateway = gateway
        keys = site.signing_keys()
        self.tokens = {
            "admin": keys.issue(TenantId("ssni"), [], now=time.time(), scope="api admin"),
            "tenant": keys.issue(TenantId("acme"), [], now=time.time()),
        }

    async def call(self, method: str, path: str, body: object = None, who: str = "admin") -> tuple[int, Any]:
        return await asyncio.to_thread(self._call, method, path, body, who)

    def _call(self, method: str, path: str, body: object, who: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.http_port, timeout=PATIENCE_S)
        headers = {"Authorization": self.tokens[who], "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text else None


@pytest.fixture
async def gateway(site: Site, running: Any, settings_for: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
def api(gateway: Gateway, site: Site) -> Api:
    return Api(gateway, site)


async def live(api: Api, path: str) -> dict[str, Any]:
    status, body = await api.call("GET", path)
    assert status == 200
    state: dict[str, Any] = body["live"]
    return state


async def until(api: Api, path: str, key: str, value: object) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while (state := await live(api, path)).get(key) != value:  # noqa: ASYNC110 - pages tell no events
            await asyncio.sleep(0.02)
    return state


async def test_a_notification_goes_to_the_aliases_broker_before_anything_is_lost(
    api: Api, mosquitto: Any, witness: Any, connect: Any, bubble_up: Any
) -> None:
    seen = await witness(mosquitto.port, "out/#")
    alias = {"name": "plant", "host": f"tcp://127.0.0.1:{mosquitto.port}", "publish": ALL}
    status, body = await api.call("POST", "/api/aliases", alias)
    assert (status, body["enabled"], body["live"]["state"]) == (201, False, "disabled")
    status, body = await api.call("POST", "/api/aliases/plant/enable")
    assert status == 200 and body["enabled"]
    client = connect(port=api.gateway.coap_port)
    client.send(encode(bubble_up()))
    assert (await client.receive()).code == codes.CHANGED
    assert (await seen.summary())[0] == "out/acme/temp"
    state = await until(api, "/api/aliases/plant", "published", 1)
    assert state["queue"]["depth"] == 0
    status, body = await api.call("GET", "/api/status")
    assert body["aliases"]["plant"]["state"] == "connected"


async def test_an_alias_of_the_configuration_file_works_at_once(
    site: Site, running: Any, settings_for: Any, mosquitto: Any, witness: Any, connect: Any, bubble_up: Any
) -> None:
    seen = await witness(mosquitto.port, "out/#")
    alias = AliasSettings.model_validate(
        {"name": "plant", "host": f"tcp://127.0.0.1:{mosquitto.port}", "publish": ALL, "enabled": True}
    )
    async with running(Gateway(settings_for(alias=[alias]), Site(site.state_dir / "other"))) as gateway:
        client = connect(port=gateway.coap_port)
        client.send(encode(bubble_up()))
        assert (await client.receive()).code == codes.CHANGED
        assert (await seen.summary())[0] == "out/acme/temp"


async def test_errors_of_the_api_name_each_field(api: Api) -> None:
    status, body = await api.call("POST", "/api/aliases", {"name": "x", "host": "tcp://b:1", "keep_alive_s": -1})
    assert (status, body["errors"][0]["pointer"]) == (422, "body/keep_alive_s")
    status, body = await api.call("POST", "/api/aliases", {"name": "x", "host": "b", "will_enabled": True})
    assert (status, [each["pointer"] for each in body["errors"]]) == (422, ["body/host", "body/will_topic"])
    assert (await api.call("GET", "/api/aliases/none"))[0] == 404
    assert (await api.call("GET", "/api/aliases", who="tenant"))[0] == 403


async def test_secrets_never_come_out(api: Api) -> None:
    alias = {"name": "x", "host": "tcp://127.0.0.1:9", "username": "u", "password": "s3cret"}
    answers = [
        await api.call("POST", "/api/aliases", alias),
        await api.call("GET", "/api/aliases"),
        await api.call("PATCH", "/api/aliases/x", {"password": "t0psecret"}),
        await api.call("GET", "/api/aliases/x"),
        await api.call("GET", "/api/packages/WmRoot/export"),
    ]
    assert [status for status, _ in answers] == [201, 200, 200, 200, 200]
    assert "s3cret" not in str(answers) and "t0psecret" not in str(answers)
    assert (await api.call("DELETE", "/api/aliases/x"))[0] == 204


async def test_stores_packages_and_triggers_over_the_api(api: Api, authority: TrialAuthority, tmp_path: Path) -> None:
    ca = (authority.folder / "ca.crt").read_text()
    certificate, key = authority.client("gw", TenantId("acme"))
    pem = key.read_text() + certificate.read_text()
    assert (await api.call("POST", "/api/truststores", {"name": "ca", "content": ca}))[0] == 201
    status, body = await api.call("POST", "/api/keystores", {"name": "mine", "content": pem})
    assert (status, body["holds"][0]["alias"]) == (201, "gw")
    damaged = base64.b64encode(b"none").decode()
    assert (await api.call("POST", "/api/keystores", {"name": "bad", "content": damaged}))[0] == 422
    assert "PRIVATE KEY" not in str(await api.call("GET", "/api/keystores"))
    assert (await api.call("POST", "/api/packages", {"name": "Plant"}))[0] == 201
    tls = {"truststore": "ca", "keystore": "mine", "key_alias": "gw"}
    alias = {"name": "p", "package": "Plant", "host": "ssl://127.0.0.1:9", **tls}
    assert (await api.call("POST", "/api/aliases", alias))[0] == 201
    trigger = {"name": "t", "package": "Plant", "alias": "p", "subscriptions": [{"filter": "a/#"}]}
    assert (await api.call("POST", "/api/triggers", trigger))[0] == 201
    assert (await api.call("DELETE", "/api/truststores/ca"))[0] == 409
    status, document = await api.call("GET", "/api/packages/Plant/export")
    for path in ("/api/triggers/t", "/api/aliases/p", "/api/packages/Plant", "/api/keystores/mine"):
        assert (await api.call("DELETE", path))[0] == 204
    status, body = await api.call("POST", "/api/packages/import", document)
    assert status == 200 and list(body["missing"]) == ["alias p"]
    assert (await api.call("GET", "/api/packages/Plant"))[0] == 200
    status, body = await api.call("POST", "/api/aliases/p/test")
    assert (status, body["ok"], body["steps"][-1]["step"]) == (200, False, "fields")


async def test_a_trigger_reaches_a_device(api: Api, mosquitto: Any, publish: Any, nic: Any) -> None:
    host = f"tcp://127.0.0.1:{mosquitto.port}"
    await api.call("POST", "/api/aliases", {"name": "plant", "host": host, "enabled": True})
    action = {"kind": "command", "tenant": "acme", "device": "{2}", "path": "snsr/arduino/{3}", "method": "PUT"}
    trigger = {"name": "set", "alias": "plant", "subscriptions": [{"filter": "set/+/+"}], "action": action}
    await api.call("POST", "/api/triggers", trigger | {"enabled": True})
    await until(api, "/api/triggers/set", "state", "connected")
    await publish(mosquitto.port, f"set/{MAC}/led", "on", "-q", "1")
    await until(api, "/api/triggers/set", "done", 1)
    (request,) = nic.requests
    assert (request.code, request.opt.uri_path, request.payload) == (codes.PUT, ("snsr", "arduino", "led"), b"on")
    # Another tenant's device is none for this trigger.
    await publish(mosquitto.port, "set/001350050047dd92/led", "on", "-q", "1")
    state = await until(api, "/api/triggers/set", "failed", 1)
    assert "4.04" in state["lastFailure"]


async def test_a_triggers_stored_command_waits_for_a_device_that_sleeps(
    api: Api, mosquitto: Any, publish: Any, eventually: Any
) -> None:
    host = f"tcp://127.0.0.1:{mosquitto.port}"
    await api.call("POST", "/api/aliases", {"name": "plant", "host": host, "enabled": True})
    action = {"kind": "command", "tenant": "acme", "device": "{2}", "path": "snsr/arduino/{3}?cfg", "mode": "stored"}
    trigger = {"name": "set", "alias": "plant", "subscriptions": [{"filter": "set/+/+"}], "enabled": True}
    status, body = await api.call("POST", "/api/triggers", trigger | {"action": action})
    assert (status, body["errors"][0]["pointer"]) == (422, "body/action/ttl_s")
    await api.call("POST", "/api/triggers", trigger | {"action": action | {"ttl_s": 600, "replace": True}})
    await until(api, "/api/triggers/set", "state", "connected")
    for payload in ("off", "on"):
        await publish(mosquitto.port, f"set/{MAC}/led", payload, "-q", "1")
    await until(api, "/api/triggers/set", "done", 2)
    async with serving(FakeNic()) as nic:
        api.gateway.registry.registered(MAC, Address("127.0.0.1", nic.port), time.time(), 60.0)
        await eventually(lambda: bool(nic.requests))
    (command,) = nic.requests
    assert (command.code, command.opt.uri_path, command.payload) == (codes.PUT, ("snsr", "arduino", "led"), b"on")
    assert command.opt.uri_query == ("cfg",), "what is for the gateway does not reach the device"


@pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT spreads datagrams on Linux only")
async def test_workers_publish_through_the_alias_too(
    site: Site, running: Any, settings_for: Any, mosquitto: Any, witness: Any, connect: Any, bubble_up: Any
) -> None:
    seen = await witness(mosquitto.port, "#")
    alias = {"name": "plant", "host": f"tcp://127.0.0.1:{mosquitto.port}", "publish": ALL, "enabled": True}
    announced = {"will_topic": "state", "on_connect_payload": "here", "username": "u", "password": "s3cret"}
    declared = AliasSettings.model_validate(alias | announced)
    settings = settings_for(alias=[declared], bridge=BridgeSettings(enabled=False, workers=2))
    macs = [DeviceId(f"{0x0013500500470000 + number:016x}") for number in range(12)]
    async with running(Gateway(settings, Site(site.state_dir / "other"))) as gateway:
        for mac in macs:
            gateway.registry.add_device(mac, TenantId("acme"))
        client = connect(port=gateway.coap_port)
        for number, mac in enumerate(macs):
            # A worker learns of new devices within a second.
            client.send(encode(bubble_up(mac, mid=number)))
            while (await client.receive()).code != codes.CHANGED:
                await asyncio.sleep(0.05)
                client.send(encode(bubble_up(mac, mid=number)))
        got = [await seen.next() for _ in range(len(macs) + 1)]
        devices = {mac.value for mac in macs for message in got if mac.value in message["properties"]}
        assert devices == {mac.value for mac in macs}
        assert [message["payload"] for message in got if message["topic"] == "state"] == ["here"]
        shares = [worker["aliases"]["plant"]["published"] for worker in gateway.status()["workers"]]  # type: ignore[attr-defined]
        assert len(shares) == 2


async def test_what_a_worker_has_left_is_drained(
    site: Site, running: Any, settings_for: Any, mosquitto: Any, witness: Any, eventually: Any
) -> None:
    store = AliasStore(site, environment={})
    alias = {"name": "plant", "host": f"tcp://127.0.0.1:{mosquitto.port}", "publish": ALL, "enabled": True}
    store.add(build(Kind.ALIAS, alias))
    outbox = Outbox(FileStorage(store.queue_folder(2) / "plant"), max_octets=1 << 20, segment_octets=1 << 16)
    outbox.append(pack(StoredNotification(TenantId("acme"), Notification(MAC, "p", 1, 1, 60, b"x", 1.0))), 1)
    commit = outbox.begin_commit()
    assert commit is not None
    commit.write(sync=False)
    outbox.finish_commit(commit)
    outbox.close()
    seen = await witness(mosquitto.port, "out/#")
    async with running(Gateway(settings_for(), site)):
        assert (await seen.summary())[0].startswith("out/acme/")
        await eventually(lambda: not store.queue_folder(2).exists() or not any(store.queue_folder(2).iterdir()))


async def start_process(config: Path, state: Path) -> tuple[asyncio.subprocess.Process, int]:
    """A gateway as a process of its own, and its CoAP port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "--config", str(config), "--json",
        env=os.environ | {"MESHWIRE_STATE": str(state)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        ready = json.loads(await process.stdout.readline())
    return process, int(ready["coap"])


async def test_nothing_that_a_nic_was_told_is_stored_is_lost_by_a_kill(
    site: Site, tmp_path: Path, mosquitto: Any, witness: Any, connect: Any, bubble_up: Any
) -> None:
    await mosquitto.kill()
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[gateway]\nport = 0\nhttp = ""\n[gateway.bridge]\nenabled = false\n[[gateway.alias]]\nname = "plant"\n'
        f'enabled = true\nhost = "tcp://127.0.0.1:{mosquitto.port}"\n'
        '[[gateway.alias.publish]]\ntopic = "out/{type}"\n'
    )
    other = Site(tmp_path / "other")
    Registry(open_database(RegistrySettings(), other)).add_device(MAC, TenantId("acme"))
    process, port = await start_process(config, other.state_dir)
    try:
        client = connect(port=port)
        for number in range(1, 31):
            client.send(encode(bubble_up(observe=number, payload=b"%d" % number)))
            assert (await client.receive()).code == codes.CHANGED
    finally:
        process.kill()
        await process.wait()
    await mosquitto.start()
    seen = await witness(mosquitto.port, "out/#")
    process, _ = await start_process(config, other.state_dir)
    try:
        assert [(await seen.next())["payload"] for _ in range(30)] == [str(number) for number in range(1, 31)]
    finally:
        process.terminate()
        await process.wait()
