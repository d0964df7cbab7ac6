"""What a forward proxy owes both sides: caching, blocks, one execution, shared observations, loops, discovery."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiocoap
import aiocoap.resource
import pytest
from fake_nic import HOST, MAC, FakeNic, proxy_uri, serving

from gateway.addresses import Address
from gateway.gateway import Gateway
from gateway.settings import ProxySettings
from meshwire.coap import ACK, CON, NON, RST, Message, codes, encode, options
from meshwire.coap.link_format import parse_links
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.site import Site

TENANT = TenantId("acme")
FOREIGN_MAC = DeviceId("001350050047dd92")


def content(payload: bytes, **more: Any) -> Any:
    return aiocoap.Message(code=aiocoap.CONTENT, payload=payload, **more)


# --- cache


async def test_a_fresh_answer_is_not_asked_for_again(nic: FakeNic, client: Any, connect: Any, token: str) -> None:
    nic.answers["snsr/arduino/temp"] = content(b"20.5", max_age=90, etag=b"v1")
    assert (await client.request(codes.GET, proxy_uri())).payload == b"20.5"
    other = connect()
    await other.open_session(token)
    again = await other.request(codes.GET, proxy_uri(host=HOST.lower()), (options.HOP_LIMIT, b"\x05"))
    assert (again.payload, again.option(options.ETAG)) == (b"20.5", b"v1")
    assert 88 <= (again.uint(options.MAX_AGE) or 0) <= 90
    valid = await other.request(codes.GET, proxy_uri(), (options.ETAG, b"v1"))
    assert (valid.code, valid.payload) == (codes.VALID, b"")
    assert len(nic.requests) == 1
    await other.request(codes.GET, proxy_uri("snsr/arduino/temp?cfg"))
    assert len(nic.requests) == 2, "another query is another representation"
    await client.request(codes.PUT, proxy_uri("snsr/arduino/temp?cfg=F"))
    await other.request(codes.GET, proxy_uri())
    assert len(nic.requests) == 4, "a change drops it"


async def test_without_max_age_every_read_reaches_the_board(nic: FakeNic, client: Any) -> None:
    for _ in range(2):
        await client.request(codes.GET, proxy_uri())
    assert len(nic.requests) == 2


async def test_a_stale_answer_is_asked_for_by_its_etag(nic: FakeNic, client: Any) -> None:
    nic.answers["snsr/arduino/temp"] = content(b"20.5", etag=b"v1")
    assert (await client.request(codes.GET, proxy_uri())).payload == b"20.5"
    nic.answers["snsr/arduino/temp"] = aiocoap.Message(code=aiocoap.VALID, etag=b"v1", max_age=60)
    answer = await client.request(codes.GET, proxy_uri())
    assert (answer.code, answer.payload, answer.uint(options.MAX_AGE)) == (codes.CONTENT, b"20.5", 60)
    assert nic.requests[1].opt.etags == (b"v1",)
    await client.request(codes.GET, proxy_uri())
    assert len(nic.requests) == 2


async def test_a_session_is_asked_for_before_the_cache(nic: FakeNic, client: Any, connect: Any, site: Site) -> None:
    nic.answers["snsr/arduino/temp"] = content(b"20.5", max_age=90)
    await client.request(codes.GET, proxy_uri())
    stranger = connect()
    assert (await stranger.request(codes.GET, proxy_uri())).code == codes.UNAUTHORIZED
    await stranger.open_session(site.signing_keys().issue(TenantId("other"), [], now=time.time()))
    assert (await stranger.request(codes.GET, proxy_uri())).code == codes.NOT_FOUND


# --- roles and sessions


@pytest.mark.parametrize("method", [codes.PUT, codes.POST, codes.DELETE, codes.PATCH, codes.IPATCH])
async def test_to_change_something_takes_a_role(nic: FakeNic, connect: Any, site: Site, method: int) -> None:
    client = connect()
    await client.open_session(site.signing_keys().issue(TENANT, [Role.BUBBLE_UP_READ_CONSUMER], now=time.time()))
    refused = await client.request(method, proxy_uri())
    assert (refused.code, refused.payload[:8]) == (codes.FORBIDDEN, b"gateway:")
    foreign = await client.request(method, proxy_uri(host=FOREIGN_MAC.value))
    assert (foreign.code, foreign.payload) == (refused.code, refused.payload), "it tells nothing of devices"
    assert (await client.request(codes.GET, proxy_uri())).code == codes.CONTENT
    assert len(nic.requests) == 1


async def test_ten_sessions_of_an_account(nic: FakeNic, connect: Any, token: str) -> None:
    clients = [connect() for _ in range(11)]
    for client in clients:
        await client.open_session(token)
    found = [(await client.request(codes.GET, proxy_uri())).code for client in clients]
    assert found == [codes.UNAUTHORIZED] + [codes.CONTENT] * 10


# --- repetitions


async def test_a_put_that_is_repeated_after_its_answer_reaches_the_board_once(nic: FakeNic, client: Any) -> None:
    put = Message(CON, codes.PUT, 0x4242, b"once", (proxy_uri("snsr/arduino/temp?cfg=C"),))
    answers = set()
    for _ in range(5):
        client.send(encode(put))
        answers.add(encode(await client.receive()))
    assert len(answers) == len(nic.requests) == 1


acknowledged_soon = pytest.mark.parametrize("proxy", [ProxySettings(empty_ack_s=0.15, timeout_s=60)], indirect=True)


@acknowledged_soon
async def test_a_separate_answer_is_repeated_until_it_is_acknowledged(nic: FakeNic, client: Any) -> None:
    nic.may_answer.clear()
    assert (await client.request(codes.GET, proxy_uri())).code == codes.EMPTY
    nic.may_answer.set()
    first = await client.receive()
    again = await client.receive()
    assert first == again
    client.send(encode(Message(ACK, codes.EMPTY, first.mid)))


@acknowledged_soon
async def test_no_response_is_heeded(nic: FakeNic, client: Any) -> None:
    put = Message(NON, codes.PUT, 7, b"quiet", (proxy_uri(), (options.NO_RESPONSE, b"\x1a")))
    client.send(encode(put))
    await nic.until(lambda: len(nic.requests) == 1)
    await client.silence()
    assert (await client.request(codes.PUT, proxy_uri(), (options.NO_RESPONSE, b"\x02"))).code == codes.EMPTY


# --- blocks


async def test_an_upload_in_blocks_reaches_the_device_whole(nic: FakeNic, client: Any) -> None:
    body = bytes(range(100))
    for number in range(7):
        part = body[number * 16 : number * 16 + 16]
        block = options.encode_uint(number << 4 | (8 if number < 6 else 0))
        answer = await client.request(codes.PUT, proxy_uri(), (options.BLOCK1, block), payload=part)
        assert answer.option(options.BLOCK1) == block
        assert answer.code == (codes.CONTINUE if number < 6 else codes.CONTENT)
    assert [request.payload for request in nic.requests] == [body]


async def test_a_missing_block_4_08_and_a_body_that_is_too_large_4_13(nic: FakeNic, client: Any) -> None:
    late = (options.BLOCK1, options.encode_uint(3 << 4))
    assert (await client.request(codes.PUT, proxy_uri(), late, payload=b"x")).code == codes.REQUEST_ENTITY_INCOMPLETE
    far = (options.BLOCK1, options.encode_uint(1000 << 4 | 8 | 6))
    answer = await client.request(codes.PUT, proxy_uri(), far, payload=bytes(1024))
    assert (answer.code, answer.uint(options.SIZE1)) == (codes.REQUEST_ENTITY_TOO_LARGE, 256 << 10)
    assert nic.requests == []


async def test_a_large_body_passes_both_ways(gateway: Gateway, token: str) -> None:
    """Against aiocoap on both sides: 5000 octets up in blocks, 6000 down in blocks."""

    class Echo(aiocoap.resource.Resource):
        async def render_put(self, request: Any) -> Any:
            got.append(request.payload)
            return content(bytes(6000))

    got: list[bytes] = []
    site = aiocoap.resource.Site()
    site.add_resource(["big"], Echo())
    server = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", 0), transports=["udp6"])
    sock = server.request_interfaces[0].token_interface.message_interface.transport.get_extra_info("socket")
    gateway.registry.seen(MAC, Address("127.0.0.1", sock.getsockname()[1]), time.time())
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    try:
        to_gateway = f"coap://127.0.0.1:{gateway.coap_port}"
        session = aiocoap.Message(code=aiocoap.POST, uri=f"{to_gateway}/sessions", payload=token.encode())
        assert (await context.request(session).response).code.is_successful()
        request = aiocoap.Message(code=aiocoap.PUT, uri=to_gateway, payload=bytes(range(250)) * 20)
        request.opt.proxy_uri = f"coap://{HOST}:4849/big"
        answer = await context.request(request).response
        assert (answer.payload, got) == (bytes(6000), [bytes(range(250)) * 20])
    finally:
        await context.shutdown()
        await server.shutdown()


# --- hops


async def test_an_address_that_is_the_gateways_own_5_08(gateway: Gateway, client: Any) -> None:
    gateway.registry.seen(MAC, Address("127.0.0.1", gateway.coap_port), time.time())
    for pairs in ((), ((options.OBSERVE, b""),)):
        answer = await client.request(codes.GET, proxy_uri(), *pairs)
        assert (answer.code, answer.payload) == (codes.HOP_LIMIT_REACHED, b"gateway")


async def test_a_later_hop_limit_names_all_hops(nic: FakeNic, client: Any) -> None:
    nic.answers["snsr/arduino/temp"] = aiocoap.Message(code=aiocoap.numbers.codes.Code(0xA8), payload=b"nic")
    answer = await client.request(codes.GET, proxy_uri(), (options.HOP_LIMIT, b"\x02"))
    assert (answer.code, answer.payload) == (codes.HOP_LIMIT_REACHED, b"gateway nic")
    assert (await client.request(codes.GET, proxy_uri(), (options.HOP_LIMIT, b""))).code == codes.BAD_REQUEST


# --- shared observations


async def observe(client: Any, token: bytes, *pairs: tuple[int, bytes]) -> Message:
    answer: Message = await client.request(
        codes.GET, (options.OBSERVE, b""), *pairs, proxy_uri(), token=token, mtype=NON
    )
    return answer


async def test_many_observers_share_one_observation(nic: FakeNic, client: Any, connect: Any, token: str) -> None:
    other = connect()
    await other.open_session(token)
    assert (await observe(client, b"a")).payload == b"first"
    assert (await observe(other, b"b")).payload == b"first"
    assert (await observe(other, b"c", (options.BLOCK2, b"\x03"))).payload == b"first"
    assert len(nic.observers) == 1 and len(nic.requests) == 1
    await observe(other, b"d", (options.ACCEPT, b"\x3c"))
    assert len(nic.observers) == 2, "another format is another observation"
    nic.notify(b"second", 9)
    assert (await client.receive()).token == b"a"
    got = [await other.receive() for _ in range(3)]
    assert {(one.token, one.payload, one.uint(options.OBSERVE)) for one in got} == {
        (name, b"second", 9) for name in (b"b", b"c", b"d")
    }
    late = await observe(client, b"e")
    assert (late.payload, late.uint(options.OBSERVE)) == (b"second", 9), "who comes later gets the last state"
    for one in got[:2]:
        other.send(encode(Message(RST, codes.EMPTY, one.mid)))
    await asyncio.sleep(0)
    nic.notify(b"third", 10)
    assert {(await client.receive()).payload for _ in range(2)} == {b"third"}
    assert len(nic.observers) >= 1
    await client.request(codes.DELETE, path="sessions")
    await other.request(codes.DELETE, path="sessions")
    await nic.until(lambda: not nic.observers)
    assert nic.cancelled == 2, "the last one to go ends it at the device"


async def test_beyond_the_limit_a_client_gets_the_state_alone(
    site: Site, settings_for: Any, running: Any, connect_to: Any, token: str
) -> None:
    async with running(Gateway(settings_for(proxy={"max_observers": 1}), site)) as gateway, serving(FakeNic()) as nic:
        gateway.registry.seen(MAC, Address("127.0.0.1", nic.port), time.time())
        client = connect_to(gateway)
        await client.open_session(token)
        assert (await observe(client, b"a")).payload == b"first"
        second = await observe(client, b"b")
        assert (second.payload, second.option(options.OBSERVE)) == (b"plain", None)
        held = {"observations": 1, "observers": 1, "cached": 0, "cachedOctets": 0}
        assert held.items() <= gateway.status()["proxy"].items()  # type: ignore[attr-defined]


async def test_a_move_is_invisible_to_all(nic: FakeNic, client: Any, gateway: Gateway) -> None:
    await observe(client, b"a")
    await observe(client, b"b")
    async with serving(FakeNic()) as moved:
        gateway.registry.seen(MAC, Address("127.0.0.1", moved.port), time.time())
        await moved.until(lambda: len(moved.observers) == 1)
        moved.notify(b"after", 4)
        got = [await client.receive() for _ in range(2)]
        assert {one.token for one in got} == {b"a", b"b"}
        assert {(one.payload, one.uint(options.OBSERVE)) for one in got} == {(b"after", 5)}
    assert nic.cancelled == 1


# --- discovery


async def test_the_gateways_links_can_be_filtered(connect: Any) -> None:
    client = connect()
    all_of_them = await client.request(codes.GET, path=".well-known/core")
    targets = {link.target for link in parse_links(all_of_them.payload.decode())}
    assert targets == {"/sessions", "/.well-known/core", "/rd-lookup/ep", "/rd-lookup/res"}
    some = await client.request(codes.GET, (options.URI_QUERY, b"rt=core.rd*"), path=".well-known/core")
    assert [link.target for link in parse_links(some.payload.decode())] == ["/rd-lookup/ep", "/rd-lookup/res"]
    one = await client.request(codes.GET, (options.URI_QUERY, b"href=/sessions"), path=".well-known/core")
    assert one.payload.startswith(b"</sessions>")


async def test_the_directory_tells_of_the_tenants_devices_alone(nic: FakeNic, client: Any, connect: Any) -> None:
    nic.answers[".well-known/core"] = content(b'</snsr/arduino/temp>;rt="temperature";obs,</date>', content_format=40)
    for path in ("rd-lookup/ep", "rd-lookup/res", f"rd/{MAC}"):
        assert (await connect().request(codes.GET, path=path)).code == codes.UNAUTHORIZED
    endpoints = parse_links((await client.answer_to(codes.GET, path="rd-lookup/ep")).payload.decode())
    assert [link.values("ep") for link in endpoints] == [[MAC.value]]
    assert endpoints[0].values("base") == [f"coap://{HOST}:4849"]
    found = parse_links((await client.answer_to(codes.GET, path="rd-lookup/res")).payload.decode())
    assert [link.target for link in found] == [
        f"coap://{HOST}:4849/snsr/arduino/temp",
        f"coap://{HOST}:4849/date",
    ]
    query = ((options.URI_QUERY, b"rt=temperature"), (options.URI_QUERY, f"ep={MAC}".encode()))
    found = parse_links((await client.answer_to(codes.GET, *query, path="rd-lookup/res")).payload.decode())
    assert len(found) == 1 and len(nic.requests) == 1, "asked for at most once a minute"
    assert (await client.answer_to(codes.GET, path=f"rd/{FOREIGN_MAC}")).code == codes.NOT_FOUND
    assert (await client.answer_to(codes.GET, (options.URI_QUERY, b"ep=nobody"), path="rd-lookup/ep")).payload == b""


async def test_a_large_directory_comes_in_blocks(gateway: Gateway, client: Any) -> None:
    for number in range(40):
        gateway.registry.add_device(DeviceId(f"00135005004a{number:04x}"), TENANT)
    body, number = b"", 0
    while True:
        block = (options.BLOCK2, options.encode_uint(number << 4 | 5))
        answer = await client.answer_to(codes.GET, block, path="rd-lookup/ep")
        body += answer.payload
        if not (answer.uint(options.BLOCK2) or 0) & 8:
            break
        number += 1
    assert len(parse_links(body.decode())) == 41
