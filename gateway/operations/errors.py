"""Why a broker can't be asked, and stable codes."""

from __future__ import annotations

from typing import ClassVar, Final

from gateway.errors import GatewayError
from meshwire.errors import ExitCode

__all__ = ["CATALOGUE", "NotOffered", "NotReached", "OperationsError", "RequestRefused"]

CATALOGUE: Final = {
    "MW-OPS-001": "The broker does not answer questions about itself; the message says what was seen, and what to do.",
    "MW-OPS-002": "The broker refused a request of an operator; the message has its reason.",
    "MW-OPS-003": "This broker's maker offers no way to learn or do that.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""


class OperationsError(GatewayError):
    """A question to a broker has no answer."""

    default_code: ClassVar[str] = "MW-OPS-001"


class NotReached(OperationsError):
    """The broker is away, or does not know the question, or does not let us ask."""

    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


class RequestRefused(OperationsError):
    """The broker said no."""

    default_code: ClassVar[str] = "MW-OPS-002"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class NotOffered(OperationsError):
    """The engine can't do it."""

    default_code: ClassVar[str] = "MW-OPS-003"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED
