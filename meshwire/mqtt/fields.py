"""Data representation of MQTT: integers, strings and binary data (MQTT 5.0 section 1.5; 3.1.1 section 1.5).

Decides what a valid string and a valid topic name are; leaves to `properties` and `decoder` what the fields mean.
"""

from typing import Final

from meshwire.mqtt.errors import malformed

__all__ = [
    "MAX_REMAINING_LENGTH",
    "Reader",
    "check_topic_filter",
    "check_topic_name",
    "encode_binary",
    "encode_string",
    "encode_variable_integer",
]

MAX_REMAINING_LENGTH: Final = 268_435_455
"""Largest value of a variable byte integer (MQTT 5.0 section 1.5.5)."""

MAX_FIELD_OCTETS: Final = 65_535


class Reader:
    """Takes fields off the front of one packet body; never reads past its end."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self._data = data
        self._position = position
        self._end = len(data) if end is None else end

    @property
    def remaining(self) -> int:
        """Octets not yet taken."""
        return self._end - self._position

    def expect_end(self) -> None:
        """Raises PacketError when octets are left over."""
        if self._position != self._end:
            raise malformed("octets after the last field")

    def take(self, count: int) -> bytes:
        start = self._position
        stop = start + count
        if stop > self._end:
            raise malformed("field runs past the end of the packet")
        self._position = stop
        return self._data[start:stop]

    def rest(self) -> bytes:
        return self.take(self._end - self._position)

    def section(self, count: int) -> "Reader":
        """A Reader of the next `count` octets, which this one skips."""
        start = self._position
        if start + count > self._end:
            raise malformed("section runs past the end of the packet")
        self._position = start + count
        return Reader(self._data, start, start + count)

    def byte(self) -> int:
        position = self._position
        if position >= self._end:
            raise malformed("field runs past the end of the packet")
        self._position = position + 1
        return self._data[position]

    def two_byte_integer(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def four_byte_integer(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def packet_id(self) -> int:
        """A Packet Identifier, which is never zero (MQTT 5.0 [MQTT-2.2.1-3], 3.1.1 [MQTT-2.3.1-1])."""
        value = self.two_byte_integer()
        if value == 0:
            raise malformed("packet identifier is zero")
        return value

    def variable_integer(self) -> int:
        """MQTT 5.0 section 1.5.5: at most four octets, and the shortest form ([MQTT-1.5.5-1])."""
        value = 0
        for shift in (0, 7, 14, 21):
            octet = self.byte()
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                if octet == 0 and shift:
                    raise malformed("variable byte integer is not in its shortest form")
                return value
        raise malformed("variable byte integer is longer than four octets")

    def string(self) -> str:
        """UTF-8 encoded string: no surrogates, no overlong forms, no U+0000 ([MQTT-1.5.4-1], [MQTT-1.5.4-2])."""
        raw = self.take(self.two_byte_integer())
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise malformed("string is not well-formed UTF-8") from None
        if "\0" in text:
            raise malformed("string contains U+0000")
        return text

    def binary(self) -> bytes:
        return self.take(self.two_byte_integer())


def check_topic_name(topic: str) -> str:
    """Returns a valid Topic Name, or raises PacketError.

    MQTT 5.0 [MQTT-3.3.2-2] (no wildcards), [MQTT-4.7.3-1] (not empty). U+0000 is refused with the string itself.
    """
    if not topic:
        raise malformed("topic name is empty")
    if "+" in topic or "#" in topic:
        raise malformed("topic name contains a wildcard")
    return topic


def check_topic_filter(text: str) -> str:
    """Returns a valid Topic Filter, or raises PacketError.

    MQTT 5.0 [MQTT-4.7.1-1], [MQTT-4.7.1-2] (wildcards fill a level, `#` is last), [MQTT-4.7.3-1]; shared subscriptions
    [MQTT-4.8.2-1],
    [MQTT-4.8.2-2].
    """
    if not text:
        raise malformed("topic filter is empty")
    if text == "$share" or text.startswith("$share/"):
        _check_share(text)
    if "+" not in text and "#" not in text:
        return text
    levels = text.split("/")
    for level in levels:
        if len(level) > 1 and ("+" in level or "#" in level):
            raise malformed("wildcard does not fill its level")
    if "#" in levels[:-1]:
        raise malformed("# is not the last level")
    return text


def _check_share(text: str) -> None:
    parts = text.split("/", 2)
    if len(parts) < 3 or not parts[1] or not parts[2]:
        raise malformed("shared subscription without share name or filter")
    if "+" in parts[1] or "#" in parts[1]:
        raise malformed("share name contains a wildcard")


def encode_variable_integer(value: int) -> bytes:
    """MQTT 5.0 section 1.5.5. Raises PacketError above 268,435,455."""
    if value < 0x80:
        return value.to_bytes(1, "big")
    if value > MAX_REMAINING_LENGTH:
        raise malformed("value does not fit a variable byte integer")
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def encode_string(text: str) -> bytes:
    """MQTT 5.0 section 1.5.4. Raises PacketError for what no peer may accept."""
    if "\0" in text:
        raise malformed("string contains U+0000")
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError:
        raise malformed("string contains a surrogate") from None
    return encode_binary(raw)


def encode_binary(raw: bytes) -> bytes:
    """MQTT 5.0 section 1.5.6: two octets of length, at most 65,535 octets."""
    if len(raw) > MAX_FIELD_OCTETS:
        raise malformed("field is longer than 65,535 octets")
    return len(raw).to_bytes(2, "big") + raw
