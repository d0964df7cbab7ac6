"""PUBLISH packets of one length, and acknowledgements of many of them at once."""

from typing import Final

__all__ = ["PAYLOAD_OCTETS", "answers", "publish_packet"]

PAYLOAD_OCTETS: Final = 100


def publish_packet(publisher: int, index: int, qos: int) -> bytes:
    """PUBLISH number `index` of a publisher's ring; the payload begins with its order and its publisher, modulo 256."""
    payload = bytes((index & 0xFF, publisher & 0xFF)) + bytes(PAYLOAD_OCTETS - 2)
    topic = _topic(publisher).encode()
    packet_id = (index + 1).to_bytes(2, "big") if qos else b""
    body = len(topic).to_bytes(2, "big") + topic + packet_id + payload
    return bytes((0x30 | qos << 1, len(body))) + body


def _topic(publisher: int) -> str:
    return f"load/read/{publisher:03}"


def answers(first: int, high: bytes, low: bytes) -> bytes:
    """Acknowledgements of the packet identifiers given as their upper and lower octets."""
    octets = bytearray((first, 2, 0, 0)) * len(high)
    octets[2::4] = high
    octets[3::4] = low
    return bytes(octets)
