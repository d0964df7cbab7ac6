"""A site behind the console, in the test's own loop: a broker that is an instance, a gateway, readings of NICs."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import cbor2
import pytest
from console_browser import Browser, set_up
from patience import PATIENCE_S
from servers import serving

from broker.server import Broker
from broker.settings import BrokerSettings, InstanceSettings, ListenerSettings
from gateway.gateway import Gateway
from gateway.settings import BridgeSettings, GatewaySettings
from meshwire.coap import CON, Message, codes, decode, encode, options
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.notification import Notification, uplink_request
from meshwire.site import Site

RECORD = cbor2.dumps({0: "temp", 1: "1700000000,72.50,F"})
"""One reading of a board: temp, 72.50 °F."""


class ConsoleSite:
    """See the module; `broker` is the instance `main`."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.broker = self.make_broker("main")
        self.gateway: Gateway
        self._broker_up: AsyncExitStack
        self._numbers = itertools.count(1)

    def make_broker(self, instance: str, **listener: Any) -> Broker:
        """A broker that belongs to an instance of this site."""
        settings = BrokerSettings(
            listener=(ListenerSettings(port=0, **listener),),
            instance=InstanceSettings(name=instance, node=f"{instance}-1"),
            durability="memory",
        )
        return Broker(settings, site=self.site)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ConsoleSite]:
        """Broker and gateway, from ready to ended."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.operations.control_line.ANSWER_WITHIN_S", PATIENCE_S)
            async with self._running():
                yield self

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as self._broker_up:
            await self._broker_up.enter_async_context(serving(self.broker))
            bridge = BridgeSettings(port=self.broker.ports[0])
            settings = GatewaySettings(listen=["127.0.0.1"], port=0, http="127.0.0.1:0", bridge=bridge)
            self.gateway = Gateway(settings, self.site)
            async with serving(self.gateway):
                yield

    async def stop_broker(self) -> None:
        """End the broker; the gateway goes on without it."""
        await self._broker_up.aclose()

    @property
    def url(self) -> str:
        """Of the console."""
        return f"http://127.0.0.1:{self.gateway.http_port}/console/"

    async def cookie(self) -> dict[str, str]:
        """The session of an administrator, who is made for it; for `BrowserContext.add_cookies`."""
        name, _, value = (await set_up(Browser(self.gateway.http_port))).cookie.partition("=")
        return {"name": name, "value": value, "url": self.url}

    async def send_reading(self, mac: DeviceId, path: str = "snsr/arduino/temp") -> None:
        """Bubble one reading up, as a NIC does, and see it taken."""
        number = next(self._numbers)
        segments, queries = uplink_request(Notification(mac, path, number, 1, options.CBOR, RECORD, 1_700_000_000.0))
        pairs = [(options.URI_PATH, each.encode()) for each in segments]
        pairs.append((options.CONTENT_FORMAT, options.encode_uint(options.CBOR)))
        pairs += [(options.URI_QUERY, each.encode()) for each in queries]
        answers: asyncio.Queue[bytes] = asyncio.Queue()
        nic, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Answers(answers), remote_addr=("127.0.0.1", self.gateway.coap_port)
        )
        try:
            nic.sendto(encode(Message(CON, codes.POST, number, b"up", tuple(pairs), RECORD)))
            async with asyncio.timeout(PATIENCE_S):
                answer = decode(await answers.get())
        finally:
            nic.close()
        assert answer.code == codes.CHANGED, answer

    async def is_let_in(self, tenant: str, broker: Broker | None = None) -> bool:
        """Whether an application of a tenant may connect."""
        token = self.site.signing_keys().issue(TenantId(tenant), (Role.BUBBLE_UP_READ_CONSUMER,), now=time.time())
        port, version = (broker or self.broker).ports[0], aiomqtt.ProtocolVersion.V5
        try:
            async with aiomqtt.Client("127.0.0.1", port, username="notused", password=token, protocol=version):
                return True
        except aiomqtt.MqttError:
            return False

    async def until_let_in(self, tenant: str, broker: Broker | None = None) -> None:
        """Brokers learn of an assignment at their next tick."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.is_let_in(tenant, broker):  # noqa: ASYNC110 - only a connection tells
                await asyncio.sleep(0.02)

    async def until_refused(self, tenant: str, broker: Broker | None = None) -> None:
        """The other way round."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.is_let_in(tenant, broker):  # noqa: ASYNC110 - only a connection tells
                await asyncio.sleep(0.02)


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, answers: asyncio.Queue[bytes]) -> None:
        self._answers = answers

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._answers.put_nowait(data)
