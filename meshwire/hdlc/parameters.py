"""Link limits and their negotiation in the information fields of SNRM and UA (IEC 62056-46, 6.4.4.4.3.2).

    81  80  group length  05 l maximum information field length, transmit   07 l window size, transmit
                          06 l maximum information field length, receive    08 l window size, receive

"Transmit" and "receive" are those of the station that sends the field. Values are big-endian and may have 1 to 4
octets; this side codes information lengths in two and windows in four, as metering NICs and sensor boards do.
A parameter that is absent has its default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshwire.hdlc.errors import ParameterError

MAX_WINDOW: Final = 7
"""Frames that may be unacknowledged with sequence numbers modulo 8."""
MAX_INFO_OCTETS: Final = 2038
"""Longest information field: 2047 octets of frame, less a header with addresses of one octet and the FCS."""

_FORMAT_ID: Final = 0x81
_GROUP_ID: Final = 0x80
_MAX_INFO_TRANSMIT: Final = 0x05
_MAX_INFO_RECEIVE: Final = 0x06
_WINDOW_TRANSMIT: Final = 0x07
_WINDOW_RECEIVE: Final = 0x08


@dataclass(frozen=True, slots=True)
class LinkParameters:
    """Limits of one station in both directions: information fields in octets (1 to 2038), windows in frames (1 to 7).

    The defaults are those of the standard. Raises ParameterError outside the ranges.
    """

    max_info_transmit: int = 128
    max_info_receive: int = 128
    window_transmit: int = 1
    window_receive: int = 1

    def __post_init__(self) -> None:
        for octets in (self.max_info_transmit, self.max_info_receive):
            if not 1 <= octets <= MAX_INFO_OCTETS:
                raise ParameterError(f"an information field of {octets} octets")
        for frames in (self.window_transmit, self.window_receive):
            if not 1 <= frames <= MAX_WINDOW:
                raise ParameterError(f"a window of {frames} frames")


DEFAULT_PARAMETERS: Final = LinkParameters()


def encode_parameters(parameters: LinkParameters) -> bytes:
    """Return the information field that states ``parameters``: two octets for lengths, four for windows."""
    values = (
        (_MAX_INFO_TRANSMIT, parameters.max_info_transmit, 2),
        (_MAX_INFO_RECEIVE, parameters.max_info_receive, 2),
        (_WINDOW_TRANSMIT, parameters.window_transmit, 4),
        (_WINDOW_RECEIVE, parameters.window_receive, 4),
    )
    group = b"".join(bytes((kind, size)) + value.to_bytes(size, "big") for kind, value, size in values)
    return bytes((_FORMAT_ID, _GROUP_ID, len(group))) + group


def decode_parameters(info: bytes) -> LinkParameters:
    """Return what the information field of a SNRM or UA states; an empty field states the defaults.

    A value above what this side can count to is taken as the most it can. Unknown parameters of the group, and groups
    after it, are passed over. Raises ParameterError when the field cannot be read or states a limit of 0.
    """
    if not info:
        return DEFAULT_PARAMETERS
    if len(info) < 3 or info[0] != _FORMAT_ID or info[1] != _GROUP_ID:
        raise ParameterError("no parameter group 81 80")
    group = info[3 : 3 + info[2]]
    if len(group) != info[2]:
        raise ParameterError(f"a group of {info[2]} octets, {len(group)} are there")
    values = _read_group(group)
    return LinkParameters(
        max_info_transmit=min(values.get(_MAX_INFO_TRANSMIT, 128), MAX_INFO_OCTETS),
        max_info_receive=min(values.get(_MAX_INFO_RECEIVE, 128), MAX_INFO_OCTETS),
        window_transmit=min(values.get(_WINDOW_TRANSMIT, 1), MAX_WINDOW),
        window_receive=min(values.get(_WINDOW_RECEIVE, 1), MAX_WINDOW),
    )


def _read_group(group: bytes) -> dict[int, int]:
    """Return the values of a group by parameter identifier."""
    values: dict[int, int] = {}
    position = 0
    while position < len(group):
        kind, size = group[position], group[position + 1] if position + 1 < len(group) else 0
        value = group[position + 2 : position + 2 + size]
        if not 1 <= size <= 4 or len(value) != size:
            raise ParameterError(f"parameter {kind:02x} has a value of {size} octets, {len(value)} are there")
        values[kind] = int.from_bytes(value, "big")
        position += 2 + size
    return values


def negotiate(own: LinkParameters, peer: LinkParameters) -> LinkParameters:
    """Return what both keep to, seen from ``own``: what one sends is bounded by what the other takes."""
    return LinkParameters(
        max_info_transmit=min(own.max_info_transmit, peer.max_info_receive),
        max_info_receive=min(own.max_info_receive, peer.max_info_transmit),
        window_transmit=min(own.window_transmit, peer.window_receive),
        window_receive=min(own.window_receive, peer.window_transmit),
    )
