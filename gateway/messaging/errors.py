"""Refusals of the messaging service, and their stable codes."""

from __future__ import annotations

from typing import ClassVar, Final

from gateway.errors import GatewayError
from meshwire.errors import ExitCode

__all__ = ["CATALOGUE", "InUseError", "MessagingError", "UnknownError"]

CATALOGUE: Final = {
    "MW-MSG-001": "The messaging service refused a change; the message names the rule that it breaks.",
    "MW-MSG-002": "There is no account, instance or endpoint of that name.",
    "MW-MSG-003": "What is to be changed or deleted is in use; the message lists by what. Confirm to do it anyway.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""


class MessagingError(GatewayError):
    """A change breaks a rule."""

    default_code: ClassVar[str] = "MW-MSG-001"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class UnknownError(MessagingError):
    """There is nothing of that name."""

    default_code: ClassVar[str] = "MW-MSG-002"
    http_status: ClassVar[int] = 404


class InUseError(MessagingError):
    """A change would hurt somebody, and was not confirmed.

    Args:
        what: what was to be done.
        uses: who uses it, a line each.
    """

    default_code: ClassVar[str] = "MW-MSG-003"

    def __init__(self, what: str, uses: list[str]) -> None:
        super().__init__(what, evidence="in use by " + "; ".join(uses), fix="confirm, to do it all the same")
        self.uses = uses
