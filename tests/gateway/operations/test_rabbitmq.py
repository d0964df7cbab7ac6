"""RabbitMQ's management API as it answers (3.10), by a server of our own; and the real one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway.operations.errors import NotOffered, NotReached, RequestRefused
from gateway.operations.rabbitmq import REASON, RabbitMQDesk

CONNECTIONS = [
    {
        "name": "127.0.0.1:40000 -> 127.0.0.1:1883",
        "protocol": "MQTT 3.1.1",
        "ssl": False,
        "user": "notused",
        "peer_host": "127.0.0.1",
        "connected_at": 1_700_000_000_000,
        "variable_map": {"client_id": "meter-7"},
    },
    {
        "name": "10.0.0.9:5000 -> 10.0.0.1:8883",
        "protocol": "MQTT 3.1",
        "ssl": True,
        "peer_cert_subject": "CN=x",
        "user": "gateway",
        "peer_host": "10.0.0.9",
        "connected_at": 1_700_000_005_000,
        "variable_map": {"client_id": "another"},
    },
    {"name": "amqp", "protocol": "AMQP 1.0", "ssl": False, "user": "x", "peer_host": "::1", "connected_at": 0},
]
QUEUES = [
    {"name": "mqtt-subscription-meter-7qos1", "messages": 3},
    {"name": "mqtt-subscription-meter-7qos0", "messages": 1},
    {"name": "acme.address.orders", "messages": 9},
]
LISTENERS = [
    {"protocol": "mqtt", "ip_address": "::", "port": 1883},
    {"protocol": "http/web-mqtt", "ip_address": "127.0.0.1", "port": 15675},
    {"protocol": "amqp", "ip_address": "::", "port": 5672},
]


class Management(ThreadingHTTPServer):
    """Answers like the plugin; remembers what was deleted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.deleted: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Management

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _answer(self, status: int, body: Any = None) -> None:
        octets = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Basic b3A6c2VjcmV0":
            self._answer(401, {"error": "not_authorised"})
            return
        pages = {
            "/api/connections": CONNECTIONS,
            "/api/queues": QUEUES,
            "/api/overview": {"listeners": LISTENERS},
        }
        self._answer(200, pages[self.path])

    def do_DELETE(self) -> None:
        is_known = "40000" in self.path
        self.server.deleted.append((self.path, self.headers["X-Reason"]))
        self._answer(204 if is_known else 404)


@pytest.fixture
def management() -> Iterator[Management]:
    server = Management()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def desk(management: Management) -> AsyncIterator[RabbitMQDesk]:
    yield RabbitMQDesk(f"http://127.0.0.1:{management.server_port}", "op", lambda: "secret")


async def test_mqtt_connections_are_told_with_what_waits_for_them(desk: RabbitMQDesk) -> None:
    page = await desk.clients(None, "")
    assert page.total == 2, "AMQP has no part in it"
    another, meter = page.clients
    assert (meter.client, meter.version, meter.listener, meter.protection, meter.queued) == (
        "meter-7",
        "3.1.1",
        "mqtt",
        "plain",
        4,
    )
    assert (another.listener, another.protection, another.since, another.queued) == (
        "mqtts",
        "mutual",
        1_700_000_005.0,
        0,
    )
    assert meter.received is None and meter.subscription_count is None and meter.tenant is None
    assert [each.client for each in (await desk.clients(None, "METER")).clients] == ["meter-7"]


async def test_whose_a_connection_is_it_does_not_know(desk: RabbitMQDesk) -> None:
    with pytest.raises(NotOffered, match="does not tell whose tenant"):
        await desk.clients("acme", "")


async def test_a_connection_is_ended_with_a_reason(desk: RabbitMQDesk, management: Management) -> None:
    another, meter = (await desk.clients(None, "")).clients
    await desk.kick(meter)
    assert management.deleted == [("/api/connections/127.0.0.1%3A40000%20-%3E%20127.0.0.1%3A1883", REASON)]
    with pytest.raises(RequestRefused, match="no such connection"):
        await desk.kick(another)


async def test_listeners_of_mqtt(desk: RabbitMQDesk) -> None:
    assert [(each.kind, each.port) for each in await desk.listeners()] == [("mqtt", 1883), ("ws", 15675)]


async def test_what_can_not_be_had_is_said(desk: RabbitMQDesk, management: Management) -> None:
    for asked in (desk.topics("acme", ""), desk.addresses(None), desk.plan("acme"), desk.browse("acme", "x", 0, 1)):
        with pytest.raises(NotOffered, match=r"^rabbitmq .*MW-OPS-003"):
            await asked
    wrong = RabbitMQDesk(f"http://127.0.0.1:{management.server_port}", "op", lambda: "wrong")
    with pytest.raises(NotReached, match="HTTP 401"):
        await wrong.clients(None, "")
    nowhere = RabbitMQDesk("http://127.0.0.1:1", "op", lambda: "secret")
    with pytest.raises(NotReached, match="can't be reached"):
        await asyncio.wait_for(nowhere.listeners(), 10)
