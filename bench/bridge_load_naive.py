"""The bridge that one writes first: an aiocoap resource that awaits an aiomqtt publish. Arguments: PORT QOS."""

from __future__ import annotations

import asyncio
import socket
import sys

import aiocoap
import aiocoap.resource
import aiomqtt


class _Forward(aiocoap.resource.Resource, aiocoap.resource.PathCapable):
    def __init__(self, client: aiomqtt.Client, qos: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._client = client
        self._qos = qos

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        mac, *path = request.opt.uri_path
        await self._client.publish(f"acme/read/{mac}/{path[-1]}", request.payload, self._qos)
        return aiocoap.Message(code=aiocoap.CHANGED)


async def _serve(broker_port: int, qos: int) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        port = probe.getsockname()[1]
    async with aiomqtt.Client("127.0.0.1", broker_port, max_inflight_messages=1000) as client:
        client.pending_calls_threshold = 1000
        site = aiocoap.resource.Site()
        site.add_resource(["bubble-up"], _Forward(client, qos))
        await aiocoap.Context.create_server_context(site, bind=("::", port), transports=["udp6"])
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
