"""The proxies that are compared get time to start, and another port when they end."""

from __future__ import annotations

import sys

import pytest

from bench import proxy

_SERVES = """
import socket, sys
served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
served.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    octets, source = served.recvfrom(64)
    served.sendto(b"\\x70\\0" + octets[2:4], source)
"""


def test_a_proxy_that_ends_is_started_on_another_port() -> None:
    ports: list[int] = []

    def command(port: int) -> list[str]:
        ports.append(port)
        return [sys.executable, "-c", "" if len(ports) < 3 else _SERVES, str(port)]

    with proxy._serving("second thoughts", command) as served:
        assert served.port == ports[-1]
    assert len(ports) == 3


def test_a_proxy_that_never_serves_is_given_up() -> None:
    with (
        pytest.raises(RuntimeError, match="hopeless does not serve"),
        proxy._serving("hopeless", lambda port: [sys.executable, "-c", ""]),
    ):
        raise AssertionError
