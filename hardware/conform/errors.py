"""What can keep a conformance run from being one; a board that fails a case is a result, not an error."""

from __future__ import annotations

from typing import ClassVar, Final

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "BoardSilent", "ConformError", "NoSuchCase", "PortLost"]

CATALOGUE: Final[dict[str, str]] = {
    "MW-CNF-001": (
        "The board did not answer the first SNRM, asked several times with pauses. Check power, TX and RX crossed, "
        "the rate (--baud), common ground, and that the board has started (a Milli sketch may wait up to 16 s)."
    ),
    "MW-CNF-002": "The port hung up during the run: unplugged, or the board's process ended. No more can be judged.",
    "MW-CNF-003": (
        "No case or group has that name. `meshwire conform --list` shows all of them; docs/reference/conformance.md "
        "has them with their clauses."
    ),
}


class ConformError(MeshwireError):
    """A run that could not be made."""

    default_code: ClassVar[str] = "MW-CNF-001"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


class BoardSilent(ConformError):
    """Nobody answers SNRM."""


class PortLost(ConformError):
    """The port hung up."""

    default_code: ClassVar[str] = "MW-CNF-002"


class NoSuchCase(ConformError):
    """A name that no case or group has."""

    default_code: ClassVar[str] = "MW-CNF-003"
    exit_code: ClassVar[ExitCode] = ExitCode.USAGE
