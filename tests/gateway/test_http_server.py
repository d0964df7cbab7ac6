"""The gateway's HTTP socket."""

from __future__ import annotations

import socket

from gateway.addresses import Address
from gateway.http_server import bind_http


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with bind_http(Address("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
