"""A pure CoAP codec (RFC 7252, 7641): octets to messages and back, for hot paths, boards, captures and fleets."""

from meshwire.coap.message import ACK, CON, NON, RST, Message, MessageError, decode, encode

__all__ = ["ACK", "CON", "NON", "RST", "Message", "MessageError", "decode", "encode"]
