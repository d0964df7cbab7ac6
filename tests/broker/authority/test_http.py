"""The hook's HTTP: what is read, what is refused, and that an answer is one write."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from patience import PATIENCE_S

from broker.authority.http import Bounds, HttpConnection, Request, RequestRefused, Response, parse_head

GET = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"


class FakeTransport(asyncio.Transport):
    """Keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False
        self.end = asyncio.Event()

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True
        self.end.set()

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Line:
    """A connection, its transport, and what its handler was asked."""

    def __init__(self, bounds: Bounds) -> None:
        self.asked: list[Request] = []
        self.transport = FakeTransport()
        self.open: set[HttpConnection] = set()
        self.fails = False
        self.connection = HttpConnection(self.answer, bounds, self.open)
        self.connection.connection_made(self.transport)

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.fails:
            raise RuntimeError("a fault")
        return Response(200, b"body of " + request.target.encode())

    async def feed(self, data: bytes) -> list[bytes]:
        self.transport.writes.clear()
        self.connection.data_received(data)
        for _ in range(20):
            await asyncio.sleep(0)
        return self.transport.writes


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line(Bounds(max_head_octets=200, max_body_octets=50))
    yield line
    line.connection.connection_lost(None)


async def test_head_and_body_leave_in_one_write(line: Line) -> None:
    (answer,) = await line.feed(GET)
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 10\r\n" in head
    assert b"connection: keep-alive" in head
    assert body == b"body of /a"
    assert not line.transport.closed


async def test_a_request_may_come_octet_by_octet_and_several_at_once(line: Line) -> None:
    for octet in POST[:-1]:
        assert await line.feed(bytes((octet,))) == []
    assert len(await line.feed(POST[-1:])) == 1
    assert len(await line.feed(POST + GET + POST)) == 3
    assert [(request.method, request.target, request.body) for request in line.asked] == [
        ("POST", "/b", b"abc"),
        ("POST", "/b", b"abc"),
        ("GET", "/a", b""),
        ("POST", "/b", b"abc"),
    ]
    assert line.asked[0].headers == {"content-length": "3"}


@pytest.mark.parametrize(
    ("request_octets", "status"),
    [
        (b"GET /a\r\n\r\n", 400),
        (b"GET /a HTTP/2\r\n\r\n", 505),
        (b"GET /a HTTP/1.1\r\nbroken\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nname : x\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\na: 1\r\nA: 2\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\ncontent-length: 0x1\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\ncontent-length: 51\r\n\r\n", 413),
        (b"POST /a HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411),
        (b"GET /a HTTP/1.1\r\nx: " + b"y" * 300 + b"\r\n\r\n", 431),
        (b"G" * 300, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
async def test_what_cant_be_read_ends_the_connection(line: Line, request_octets: bytes, status: int) -> None:
    (answer,) = await line.feed(request_octets)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert line.transport.closed
    assert line.asked == []


async def test_a_failing_handler_is_500_without_a_word_of_why(line: Line) -> None:
    line.fails = True
    (answer,) = await line.feed(GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"fault" not in answer
    assert line.transport.closed


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", True),
    ],
)
async def test_keep_alive_is_the_versions(line: Line, head: bytes, keeps: bool) -> None:
    await line.feed(head)
    assert line.transport.closed is not keeps


async def test_a_client_that_expects_to_be_asked_on_is_asked_on(line: Line) -> None:
    head = b"POST /b HTTP/1.1\r\nExpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    assert await line.feed(head) == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    assert len(await line.feed(b"abc")) == 1


async def test_too_many_connections_are_cut_off() -> None:
    bounds = Bounds(max_connections=1)
    first = Line(bounds)
    second = HttpConnection(first.answer, bounds, first.open)
    transport = FakeTransport()
    second.connection_made(transport)
    assert transport.closed
    assert not first.transport.closed
    first.connection.connection_lost(None)


async def test_a_silent_connection_ends() -> None:
    line = Line(Bounds(idle_timeout_s=0.01))
    async with asyncio.timeout(PATIENCE_S):
        await line.transport.end.wait()
    line.connection.connection_lost(None)


def test_a_head_with_nothing_but_a_request_line() -> None:
    assert parse_head(b"GET / HTTP/1.1", Bounds()).body_octets == 0
    with pytest.raises(RequestRefused):
        parse_head(b"", Bounds())
