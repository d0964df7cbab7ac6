"""The HTTP server under the application: what is no request that it can read is answered, and the answer is read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from patience import PATIENCE_S

from gateway.addresses import Address
from gateway.http_server import HttpServer, bind_http

LONG = b"x" * (1 << 20)
HOST = b"Host: x\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Refuses each body before it has read it, and says so; else answers when it has the whole request."""
    if scope["path"] != "/refused":
        while (await receive()).get("more_body"):
            pass
    status = 413 if scope["path"] == "/refused" else 200
    headers = [(b"connection", b"close"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"words"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    sock = bind_http(Address("127.0.0.1", 0))
    serving = asyncio.create_task(HttpServer(application, sock).run())
    yield sock.getsockname()[1]
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def answer_to(port: int, *parts: bytes) -> tuple[int, bytes]:
    """Status and body; all parts are sent before anything is read, as many clients do."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(PATIENCE_S):
        for part in parts:
            writer.write(part)
            await writer.drain()
        octets = await reader.read()
    writer.close()
    head, _, body = octets.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + LONG + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + LONG + b"\r\n\r\n", 431),
        (b"nonsense\r\n\r\n" + LONG, 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + LONG, 400),
    ],
    ids=["a long line", "a long header", "no HTTP", "an unknown encoding", "a body that is none"],
)
async def test_what_can_not_be_read_is_answered_by_a_problem_that_the_client_can_read(
    port: int, request_: bytes, status: int
) -> None:
    got, body = await answer_to(port, *(request_[at : at + 65_536] for at in range(0, len(request_), 65_536)))
    assert (got, json.loads(body)["status"]) == (status, status)
    assert "can be read: " in json.loads(body)["detail"]


async def test_an_answer_before_the_body_is_over_is_read_whole(port: int) -> None:
    head = b"POST /refused HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (8 * len(LONG))
    assert await answer_to(port, head, *[LONG] * 8) == (413, b"words")
    assert await answer_to(port, head.replace(b"/refused", b"/taken"), *[LONG] * 8) == (200, b"words")


async def test_who_sends_for_ever_is_cut_off(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                writer.write(LONG)
                await writer.drain()
    writer.close()


@pytest.fixture
async def impatient() -> AsyncIterator[int]:
    """As `port`, for three connections, and with little patience."""
    sock = bind_http(Address("127.0.0.1", 0))
    serving = asyncio.create_task(HttpServer(application, sock, patience_s=0.3, max_connections=3).run())
    yield sock.getsockname()[1]
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"GET / HT",),
        (b"POST /taken HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n", b"abc"),
    ],
    ids=["says nothing", "half a head", "half a body"],
)
async def test_who_does_not_say_what_it_wants_is_left(impatient: int, parts: tuple[bytes, ...]) -> None:
    status, body = await answer_to(impatient, *parts)
    assert status == 408 and "for 0.3 s" in json.loads(body)["detail"]


async def test_a_head_that_comes_octet_by_octet_does_not_take_for_ever(impatient: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient)
    async with asyncio.timeout(20):
        answer = asyncio.ensure_future(reader.read())
        while not answer.done():
            with contextlib.suppress(ConnectionError):
                writer.write(b"G")
                await writer.drain()
            await asyncio.wait({answer}, timeout=0.1)
    writer.close()
    assert answer.exception() is not None or b" 408 " in answer.result()


async def test_beyond_so_many_connections_the_next_is_told_to_come_again(impatient: int) -> None:
    others = [await asyncio.open_connection("127.0.0.1", impatient) for _ in range(3)]
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b" 503 " in head and b"Retry-After: 10" in head and json.loads(body)["status"] == 503
    writer.close()
    for reader, other in others:
        await reader.read()  # its time is over
        other.close()
    request = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    assert await answer_to(impatient, request) == (200, b"words")


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with bind_http(Address("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
