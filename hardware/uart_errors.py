"""What the UART's driver counted: framing errors, overruns, parity errors, breaks (Linux, TIOCGICOUNT).

A framing error is the surest sign of a wrong rate or level that software can see. Ports that do not count (pty,
network, some USB adapters) give nothing.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Final

__all__ = ["UartErrors", "read_uart_errors"]

_TIOCGICOUNT: Final = 0x545D
_COUNTER_FORMAT: Final = "20i"
_FIELDS: Final = {"framing": 6, "overrun": 7, "parity": 8, "break": 9}
"""Places in struct serial_icounter_struct."""


def read_uart_errors(path: str) -> dict[str, int] | None:
    """The driver's counts since it was loaded; None where there are none."""
    if not sys.platform.startswith("linux") or "://" in path or not path.startswith("/dev/"):
        return None
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        octets = fcntl.ioctl(fd, _TIOCGICOUNT, bytes(struct.calcsize(_COUNTER_FORMAT)))
    except OSError:
        return None
    finally:
        os.close(fd)
    counts = struct.unpack(_COUNTER_FORMAT, octets)
    return {name: counts[place] for name, place in _FIELDS.items()}


class UartErrors:
    """The counts of one port from now on.

    Args:
        path: device path; any other PORT counts nothing.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._before = read_uart_errors(path)

    def since_opening(self) -> dict[str, int] | None:
        """What was counted since this was made; None where nothing counts."""
        after = read_uart_errors(self._path)
        if self._before is None or after is None:
            return None
        return {name: count - self._before.get(name, 0) for name, count in after.items()}
