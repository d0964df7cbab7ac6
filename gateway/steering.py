"""Which process of a gateway gets a datagram: a filter program for the kernel, and the same rule in Python.

Sockets of one port form a group (SO_REUSEPORT). Member 0 is the main process: registrations, client applications,
commands, and whatever is spelled unusually go there. Notifications in the usual spelling - `POST`, first option
`bubble-up`, second one a MAC of 16 digits - go to a worker chosen by that MAC, whatever address they come from: all of
a NIC's data stay in order and its repetitions are recognised. What the program can't read ends it with 0, member 0.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

from meshwire.identity import DeviceId
from meshwire.notification import BUBBLE_UP

__all__ = ["MAX_WORKERS", "program", "steer", "worker_of"]

MAX_WORKERS: Final = 25
_SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""Linux (socket(7)); missing in Python's socket module."""
_SPREAD: Final = (0x9E3779B1, 0x85EBCA77)
"""Odd multipliers that spread neighbouring MACs."""

# Classic BPF: opcodes of linux/bpf_common.h. `X` is the index register, `A` the accumulator, `M` scratch memory.
_LOAD_OCTET, _LOAD_OCTET_X, _LOAD_HALF_X, _LOAD_WORD_X = 0x30, 0x50, 0x48, 0x40
_AND, _MULTIPLY, _SHIFT_RIGHT, _MODULO, _ADD, _ADD_X = 0x54, 0x24, 0x74, 0x94, 0x04, 0x0C
_A_TO_X, _STORE_A, _LOAD_X = 0x07, 0x02, 0x61
_JUMP_EQUAL, _RETURN, _RETURN_A = 0x15, 0x06, 0x16
_INSTRUCTION: Final = struct.Struct("=HBBI")
_MARKER: Final = BUBBLE_UP.encode()
_POST: Final = 2
_FIRST_OPTION: Final = 11 << 4 | len(_MARKER)
"""Uri-Path as the first option, as long as the marker (RFC 7252 section 3.1)."""
_MAC_OPTION: Final = 0x0D03
"""Another Uri-Path of 13 + 3 octets."""


def program(workers: int) -> bytes:
    """The filter for a group of one main socket and `workers` (1 to `MAX_WORKERS`) others."""
    checks = [
        (_LOAD_OCTET, 1, _POST),
        (_LOAD_OCTET_X, 4, _FIRST_OPTION),
        (_LOAD_WORD_X, 5, int.from_bytes(_MARKER[:4], "big")),
        (_LOAD_WORD_X, 9, int.from_bytes(_MARKER[4:8], "big")),
        (_LOAD_OCTET_X, 13, _MARKER[8]),
        (_LOAD_HALF_X, 14, _MAC_OPTION),
    ]
    steps: list[tuple[int, int, int, int]] = [(_LOAD_OCTET, 0, 0, 0), (_AND, 0, 0, 15), (_A_TO_X, 0, 0, 0)]
    for load, at, wanted in checks:
        steps += [(load, 0, 0, at), (_JUMP_EQUAL, 1, 0, wanted), (_RETURN, 0, 0, 0)]
    steps += [
        (_LOAD_WORD_X, 0, 0, 24),
        (_MULTIPLY, 0, 0, _SPREAD[0]),
        (_STORE_A, 0, 0, 0),
        (_LOAD_WORD_X, 0, 0, 28),
        (_LOAD_X, 0, 0, 0),
        (_ADD_X, 0, 0, 0),
        (_MULTIPLY, 0, 0, _SPREAD[1]),
        (_SHIFT_RIGHT, 0, 0, 16),
        (_MODULO, 0, 0, workers),
        (_ADD, 0, 0, 1),
        (_RETURN_A, 0, 0, 0),
    ]
    return b"".join(_INSTRUCTION.pack(*step) for step in steps)


def steer(group: socket.socket, workers: int) -> bool:
    """Give the group of a bound socket its program; False where the system has none of this.

    Without it the system spreads datagrams by their source address, and workers pass on what is not theirs.
    """
    octets = program(workers)
    buffer = ctypes.create_string_buffer(octets)
    head = struct.pack("HP", len(octets) // _INSTRUCTION.size, ctypes.addressof(buffer))
    try:
        group.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, head)
    except OSError:
        return False
    return True


def worker_of(mac: DeviceId, workers: int) -> int:
    """The member, 1 to `workers`, that gets a NIC's notifications."""
    digits = mac.value.encode()
    word = int.from_bytes(digits[8:12], "big") * _SPREAD[0] + int.from_bytes(digits[12:], "big")
    return ((word * _SPREAD[1] & 0xFFFF_FFFF) >> 16) % workers + 1
