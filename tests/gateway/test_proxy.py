"""The forward proxy against a device: sessions, tenants, options, the vendor client's own datagrams, slow answers."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import aiocoap
import pytest
from fake_nic import HOST, MAC, FakeNic, proxy_uri, serving
from free_ports import free_port

from gateway.addresses import Address
from gateway.gateway import Gateway
from gateway.settings import ProxySettings
from meshwire.coap import ACK, CON, NON, RST, Message, codes, encode, options
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

FOREIGN_MAC = DeviceId("001350050047dd92")
UNKNOWN_MAC = DeviceId("0013500500ffffff")


# --- who may


async def test_without_a_session_4_01(nic: FakeNic, connect: Any) -> None:
    answer = await connect().request(codes.GET, proxy_uri())
    assert (answer.mtype, answer.code) == (ACK, codes.UNAUTHORIZED)
    assert nic.requests == []


async def test_a_session_belongs_to_one_source(nic: FakeNic, client: Any, connect: Any) -> None:
    assert (await client.request(codes.GET, proxy_uri())).code == codes.CONTENT
    assert (await connect().request(codes.GET, proxy_uri())).code == codes.UNAUTHORIZED


async def test_after_delete_4_01(nic: FakeNic, client: Any) -> None:
    assert (await client.request(codes.DELETE, path="sessions")).code == codes.DELETED
    assert (await client.request(codes.GET, proxy_uri())).code == codes.UNAUTHORIZED
    assert (await client.request(codes.DELETE, path="sessions")).code == codes.DELETED


async def test_unknown_and_foreign_devices_are_the_same_octets(nic: FakeNic, client: Any, gateway: Gateway) -> None:
    gateway.registry.seen(FOREIGN_MAC, Address("127.0.0.1", nic.port), time.time())
    answers = set()
    for host in (f"SSN{FOREIGN_MAC}.x.net", f"ssn{UNKNOWN_MAC}.x.net", FOREIGN_MAC.value, "example.com", "[::1]"):
        answer = await client.request(codes.GET, proxy_uri(host=host))
        answers.add(encode(Message(answer.mtype, answer.code, 0, answer.token, answer.options, answer.payload)))
    gateway.registry.add_device(MAC, TenantId("acme"), enabled=False)
    answer = await client.request(codes.GET, proxy_uri())
    answers.add(encode(Message(answer.mtype, answer.code, 0, answer.token, answer.options, answer.payload)))
    assert len(answers) == 1
    assert answer.code == codes.NOT_FOUND
    assert nic.requests == []


async def test_a_wrong_token_opens_no_session(connect: Any, token: str) -> None:
    client = connect()
    for payload in (b"", b"rubbish", token[:-8].encode() + b"AAAAAAAA", b"\xff\xfe"):
        answer = await client.request(codes.POST, path="sessions", payload=payload)
        assert answer.code == codes.UNAUTHORIZED
    assert (await client.request(codes.GET, proxy_uri())).code == codes.UNAUTHORIZED


async def test_a_password_account_opens_a_session(nic: FakeNic, gateway: Gateway, connect: Any) -> None:
    gateway.registry.add_account("operator", "right", TenantId("acme"), [])
    client = connect()
    query = [(options.URI_QUERY, text) for text in (b"user=operator", b"pass=wrong", b"sticky=true")]
    assert (await client.answer_to(codes.POST, *query, path="sessions")).code == codes.UNAUTHORIZED
    query[1] = (options.URI_QUERY, b"pass=right")
    assert (await client.answer_to(codes.POST, *query, path="sessions")).code == codes.CREATED
    assert (await client.request(codes.GET, proxy_uri())).code == codes.CONTENT


async def test_an_access_token_serves_one_request_and_is_not_forwarded(nic: FakeNic, connect: Any, token: str) -> None:
    client = connect()
    answer = await client.request(codes.GET, proxy_uri(f"snsr/arduino/temp?sens&access_token={token}"))
    assert answer.code == codes.CONTENT
    assert nic.requests[0].opt.uri_query == ("sens",)
    assert (await client.request(codes.GET, proxy_uri())).code == codes.UNAUTHORIZED


async def test_an_administrator_reaches_every_tenants_devices(nic: FakeNic, connect: Any, site: Site) -> None:
    client = connect()
    await client.open_session(site.signing_keys().issue(TenantId("ssni"), [], now=time.time(), scope="api admin"))
    assert (await client.request(codes.GET, proxy_uri())).code == codes.CONTENT


# --- what passes


async def test_what_passes_and_what_is_taken_out(nic: FakeNic, client: Any) -> None:
    nic.answers["snsr/arduino/temp"] = aiocoap.Message(
        code=aiocoap.CHANGED, payload=b"ok", etag=b"\x01\x02", max_age=30, content_format=60
    )
    answer = await client.request(
        codes.PUT,
        (options.ETAG, b"tag"),
        (options.CONTENT_FORMAT, b"\x2a"),
        (options.ACCEPT, b"\x3c"),
        (options.HOP_LIMIT, b"\x09"),
        (options.BLOCK1, b"\x03"),
        proxy_uri("snsr/arduino/temp?cfg=C&x=%41b"),
        (options.ENDPOINT_ID, b"1234"),
        (2048, b"safe"),
        payload=b"\x00\x01",
    )
    got = nic.requests[0]
    numbers = [(int(option.number), option.encode()) for option in got.opt.option_list()]
    assert numbers == [
        (options.ETAG, b"tag"),
        *[(options.URI_PATH, part) for part in (b"snsr", b"arduino", b"temp")],
        (options.CONTENT_FORMAT, b"\x2a"),
        (options.URI_QUERY, b"cfg=C"),
        (options.URI_QUERY, b"x=Ab"),
        (options.HOP_LIMIT, b"\x08"),
        (options.ACCEPT, b"\x3c"),
        (2048, b"safe"),
    ]
    assert (int(got.code), got.payload) == (codes.PUT, b"\x00\x01")
    assert (answer.code, answer.payload) == (codes.CHANGED, b"ok")
    assert answer.options == (
        (options.ETAG, b"\x01\x02"),
        (options.CONTENT_FORMAT, b"\x3c"),
        (options.MAX_AGE, b"\x1e"),
        (options.BLOCK1, b"\x03"),
    )


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([(options.PROXY_URI, b"http://SSN001350050047dc9a.x/")], codes.PROXYING_NOT_SUPPORTED),
        ([(options.PROXY_URI, b"snsr/arduino")], codes.BAD_OPTION),
        ([proxy_uri(), (2051, b"unsafe and critical")], codes.BAD_OPTION),
        ([proxy_uri(), (options.HOP_LIMIT, b"\x01")], codes.HOP_LIMIT_REACHED),
    ],
)
async def test_what_can_not_be_forwarded(nic: FakeNic, client: Any, pairs: list[Any], code: int) -> None:
    answer = await client.request(codes.GET, *pairs)
    assert answer.code == code and (code == codes.HOP_LIMIT_REACHED or answer.payload.startswith(b"gateway: "))
    assert nic.requests == []


async def test_proxy_scheme_with_uri_host(nic: FakeNic, client: Any) -> None:
    answer = await client.request(
        codes.GET,
        (options.URI_HOST, HOST.lower().encode()),
        (options.URI_PORT, b"\x12\xf1"),
        (options.URI_QUERY, b"sens"),
        (options.PROXY_SCHEME, b"coap"),
        path="snsr/arduino/temp",
    )
    assert answer.code == codes.CONTENT
    got = nic.requests[0].opt
    assert (got.uri_path, got.uri_query) == (("snsr", "arduino", "temp"), ("sens",))
    assert (got.uri_host, got.uri_port, got.proxy_scheme) == (None, None, None)


# --- slow, silent and absent devices


acknowledged_soon = pytest.mark.parametrize("proxy", [ProxySettings(empty_ack_s=0.15, timeout_s=60)], indirect=True)


@acknowledged_soon
async def test_a_slow_answer_comes_apart_from_its_acknowledgement(nic: FakeNic, client: Any) -> None:
    nic.may_answer.clear()
    begun = time.monotonic()
    ack = await client.request(codes.GET, proxy_uri(), token=b"slow")
    assert (ack.mtype, ack.code, ack.token) == (ACK, codes.EMPTY, b"")
    assert time.monotonic() - begun >= 0.14
    nic.may_answer.set()
    answer = await client.receive()
    assert (answer.mtype, answer.code, answer.token) == (CON, codes.CONTENT, b"slow")
    client.send(encode(Message(ACK, codes.EMPTY, answer.mid)))
    await client.silence()


@acknowledged_soon
async def test_non_is_answered_non_without_acknowledgement(nic: FakeNic, client: Any) -> None:
    nic.may_answer.clear()
    asyncio.get_running_loop().call_later(0.3, nic.may_answer.set)
    answer = await client.request(codes.GET, proxy_uri(), mtype=NON, token=b"non")
    assert (answer.mtype, answer.code, answer.token) == (NON, codes.CONTENT, b"non")


@acknowledged_soon
async def test_a_repeated_put_reaches_the_device_once(nic: FakeNic, client: Any) -> None:
    nic.may_answer.clear()
    put = Message(CON, codes.PUT, 0x4242, b"once", (proxy_uri("snsr/arduino/temp?cfg=C"),))
    client.send(encode(put))
    client.send(encode(put))
    assert (await client.receive()).code == codes.EMPTY
    nic.may_answer.set()
    while (answer := await client.receive()).code == codes.EMPTY:
        pass  # the repetition's
    assert answer.code == codes.CONTENT and len(nic.requests) == 1


async def test_a_device_without_address_5_03(client: Any) -> None:
    answer = await client.request(codes.GET, proxy_uri())
    assert (answer.code, answer.uint(options.MAX_AGE)) == (codes.SERVICE_UNAVAILABLE, 10)
    assert answer.payload.startswith(b"gateway: device is not reachable")


async def test_nobody_at_the_address_5_03(gateway: Gateway, client: Any) -> None:
    gateway.registry.seen(MAC, Address("127.0.0.1", free_port(socket.SOCK_DGRAM)), time.time())
    answer = await client.request(codes.GET, proxy_uri())
    assert answer.code == codes.SERVICE_UNAVAILABLE and b"gateway: " in answer.payload


@pytest.mark.parametrize("proxy", [ProxySettings(empty_ack_s=0.15, timeout_s=1)], indirect=True)
async def test_no_answer_in_time_5_04(nic: FakeNic, client: Any) -> None:
    nic.may_answer.clear()
    assert (await client.request(codes.GET, proxy_uri())).code == codes.EMPTY
    answer = await client.receive()
    assert answer.code == codes.GATEWAY_TIMEOUT
    assert answer.payload == b"gateway: no answer from the device (1 s)"


# --- observe


async def observe(client: Any, mtype: int = CON) -> Message:
    return await client.request(codes.GET, (options.OBSERVE, b""), proxy_uri(), mtype=mtype, token=b"ob")


@pytest.mark.parametrize("mtype", [CON, NON])
async def test_notifications_pass_and_a_reset_ends_it(nic: FakeNic, client: Any, mtype: int) -> None:
    first = await observe(client, mtype)
    assert (first.code, first.payload, first.uint(options.OBSERVE)) == (codes.CONTENT, b"first", 3)
    for number, payload in ((4, b"second"), (6, b"third")):
        nic.notify(payload, number, max_age=90, content_format=60)
        notification = await client.receive()
        assert (notification.mtype, notification.code) == (mtype, codes.CONTENT)
        assert (notification.token, notification.payload) == (b"ob", payload)
        assert notification.uint(options.OBSERVE) == number
        assert (notification.uint(options.MAX_AGE), notification.uint(options.CONTENT_FORMAT)) == (90, 60)
        if mtype == CON:
            client.send(encode(Message(ACK, codes.EMPTY, notification.mid)))
    nic.notify(b"fourth", 7)
    notification = await client.receive()
    client.send(encode(Message(RST, codes.EMPTY, notification.mid)))
    await nic.until(lambda: not nic.observers)
    assert nic.cancelled == 1
    await client.silence()


async def test_an_empty_2_03_passes_as_first_answer(nic: FakeNic, client: Any) -> None:
    nic.first = (codes.VALID, b"")
    first = await observe(client)
    assert (first.code, first.payload, first.uint(options.OBSERVE)) == (codes.VALID, b"", 3)
    nic.notify(b"value", 4)
    assert (await client.receive()).payload == b"value"


async def test_observe_1_ends_it(nic: FakeNic, client: Any) -> None:
    await observe(client)
    answer = await client.request(codes.GET, (options.OBSERVE, b"\x01"), proxy_uri(), token=b"ob")
    assert (answer.code, answer.payload, answer.option(options.OBSERVE)) == (codes.CONTENT, b"plain", None)
    await nic.until(lambda: not nic.observers)


async def test_the_sessions_end_ends_it(nic: FakeNic, client: Any) -> None:
    await observe(client)
    await client.request(codes.DELETE, path="sessions")
    answer = await client.receive()
    assert (answer.code, answer.token) == (codes.UNAUTHORIZED, b"ob")
    await nic.until(lambda: not nic.observers)


async def test_the_end_of_the_requests_own_token_ends_it(nic: FakeNic, connect: Any, site: Site) -> None:
    client, keys = connect(), site.signing_keys()
    for ttl_s in (2, 10, 50):  # a busy machine may take longer to ask than a token lives
        token = keys.issue(TenantId("acme"), [], now=time.time(), ttl_s=ttl_s)
        uri = proxy_uri(f"snsr/arduino/temp?sens&access_token={token}")
        if (answer := await client.request(codes.GET, (options.OBSERVE, b""), uri)).payload == b"first":
            break
    assert answer.payload == b"first"
    assert (await client.receive()).code == codes.UNAUTHORIZED
    await nic.until(lambda: not nic.observers)


async def test_a_device_that_moved_is_observed_again(nic: FakeNic, client: Any, gateway: Gateway) -> None:
    await observe(client)
    nic.notify(b"high", 900)
    high = await client.receive()
    client.send(encode(Message(ACK, codes.EMPTY, high.mid)))
    async with serving(FakeNic()) as moved:
        moved.first = (codes.VALID, b"")
        gateway.registry.seen(MAC, Address("127.0.0.1", moved.port), time.time())
        await moved.until(lambda: bool(moved.observers))
        await nic.until(lambda: not nic.observers)
        moved.notify(b"after", 4)
        after = await client.receive()
        assert after.payload == b"after"
        number = after.uint(options.OBSERVE)
        assert number is not None and number > 900


@pytest.mark.parametrize("change", ["disabled", "moved", "removed"])
async def test_who_has_a_device_no_longer_observes_it_no_longer(
    nic: FakeNic, client: Any, gateway: Gateway, change: str
) -> None:
    await observe(client)
    if change == "disabled":
        gateway.registry.set_device(MAC, enabled=False)
    elif change == "moved":
        gateway.registry.move_device(MAC, TenantId("other"))
    else:
        gateway.registry.remove_device(MAC)
    gateway.registry.refresh()
    last = await client.receive()
    assert last.code == codes.NOT_FOUND
    await nic.until(lambda: not nic.observers)


async def test_a_device_that_started_anew_is_observed_again(nic: FakeNic, client: Any, gateway: Gateway) -> None:
    await observe(client)
    address, now = Address("127.0.0.1", nic.port), time.time()
    gateway.registry.registered(MAC, address, now, 60.0)
    await nic.until(lambda: len(nic.requests) == 1)
    nic.first = (codes.CONTENT, b"anew")
    gateway.registry.registered(MAC, address, now + 20, 60.0)
    answer = await client.receive()
    assert (answer.payload, answer.uint(options.OBSERVE)) == (b"anew", 4)


async def test_observations_are_counted_by_state(
    nic: FakeNic, client: Any, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.observations.FIRST_RETRY_S", 3600.0)

    def counts() -> list[Any]:
        proxy: Any = gateway.status()["proxy"]
        return [proxy[f"observations{state}"] for state in ("Established", "Asking", "Lost")]

    nic.may_answer.clear()
    answered = asyncio.create_task(observe(client))
    await nic.until(lambda: len(nic.requests) == 1)
    assert counts() == [0, 1, 0]
    nic.may_answer.set()
    await nic.until(lambda: counts() == [1, 0, 0])
    await answered
    nic.observers[0].add_response(aiocoap.Message(code=aiocoap.SERVICE_UNAVAILABLE), is_last=True)
    await nic.until(lambda: counts() == [0, 0, 1])


# --- the gateway's own resources


async def test_well_known_core_names_the_sessions(connect: Any) -> None:
    for host in ("127.0.0.1", "::1"):
        answer = await connect(host).request(codes.GET, path=".well-known/core")
        assert answer.uint(options.CONTENT_FORMAT) == options.LINK_FORMAT
        assert b"</sessions>" in answer.payload


async def test_unknown_paths_and_options(connect: Any) -> None:
    client = connect()
    assert (await client.request(codes.GET, path="nothing")).code == codes.NOT_FOUND
    assert (await client.request(codes.GET, path="sessions")).code == codes.METHOD_NOT_ALLOWED
    assert (await client.request(codes.GET, (options.IF_MATCH, b"x"), path=".well-known/core")).code == codes.BAD_OPTION
    answer = await client.request(codes.GET, (options.URI_PATH, b"\xff\xfe"))
    assert answer.code == codes.BAD_OPTION


async def test_a_ping_is_answered_by_reset(connect: Any) -> None:
    client = connect()
    client.send(bytes.fromhex("40001234"))
    assert encode(await client.receive()) == bytes.fromhex("70001234")


async def test_who_changes_something_stands_in_the_audit_log(nic: FakeNic, client: Any, gateway: Gateway) -> None:
    await client.answer_to(codes.PUT, proxy_uri(), payload=b"1")
    await client.answer_to(codes.GET, proxy_uri())
    (entry,) = gateway.registry.audit.entries(action="command.")
    assert (entry.action, entry.subject, entry.tenant) == ("command.put", MAC.value, "acme")
    assert entry.by and entry.detail["path"].startswith("snsr/") and entry.detail["via"] == "coap"
