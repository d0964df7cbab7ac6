"""RabbitMQ's management plugin as it answers (3.10), by a server of our own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
LOAD = {
    "message_stats": {
        "publish_details": {"rate": 0.0, "avg_rate": 9_000.0},
        "deliver_get_details": {"rate": 1.0, "avg_rate": 7_000.0},
    },
    "object_totals": {"connections": 2_500},
}
NODES = [
    {"name": "rabbit@a", "running": True, "mem_used": 300, "mem_limit": 1_000},
    {"name": "rabbit@b", "running": True, "mem_used": 400, "mem_limit": 1_000},
    {"name": "rabbit@c", "running": True, "mem_used": 200, "mem_limit": 1_000},
    {"name": "rabbit@d", "running": False},
]


class Management(ThreadingHTTPServer):
    """Answers like the plugin to user `op` with password `secret`; remembers what was deleted."""

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
            "/api/overview": {"listeners": LISTENERS} | LOAD,
            "/api/nodes": NODES,
        }
        self._answer(200, pages[self.path.partition("?")[0]])

    def do_DELETE(self) -> None:
        is_known = "40000" in self.path
        self.server.deleted.append((self.path, self.headers["X-Reason"]))
        self._answer(204 if is_known else 404)


@contextmanager
def managing() -> Iterator[Management]:
    """One that serves until the block ends."""
    server = Management()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
