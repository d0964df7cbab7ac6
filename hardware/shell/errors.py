"""What can go wrong in the shell; the codes that `meshwire help` explains."""

from __future__ import annotations

from typing import ClassVar, Final

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "BoardSilent", "CommandError", "DeviceAnsweredError", "Dangerous", "ShellError"]

CATALOGUE: Final[dict[str, str]] = {
    "MW-SHL-001": (
        "The line is no command of the shell, or an argument is missing or out of range. `help` lists the commands. A "
        "script is read whole before its first line is executed, so nothing was sent."
    ),
    "MW-SHL-002": (
        "The request, or raw frame, is known to crash boards of the Milli family, or cannot be read, so that nobody "
        "knows what a board does with it. `meshwire link PORT --destructive` sends it all the same."
    ),
    "MW-SHL-003": (
        "The board gave no answer. The message says whether it surely did not execute the request, or may have. "
        "`meshwire probe PORT` looks for the cause."
    ),
    "MW-SHL-004": (
        "The board answered with an error code (4.xx or 5.xx); a script stops there. With `-` in front of a command it "
        "goes on."
    ),
}


class ShellError(MeshwireError):
    """A command of the shell failed."""

    default_code: ClassVar[str] = "MW-SHL-001"


class CommandError(ShellError):
    """The line is no command."""

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


class Dangerous(ShellError):
    """The guard does not let it through."""

    default_code: ClassVar[str] = "MW-SHL-002"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class BoardSilent(ShellError):
    """No answer came."""

    default_code: ClassVar[str] = "MW-SHL-003"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


class DeviceAnsweredError(ShellError):
    """The answer is an error code, in a script."""

    default_code: ClassVar[str] = "MW-SHL-004"
    exit_code: ClassVar[ExitCode] = ExitCode.DEVICE_ERROR
