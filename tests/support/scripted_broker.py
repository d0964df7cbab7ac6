"""A broker whose verdicts are the test's, and a task that works as long as a block."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from free_ports import free_port

from meshwire.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    PacketStream,
    PingReq,
    PingResp,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Side,
)
from meshwire.mqtt import encode as encode_packet


class ScriptedBroker:
    """Takes connections and publications; what it answers is the test's. `taken` is what it has acknowledged."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.seen: list[Publish] = []
        self.versions: list[int] = []
        self.client_ids: list[str] = []
        self.versions_known = {4, 5}
        self.welcome: Callable[[], int | None] = lambda: 0
        """Reason code of CONNACK; None: no answer."""
        self.verdict: Callable[[Publish], int | None] = lambda publish: 0
        """Reason code of PUBACK; None: no answer; negative: hang up with that DISCONNECT reason."""
        self.keeps_session = False
        """Whether it says that it has kept the session; then a QoS 2 identifier that it holds is taken once."""
        self.completes = True
        """Whether PUBREL is answered by PUBCOMP."""
        self.released: list[int] = []
        self._held: set[int] = set()
        self.max_underway = 0
        self.port = free_port()
        """Its own, also while it is stopped."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.hang_up()
            self._server = None

    def hang_up(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        stream = PacketStream(Side.SERVER)
        with contextlib.suppress(ConnectionError):
            while octets := await reader.read(65_536):
                stream.feed(octets)
                packets = list(stream.packets())
                self.max_underway = max(self.max_underway, sum(isinstance(p, Publish) for p in packets))
                for packet in packets:
                    if not self._answer(packet, writer, stream.version):
                        writer.close()
                        self._writers.discard(writer)
                        return
        self._writers.discard(writer)
        writer.close()

    def _answer(self, packet: Any, writer: asyncio.StreamWriter, version: ProtocolVersion) -> bool:
        def send(answer: Any) -> None:
            writer.write(encode_packet(answer, version))

        match packet:
            case Connect():
                self.versions.append(int(packet.version))
                self.client_ids.append(packet.client_id)
                if int(packet.version) not in self.versions_known:
                    writer.write(bytes.fromhex("20020001"))
                    return False
                code = self.welcome()
                if code is not None:
                    if not self.keeps_session:
                        self._held.clear()
                    send(ConnAck(self.keeps_session, reason_code=code))
                return code in (0, None)
            case Publish():
                self.seen.append(packet)
                code = self.verdict(packet)
                if code is not None and code < 0:
                    send(Disconnect(-code))
                    return False
                if code is not None and code < 0x80 and packet.packet_id not in self._held:
                    self.taken.append(packet.payload)
                if code is not None and code < 0x80 and packet.qos == 2:
                    self._held.add(packet.packet_id)
                if code is not None and packet.qos == 1:
                    send(PubAck(packet.packet_id, code))
                if code is not None and packet.qos == 2:
                    send(PubRec(packet.packet_id, code))
            case PubRel():
                self.released.append(packet.packet_id)
                known = packet.packet_id in self._held
                self._held.discard(packet.packet_id)
                if self.completes:
                    send(PubComp(packet.packet_id, 0 if known else 0x92))
            case PingReq():
                send(PingResp())
            case Disconnect():
                return False
        return True


@contextlib.asynccontextmanager
async def working(run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
