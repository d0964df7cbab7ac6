"""aiocoap as the gateway uses it: a server on our own sockets, and a client towards the devices.

This is the component's one room that knows aiocoap; everybody else sees our own messages (`meshwire.coap`) and
`gateway.exchange`. Types, message IDs, repetition, deduplication and separate responses are aiocoap's.
"""

from gateway.coap_context.clients import ClientContext
from gateway.coap_context.devices import DeviceContext, DeviceFailure, DeviceRefused, DeviceSilent, DeviceUnreachable

__all__ = ["ClientContext", "DeviceContext", "DeviceFailure", "DeviceRefused", "DeviceSilent", "DeviceUnreachable"]
