"""Live streams of the console as a test reads them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from console_browser import Browser
from patience import PATIENCE_S


@dataclass
class Stream:
    """Server-sent events, as JSON."""

    reader: asyncio.StreamReader
    status: int

    async def next(self) -> tuple[str, Any]:
        """Name and data of the next event; comments are passed over."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                text = (await self.reader.readuntil(b"\n\n")).decode()
                fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
                if "data" in fields:
                    return fields.get("event", "message"), json.loads(fields["data"])

    async def end(self) -> str:
        """Why it ends."""
        async with asyncio.timeout(PATIENCE_S):
            while (last := await self.next())[0] != "over":
                pass
            return str(last[1])

    async def until(self, wanted: Any) -> list[dict[str, Any]]:
        """Records up to the first one that is wanted."""
        found: list[dict[str, Any]] = []
        while True:
            for record in (await self.next())[1]:
                found.append(record)
                if wanted(record):
                    return found


@asynccontextmanager
async def stream(browser: Browser, path: str, **headers: str) -> AsyncIterator[Stream]:
    """The stream at a path, as long as the block runs."""
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    # HTTP/1.0: no chunks between the events.
    writer.write(f"GET {path} HTTP/1.0\r\nHost: x\r\nCookie: {browser.cookie}\r\n{lines}\r\n".encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        yield Stream(reader, int(head.split()[1]))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
