"""Somebody on the way between a NIC and its gateway, who passes everything on, and keeps it to send it again."""

from __future__ import annotations

import selectors
import socket
import threading
from typing import Any

__all__ = ["RecordingRelay"]

_ACK: int = 2


class RecordingRelay:
    """Relays datagrams of one NIC, both directions, on a thread.

    Args:
        gateway: UDP port of the gateway on this machine.
    """

    def __init__(self, gateway: int) -> None:
        self._gateway = ("127.0.0.1", gateway)
        self._asker: Any = None
        """Where the gateway's requests to the NIC come from."""
        self._nic: Any = None
        self.requests: list[bytes] = []
        """Of the NIC."""
        self._nic_side, self._gateway_side = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
        for each in (self._nic_side, self._gateway_side):
            each.bind(("127.0.0.1", 0))
        self.port: int = self._nic_side.getsockname()[1]
        self._ends = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send_again(self, request: bytes, mid: int) -> None:
        """Send a recorded request once more, as a message of its own."""
        self._gateway_side.sendto(request[:2] + mid.to_bytes(2, "big") + request[4:], self._gateway)

    def close(self) -> None:
        self._ends = True
        self._thread.join(5)
        self._nic_side.close()
        self._gateway_side.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (self._nic_side, self._gateway_side):
                selector.register(each, selectors.EVENT_READ)
            while not self._ends:
                for key, _ in selector.select(0.2):
                    try:
                        self._pass_on(key.fileobj)
                    except ConnectionError:
                        continue  # one of them is being restarted

    def _pass_on(self, sock: Any) -> None:
        octets, source = sock.recvfrom(65_535)
        if sock is self._gateway_side:
            if source != self._gateway:
                self._asker = source
            if self._nic is not None:
                self._nic_side.sendto(octets, self._nic)
            return
        self._nic = source
        is_answer = octets[0] >> 4 & 3 >= _ACK or octets[1] >= 0x40
        if not is_answer:
            self.requests.append(octets)
        if is_answer and self._asker is not None:
            self._gateway_side.sendto(octets, self._asker)
        elif not is_answer:
            self._gateway_side.sendto(octets, self._gateway)
