"""TLS between the gateway and its broker: every connection uses it, and what goes wrong is told with code and fix."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from embedded_broker import ADMIN, ADMIN_PASSWORD, embedded_broker
from free_ports import free_port
from message_site import ADDRESSES, RECEIVER, SENDER, Place
from patience import PATIENCE_S
from pydantic import ValidationError

from broker.certificates import TrialAuthority
from broker.settings import ListenerSettings
from gateway.broker_tls.errors import BrokerTlsError
from gateway.broker_tls.settings import BridgeTlsSettings
from gateway.broker_tls.tls import BrokerTls
from gateway.console.alarms import alarms
from gateway.console.pulse import Pulse
from gateway.gateway import Gateway
from gateway.lane import login
from gateway.messages.errors import BrokerAway
from gateway.messages.link import BrokerPlace, Link, Visitor
from gateway.mqtt import ConnectFailure, Connection, MqttVersion
from gateway.mqtt_publisher import PublisherConnection
from gateway.mqtt_session import PublishSession
from gateway.operations.control_line import ControlLine
from gateway.operations.embedded import TOPICS
from gateway.settings import BridgeSettings
from meshwire.coap import Message, codes, encode
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")
Tls = Callable[..., BridgeTlsSettings]


@pytest.fixture
def authority(tmp_path: Path) -> TrialAuthority:
    made = TrialAuthority.in_folder(tmp_path / "certs")
    made.server(("127.0.0.1", "localhost", "broker.example"))
    made.client("gateway", TenantId("acme"), file="gateway")
    return made


@pytest.fixture
def tls(authority: TrialAuthority) -> Tls:
    folder = authority.folder

    def make(**changes: Any) -> BridgeTlsSettings:
        mutual = {"certificate_file": folder / "gateway.crt", "key_file": folder / "gateway.key"}
        return BridgeTlsSettings(**({"enabled": True, "ca_file": folder / "ca.crt", **mutual} | changes))

    return make


def listener(authority: TrialAuthority, *, mutual: bool = True, server: str = "server") -> ListenerSettings:
    folder = authority.folder
    files: dict[str, Any] = {"certificate_file": folder / f"{server}.crt", "key_file": folder / f"{server}.key"}
    if mutual:
        files |= {"client_ca_file": folder / "ca.crt", "enable_client_cert_validation": True}
    return ListenerSettings(kind="mqtts", port=0, **files)


@contextlib.asynccontextmanager
async def secure_broker(site: Site, *listeners: ListenerSettings) -> AsyncIterator[Any]:
    """Our broker; its last port is a plain one, for witnesses."""
    async with embedded_broker(site, *ADDRESSES, listener=(*listeners, ListenerSettings(port=0))) as broker:
        yield broker


@contextlib.asynccontextmanager
async def witness(port: int, *filters: str, **who: Any) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, **who) as client:
        for each in filters:
            await client.subscribe(each, 1)
        yield client


async def hear(client: aiomqtt.Client, *topics: str) -> None:
    """Until each topic has had a message."""
    missing = set(topics)
    async with asyncio.timeout(PATIENCE_S):
        async for message in client.messages:
            missing.discard(str(message.topic))
            if not missing:
                return


async def eventually(condition: Callable[[], Any], why: Callable[[], object] = lambda: "") -> None:
    end = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"it did not come about: {why()}"
        await asyncio.sleep(0.01)


async def report(client: Any, notification: Message) -> Message:
    client.send(encode(notification))
    answer: Message = await client.receive()
    return answer


def bridge_to(port: int, tls: BridgeTlsSettings, **more: Any) -> BridgeSettings:
    return BridgeSettings(port=port, tls=tls, **more)


@pytest.mark.parametrize("workers", [1, 2])
async def test_reading_presence_and_command_over_mutual_tls(
    site: Site,
    settings_for: Any,
    running: Any,
    bubble_up: Any,
    connect_to: Any,
    authority: TrialAuthority,
    tls: Tls,
    workers: int,
) -> None:
    admin = {"username": ADMIN, "password": ADMIN_PASSWORD}
    async with secure_broker(site, listener(authority)) as broker, witness(broker.ports[1], "acme/#", **admin) as seen:
        gateway = Gateway(settings_for(bridge=bridge_to(broker.ports[0], tls(), workers=workers)), site)
        async with running(gateway):
            client = connect_to(gateway)
            assert (await client.request(codes.POST, path=f"register/{MAC}")).code == codes.CHANGED
            assert (await report(client, bubble_up())).code == codes.CHANGED
            await hear(seen, f"acme/read/{MAC}/temp", f"acme/presence/{MAC}")
            order = {"method": "PUT", "path": "snsr/arduino/temp?cfg=C", "mode": "stored", "ttl": 60}
            async with asyncio.timeout(PATIENCE_S):
                while not (events := await _answers(seen, order)):
                    pass  # the gateway has not subscribed yet
            assert events[0]["event"] == "accepted"


async def _answers(client: aiomqtt.Client, order: dict[str, Any]) -> list[dict[str, Any]]:
    await client.publish(f"acme/cmd/{MAC}/req/my-1", json.dumps(order).encode(), 1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            async for message in client.messages:
                if str(message.topic) == f"acme/cmd/{MAC}/res/my-1":
                    assert isinstance(message.payload, bytes)
                    return [json.loads(message.payload)]
    return []


async def test_messages_over_http_and_questions_of_operators_over_mutual_tls(
    site: Site, settings_for: Any, running: Any, authority: TrialAuthority, tls: Tls
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    async with secure_broker(site, listener(authority)) as broker:
        bridge = bridge_to(broker.ports[0], tls())
        gateway = Gateway(settings_for(bridge=bridge, http="127.0.0.1:0"), site)
        async with running(gateway):
            place = Place(broker, gateway, site)
            answer = await place.client(SENDER).publish("hello", address="a-queue")
            assert (answer.status, answer.body["outcome"]) == (200, "taken")
            taken = await place.client(RECEIVER).take(address="a-queue")
            assert [each["payload"] for each in taken] == ["hello"]
            document = (await place.client().ask("GET", "/api/asyncapi.json")).body
            assert document["servers"]["broker"]["protocol"] == "mqtts"
        who = login(bridge, site, "gw-console")
        line = ControlLine(lambda: replace(who, username=ADMIN, password=ADMIN_PASSWORD), TOPICS)
        task = asyncio.create_task(line.run())
        try:
            assert "connections" in await line.ask(TOPICS[0], {"command": "connections"})
        finally:
            task.cancel()
            await asyncio.wait({task})


@pytest.mark.server
@pytest.mark.parametrize("mutual", [False, True])
async def test_mosquitto_wrong_authority_is_told_and_the_outbox_drains_once_it_is_mended(
    site: Site,
    settings_for: Any,
    running: Any,
    bubble_up: Any,
    connect_to: Any,
    mosquitto: Any,
    authority: TrialAuthority,
    tls: Tls,
    tmp_path: Path,
    mutual: bool,
) -> None:
    folder, plain = authority.folder, free_port()
    (folder / "server.key").chmod(0o644)
    await mosquitto.kill()
    mosquitto.configure(
        f"cafile {folder / 'ca.crt'}\ncertfile {folder / 'server.crt'}\nkeyfile {folder / 'server.key'}\n"
        f"allow_anonymous true\nrequire_certificate {str(mutual).lower()}\nuser root\n"
        f"listener {plain} 127.0.0.1\nallow_anonymous true"
    )
    await mosquitto.start()
    trusted = tmp_path / "trusted.crt"
    other = TrialAuthority.in_folder(tmp_path / "other")
    shutil.copy(other.folder / "ca.crt", trusted)
    given = tls(ca_file=trusted) if mutual else BridgeTlsSettings(enabled=True, ca_file=trusted)
    async with witness(plain, "acme/read/#") as seen:
        gateway = Gateway(settings_for(bridge=bridge_to(mosquitto.port, given)), site)
        async with running(gateway):
            assert (await report(connect_to(gateway), bubble_up())).code == codes.CHANGED
            await eventually(lambda: gateway.status()["bridge"]["trouble"])
            status = gateway.status()
            assert "MW-TLS-002" in status["bridge"]["trouble"]["reason"]
            assert "meshwire trial authority" in status["bridge"]["trouble"]["reason"], "what was shown, as evidence"
            assert str(trusted) in status["bridge"]["trouble"]["fix"]
            assert status["outbox"]["depth"] == 1
            (alarm,) = [each for each in alarms(Pulse(gateway.status).take(), 0) if "broker" in each.what]
            assert "MW-TLS-002" in alarm.evidence and "ca_file" in alarm.do
            shutil.copy(folder / "ca.crt", trusted)
            await hear(seen, f"acme/read/{MAC}/temp")
            await eventually(lambda: gateway.status()["outbox"]["depth"] == 0)
            assert gateway.status()["bridge"] == {"enabled": True, "connected": True, "trouble": None}


# --- what goes wrong, for each kind of connection


async def failures(site: Site, port: int, tls: BridgeTlsSettings, host: str = "127.0.0.1") -> set[str]:
    """The codes by which the bridge's, the commands' and the callers' connections tell it."""
    bridge = BridgeSettings(host=host, port=port, tls=tls)
    who, found = login(bridge, site, "gw-test"), set()
    connections: list[Any] = [
        PublisherConnection(who, MqttVersion.V5, PublishSession(), resume=False),
        Connection(who, MqttVersion.V5),
    ]
    for connection in connections:
        with pytest.raises(ConnectFailure) as failure:
            async with connection:
                pass
        assert failure.value.trouble is not None, failure.value
        assert failure.value.trouble.evidence and failure.value.trouble.fix
        assert not failure.value.version_refused
        found.add(failure.value.trouble.code)
    with pytest.raises(BrokerAway) as away:
        await Link.open(BrokerPlace(host, port, who.tls), Visitor("token"))
    found.add(str(away.value.evidence).rpartition("[")[2].rstrip("]"))
    return found


async def test_an_unknown_authority(site: Site, authority: TrialAuthority, tls: Tls, tmp_path: Path) -> None:
    other = TrialAuthority.in_folder(tmp_path / "other")
    async with secure_broker(site, listener(authority)) as broker:
        assert await failures(site, broker.ports[0], tls(ca_file=other.folder / "ca.crt")) == {"MW-TLS-002"}
        by_system = BridgeTlsSettings(enabled=True)
        assert await failures(site, broker.ports[0], by_system) == {"MW-TLS-002"}


async def test_a_certificate_for_another_name(site: Site, authority: TrialAuthority, tls: Tls) -> None:
    authority.server(("broker.example",), file="named")
    async with secure_broker(site, listener(authority, server="named")) as broker:
        port = broker.ports[0]
        assert await failures(site, port, tls()) == {"MW-TLS-003"}
        assert await failures(site, port, tls(server_name="other.example")) == {"MW-TLS-003"}
        who = login(bridge_to(port, tls(server_name="broker.example")), site, "gw-test")
        async with Connection(who, MqttVersion.V5):
            pass
        link = await Link.open(BrokerPlace("127.0.0.1", port, who.tls), Visitor(token_of(site)))
        await link.close()


async def test_a_certificate_that_has_expired(site: Site, authority: TrialAuthority, tls: Tls) -> None:
    authority.server(("127.0.0.1",), days=0, file="old")
    async with secure_broker(site, listener(authority, server="old")) as broker:
        assert await failures(site, broker.ports[0], tls()) == {"MW-TLS-004"}


async def test_a_port_for_plain_mqtt(site: Site, authority: TrialAuthority, tls: Tls) -> None:
    async with secure_broker(site, listener(authority)) as broker:
        assert await failures(site, broker.ports[1], tls()) == {"MW-TLS-006"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiomqtt does not hear that a broker hangs up before CONNACK: it waits in vain."""
    monkeypatch.setattr("gateway.mqtt._CONNECT_TIMEOUT_S", 0.5)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("own", ["none", "another authority's", "expired"])
async def test_a_client_certificate_that_is_refused(
    site: Site, authority: TrialAuthority, tls: Tls, tmp_path: Path, own: str
) -> None:
    match own:
        case "none":
            given = tls(certificate_file=None, key_file=None)
        case "expired":
            authority.client("gateway", TenantId("acme"), days=0, file="gateway")
            given = tls()
        case _:
            other = TrialAuthority.in_folder(tmp_path / "other")
            certificate, key = other.client("gateway", TenantId("acme"))
            given = tls(certificate_file=certificate, key_file=key)
    async with secure_broker(site, listener(authority)) as broker:
        assert await failures(site, broker.ports[0], given) == {"MW-TLS-005"}


async def test_files_that_can_not_be_used(site: Site, authority: TrialAuthority, tls: Tls) -> None:
    folder = authority.folder
    missing, server_key = folder / "nowhere.crt", folder / "server.key"
    for given in (tls(ca_file=missing), tls(certificate_file=missing), tls(key_file=server_key)):
        assert await failures(site, 1, given) == {"MW-TLS-007"}


def test_tls_1_2_is_the_oldest_and_the_name_is_checked(tls: Tls) -> None:
    context = BrokerTls("127.0.0.1", 8883, tls()).context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


async def test_what_is_no_failure_of_tls_is_left_to_others(tls: Tls) -> None:
    broker = BrokerTls("127.0.0.1", 8883, tls())
    assert await broker.explain(ConnectionRefusedError(111, "refused")) is None
    assert await broker.explain(TimeoutError("timed out")) is None
    trouble = await broker.explain(ssl.SSLError(1, "no shared cipher"))
    assert isinstance(trouble, BrokerTlsError) and trouble.code == "MW-TLS-001"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ca_file": "ca.crt"}, "enabled = true"),
        ({"enabled": True, "key_file": "key.pem"}, "certificate_file"),
        ({"enabled": True, "verify": False}, "verify"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BridgeTlsSettings(**values)


def token_of(site: Site) -> str:
    return site.signing_keys().issue(TenantId("acme"), [SENDER], now=time.time(), ttl_s=60.0)
