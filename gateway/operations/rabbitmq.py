"""RabbitMQ, asked by the HTTP API of its management plugin.

It knows connections by the user name they sent, and a token's client may send any: so it can't tell whose tenant a
connection is, and only administrators of the platform see them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from gateway.broker_tls.errors import BrokerTlsError
from gateway.operations.desk import MOST_CLIENTS, Page
from gateway.operations.errors import NotReached, RequestRefused
from gateway.operations.foreign import ForeignDesk
from gateway.operations.records import Client, Listener

__all__ = ["RabbitMQDesk"]

ANSWER_WITHIN_S: Final = 10.0
REASON: Final = "an administrator ended the connection"
_QUEUE: Final = re.compile(r"mqtt-subscription-(?P<client>.+)qos[01]", re.DOTALL)
_LISTENERS: Final = {"mqtt": "mqtt", "mqtt/ssl": "mqtts", "http/web-mqtt": "ws", "https/web-mqtt": "wss"}


class RabbitMQDesk(ForeignDesk):
    """See the module.

    Args:
        url: of the management plugin, such as `http://127.0.0.1:15672`.
        username: a user with the tag monitoring; for kicks administrator.
        password: gives its password.
        context: gives what an https URL is trusted by; None: the system's trust store.
    """

    engine = "rabbitmq"
    limits = (
        "RabbitMQ does not tell whose tenant a connection is: only platform administrators see this list.",
        "Its list lags by up to 5 s; messages in and out of a connection are not counted, subscriptions not told.",
    )

    def __init__(
        self,
        url: str,
        username: str,
        password: Callable[[], str],
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        self._url = url.rstrip("/")
        self._username = username
        self._password = password
        self._context = context

    async def clients(self, tenant: str | None, find: str) -> Page:
        if tenant is not None:
            raise self._refuse("does not tell whose tenant a connection is", "ask an administrator of the platform")
        connections, queues = await asyncio.gather(self._get("/api/connections"), self._get("/api/queues"))
        depths = _depths(queues)
        found = [client for each in connections if (client := _client(each, depths)) is not None]
        wanted = find.lower()
        found = [each for each in found if wanted in f"{each.client} {each.user} {each.address}".lower()]
        found.sort(key=lambda each: each.client)
        return Page(found[:MOST_CLIENTS], len(found))

    async def kick(self, client: Client) -> None:
        await asyncio.to_thread(self._send, "DELETE", f"/api/connections/{quote(client.login, safe='')}")

    async def listeners(self) -> Sequence[Listener]:
        overview = await self._get("/api/overview")
        return [
            Listener(kind=kind, host=str(each.get("ip_address", "")), port=int(each["port"]))
            for each in overview.get("listeners", ())
            if (kind := _LISTENERS.get(each.get("protocol"))) is not None
        ]

    async def _get(self, path: str) -> Any:
        return await asyncio.to_thread(self._send, "GET", path)

    def _send(self, method: str, path: str) -> Any:
        token = base64.b64encode(f"{self._username}:{self._password()}".encode()).decode()
        request = urllib.request.Request(
            f"{self._url}{path}", method=method, headers={"Authorization": f"Basic {token}"}
        )
        if method == "DELETE":
            request.add_header("X-Reason", REASON)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S, context=self._context()) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise RequestRefused("RabbitMQ knows no such connection (any more)") from None
            fix = "check gateway.operations.username and its password; RabbitMQ's user needs the tag administrator"
            raise NotReached("RabbitMQ refuses", evidence=f"HTTP {error.code}", fix=fix) from None
        except (OSError, ValueError, BrokerTlsError) as error:
            fix = "enable rabbitmq_management, and check gateway.operations.url"
            raise NotReached("RabbitMQ's management plugin can't be reached", evidence=str(error), fix=fix) from None
        return json.loads(text) if text else None


def _client(each: Mapping[str, Any], depths: Mapping[str, int]) -> Client | None:
    protocol, properties = (
        str(each.get("protocol", "")),
        each.get("variable_map") or each.get("client_properties") or {},
    )
    if "MQTT" not in protocol:
        return None
    name, is_secure = str(properties.get("client_id") or each.get("name", "")), bool(each.get("ssl"))
    is_web = protocol.startswith("Web")
    return Client(
        tenant=None,
        client=name,
        login=str(each.get("name", "")),
        user=str(each.get("user", "")),
        address=str(each.get("peer_host", "")),
        version=".".join(re.findall(r"\d+", protocol)),
        listener=("wss" if is_secure else "ws") if is_web else ("mqtts" if is_secure else "mqtt"),
        protection=("mutual" if each.get("peer_cert_subject") else "tls") if is_secure else "plain",
        since=float(each.get("connected_at", 0)) / 1000,
        queued=depths.get(name, 0),
    )


def _depths(queues: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Messages that wait, by client id."""
    depths: dict[str, int] = {}
    for name, messages in _waiting(queues):
        depths[name] = depths.get(name, 0) + messages
    return depths


def _waiting(queues: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    for queue in queues:
        found = _QUEUE.fullmatch(str(queue.get("name", "")))
        if found is not None:
            yield found["client"], int(queue.get("messages", 0))
