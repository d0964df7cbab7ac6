"""Foreseeable failures of the broker as a process; what goes wrong on one connection is a reason code, not an
exception.
"""

from typing import ClassVar, Final

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "BrokerError", "ListenError", "UsersFileError"]


class BrokerError(MeshwireError):
    """Base of the broker's errors."""

    default_code: ClassVar[str] = "MW-BRK-001"


class ListenError(BrokerError):
    """A listener's address can't be bound."""

    default_code: ClassVar[str] = "MW-BRK-002"


class UsersFileError(BrokerError):
    """The users file can't be read or is not valid."""

    default_code: ClassVar[str] = "MW-BRK-003"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


CATALOGUE: Final[dict[str, str]] = {
    "MW-BRK-001": "The broker failed; the message names the cause.",
    "MW-BRK-002": "A listener's address can't be bound: another program holds the port, the address is not of this "
    "machine, or the port is below 1024 and needs a privilege. Set another [[broker.listener]].",
    "MW-BRK-003": "The users file can't be read or holds a wrong value. Passwords are argon2id hashes; "
    "`meshwire user add` writes them.",
    "MW-BRK-004": "There is no user of this name; `meshwire user list` shows those there are.",
    "MW-BRK-005": "The file named by --password-file can't be read or is empty; its first line is the password.",
}
"""What `meshwire help CODE` says."""
