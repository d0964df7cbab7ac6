"""What can be wrong with octets or packets of MQTT."""

from meshwire.mqtt.reasons import ReasonCode

__all__ = ["MqttError", "PacketError", "malformed", "protocol_error"]


class MqttError(ValueError):
    """Base of every error of this package."""


class PacketError(MqttError):
    """A packet that the standard forbids.

    Args:
        reason: the MQTT 5.0 reason code a DISCONNECT or CONNACK would carry.
        text: what was wrong; names no content of the packet.
    """

    def __init__(self, reason: ReasonCode, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} (0x{self.reason:02X})"


def malformed(text: str) -> PacketError:
    """The error for octets that cannot be parsed (MQTT 5.0 section 1.2, Malformed Packet)."""
    return PacketError(ReasonCode.MALFORMED_PACKET, text)


def protocol_error(text: str) -> PacketError:
    """The error for well-formed data that the protocol does not allow here (MQTT 5.0 section 1.2, Protocol Error)."""
    return PacketError(ReasonCode.PROTOCOL_ERROR, text)
