"""Foreseeable failures of the authority as a process; what it refuses to a broker is an answer, not an exception."""

from typing import ClassVar, Final

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "AuthorityError", "ListenError"]


class AuthorityError(MeshwireError):
    """Base of the authority's errors."""

    default_code: ClassVar[str] = "MW-AUT-001"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


class ListenError(AuthorityError):
    """The authority's address can't be bound."""

    default_code: ClassVar[str] = "MW-AUT-002"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


CATALOGUE: Final[dict[str, str]] = {
    "MW-AUT-001": "The authority can't start; the message names the cause.",
    "MW-AUT-002": "The authority's address can't be bound: another program holds the port, or the address is not of "
    "this machine. Set [authority] host and port.",
    "MW-AUT-003": '`caller = "loopback"` lets every process of this machine ask, so it stands only with a loopback '
    'address to listen on. Use `caller = "secret"` otherwise.',
    "MW-AUT-004": "The file named by [authority] secret_file can't be read or holds fewer than 16 characters.",
}
"""What `meshwire help CODE` says."""
