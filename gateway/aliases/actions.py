"""What a trigger does with a message: a log line, an HTTP request, a message at an alias, a request to a device."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

import structlog

from gateway.aliases.publisher import Relay
from gateway.aliases.records import CommandAction, HttpAction, LogAction, PublishAction, TriggerSettings
from gateway.aliases.subscriber_session import Delivery
from gateway.aliases.templates import fill
from gateway.mqtt import ConnectionLost
from meshwire.identity import DeviceId, IdentityError, TenantId

__all__ = ["ActionFailed", "Commander", "DeviceRequest", "Runner", "no_devices"]

_SHOWN_OCTETS: Final = 256
_PUBLISH_TIMEOUT_S: Final = 30.0
_FAILURE: Final = 0x80


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What a trigger asks of a device."""

    tenant: TenantId
    device: DeviceId
    method: str
    path: str
    payload: bytes
    timeout_s: float
    ttl_s: float | None = None
    """Not None: a command that is kept for a device that is away, for so many seconds."""
    replace: bool = False
    """Whether it takes the place of older commands that wait, for the same method and path."""


Commander = Callable[[DeviceRequest], Awaitable[None]]
"""Sends a request to a device; raises ActionFailed."""

_log = structlog.get_logger(__name__)


class ActionFailed(Exception):
    """An action did not come through; `is_final`: trying again can't help."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


async def no_devices(request: DeviceRequest) -> None:
    """A `Commander` where no trigger runs."""
    raise ActionFailed("no requests to devices from here")


class Runner:
    """Runs a trigger's action for one message.

    Args:
        relays: gives the way out through another alias; None when that is not enabled.
        contexts: gives the TLS context for a truststore alias; empty name: the system's.
        commander: reaches devices.
    """

    def __init__(
        self,
        relays: Callable[[str], Relay | None],
        contexts: Callable[[str], ssl.SSLContext],
        commander: Commander,
    ) -> None:
        self._relays = relays
        self._contexts = contexts
        self._commander = commander

    async def run(self, trigger: TriggerSettings, message: Delivery) -> None:
        """Do it once; raises ActionFailed."""
        action = trigger.action
        match action:
            case LogAction():
                _write(trigger, action, message)
            case HttpAction():
                context = self._contexts(action.truststore) if action.url.startswith("https:") else None
                await asyncio.to_thread(_send, action, message, context)
            case PublishAction():
                await self._publish(action, message)
            case CommandAction():
                await self._command(action, message)
            case _:
                assert_never(action)

    async def _publish(self, action: PublishAction, message: Delivery) -> None:
        relay = self._relays(action.alias)
        if relay is None:
            raise ActionFailed(f"alias {action.alias} is not enabled")
        topic = fill(action.topic, _places(message))
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                code = await relay.publish(topic, message.payload, action.qos, retained=action.retained)
        except ConnectionLost as lost:
            raise ActionFailed(f"alias {action.alias}: {lost}") from None
        except TimeoutError:
            raise ActionFailed(f"alias {action.alias}: the broker does not acknowledge") from None
        if code >= _FAILURE:
            raise ActionFailed(f"alias {action.alias}: the broker refuses topic {topic} ({code:#04x})", is_final=True)

    async def _command(self, action: CommandAction, message: Delivery) -> None:
        places = _places(message)
        try:
            tenant, device = TenantId(action.tenant), DeviceId.parse(fill(action.device, places))
        except IdentityError as error:
            raise ActionFailed(str(error), is_final=True) from None
        payload = message.payload if action.method in ("PUT", "POST") else b""
        path, ttl_s = fill(action.path, places), action.ttl_s if action.mode == "stored" else None
        await self._commander(
            DeviceRequest(tenant, device, action.method, path, payload, action.timeout_s, ttl_s, action.replace)
        )


def _places(message: Delivery) -> dict[str, str]:
    levels = {str(number): level for number, level in enumerate(message.topic.split("/"), 1)}
    return {"topic": message.topic, **levels}


def _write(trigger: TriggerSettings, action: LogAction, message: Delivery) -> None:
    payload = message.payload[:_SHOWN_OCTETS]
    try:
        shown = {"payload": payload.decode()}
    except UnicodeDecodeError:
        shown = {"payload_hex": payload.hex()}
    tell = getattr(_log, action.level)
    tell("trigger", trigger=trigger.name, topic=message.topic, qos=message.qos, octets=len(message.payload), **shown)


def _send(action: HttpAction, message: Delivery, context: ssl.SSLContext | None) -> None:
    """Runs on a thread; raises ActionFailed."""
    parts = urllib.parse.urlsplit(action.url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if context is not None:
        connection = http.client.HTTPSConnection(host, parts.port, timeout=action.timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=action.timeout_s)
    headers = {
        "Content-Type": message.properties.content_type or action.content_type,
        "X-MQTT-Topic": urllib.parse.quote(message.topic, safe="/"),
    }
    try:
        if action.token_file:
            headers["Authorization"] = f"Bearer {Path(action.token_file).read_text().strip()}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(action.method, target, message.payload, headers)
        response = connection.getresponse()
        text = response.read(_SHOWN_OCTETS)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ActionFailed(f"{action.url}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        # A request that the server finds wrong stays wrong; 408 and 429 ask to come again (RFC 9110 section 15.5).
        is_final = 400 <= response.status < 500 and response.status not in (401, 403, 404, 408, 425, 429)
        raise ActionFailed(f"{action.url}: {response.status} {text.decode(errors='replace')}", is_final=is_final)
