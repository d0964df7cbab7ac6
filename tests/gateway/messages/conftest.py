"""A broker, a gateway with its HTTP API, and curl."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from embedded_broker import embedded_broker
from message_site import ADDRESSES, Place

from gateway.gateway import Gateway
from meshwire.site import Site


@pytest.fixture
def make_place(site: Site, settings_for: Callable[..., Any], running: Any) -> Any:
    @contextlib.asynccontextmanager
    async def make(messages: Any = None, **broker_settings: Any) -> AsyncIterator[Place]:
        async with embedded_broker(site, *ADDRESSES, **broker_settings) as broker:
            more = {} if messages is None else {"messages": messages}
            gateway = Gateway(settings_for(broker.ports[0], http="127.0.0.1:0", **more), site)
            async with running(gateway):
                yield Place(broker, gateway, site)

    return make


@pytest.fixture
async def place(make_place: Any) -> AsyncIterator[Place]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    async with make_place() as place:
        yield place
