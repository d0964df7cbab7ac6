"""Octets of packets that our encoder refuses to write, because the standard forbids them."""

from meshwire.mqtt.fields import encode_variable_integer

__all__ = ["raw_publish", "raw_subscribe"]


def _text(octets: bytes) -> bytes:
    return len(octets).to_bytes(2, "big") + octets


def _framed(first: int, body: bytes) -> bytes:
    return bytes((first,)) + encode_variable_integer(len(body)) + body


def raw_publish(topic: bytes, payload: bytes, *, is_v5: bool, retain: bool = False, alias: int = 0) -> bytes:
    """A QoS 1 PUBLISH to a name of any octets; `alias` as topic alias (MQTT 5)."""
    properties = b""
    if is_v5:
        listed = b"\x23" + alias.to_bytes(2, "big") if alias else b""
        properties = bytes((len(listed),)) + listed
    return _framed(0x32 | retain, _text(topic) + b"\x00\x2a" + properties + payload)


def raw_subscribe(topic_filter: bytes, *, is_v5: bool) -> bytes:
    """A SUBSCRIBE at QoS 1 to a filter of any octets."""
    return _framed(0x82, b"\x00\x2b" + (b"\x00" if is_v5 else b"") + _text(topic_filter) + b"\x01")
