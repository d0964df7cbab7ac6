"""The forward proxy against a device: sessions, tenants, options, the vendor client's own datagrams, slow answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiocoap
import pytest

from gateway.addresses import Address
from gateway.gateway import Gateway
from meshwire.coap import ACK, CON, NON, RST, Message, codes, encode, options
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.site import Site

MAC = DeviceId("001350050047dc9a")
FOREIGN_MAC = DeviceId("001350050047dd92")
UNKNOWN_MAC = DeviceId("0013500500ffffff")
HOST = f"SSN{MAC}.SG.YEL01.SSN.SSNSGS.NET"


class FakeNic:
    """A device: answers from a table, remembers what came, sends notifications when told."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.delay_s = 0.0
        self.answers: dict[str, Any] = {}
        self.observers: list[Any] = []
        self.cancelled = 0
        self.first = (codes.CONTENT, b"first")
        self.port = 0

    async def render_to_pipe(self, pipe: Any) -> None:
        request = pipe.request
        self.requests.append(request)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if request.opt.observe == 0:
            await self._observe(pipe)
            return
        answer = self.answers.get("/".join(request.opt.uri_path))
        if answer is None:
            answer = aiocoap.Message(code=aiocoap.CONTENT, payload=b"plain")
        pipe.add_response(answer, is_last=True)

    async def _observe(self, pipe: Any) -> None:
        code, payload = self.first
        pipe.add_response(aiocoap.Message(code=code, payload=payload, observe=3), is_last=False)
        self.observers.append(pipe)
        try:
            await asyncio.Event().wait()
        finally:
            self.observers.remove(pipe)
            self.cancelled += 1

    def notify(self, payload: bytes, observe: int, **options: Any) -> None:
        for pipe in self.observers:
            pipe.add_response(aiocoap.Message(code=aiocoap.CONTENT, payload=payload, observe=observe, **options))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - the condition is in another task's hands, and has no event
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(nic: FakeNic, port: int = 0) -> AsyncIterator[FakeNic]:
    context = await aiocoap.Context.create_server_context(nic, bind=("127.0.0.1", port), transports=["udp6"])
    sock = context.request_interfaces[0].token_interface.message_interface.transport.get_extra_info("socket")
    nic.port = sock.getsockname()[1]
    try:
        yield nic
    finally:
        await context.shutdown()


@pytest.fixture
async def nic(gateway: Gateway) -> AsyncIterator[FakeNic]:
    async with serving(FakeNic()) as nic:
        gateway.registry.seen(MAC, Address("127.0.0.1", nic.port), time.time())
        yield nic


@pytest.fixture
def token(site: Site) -> str:
    return site.signing_keys().issue(TenantId("acme"), [Role.COMMAND_CLIENT], now=time.time())


@pytest.fixture
async def client(connect: Any, token: str) -> Any:
    client = connect()
    await client.open_session(token)
    return client


def proxy_uri(path: str = "snsr/arduino/temp?sens", host: str = HOST) -> tuple[int, bytes]:
    return (options.PROXY_URI, f"coap://{host}:4849/{path}".encode())


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


# --- the vendor client's datagrams, octet for octet (dialect D.2 and D.3)

JAVA_SESSION_BY_NAME = bytes.fromhex(
    "48 02 c2 ca c2 b8 e4 76 7a b7 e2 f1 3d 16 61 70 69 2e 63 6f 61 70 2d 73 74 61 67 69 6e 67 2e 64 65 76 65 6c 6f 70"
    "65 72 2e 73 73 6e 69 2e 63 6f 6d 88 73 65 73 73 69 6f 6e 73 10 30 d4 60 c3 74 c2 12 ff"
)
JAVA_SESSION_BY_ADDRESS = bytes.fromhex(
    "48 02 b1 67 b1 73 3e 33 3b ea b4 0a b8 73 65 73 73 69 6f 6e 73 40 d4 60 b2 69 d1 11"
)
JAVA_SESSION_CAAS = bytes.fromhex(
    "48 02 a9 a1 a9 ad 0a 7e 6f 9b d8 dc b8 73 65 73 73 69 6f 6e 73 46 75 73 65 72 3d 75 06 70 61 73 73 3d 70 0b 73 74"
    "69 63 6b 79 3d 74 72 75 65 d4 60 a9 d0 44 0b"
)
JAVA_DELETE = bytes.fromhex("48 04 fa 54 fa 66 43 de 71 4c 01 6b b8 73 65 73 73 69 6f 6e 73 40 d4 60 fa 83 9e 7f")
JAVA_GET_CON = bytes.fromhex(
    "48 01 c5 ff c6 0a fd 57 6f bc c4 d4 d1 0a 03 cd 41 63 6f 61 70 3a 2f 2f 53 53 4e 30 30 31 33 35 30 30 35 30 30 34"
    "37 64 63 39 61 2e 53 47 2e 59 45 4c 30 31 2e 53 53 4e 2e 53 53 4e 53 47 53 2e 4e 45 54 3a 34 38 34 39 2f 73 6e 73"
    "72 2f 61 72 64 75 69 6e 6f 2f 65 63 68 6f 3f 73 65 6e 73 d4 4c c6 51 70 72"
)
JAVA_GET_NON = bytes.fromhex(
    "58 01 f9 11 f9 1d 44 30 4d 3d e4 4f d1 0a 03 cd 2c 63 6f 61 70 3a 2f 2f 53 53 4e 30 30 31 33 35 30 30 35 30 30 34"
    "37 64 63 39 61 2e 53 47 2e 59 45 4c 30 31 2e 53 53 4e 2e 53 53 4e 53 47 53 2e 4e 45 54 3a 34 38 34 39 2f 3f d4 4c"
    "f9 52 1a 84"
)
JAVA_OBSERVE = bytes.fromhex(
    "48 01 b2 c2 b7 c2 a6 1f 13 a7 17 9d 60 d1 04 03 cd 41 63 6f 61 70 3a 2f 2f 53 53 4e 30 30 31 33 35 30 30 35 30 30"
    "34 37 64 63 39 61 2e 53 47 2e 59 45 4c 30 31 2e 53 53 4e 2e 53 53 4e 53 47 53 2e 4e 45 54 3a 34 38 34 39 2f 73 6e"
    "73 72 2f 61 72 64 75 69 6e 6f 2f 65 63 68 6f 3f 73 65 6e 73 d4 4c b2 f1 c7 ca"
)
JAVA_PUT_CFG = bytes.fromhex(
    "48 03 f0 95 f1 2d f8 00 63 0a 1a 81 dd 16 42 63 6f 61 70 3a 2f 2f 53 53 4e 30 30 31 33 35 30 30 35 30 30 34 37 64"
    "63 39 61 2e 53 47 2e 59 45 4c 30 31 2e 53 53 4e 2e 53 53 4e 53 47 53 2e 4e 45 54 3a 34 38 34 39 2f 73 6e 73 72 2f"
    "61 72 64 75 69 6e 6f 2f 74 65 6d 70 3f 63 66 67 3d 43 d4 4c f0 a6 f0 b8"
)
JAVA_PUT_TIME = bytes.fromhex(
    "48 03 ce eb ce c7 ff c6 24 4f df de c1 2a dd 0a 39 63 6f 61 70 3a 2f 2f 53 53 4e 30 30 31 33 35 30 30 35 30 30 34"
    "37 64 63 39 61 2e 53 47 2e 59 45 4c 30 31 2e 53 53 4e 2e 53 53 4e 53 47 53 2e 4e 45 54 3a 34 38 34 39 2f 73 6e 73"
    "72 2f 73 79 73 2f 74 69 6d 65 3f d4 4c cf d0 2f 6b ff 06 08 65 53 f1 00 00 00 00 00"
)


async def test_vendor_session_datagrams(gateway: Gateway, connect: Any, token: str) -> None:
    client = connect()
    client.send(JAVA_SESSION_BY_NAME + token.encode())
    answer = await client.receive()
    assert (answer.mtype, answer.code, answer.mid) == (ACK, codes.CREATED, 0xC2CA)
    assert answer.token == bytes.fromhex("c2b8e4767ab7e2f1")
    client.send(JAVA_DELETE)
    answer = await client.receive()
    assert (answer.code, answer.mid, answer.token) == (codes.DELETED, 0xFA54, bytes.fromhex("fa6643de714c016b"))
    client.send(JAVA_SESSION_BY_ADDRESS)
    assert (await client.receive()).code == codes.UNAUTHORIZED
    gateway.registry.add_account("u", "p", TenantId("acme"), [])
    client.send(JAVA_SESSION_CAAS)
    answer = await client.receive()
    if answer.code == codes.EMPTY:
        answer = await client.receive()
    assert (answer.code, answer.token) == (codes.CREATED, bytes.fromhex("a9ad0a7e6f9bd8dc"))


async def test_vendor_request_datagrams(nic: FakeNic, client: Any) -> None:
    client.send(JAVA_GET_CON)
    answer = await client.receive()
    assert (answer.mtype, answer.code, answer.mid) == (ACK, codes.CONTENT, 0xC5FF)
    assert answer.token == bytes.fromhex("c60afd576fbcc4d4")
    client.send(JAVA_GET_NON)
    answer = await client.receive()
    assert (answer.mtype, answer.code, answer.token) == (NON, codes.CONTENT, bytes.fromhex("f91d44304d3de44f"))
    client.send(JAVA_PUT_CFG)
    assert (await client.receive()).code == codes.CONTENT
    client.send(JAVA_PUT_TIME)
    assert (await client.receive()).code == codes.CONTENT
    seen = [(int(r.code), r.opt.uri_path, r.opt.uri_query, r.opt.block2, r.payload) for r in nic.requests]
    first_block = aiocoap.optiontypes.BlockOption.BlockwiseTuple(0, False, 3)
    assert seen == [
        (codes.GET, ("snsr", "arduino", "echo"), ("sens",), first_block, b""),
        (codes.GET, (), (), first_block, b""),
        (codes.PUT, ("snsr", "arduino", "temp"), ("cfg=C",), None, b""),
        (codes.PUT, ("snsr", "sys", "time"), (), None, bytes.fromhex("06086553f10000000000")),
    ]
    assert all(r.opt.get_option(options.ENDPOINT_ID) == () for r in nic.requests)


# --- slow, silent and absent devices


async def test_a_slow_answer_comes_apart_from_its_acknowledgement(nic: FakeNic, client: Any) -> None:
    nic.delay_s = 0.4
    begun = time.monotonic()
    ack = await client.request(codes.GET, proxy_uri(), token=b"slow")
    assert (ack.mtype, ack.code, ack.token) == (ACK, codes.EMPTY, b"")
    assert time.monotonic() - begun >= 0.14
    answer = await client.receive()
    assert (answer.mtype, answer.code, answer.token) == (CON, codes.CONTENT, b"slow")
    client.send(encode(Message(ACK, codes.EMPTY, answer.mid)))
    await client.silence()


async def test_non_is_answered_non_without_acknowledgement(nic: FakeNic, client: Any) -> None:
    nic.delay_s = 0.3
    answer = await client.request(codes.GET, proxy_uri(), mtype=NON, token=b"non")
    assert (answer.mtype, answer.code, answer.token) == (NON, codes.CONTENT, b"non")


async def test_a_repeated_put_reaches_the_device_once(nic: FakeNic, client: Any) -> None:
    nic.delay_s = 0.3
    put = Message(CON, codes.PUT, 0x4242, b"once", (proxy_uri("snsr/arduino/temp?cfg=C"),))
    client.send(encode(put))
    client.send(encode(put))
    assert (await client.receive()).code == codes.EMPTY
    answer = await client.receive()
    assert answer.code in (codes.CONTENT, codes.EMPTY)
    await nic.until(lambda: len(nic.requests) > 0)
    assert len(nic.requests) == 1


async def test_a_device_without_address_5_03(client: Any) -> None:
    answer = await client.request(codes.GET, proxy_uri())
    assert (answer.code, answer.uint(options.MAX_AGE)) == (codes.SERVICE_UNAVAILABLE, 10)
    assert answer.payload.startswith(b"gateway: device is not reachable")


async def test_nobody_at_the_address_5_03(gateway: Gateway, client: Any) -> None:
    async with serving(FakeNic()) as gone:
        pass
    gateway.registry.seen(MAC, Address("127.0.0.1", gone.port), time.time())
    answer = await client.request(codes.GET, proxy_uri())
    assert answer.code == codes.SERVICE_UNAVAILABLE and b"gateway: " in answer.payload


async def test_no_answer_in_time_5_04(nic: FakeNic, client: Any) -> None:
    nic.delay_s = 60
    assert (await client.request(codes.GET, proxy_uri())).code == codes.EMPTY
    answer = await client.receive()
    assert answer.code == codes.GATEWAY_TIMEOUT
    assert answer.payload == b"gateway: no answer from the device (2 s)"


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
    client.send(JAVA_OBSERVE)
    first = await client.receive()
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
    token = keys.issue(TenantId("acme"), [], now=time.time(), ttl_s=2)
    uri = proxy_uri(f"snsr/arduino/temp?sens&access_token={token}")
    assert (await client.request(codes.GET, (options.OBSERVE, b""), uri)).payload == b"first"
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
