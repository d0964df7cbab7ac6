"""aiocoap as the gateway uses it: for what protects messages, TLS and OSCORE.

This is the component's one room that knows aiocoap; everybody else sees our own messages (`meshwire.coap`) and
`gateway.exchange`. Plain UDP is the business of `gateway.client_exchanges` and `gateway.device_exchanges`.
"""
