"""Our own broker in the test's process, with the users that a gateway and an administrator need."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from argon2 import PasswordHasher
from servers import serving

from broker.addresses.address import Address
from broker.addresses.book import AddressBook
from broker.credentials import UsersFile
from broker.server import Broker
from broker.settings import BrokerSettings, ListenerSettings
from meshwire.site import Site

ADMIN, ADMIN_PASSWORD = "admin", "admin-password"


@contextlib.asynccontextmanager
async def embedded_broker(site: Site, *addresses: Address, **settings: Any) -> AsyncIterator[Broker]:
    """Serving on a free port, in memory unless told otherwise."""
    users = UsersFile(site.path("broker", "users.json"), PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    users.add("gateway", site.secret("gateway-mqtt"), roles=("GATEWAY",))
    users.add(ADMIN, ADMIN_PASSWORD, roles=("ADMIN",))
    book = AddressBook(site.path("broker", "addresses.json"))
    for address in addresses:
        book.put(address)
    values: dict[str, Any] = {"durability": "memory", "listener": (ListenerSettings(port=0),)}
    broker = Broker(BrokerSettings(**(values | settings)), site=site)
    async with serving(broker):
        yield broker
