"""OSCORE between NICs and the gateway, aiocoap being the NIC: readings up, requests and observations down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap.message import Direction
from aiocoap_oscore import ForeignSite, ask, context_of
from fake_nic import MAC, FakeNic, proxy_uri
from typer.testing import CliRunner

from gateway.addresses import Address, nic_of
from gateway.coap_context.translation import to_ours, to_theirs
from gateway.gateway import Gateway
from gateway.nic_oscore import Seal
from gateway.settings import BridgeSettings, NicOscore
from gateway.statistics import Event
from gateway.tools.delivery import explain_app
from gateway.tools.devices import device_app
from meshwire.coap import CON, Message, codes, encode, options
from meshwire.identity import DeviceId, TenantId
from meshwire.oscore import NicKey
from meshwire.site import Site

OTHER = DeviceId("0013500500470001")
FOREIGN_MAC = DeviceId("001350050047dd92")


def provision(gateway: Gateway, site: Site, mac: DeviceId = MAC, *, renew: bool = False) -> NicKey:
    key = NicKey.generate(mac)
    gateway.registry.set_key(mac, Seal(site).close(key), renew=renew)
    gateway.registry.refresh()
    return key


class AiocoapNic:
    """A NIC that is aiocoap alone."""

    def __init__(self, folder: Path, key: NicKey, gateway_port: int) -> None:
        self.fake = FakeNic()
        self._folder = folder
        self._key = key
        self._gateway_port = gateway_port
        self.site: Any = None
        self.port = 0
        self._context: Any = None

    async def start(self) -> None:
        self.site = ForeignSite(self.fake, context_of(self._folder, self._key))
        context: Any = await aiocoap.Context.create_server_context(
            self.site, bind=("127.0.0.1", self.port), transports=["udp6"]
        )
        sock = context.request_interfaces[0].token_interface.message_interface.transport.get_extra_info("socket")
        self.port = sock.getsockname()[1]
        self._context = context

    async def stop(self) -> None:
        await self._context.shutdown()
        self.site.state._destroy()

    async def post(self, path: str, payload: bytes = b"x") -> Any:
        uri = f"coap://127.0.0.1:{self._gateway_port}/{path}"
        message = aiocoap.Message(code=aiocoap.POST, payload=payload, uri=uri)
        return await ask(self._context, self.site.state, message)

    async def bubble_up(self, number: int, mac: DeviceId = MAC) -> Any:
        return await self.post(f"bubble-up/{mac}/snsr/arduino/temp?o={number}&e=1&t=1700000000.25")


@contextlib.asynccontextmanager
async def foreign_nic(folder: Path, key: NicKey, gateway: Gateway) -> AsyncIterator[AiocoapNic]:
    nic = AiocoapNic(folder, key, gateway.coap_port)
    await nic.start()
    try:
        yield nic
    finally:
        await nic.stop()


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(nic_oscore=NicOscore.OPTIONAL, http="127.0.0.1:0"), site)) as gateway:
        yield gateway


def refused(gateway: Gateway) -> dict[str, int]:
    return dict(gateway.statistics.by_reason(Event.REFUSED))


def depth(gateway: Gateway) -> object:
    return gateway.status()["outbox"]["depth"]  # type: ignore[index]


async def test_readings_of_a_foreign_nic_are_stored(gateway: Gateway, site: Site, tmp_path: Path) -> None:
    async with foreign_nic(tmp_path / "nic", provision(gateway, site), gateway) as nic:
        assert (await nic.post(f"register/{MAC}?lt=60")).code == aiocoap.CHANGED
        for number in range(3):
            assert (await nic.bubble_up(number)).code == aiocoap.CHANGED
        assert depth(gateway) == 3 and not refused(gateway)
        sighting = gateway.registry.sighting(MAC)
        assert sighting is not None and sighting.address.port == nic.port and nic_of(sighting.address) == MAC
        answer = await nic.bubble_up(9, FOREIGN_MAC)
        assert answer.code == aiocoap.FORBIDDEN, "the key is of one device"
        assert (await nic.post("sessions")).code == aiocoap.NOT_FOUND
        assert refused(gateway) == {"oscore-other-device": 1, "malformed": 1}


async def test_requests_reach_a_foreign_nic_protected(
    gateway: Gateway, site: Site, tmp_path: Path, token: str, connect_to: Any
) -> None:
    async with foreign_nic(tmp_path / "nic", provision(gateway, site), gateway) as nic:
        await nic.post(f"register/{MAC}")
        nic.fake.answers["snsr/long"] = aiocoap.Message(code=aiocoap.CONTENT, payload=bytes(700))
        client = connect_to(gateway)
        await client.open_session(token)
        answer = await client.answer_to(codes.GET, proxy_uri())
        assert (answer.code, answer.payload) == (codes.CONTENT, b"plain")
        answer = await client.answer_to(codes.PUT, proxy_uri("snsr/arduino/led"), payload=b"on")
        assert answer.code == codes.CONTENT
        request = nic.fake.requests[-1]
        assert (request.code, request.payload, request.opt.uri_path) == (codes.PUT, b"on", ("snsr", "arduino", "led"))
        assert nic.site.plain == 0
        assert len((await client.answer_to(codes.GET, proxy_uri("snsr/long"))).payload) == 700


async def test_an_observation_at_a_foreign_nic(
    gateway: Gateway, site: Site, tmp_path: Path, token: str, connect_to: Any
) -> None:
    async with foreign_nic(tmp_path / "nic", provision(gateway, site), gateway) as nic:
        await nic.post(f"register/{MAC}")
        client = connect_to(gateway)
        await client.open_session(token)
        first = await client.answer_to(codes.GET, (options.OBSERVE, b""), proxy_uri())
        assert (first.payload, first.option(options.OBSERVE) is not None) == (b"first", True)
        await nic.fake.until(lambda: bool(nic.fake.observers))
        numbers = []
        for payload in (b"second", b"third"):
            nic.fake.notify(payload, 4)
            notification = await client.receive()
            assert notification.payload == payload
            numbers.append(notification.uint(options.OBSERVE))
        assert numbers[1] > numbers[0]
        answer = await client.answer_to(codes.GET, (options.OBSERVE, b"\x01"), proxy_uri())
        assert answer.code == codes.CONTENT
        await nic.fake.until(lambda: nic.fake.cancelled == 1)


async def test_both_may_restart(
    site: Site, settings_for: Any, running: Any, tmp_path: Path, token: str, connect_to: Any
) -> None:
    """Sequence numbers go on, and each asks the other once whether it is there now."""
    settings = settings_for(nic_oscore=NicOscore.REQUIRED)
    async with running(Gateway(settings, site)) as gateway:
        key, port = provision(gateway, site), gateway.coap_port
        nic = AiocoapNic(tmp_path / "nic", key, port)
        await nic.start()
        assert (await nic.bubble_up(1)).code == aiocoap.CHANGED
    again = settings.model_copy(update={"port": port})
    async with running(Gateway(again, site)) as gateway:
        assert (await nic.bubble_up(2)).code == aiocoap.CHANGED
        assert not refused(gateway)
        client = connect_to(gateway)
        await client.open_session(token)
        assert (await client.answer_to(codes.GET, proxy_uri())).payload == b"plain"
        await nic.stop()
        # Its replay window is lost, as after a power failure: it asks the gateway for an Echo.
        sequence = json.loads((tmp_path / "nic" / "sequence.json").read_text())
        (tmp_path / "nic" / "sequence.json").write_text(json.dumps(sequence | {"received": "unknown"}))
        await nic.start()
        assert (await client.answer_to(codes.GET, proxy_uri())).payload == b"plain"
        assert (await nic.bubble_up(3)).code == aiocoap.CHANGED
        assert depth(gateway) == 3
        await nic.stop()


class RawNic:
    """Protects with aiocoap, and shows each datagram."""

    def __init__(self, folder: Path, key: NicKey, raw: Any) -> None:
        self.state: Any = context_of(folder, key)
        self.raw = raw

    def protect(self, message: Message, mid: int, echo: bytes | None = None) -> tuple[bytes, Any]:
        theirs = to_theirs(message.code, message.options, message.payload)
        if echo is not None:
            theirs.opt.echo = echo
        outer, identifiers = self.state.protect(theirs)
        ours = to_ours(outer)
        return encode(Message(CON, ours.code, mid, b"tk", ours.options, ours.payload)), identifiers

    def open(self, answer: Message, identifiers: Any) -> Any:
        protected = to_theirs(answer.code, answer.options, answer.payload)
        protected.direction = Direction.INCOMING
        inner, _ = self.state.unprotect(protected, identifiers)
        return inner

    async def introduce(self, message: Message, mid: int) -> bytes:
        """The first request, with the echo that it is asked for; gives the datagram that was taken."""
        octets, identifiers = self.protect(message, mid)
        self.raw.send(octets)
        challenge = self.open(await self.raw.receive(), identifiers)
        assert challenge.code == aiocoap.UNAUTHORIZED
        octets, identifiers = self.protect(message, mid + 1, challenge.opt.echo)
        self.raw.send(octets)
        assert self.open(await self.raw.receive(), identifiers).code == aiocoap.CHANGED
        return octets


async def explained(gateway: Gateway, mac: DeviceId) -> str:
    base = f"http://127.0.0.1:{gateway.http_port}"
    return str((await asyncio.to_thread(CliRunner().invoke, explain_app, [mac.value, "--http", base])).output)


async def test_what_is_replayed_or_of_a_wrong_key_is_refused_and_told(
    gateway: Gateway, site: Site, tmp_path: Path, connect_to: Any, bubble_up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(site.state_dir))
    key, raw = provision(gateway, site), connect_to(gateway)
    nic = RawNic(tmp_path / "nic", key, raw)
    taken = await nic.introduce(bubble_up(observe=1), 100)
    raw.send(taken)
    again = await raw.receive()
    assert again.option(options.OSCORE) is not None, "the same message ID: the same answer once more"
    raw.send(taken[:2] + b"\x77\x77" + taken[4:])
    answer = await raw.receive()
    assert (answer.code, answer.payload) == (codes.UNAUTHORIZED, b"Replay detected")

    octets, _ = RawNic(tmp_path / "wrong", NicKey.generate(MAC), raw).protect(bubble_up(observe=2), 300)
    raw.send(octets)
    answer = await raw.receive()
    assert (answer.code, answer.payload) == (codes.BAD_REQUEST, b"Decryption failed")
    octets, _ = RawNic(tmp_path / "other", NicKey.generate(OTHER), raw).protect(bubble_up(OTHER, observe=2), 400)
    raw.send(octets)
    answer = await raw.receive()
    assert (answer.code, answer.payload) == (codes.UNAUTHORIZED, b"Security context not found")
    raw.send(encode(bubble_up(observe=3)))
    answer = await raw.receive()
    assert (answer.code, answer.payload) == (codes.UNAUTHORIZED, b"gateway: OSCORE is required")

    assert depth(gateway) == 1
    reasons = ["oscore-replay", "oscore-wrong-key", "oscore-no-key", "oscore-required"]
    assert refused(gateway) == dict.fromkeys(reasons, 1)
    shown = await explained(gateway, MAC)
    for reason in ("oscore-replay", "oscore-wrong-key", "oscore-required"):
        assert f"REFUSED  1 times: {reason}" in shown
    assert "oscore-no-key" in await explained(gateway, OTHER)
    sighting = gateway.registry.sighting(MAC)
    assert sighting is not None and nic_of(sighting.address) == MAC


async def test_damaged_protected_datagrams_are_answered_or_dropped(
    gateway: Gateway, site: Site, tmp_path: Path, connect_to: Any, bubble_up: Any
) -> None:
    raw = connect_to(gateway)
    nic = RawNic(tmp_path / "nic", provision(gateway, site), raw)
    await nic.introduce(bubble_up(observe=1), 100)
    octets, _ = nic.protect(bubble_up(observe=2), 200)
    for position in range(4, len(octets)):
        damaged = bytearray(octets)
        damaged[position] ^= 0x10
        damaged[2:4] = (0x5000 + position).to_bytes(2, "big")
        raw.send(bytes(damaged))
    octets, identifiers = nic.protect(bubble_up(observe=3), 999)
    raw.send(octets)
    while (answer := await raw.receive()).mid != 999:
        assert not codes.is_success(answer.code) or answer.option(options.OSCORE) is not None
    assert nic.open(answer, identifiers).code == aiocoap.CHANGED
    # A flipped bit of the token, or in an option that nobody looks at, changes nothing that is protected.
    assert depth(gateway) in (2, 3)


async def test_optional_lets_devices_without_a_key_speak_in_plain(
    gateway: Gateway, connect_to: Any, bubble_up: Any
) -> None:
    client = connect_to(gateway)
    client.send(encode(bubble_up(observe=1)))
    assert (await client.receive()).code == codes.CHANGED


async def test_required_refuses_everything_in_plain_in_both_directions(
    site: Site, settings_for: Any, running: Any, connect_to: Any, bubble_up: Any, token: str
) -> None:
    async with running(Gateway(settings_for(nic_oscore=NicOscore.REQUIRED), site)) as gateway:
        client = connect_to(gateway)
        client.send(encode(bubble_up(observe=1)))
        answer = await client.receive()
        assert (answer.code, answer.payload) == (codes.UNAUTHORIZED, b"gateway: OSCORE is required")
        registration = ((options.URI_PATH, b"register"), (options.URI_PATH, MAC.value.encode()))
        assert (await client.request(codes.POST, *registration)).code == codes.UNAUTHORIZED
        assert refused(gateway) == {"oscore-required": 2}
        gateway.registry.seen(MAC, Address("127.0.0.1", gateway.coap_port ^ 1), time.time())
        await client.open_session(token)
        answer = await client.answer_to(codes.GET, proxy_uri())
        assert answer.code == codes.SERVICE_UNAVAILABLE or answer.code == codes.GATEWAY_TIMEOUT
        assert b"no OSCORE key" in answer.payload


async def test_off_knows_nothing_of_keys(
    site: Site, settings_for: Any, running: Any, connect_to: Any, bubble_up: Any, tmp_path: Path
) -> None:
    async with running(Gateway(settings_for(), site)) as gateway:
        key, raw = provision(gateway, site), connect_to(gateway)
        raw.send(encode(bubble_up(observe=1)))
        assert (await raw.receive()).code == codes.CHANGED
        octets, _ = RawNic(tmp_path / "nic", key, raw).protect(bubble_up(observe=2), 200)
        raw.send(octets)
        assert (await raw.receive()).code in (codes.UNAUTHORIZED, codes.BAD_OPTION)
        sighting = gateway.registry.sighting(MAC)
        assert sighting is not None and nic_of(sighting.address) is None


@pytest.mark.slow
async def test_a_worker_refuses_plain_readings_too(
    site: Site, settings_for: Any, running: Any, connect_to: Any, bubble_up: Any, tmp_path: Path
) -> None:
    settings = settings_for(nic_oscore=NicOscore.REQUIRED, bridge=BridgeSettings(enabled=False, workers=2))
    async with running(Gateway(settings, site)) as gateway:
        raw = connect_to(gateway)
        nic = RawNic(tmp_path / "nic", provision(gateway, site), raw)
        raw.send(encode(bubble_up(observe=1)))
        assert (await raw.receive()).code == codes.UNAUTHORIZED
        await nic.introduce(bubble_up(observe=2), 200)


async def test_a_renewed_key_makes_the_old_one_worthless(
    gateway: Gateway, site: Site, tmp_path: Path, connect_to: Any, bubble_up: Any
) -> None:
    raw = connect_to(gateway)
    old = RawNic(tmp_path / "old", provision(gateway, site), raw)
    await old.introduce(bubble_up(observe=1), 100)
    new = RawNic(tmp_path / "new", provision(gateway, site, renew=True), raw)
    octets, _ = old.protect(bubble_up(observe=2), 200)
    raw.send(octets)
    assert (await raw.receive()).payload == b"Decryption failed"
    await new.introduce(bubble_up(observe=2), 300)
    gateway.registry.set_key(MAC, "")
    octets, _ = new.protect(bubble_up(observe=3), 400)
    raw.send(octets)
    assert (await raw.receive()).payload == b"Security context not found"
    raw.send(encode(bubble_up(observe=3, mid=500)))
    assert (await raw.receive()).code == codes.CHANGED


async def test_the_commands(gateway: Gateway, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is made once, written once, and nowhere in the clear."""
    monkeypatch.setenv("MESHWIRE_STATE", str(site.state_dir))
    base = ["--http", f"http://127.0.0.1:{gateway.http_port}"]

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, device_app, [*arguments, *base])

    out = tmp_path / "nic.json"
    assert (await run("provision", MAC.value, "--out", str(out))).exit_code == 0
    key = NicKey.load(out)
    assert key.mac == MAC
    second = await run("provision", MAC.value, "--out", str(tmp_path / "second.json"))
    assert second.exit_code != 0 and "has a key already" in str(second.exception)
    assert not (tmp_path / "second.json").exists()
    assert (await run("provision", MAC.value, "--out", str(out), "--renew")).exit_code != 0, "no file is written over"
    assert NicKey.load(out) == key
    shown = await run("provision", MAC.value, "--renew")
    assert NicKey.from_json(shown.output) != key
    assert json.loads((await run("show", MAC.value)).output)["has_key"] is True
    assert (await run("unprovision", MAC.value)).exit_code == 0
    assert json.loads((await run("show", MAC.value)).output)["has_key"] is False
    database = b"".join(path.read_bytes() for path in site.state_dir.rglob("*.db*"))
    assert key.secret not in database and key.secret.hex().encode() not in database
    assert key.secret.hex() not in (await run("export")).output


def test_a_key_is_sealed_for_its_device_and_by_its_site(tmp_path: Path) -> None:
    seal, key = Seal(Site(tmp_path / "a")), NicKey.generate(MAC)
    sealed = seal.close(key)
    assert Seal(Site(tmp_path / "a")).open(MAC, sealed) == key
    assert seal.open(OTHER, sealed) is None
    assert Seal(Site(tmp_path / "b")).open(MAC, sealed) is None
    assert seal.open(MAC, "rubbish") is None and seal.open(MAC, "") is None
    assert (tmp_path / "a" / "secrets" / "nic-keys").stat().st_mode & 0o777 == 0o600


async def test_a_device_keeps_its_key_when_it_is_provisioned_again_and_moved(gateway: Gateway, site: Site) -> None:
    provision(gateway, site)
    sealed = gateway.registry.record(MAC).sealed_key  # type: ignore[union-attr]
    assert sealed and gateway.registry.add_device(MAC, TenantId("acme"), type="OTHER").sealed_key == sealed
    assert gateway.registry.set_device(MAC, tags=["a"]).sealed_key == sealed
    theirs = gateway.registry.record(FOREIGN_MAC).tenant  # type: ignore[union-attr]
    assert gateway.registry.move_device(MAC, theirs).sealed_key == sealed
    assert sealed not in str(gateway.registry.record(MAC))
