"""The load of `meshwire bench proxy`: clients that GET through a forward proxy, and the light NIC behind it.

`python -m bench.proxy_load JOB`: the job as JSON; prints the outcome as JSON. Clients and NIC are one process and know
just enough of CoAP to be much faster than any proxy: datagrams are made once by the codec, message ID and token are
written into them. Each GET asks for another query, so that no cache can answer.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.bridge_load import device_id
from meshwire.coap import ACK, CON, Message, codes, decode, encode, options

__all__ = ["MAC", "Job", "Outcome"]

MAC: Final = device_id(0)
PAYLOAD: Final = bytes(range(64))
PATH: Final = (b"snsr", b"arduino", b"temp")
CLIENTS: Final = 8
WINDOW: Final = 8
"""Requests under way of each client."""
STALL_S: Final = 1.0
"""Nothing has come for so long: what is under way is sent again, with the same message IDs."""
TOKEN_OCTETS: Final = 4
PIGGYBACKED: Final = 0x60 | TOKEN_OCTETS
SEPARATE: Final = 0x40 | TOKEN_OCTETS
"""First octets of answers: in the acknowledgement, and in a confirmable message of their own."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do."""

    proxy_port: int
    proxy_process: int
    """Its processor time is watched."""
    seconds: float
    warm_up_s: float
    token: str = ""
    """For a session at our gateway; empty: a proxy that asks for none, and takes Proxy-Scheme only."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    answered: int
    seconds: float
    wrong: int
    """Answers that are not the NIC's."""
    resent: int
    processor_s: float
    """Of the proxy."""


class _Nic:
    """Answers every GET at once with the same 64 octets."""

    def __init__(self) -> None:
        self.socket = _new_socket()
        self.socket.bind(("127.0.0.1", 0))
        # No Max-Age: aiocoap-proxy answers 4.02 to that.
        pairs = ((options.CONTENT_FORMAT, b"\x2a"),)
        self._tail = encode(Message(ACK, codes.CONTENT, 0, b"", pairs, PAYLOAD))[4:]

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    def register(self, gateway_port: int) -> None:
        """Tell a gateway where the device is."""
        pairs = ((options.URI_PATH, b"register"), (options.URI_PATH, MAC.value.encode()))
        self.socket.sendto(encode(Message(CON, codes.POST, 1, b"r", pairs)), ("127.0.0.1", gateway_port))
        select.select([self.socket], [], [], 10)
        answer = decode(self.socket.recv(2048))
        if answer.code != codes.CHANGED:
            raise RuntimeError(f"the gateway does not take the device: {answer}")

    def serve(self) -> None:
        """Answer what is waiting."""
        receive, send, tail = self.socket.recvfrom, self.socket.sendto, self._tail
        try:
            while True:
                octets, source = receive(2048)
                end = 4 + (octets[0] & 15)
                send(bytes((0x60 | octets[0] & 15, codes.CONTENT)) + octets[2:end] + tail, source)
        except BlockingIOError:
            return


class _Client:
    """One UDP socket with a window of GETs."""

    def __init__(self, job: Job, nic_port: int) -> None:
        self.socket = _new_socket()
        self.socket.connect(("127.0.0.1", job.proxy_port))
        self._mid = secrets.randbelow(0x10000)
        self._under_way: dict[bytes, bytes] = {}
        self._numbers = itertools.count()
        template = encode(Message(CON, codes.GET, 0, bytes(TOKEN_OCTETS), _target(job, nic_port, b"q=00000000")))
        at = template.index(b"q=00000000") + 2
        self._middle, self._rest = template[4 + TOKEN_OCTETS : at], template[at + 8 :]
        self._head = template[:2]
        self.answered = self.wrong = 0
        self._expected = encode(Message(ACK, codes.CONTENT, 0, b"", (), PAYLOAD))[-len(PAYLOAD) - 1 :]

    def open_session(self, token: str) -> None:
        """POST /sessions: requests from this socket count as the token's."""
        pairs = ((options.URI_PATH, b"sessions"),)
        self.socket.send(encode(Message(CON, codes.POST, self._mid, b"s", pairs, token.encode())))
        self._mid = (self._mid + 1) & 0xFFFF
        select.select([self.socket], [], [], 10)
        answer = decode(self.socket.recv(2048))
        if answer.code != codes.CREATED:
            raise RuntimeError(f"the gateway opens no session: {answer}")

    def fill(self) -> None:
        """Begin."""
        for _ in range(WINDOW):
            self._ask()

    def _ask(self) -> None:
        number = next(self._numbers)
        token = number.to_bytes(TOKEN_OCTETS, "big")
        self._mid = (self._mid + 1) & 0xFFFF
        head = self._head + self._mid.to_bytes(2, "big") + token
        octets = head + self._middle + b"%08x" % number + self._rest
        self._under_way[token] = octets
        self.socket.send(octets)

    def take(self) -> None:
        """Count what has come, and ask for as much."""
        receive = self.socket.recv
        try:
            while True:
                octets = receive(2048)
                if octets[1] == codes.EMPTY:
                    continue
                if octets[0] == SEPARATE:
                    self.socket.send(b"\x60\x00" + octets[2:4])
                if self._under_way.pop(octets[4 : 4 + TOKEN_OCTETS], None) is None:
                    continue
                if (
                    octets[0] in (PIGGYBACKED, SEPARATE)
                    and octets[1] == codes.CONTENT
                    and octets.endswith(self._expected)
                ):
                    self.answered += 1
                else:
                    self.wrong += 1
                self._ask()
        except BlockingIOError:
            return

    def resend(self) -> int:
        """Send again what is under way."""
        for octets in self._under_way.values():
            self.socket.send(octets)
        return len(self._under_way)


def _new_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return sock


def _target(job: Job, nic_port: int, query: bytes) -> tuple[tuple[int, bytes], ...]:
    """How the proxy takes its target: ours as the vendor's clients write it."""
    if job.token:
        uri = f"coap://{MAC.host('SG.YEL01.SSN.SSNSGS.NET')}:4849/{b'/'.join(PATH).decode()}?{query.decode()}"
        return ((options.PROXY_URI, uri.encode()),)
    return (
        (options.URI_HOST, b"127.0.0.1"),
        (options.URI_PORT, options.encode_uint(nic_port)),
        *((options.URI_PATH, part) for part in PATH),
        (options.URI_QUERY, query),
        (options.PROXY_SCHEME, b"coap"),
    )


def _run(job: Job) -> Outcome:
    nic = _Nic()
    clients = [_Client(job, nic.port) for _ in range(CLIENTS)]
    if job.token:
        nic.register(job.proxy_port)
        for client in clients:
            client.open_session(job.token)
    poll = select.epoll()
    calls = {nic.socket.fileno(): nic.serve} | {client.socket.fileno(): client.take for client in clients}
    for descriptor in calls:
        poll.register(descriptor, select.EPOLLIN)
    for client in clients:
        client.fill()
    _serve(poll, calls, clients, job.warm_up_s)
    before, used, begun = _answered(clients), _processor_s(job.proxy_process), time.perf_counter()
    resent = _serve(poll, calls, clients, job.seconds)
    seconds = time.perf_counter() - begun
    wrong = sum(client.wrong for client in clients)
    return Outcome(_answered(clients) - before, seconds, wrong, resent, _processor_s(job.proxy_process) - used)


def _serve(poll: select.epoll, calls: dict[int, Callable[[], None]], clients: list[_Client], seconds: float) -> int:
    ends, resent = time.perf_counter() + seconds, 0
    while time.perf_counter() < ends:
        ready = poll.poll(STALL_S)
        if not ready:
            resent += sum(client.resend() for client in clients)
        for descriptor, _ in ready:
            calls[descriptor]()
    return resent


def _answered(clients: list[_Client]) -> int:
    return sum(client.answered for client in clients)


def _processor_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_run(Job(**json.loads(sys.argv[1]))))))
