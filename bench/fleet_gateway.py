"""Our gateway as `meshwire bench fleet` runs it: provisioned for the fleet in one transaction.

`python -m bench.fleet_gateway SETTINGS STATE_DIR NICS`: section `[gateway]` as JSON; prints its CoAP port when ready.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
from pathlib import Path

import structlog

from gateway.gateway import Gateway
from gateway.registry import Registry
from gateway.settings import GatewaySettings
from meshwire.identity import TenantId
from meshwire.site import Site
from nic_sim.fleet.fleet import device_id

TENANT = "acme"


def provision(path: Path, nics: int) -> None:
    """All devices of the fleet, at once."""
    registry = Registry(path)
    registry.add_device(device_id(0), TenantId(TENANT))
    registry.close()
    with sqlite3.connect(path) as database:
        template = database.execute("SELECT * FROM devices").fetchone()
        holes = ",".join("?" * len(template))
        rows = ((device_id(n).value, *template[1:]) for n in range(1, nics))
        database.executemany(f"INSERT INTO devices VALUES ({holes})", rows)
    database.close()


async def _serve(settings: GatewaySettings, site: Site, nics: int) -> None:
    provision(site.path("gateway", "registry.db"), nics)
    gateway = Gateway(settings, site)
    task = asyncio.create_task(gateway.run())
    ready = asyncio.create_task(gateway.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        sys.stdout.write(f"{gateway.coap_port}\n")
        sys.stdout.flush()
    await task


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(_serve(GatewaySettings(**json.loads(sys.argv[1])), Site(Path(sys.argv[2])), int(sys.argv[3])))
