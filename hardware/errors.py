"""What can go wrong with a port, told so that the reader can mend it; each kind has a stable code."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Final

from meshwire.errors import ExitCode, KindError

__all__ = ["CATALOGUE", "PortError", "PortProblem"]


class PortProblem(StrEnum):
    """The kinds; the values are the codes that users see and never change their meaning."""

    NOT_UNDERSTOOD = "MW-SER-001"
    ABSENT = "MW-SER-002"
    NOT_PERMITTED = "MW-SER-003"
    BUSY = "MW-SER-004"
    NOT_SERIAL = "MW-SER-005"
    UNREACHABLE = "MW-SER-006"
    NO_SIMULATOR = "MW-SER-007"
    NO_PTY = "MW-SER-008"
    BAD_FAULTS = "MW-SER-009"
    NO_WAKE_LINE = "MW-SER-010"
    OTHER = "MW-SER-011"


CATALOGUE: Final[dict[str, str]] = {
    PortProblem.NOT_UNDERSTOOD: (
        "The port is in no form that is known. Forms: a device path (/dev/serial/by-id/…, COM3), socket://HOST:PORT, "
        "rfc2217://HOST:PORT, pty, pty:LINK, sim://PROFILE?sensor=temp, and any of them as "
        "fault+PORT?ber=&drop=&dup=&delay_ms=&stall_s=."
    ),
    PortProblem.ABSENT: (
        "There is no such port now: the device is unplugged, or the process behind a pty has ended. `meshwire ports` "
        "lists what is there. A link that is running tries again by itself every 0.2 to 5 s."
    ),
    PortProblem.NOT_PERMITTED: (
        "The port exists and this user may not open it. On Debian serial ports belong to the group dialout: "
        "`sudo usermod -aG dialout $USER`, then log in again."
    ),
    PortProblem.BUSY: (
        "Another process has locked the port; two readers would each get half of the octets. The message names the "
        "process where the system tells. End it, or use another port."
    ),
    PortProblem.NOT_SERIAL: (
        "What is at that path is not a serial port, or its driver does not take the settings (baud rate). Compare "
        "`meshwire ports`; try a usual baud rate such as 38400."
    ),
    PortProblem.UNREACHABLE: (
        "No connection to the terminal server. Check host and port, and that the server there is running; a server "
        "mostly takes one client at a time."
    ),
    PortProblem.NO_SIMULATOR: (
        "The simulated board did not come up; the message repeats what it said last. Run "
        "`meshwire sensor --port pty --profile PROFILE` to see all of it."
    ),
    PortProblem.NO_PTY: (
        "No pseudo-terminal could be made, or its link could not: the path is taken by a file that is not a symbolic "
        "link, the folder is missing, or all pseudo-terminals are used up (`cat /proc/sys/kernel/pty/nr`)."
    ),
    PortProblem.BAD_FAULTS: (
        "A parameter of fault+PORT is out of range. ber, drop, dup and stall_rate are shares of all octets (0 to 1); "
        "delay_ms and stall_s are times, 0 or above; seed is a whole number."
    ),
    PortProblem.NO_WAKE_LINE: (
        "The driver of this port does not count changes of its modem-control inputs, so a pulse on the wake line "
        "cannot be seen. Nothing fails: the board is polled instead."
    ),
    PortProblem.OTHER: "The system refused to open the port for a reason of its own; the message has its words.",
}


class PortError(KindError[PortProblem]):
    """A port could not be opened."""

    default_code: ClassVar[str] = PortProblem.OTHER
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE
    exit_codes: ClassVar[Mapping[str, ExitCode]] = {
        PortProblem.NOT_UNDERSTOOD: ExitCode.USAGE,
        PortProblem.BAD_FAULTS: ExitCode.USAGE,
        PortProblem.NOT_PERMITTED: ExitCode.REFUSED,
        PortProblem.BUSY: ExitCode.REFUSED,
    }
