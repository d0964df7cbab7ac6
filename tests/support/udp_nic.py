"""A NIC's UDP end by the pure codec: every datagram is kept with its time, each request is executed once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from patience import PATIENCE_S

from meshwire.coap import ACK, CON, NON, RST, Message, codes, decode, encode, options


class Manner(Enum):
    """How it takes requests."""

    ANSWER = "piggybacked"
    SEPARATE = "empty acknowledgement, then a confirmable answer"
    ACKNOWLEDGE = "empty acknowledgement, and nothing more"
    LATER = "5.03 with Max-Age 1: not executed"
    DEAF = "pings are answered, requests are not, and are not executed"
    GONE = "nothing is answered"


@dataclass
class UdpNic(asyncio.DatagramProtocol):
    """Answers 2.04 to what changes something and 2.05 to the rest."""

    manner: Manner = Manner.ANSWER
    host: str = "127.0.0.1"
    datagrams: list[tuple[Message, float]] = field(default_factory=list)
    executed: list[tuple[Message, float]] = field(default_factory=list)
    port: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.host, port))
        self.port = self._transport.get_extra_info("sockname")[1]
        self._mids = itertools.count(0x4000)
        self._answers: dict[tuple[Any, int], bytes] = {}

    def close(self) -> None:
        self._transport.close()

    def register(self, mac: str, gateway_port: int) -> None:
        """Tell the gateway where we are; its answer is not looked at."""
        path = ((options.URI_PATH, b"register"), (options.URI_PATH, mac.encode()), (options.URI_QUERY, b"lt=60"))
        self._send(Message(NON, codes.POST, next(self._mids), b"r", path), (self.host, gateway_port))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        message, now_s = decode(data), time.time()
        if message.mtype in (ACK, RST):
            return
        self.datagrams.append((message, now_s))
        self.changed.set()
        if self.manner is Manner.GONE:
            return
        if message.code == codes.EMPTY:
            self._send(Message(RST, codes.EMPTY, message.mid), addr)
        elif (addr, message.mid) in self._answers:
            self._transport.sendto(self._answers[addr, message.mid], addr)
        elif self.manner is not Manner.DEAF:
            self._answer(message, addr, now_s)

    def _answer(self, message: Message, addr: Any, now_s: float) -> None:
        if self.manner is Manner.LATER:
            later = ((options.MAX_AGE, bytes([1])),)
            answer = Message(ACK, codes.SERVICE_UNAVAILABLE, message.mid, message.token, later, b"nic: no link")
            self._remember(message, addr, answer)
            return
        self.executed.append((message, now_s))
        code = codes.CONTENT if message.code == codes.GET else codes.CHANGED
        answer = Message(ACK, code, message.mid, message.token, ((options.CONTENT_FORMAT, b""),), b"did it")
        if self.manner is Manner.ANSWER:
            self._remember(message, addr, answer)
            return
        self._remember(message, addr, Message(ACK, codes.EMPTY, message.mid))
        if self.manner is Manner.SEPARATE:
            separate = Message(CON, code, next(self._mids), message.token, answer.options, answer.payload)
            asyncio.get_running_loop().call_later(0.05, self._send, separate, addr)

    def _remember(self, message: Message, addr: Any, answer: Message) -> None:
        self._answers[addr, message.mid] = encode(answer)
        self._send(answer, addr)

    def _send(self, message: Message, addr: Any) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(encode(message), addr)

    def requests(self) -> list[Message]:
        return [message for message, _ in self.datagrams if message.code != codes.EMPTY]

    async def until(self, count: int, what: str = "executed", seconds: float = PATIENCE_S) -> None:
        """Return when there are so many."""
        async with asyncio.timeout(seconds):
            while len(getattr(self, what)) < count:
                self.changed.clear()
                if len(getattr(self, what)) < count:
                    await self.changed.wait()


@contextlib.contextmanager
def closing(nic: UdpNic) -> Iterator[UdpNic]:
    try:
        yield nic
    finally:
        nic.close()


__all__ = ["NON", "Manner", "UdpNic", "closing"]
