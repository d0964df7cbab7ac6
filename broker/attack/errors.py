"""Foreseeable failures of the attack suite itself; what it finds is a proof, not an exception."""

from typing import ClassVar, Final

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "AttackError", "LoginsUnfit", "TargetUnreachable"]


class AttackError(MeshwireError):
    """The attacks could not be made."""

    default_code: ClassVar[str] = "MW-ATK-001"
    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE


class LoginsUnfit(AttackError):
    """A login that the proof needs does not hold."""

    default_code: ClassVar[str] = "MW-ATK-002"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class TargetUnreachable(AttackError):
    """Nobody answers at the broker's address."""

    default_code: ClassVar[str] = "MW-ATK-003"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


CATALOGUE: Final[dict[str, str]] = {
    "MW-ATK-001": "The attack suite could not run; the message names the cause.",
    "MW-ATK-002": "A login that the proof needs was refused, or may not do what it must: the victim subscribes to its "
    "readings, alarms, presence, events and command answers, the service publishes readings of both tenants. Without "
    "logins that work a refused attack would prove nothing.",
    "MW-ATK-003": "The broker can't be reached at the address given.",
}
"""What `meshwire help CODE` says."""
