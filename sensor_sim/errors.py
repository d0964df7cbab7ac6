"""Errors of the sensor board: the user's mistakes, and what a sensor's handler may answer a request with."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "BoardSettingsError", "SensorError", "SensorFailure"]


CATALOGUE: Final[dict[str, str]] = {
    "MW-SNS-001": (
        "The simulated board can't be built as asked: unknown profile, sensor type or value source, more than four "
        "sensors, one type twice, or a setting out of range. The message names it. Forms: --profile milli-1.4.8, "
        "milli-1.4.5 or standard; --sensor TYPE[=SOURCE][@PERIOD_S] with TYPE temp, echo, ncmth1 or lnic."
    ),
}


class BoardSettingsError(MeshwireError):
    """A profile, sensor or value source that can't be: the caller's mistake, told before the board starts."""

    default_code: ClassVar[str] = "MW-SNS-001"
    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


class SensorFailure(Enum):
    """Why a sensor's handler refused; each profile maps it to a response code in one place."""

    NOT_IMPLEMENTED = "not implemented"
    BAD_DATA = "bad data"
    FAILED = "failed"
    NO_HANDLER = "no handler"
    """The sensor never registered such a handler: a well-made board says so, a Milli board calls a null pointer."""


class SensorError(Exception):
    """A sensor can't do what was asked of it."""

    def __init__(self, failure: SensorFailure) -> None:
        super().__init__(failure.value)
        self.failure = failure
