"""Requests of triggers to devices: through this gateway's own CoAP socket, as a client of the tenant.

So a trigger can do what a client application of that tenant can do, and nothing else: session, tenant border, proxy,
stored commands and time-outs are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import aiocoap

from gateway.aliases.actions import ActionFailed, DeviceRequest
from gateway.commands.orders import stored_arguments
from gateway.tools.coap import GatewayClient
from gateway.tools.errors import DeviceAnswer, NotReachable, Refused, TimedOut
from meshwire.identity import Role
from meshwire.tokens import SigningKeys

__all__ = ["OwnGateway"]

_ROLES: Final = (Role.COMMAND_CLIENT,)
_TOKEN_TTL_S: Final = 300.0


class OwnGateway:
    """See the module's text; a `Commander`.

    Args:
        authority: gives HOST:PORT of this gateway's CoAP socket.
        keys: sign the tenant's token.
    """

    def __init__(self, authority: Callable[[], str], keys: SigningKeys) -> None:
        self._authority = authority
        self._keys = keys

    async def __call__(self, request: DeviceRequest) -> None:
        """Send one request, or have it kept; raises ActionFailed."""
        device, path = request.device, request.path
        if request.ttl_s is not None:
            path += ("&" if "?" in path else "?") + stored_arguments(request.ttl_s, replace=request.replace)
        token = self._keys.issue(request.tenant, _ROLES, now=time.time(), ttl_s=_TOKEN_TTL_S, scope="api")
        context = await aiocoap.Context.create_client_context(transports=["udp6"])
        client = GatewayClient(context, self._authority(), timeout_s=request.timeout_s)
        try:
            await client.open_session(token)
            try:
                await client.request(request.method, device, path, request.payload)
            finally:
                await client.close_session()
        except (DeviceAnswer, Refused) as error:
            is_final = " 4." in f" {error.evidence}"
            raise ActionFailed(f"device {device}: {error.evidence}", is_final=is_final) from None
        except (NotReachable, TimedOut) as error:
            raise ActionFailed(f"device {device}: {error.what}") from None
        finally:
            await context.shutdown()
