"""Our gateway as `meshwire bench console` runs it: devices provisioned, an administrator made, all pages served.

`python -m bench.console_gateway SETTINGS STATE_DIR NICS NAME PASSWORD`: section `[gateway]` as JSON; prints its CoAP
port and its HTTP port when ready.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

import structlog

from bench.bridge_load import TENANT, device_id
from gateway.gateway import Gateway
from gateway.registry import Device
from gateway.settings import GatewaySettings
from meshwire.identity import INTERNAL_TENANT, TenantId
from meshwire.long_running import settle
from meshwire.site import Site


async def _serve(settings: GatewaySettings, site: Site, nics: int, name: str, password: str) -> None:
    gateway = Gateway(settings, site)
    gateway.registry.add_devices(Device(device_id(number), TenantId(TENANT), "MILLI", "") for number in range(nics))
    gateway.registry.add_account(name, password, INTERNAL_TENANT, (), kind="console", scope="admin")
    task = asyncio.create_task(gateway.run())
    ready = asyncio.create_task(gateway.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        settle()
        sys.stdout.write(f"{gateway.coap_port} {gateway.http_port}\n")
        sys.stdout.flush()
    await task


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(
        _serve(GatewaySettings(**json.loads(sys.argv[1])), Site(Path(sys.argv[2])), int(sys.argv[3]), *sys.argv[4:6])
    )
