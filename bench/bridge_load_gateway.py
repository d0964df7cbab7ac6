"""Our gateway as `meshwire bench bridge` runs it: provisioned for the load's NICs, everything but the bridge at rest.

`python -m bench.bridge_load_gateway SETTINGS STATE_DIR`: section `[gateway]` as JSON; prints its CoAP port when ready.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

import structlog

from bench.bridge_load import NICS, TENANT, device_id
from gateway.gateway import Gateway
from gateway.settings import GatewaySettings
from meshwire.identity import TenantId
from meshwire.long_running import settle
from meshwire.site import Site


async def _serve(settings: GatewaySettings, site: Site) -> None:
    gateway = Gateway(settings, site)
    for number in range(NICS):
        gateway.registry.add_device(device_id(number), TenantId(TENANT))
    task = asyncio.create_task(gateway.run())
    ready = asyncio.create_task(gateway.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        settle()
        sys.stdout.write(f"{gateway.coap_port}\n")
        sys.stdout.flush()
    await task


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(_serve(GatewaySettings(**json.loads(sys.argv[1])), Site(Path(sys.argv[2]))))
