"""Failures of the client commands, and their codes."""

from __future__ import annotations

from typing import Final

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "DeviceAnswer", "NotReachable", "Refused", "TimedOut", "WrongInput"]

CATALOGUE: Final = {
    "MW-NET-001": "No server answers at the address given: it is not started, or listens elsewhere.",
    "MW-NET-002": "The server refused the login or the request: token expired, wrong tenant, or a right is missing.",
    "MW-NET-003": "The request was sent and no answer came in time; --timeout sets how long is waited.",
    "MW-NET-004": "The device (or a hop on the way to it) answered with an error; the message quotes code and hop.",
    "MW-NET-005": "An argument can't be understood; the message quotes it.",
}


class NotReachable(MeshwireError):
    """Nobody listens at the address."""

    default_code = "MW-NET-001"
    exit_code = ExitCode.NOT_REACHABLE


class Refused(MeshwireError):
    """The server said no."""

    default_code = "MW-NET-002"
    exit_code = ExitCode.REFUSED


class TimedOut(MeshwireError):
    """No answer in time."""

    default_code = "MW-NET-003"
    exit_code = ExitCode.TIMED_OUT


class DeviceAnswer(MeshwireError):
    """The answer is an error."""

    default_code = "MW-NET-004"
    exit_code = ExitCode.DEVICE_ERROR


class WrongInput(MeshwireError):
    """An argument can't be understood."""

    default_code = "MW-NET-005"
    exit_code = ExitCode.USAGE
