"""CoAP over TLS, OSCORE, and plain UDP that stays on this machine."""

from __future__ import annotations

import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiocoap
import pytest
import trustme
from aiocoap import oscore
from aiocoap.message import Direction
from fake_nic import HOST, MAC, FakeNic, proxy_uri, serving

from gateway.addresses import Address
from gateway.coap_context.translation import to_ours, to_theirs
from gateway.errors import CertificateError, CredentialError
from gateway.gateway import Gateway
from gateway.settings import GatewaySettings
from gateway.tools.coap import Target, session
from gateway.tools.errors import NotReachable
from meshwire.coap import CON, Message, codes, encode, options
from meshwire.config import ConfigError, read_settings
from meshwire.site import Site

MIDS = itertools.count(1)
SECRET, SALT = "0102030405060708090a0b0c0d0e0f10", "9e7ca92223786340"


# --- TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def tls_gateway(
    tmp_path: Path, site: Site, authority: trustme.CA, settings_for: Any, running: Any
) -> AsyncIterator[Gateway]:
    certificate = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    tls = {"certificate_file": certificate, "listen": ["127.0.0.1"], "port": 0}
    async with running(Gateway(settings_for(tls=tls), site)) as gateway:
        yield gateway


@pytest.fixture
async def tls_client(authority: trustme.CA, tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    contexts = []

    async def make() -> Any:
        context = await aiocoap.Context.create_client_context(transports=["tlsclient"])
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
        context.client_credentials.ssl_client_context = lambda scheme, host: tls
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        await context.shutdown()


async def ask(context: Any, port: int, code: Any, uri: str = "", path: str = "", **more: Any) -> Any:
    request = aiocoap.Message(code=code, uri=f"coaps+tcp://127.0.0.1:{port}/{path}", **more)
    if uri:
        request.opt.uri_path = ()
        request.opt.proxy_uri = uri
    return await context.request(request).response


async def test_a_session_over_tls(tls_gateway: Gateway, tls_client: Any, token: str, connect_to: Any) -> None:
    uri = f"coap://{HOST}:4849/snsr/arduino/temp?sens"
    async with serving(FakeNic()) as nic:
        tls_gateway.registry.seen(MAC, Address("127.0.0.1", nic.port), time.time())
        port, client = tls_gateway.tls_port, await tls_client()
        assert b"</sessions>" in (await ask(client, port, aiocoap.GET, path=".well-known/core")).payload
        assert (await ask(client, port, aiocoap.GET, uri)).code == aiocoap.UNAUTHORIZED
        assert (await ask(client, port, aiocoap.POST, path="sessions", payload=token.encode())).code == aiocoap.CREATED
        assert (await ask(client, port, aiocoap.GET, uri)).payload == b"plain"
        # Another connection is somebody else.
        assert (await ask(await tls_client(), port, aiocoap.GET, uri)).code == aiocoap.UNAUTHORIZED
        assert (await ask(await tls_client(), port, aiocoap.GET, f"{uri}&access_token={token}")).payload == b"plain"
        assert nic.requests[-1].opt.uri_query == ("sens",)
        # An observation, and its end with the connection.
        request = aiocoap.Message(code=aiocoap.GET, uri=f"coaps+tcp://127.0.0.1:{port}", observe=0)
        request.opt.proxy_uri = uri
        pending = client.request(request)
        assert (await pending.response).payload == b"first"
        await nic.until(lambda: bool(nic.observers))
        nic.notify(b"second", 4)
        async for notification in pending.observation:
            assert notification.payload == b"second"
            break
        await client.shutdown()
        await nic.until(lambda: not nic.observers and tls_gateway.status()["sessions"] == 0)


async def test_the_coap_command_over_tls(
    tls_gateway: Gateway, authority: trustme.CA, tmp_path: Path, token: str
) -> None:
    cafile = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(cafile))
    address = f"coaps+tcp://127.0.0.1:{tls_gateway.tls_port}"
    target = Target(MAC, "snsr/arduino/temp?sens", address, token, 10.0, "text", cafile)
    async with serving(FakeNic()) as nic:
        tls_gateway.registry.seen(MAC, Address("127.0.0.1", nic.port), time.time())
        async with session(target) as client:
            assert (await client.request("GET", MAC, target.path)).payload == b"plain"
        with pytest.raises(NotReachable, match="certificate"):
            async with session(replace(target, cafile=None)):
                pass


async def test_a_certificate_that_can_not_be_read(tmp_path: Path, site: Site, settings_for: Any) -> None:
    (tmp_path / "rubbish.pem").write_text("rubbish")
    with pytest.raises(CertificateError, match=r"rubbish\.pem") as raised:
        await Gateway(settings_for(tls={"certificate_file": tmp_path / "rubbish.pem"}), site).run()
    assert raised.value.code == "MW-GWY-005"


# --- OSCORE


def make_context(folder: Path, sender: str, recipient: str) -> Path:
    folder.mkdir()
    (folder / "secret.json").write_text(json.dumps({"secret_hex": SECRET, "salt_hex": SALT}))
    (folder / "settings.json").write_text(json.dumps({"sender-id_hex": sender, "recipient-id_hex": recipient}))
    return folder


class OscoreClient:
    """Protects requests with aiocoap's context, and sends them from a raw client."""

    def __init__(self, folder: Path, raw: Any) -> None:
        self.state: Any = oscore.FilesystemSecurityContext(str(folder))
        self.raw = raw

    async def ask(self, code: int, *pairs: tuple[int, bytes], payload: bytes = b"") -> Message:
        octets, identifiers = self.protect(code, *pairs, payload=payload)
        self.raw.send(octets)
        return self.open(await self.raw.receive(), identifiers)

    def protect(self, code: int, *pairs: tuple[int, bytes], payload: bytes = b"") -> tuple[bytes, Any]:
        outer, identifiers = self.state.protect(to_theirs(code, pairs, payload))
        ours = to_ours(outer)
        return encode(Message(CON, ours.code, next(MIDS), b"os", ours.options, ours.payload)), identifiers

    def open(self, answer: Message, identifiers: Any) -> Message:
        assert answer.option(options.OSCORE) is not None, str(answer)
        protected = to_theirs(answer.code, answer.options, answer.payload)
        protected.direction = Direction.INCOMING
        inner, _ = self.state.unprotect(protected, identifiers)
        inner.opt.observe = None  # -1 when there is one: aiocoap can't write that.
        opened: Message = to_ours(inner)
        return opened


@pytest.fixture
async def oscore_gateway(tmp_path: Path, site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    folder = make_context(tmp_path / "server", "01", "02")
    contexts = [{"name": "dashboard", "folder": folder, "tenant": "acme"}]
    async with running(Gateway(settings_for(oscore=contexts), site)) as gateway:
        yield gateway


def by_path(path: str, *queries: str) -> list[tuple[int, bytes]]:
    return [(options.URI_PATH, part.encode()) for part in f"devices/{MAC}/{path}".split("/")] + [
        (options.URI_QUERY, query.encode()) for query in queries
    ]


async def test_a_protected_request_needs_no_session(oscore_gateway: Gateway, connect_to: Any, tmp_path: Path) -> None:
    raw = connect_to(oscore_gateway)
    client = OscoreClient(make_context(tmp_path / "client", "02", "01"), raw)
    async with serving(FakeNic()) as nic:
        oscore_gateway.registry.seen(MAC, Address("127.0.0.1", nic.port), time.time())
        answer = await client.ask(codes.GET, *by_path("snsr/arduino/temp", "sens"))
        assert (answer.code, answer.payload) == (codes.CONTENT, b"plain")
        answer = await client.ask(codes.PUT, *by_path("snsr/arduino/temp", "cfg=C"), payload=b"x")
        assert answer.code == codes.CONTENT
        got = nic.requests[-1]
        assert (got.opt.uri_path, got.opt.uri_query, got.payload) == (("snsr", "arduino", "temp"), ("cfg=C",), b"x")
        # The same without protection is somebody who has no session.
        assert (await raw.request(codes.GET, *by_path("snsr/arduino/temp"))).code == codes.UNAUTHORIZED

        octets, identifiers = client.protect(codes.GET, (options.OBSERVE, b""), *by_path("snsr/arduino/temp", "sens"))
        raw.send(octets)
        first = await raw.receive()
        assert (client.open(first, identifiers).payload, first.option(options.OBSERVE) is not None) == (b"first", True)
        nic.notify(b"second", 4)
        assert client.open(await raw.receive(), identifiers).payload == b"second"


async def test_what_is_not_protected_rightly(oscore_gateway: Gateway, connect_to: Any, tmp_path: Path) -> None:
    raw = connect_to(oscore_gateway)
    client = OscoreClient(make_context(tmp_path / "client", "02", "01"), raw)
    octets, identifiers = client.protect(codes.GET, (options.URI_PATH, b".well-known"), (options.URI_PATH, b"core"))
    raw.send(octets)
    assert b"</sessions>" in client.open(await raw.receive(), identifiers).payload
    replayed = octets[:2] + b"\x77\x77" + octets[4:]
    raw.send(replayed)
    assert (await raw.receive()).code == codes.UNAUTHORIZED
    octets, _ = client.protect(codes.GET, (options.URI_PATH, b"x"))
    raw.send(octets[:-1] + bytes((octets[-1] ^ 1,)))
    assert (await raw.receive()).code == codes.BAD_REQUEST
    stranger = OscoreClient(make_context(tmp_path / "stranger", "07", "01"), raw)
    octets, _ = stranger.protect(codes.GET, (options.URI_PATH, b"x"))
    raw.send(octets)
    assert (await raw.receive()).payload == b"Security context not found"
    for value in (b"", b"\xff", b"\x05\x01", b"\x18"):
        answer = await raw.request(codes.POST, (options.OSCORE, value), payload=b"rubbish")
        assert answer.code in (codes.BAD_OPTION, codes.UNAUTHORIZED, codes.BAD_REQUEST)


async def test_a_context_that_can_not_be_read(tmp_path: Path, site: Site, settings_for: Any) -> None:
    (tmp_path / "empty").mkdir()
    contexts = [{"name": "dashboard", "folder": tmp_path / "empty", "tenant": "acme"}]
    with pytest.raises(CredentialError, match="dashboard"):
        await Gateway(settings_for(oscore=contexts), site).run()


# --- plain UDP


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"])
def test_plain_udp_stays_on_loopback_unless_it_is_allowed(host: str) -> None:
    with pytest.raises(ConfigError, match="allow_plain_beyond_loopback"):
        read_settings(GatewaySettings, "gateway", {"gateway": {"listen": ["127.0.0.1", host]}})
    allowed = {"gateway": {"listen": [host], "allow_plain_beyond_loopback": True}}
    assert read_settings(GatewaySettings, "gateway", allowed).listen == [host]


async def test_a_device_by_its_path(nic: FakeNic, client: Any) -> None:
    answer = await client.request(codes.GET, (options.URI_QUERY, b"sens"), path=f"devices/{MAC}/snsr/arduino/temp")
    assert (answer.code, nic.requests[-1].opt.uri_path) == (codes.CONTENT, ("snsr", "arduino", "temp"))
    assert (await client.request(codes.GET, proxy_uri())).code == codes.CONTENT
