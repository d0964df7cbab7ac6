"""Accounts assigned to this instance, elsewhere or nowhere; connections that are cut; what it says of itself."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from patience import PATIENCE_S

from broker.accounts import Accounts, Protection
from broker.announcement import protections
from broker.settings import InstanceSettings, ListenerKind, ListenerSettings
from broker.statistics import Ending
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import ConnAck, Connect, Disconnect, PacketStream, ProtocolVersion, ReasonCode, Side, encode
from meshwire.site import Site

V5, V311 = ProtocolVersion.V5, ProtocolVersion.V3_1_1
MAIN = InstanceSettings(name="main", node="one")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.server.TICK_S", 0.01)
    monkeypatch.setattr("broker.announcement.EVERY_S", 0.0)


def publish(folder: Path, **accounts: tuple[str | None, list[str]]) -> None:
    """As the messaging service does."""
    path = Site(folder).path("messaging", "accounts.json")
    tree = {id: {"instance": instance, "options": options} for id, (instance, options) in accounts.items()}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"schema_version": 1, "revision": 1, "accounts": tree}))
    draft.replace(path)


def someone(tenant: str, kind: LoginKind = LoginKind.TOKEN) -> Principal:
    return Principal("x", TenantId(tenant), frozenset(), kind)


@pytest.mark.parametrize(
    ("principal", "protection", "words"),
    [
        (someone("acme"), Protection.PLAIN, None),
        (someone("acme"), Protection.TLS, None),
        (someone("acme"), Protection.MUTUAL, "may not connect with protection mutual; allowed: plain, tls"),
        (someone("secure"), Protection.PLAIN, "may not connect with protection plain; allowed: mutual"),
        (someone("secure"), Protection.MUTUAL, None),
        (someone("none"), Protection.PLAIN, "allowed: none"),
        (someone("free"), Protection.PLAIN, "not assigned to a messaging service instance"),
        (someone("away"), Protection.PLAIN, "assigned to instance other, this is main"),
        (someone("unknown"), Protection.PLAIN, "not assigned"),
        (someone("acme", LoginKind.PASSWORD), Protection.MUTUAL, "may not connect"),
        (someone("ssni"), Protection.PLAIN, "not assigned"),
        (someone("ssni", LoginKind.PASSWORD), Protection.PLAIN, None),
    ],
)
def test_who_is_served(tmp_path: Path, principal: Principal, protection: Protection, words: str | None) -> None:
    publish(
        tmp_path,
        acme=("main", ["plain", "tls"]),
        secure=("main", ["mutual"]),
        none=("main", []),
        free=(None, []),
        away=("other", ["plain"]),
    )
    path = Site(tmp_path).path("messaging", "accounts.json")
    refusal = Accounts(path, "main").refusal(principal, protection)
    assert refusal is None if words is None else refusal is not None and words in refusal
    assert Accounts(path, "").refusal(principal, protection) is None, "without a name everybody is served"


def test_without_a_document_nobody_is_served_and_a_spoilt_one_changes_nothing(tmp_path: Path) -> None:
    path = Site(tmp_path).path("messaging", "accounts.json")
    accounts = Accounts(path, "main")
    assert "has not told" in str(accounts.refusal(someone("acme"), Protection.PLAIN))
    publish(tmp_path, acme=("main", ["plain"]))
    assert accounts.reload() and not accounts.reload()
    assert accounts.refusal(someone("acme"), Protection.PLAIN) is None
    path.write_text("{")
    assert not accounts.reload()
    assert accounts.refusal(someone("acme"), Protection.PLAIN) is None


@pytest.mark.parametrize("version", [V5, V311])
async def test_an_account_that_is_not_assigned_is_refused_with_the_reason(
    start: Any, dial: Any, tmp_path: Path, version: ProtocolVersion
) -> None:
    publish(tmp_path, acme=(None, []))
    running = await start(instance=MAIN)
    client = await dial(running, version)
    answer = await client.ask(Connect("c", version, True, 0, None, "x", running.token("acme").encode()))
    assert isinstance(answer, ConnAck)
    if version is V5:
        assert answer.reason_code == ReasonCode.NOT_AUTHORIZED
        assert answer.properties.reason_string == "account acme is not assigned to a messaging service instance"
    else:
        assert answer.reason_code == 5
    assert await client.next() is None
    assert running.broker.statistics.logins_refused["account-not-served"] == 1


async def test_un_assigning_cuts_live_connections_and_assigning_lets_them_in_again(
    start: Any, dial: Any, tmp_path: Path, eventually: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    both = {"acme": ("main", ["plain"]), "beta": ("main", ["plain"])}
    publish(tmp_path, **both)  # type: ignore[arg-type]
    running = await start(instance=MAIN)

    async def connect(tenant: str) -> Any:
        client = await dial(running, V5)
        token = running.token(tenant).encode()
        return client, await client.ask(Connect(f"c-{tenant}", V5, True, 0, None, "x", token))

    acme, answer = await connect("acme")
    assert answer.reason_code == ReasonCode.SUCCESS
    _, answer = await connect("beta")
    assert answer.reason_code == ReasonCode.SUCCESS
    publish(tmp_path, acme=("other", ["plain"]), beta=("main", ["plain"]))
    goodbye = await acme.next()
    assert isinstance(goodbye, Disconnect) and goodbye.reason_code == ReasonCode.NOT_AUTHORIZED
    assert goodbye.properties.reason_string == "account acme is assigned to instance other, this is main"
    assert await acme.next() is None
    assert running.broker.statistics.endings[Ending.ACCOUNT_NOT_SERVED] == 1
    assert running.broker.statistics.clients_connected == 1, "the other account's client stays"
    _, answer = await connect("acme")
    assert answer.reason_code == ReasonCode.NOT_AUTHORIZED
    publish(tmp_path, **both)  # type: ignore[arg-type]
    await eventually(lambda: running.broker._accounts.refusal(someone("acme"), Protection.PLAIN) is None)
    _, answer = await connect("acme")
    assert answer.reason_code == ReasonCode.SUCCESS


async def test_connection_settings_hold_on_the_wire(start: Any, dial: Any, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.issue_cert("client@example.net").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    publish(tmp_path, acme=("main", ["tls"]), secure=("main", ["mutual"]))
    tls = ListenerSettings(
        kind=ListenerKind.MQTTS,
        port=0,
        certificate_file=tmp_path / "server.pem",
        client_ca_file=tmp_path / "ca.pem",
        authentication=(LoginKind.TOKEN, LoginKind.CERTIFICATE),
    )
    running = await start(instance=MAIN, listener=(ListenerSettings(port=0), tls))

    async def answer_to(tenant: str, port: int, context: ssl.SSLContext | None) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(encode(Connect("c", V5, True, 0, None, "x", running.token(tenant).encode()), V5))
        stream = PacketStream(Side.CLIENT, V5)
        while True:
            stream.feed(await asyncio.wait_for(reader.read(1000), PATIENCE_S))
            for packet in stream.packets():
                writer.close()
                assert isinstance(packet, ConnAck)
                return packet.reason_code

    def context(certificate: bool) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        if certificate:
            made.load_cert_chain(tmp_path / "client.pem")
        return made

    plain_port, tls_port = running.broker.ports
    refused, taken = ReasonCode.NOT_AUTHORIZED, ReasonCode.SUCCESS
    assert await answer_to("acme", plain_port, None) == refused
    assert await answer_to("acme", tls_port, context(False)) == taken
    assert await answer_to("acme", tls_port, context(True)) == refused
    assert await answer_to("secure", tls_port, context(False)) == refused
    assert await answer_to("secure", tls_port, context(True)) == taken


def test_what_listeners_offer() -> None:
    here = Path("x.pem")
    plain = ListenerSettings()
    tls = ListenerSettings(kind=ListenerKind.WSS, certificate_file=here)
    mutual = ListenerSettings(
        kind=ListenerKind.MQTTS, certificate_file=here, client_ca_file=here, authentication=(LoginKind.CERTIFICATE,)
    )
    assert protections([plain]) == ["plain"]
    assert protections([tls]) == ["tls"]
    assert protections([mutual, plain]) == ["plain", "tls", "mutual"]
    beside_a_password = ListenerSettings(
        kind=ListenerKind.MQTTS, certificate_file=here, client_ca_file=here, enable_client_cert_validation=True
    )
    assert protections([beside_a_password]) == ["tls", "mutual"]


async def test_a_started_instance_says_so_until_it_ends(
    start: Any, dial: Any, tmp_path: Path, eventually: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    publish(tmp_path, acme=("main", ["plain"]))
    running = await start(instance=MAIN)
    path = tmp_path / "messaging" / "instances" / "main@one.json"
    await eventually(path.exists)
    said = json.loads(path.read_text())
    assert (said["instance"], said["node"], said["engine"], said["options"]) == ("main", "one", "embedded", ["plain"])
    assert said["listeners"] == [{"kind": "mqtt", "host": "127.0.0.1", "port": running.port}]
    client = await dial(running, V5)
    await client.ask(Connect("c", V5, True, 0, None, "x", running.token("acme").encode()))
    await eventually(lambda: json.loads(path.read_text())["accounts"] == {"acme": 1})
    running.task.cancel()
    await asyncio.wait([running.task])
    assert not path.exists()
