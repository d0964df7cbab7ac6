"""A device for tests of the gateway: a CoAP server of aiocoap's that answers from a table and notifies when told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiocoap
from patience import until

from meshwire.coap import codes, options
from meshwire.identity import DeviceId

MAC = DeviceId("001350050047dc9a")
HOST = f"SSN{MAC}.SG.YEL01.SSN.SSNSGS.NET"


class FakeNic:
    """A device: answers from a table, remembers what came, sends notifications when told."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.may_answer = asyncio.Event()
        """A test may clear it, and set it when an answer may come."""
        self.may_answer.set()
        self.answers: dict[str, Any] = {}
        self.observers: list[Any] = []
        self.cancelled = 0
        self.first = (codes.CONTENT, b"first")
        self.port = 0

    async def render_to_pipe(self, pipe: Any) -> None:
        request = pipe.request
        self.requests.append(request)
        await self.may_answer.wait()
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
        await until(condition, lambda: f"{len(self.requests)} requests, {len(self.observers)} observers")


@contextlib.asynccontextmanager
async def serving(nic: FakeNic, port: int = 0) -> AsyncIterator[FakeNic]:
    context = await aiocoap.Context.create_server_context(nic, bind=("127.0.0.1", port), transports=["udp6"])
    sock = context.request_interfaces[0].token_interface.message_interface.transport.get_extra_info("socket")
    nic.port = sock.getsockname()[1]
    try:
        yield nic
    finally:
        await context.shutdown()


def proxy_uri(path: str = "snsr/arduino/temp?sens", host: str = HOST) -> tuple[int, bytes]:
    return (options.PROXY_URI, f"coap://{host}:4849/{path}".encode())
