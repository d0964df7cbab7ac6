"""Foreseeable failures of the broker as a process; what goes wrong on one connection is a reason code, not an
exception.
"""

from typing import ClassVar, Final

from pydantic import ValidationError

from meshwire.errors import ExitCode, MeshwireError

__all__ = [
    "CATALOGUE",
    "AddressError",
    "BrokerError",
    "BrokerNotReachable",
    "CertificateError",
    "HookError",
    "ListenError",
    "RolesFileError",
    "SendError",
    "SendTimedOut",
    "StoreError",
    "TlsFilesError",
    "UsersFileError",
    "wrong_values",
]


def wrong_values(error: ValidationError) -> str:
    """What pydantic found, in one line for people: where, when it is a part of the whole, and what."""
    found = []
    for item in error.errors()[:3]:
        place, words = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
        found.append(f"{place}: {words}" if place else words)
    return "; ".join(found)


class BrokerError(MeshwireError):
    """Base of the broker's errors."""

    default_code: ClassVar[str] = "MW-BRK-001"


class ListenError(BrokerError):
    """A listener's address can't be bound."""

    default_code: ClassVar[str] = "MW-BRK-002"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


class UsersFileError(BrokerError):
    """The users file can't be read or is not valid."""

    default_code: ClassVar[str] = "MW-BRK-003"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


class StoreError(BrokerError):
    """The store can't be opened, read or written."""

    default_code: ClassVar[str] = "MW-BRK-006"


class TlsFilesError(BrokerError):
    """A certificate, key or CA file can't be read, or they do not fit."""

    default_code: ClassVar[str] = "MW-BRK-011"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


class CertificateError(BrokerError):
    """A certificate for trials can't be made."""

    default_code: ClassVar[str] = "MW-BRK-012"


class RolesFileError(BrokerError):
    """The roles file can't be read or holds a role that may not be."""

    default_code: ClassVar[str] = "MW-BRK-013"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


class AddressError(BrokerError):
    """The addresses file can't be read, or an address is not valid or does not fit the others."""

    default_code: ClassVar[str] = "MW-BRK-020"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


class SendError(BrokerError):
    """`meshwire send` or `receive` did not get through."""

    default_code: ClassVar[str] = "MW-BRK-023"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class BrokerNotReachable(SendError):
    """No MQTT broker answers."""

    default_code: ClassVar[str] = "MW-BRK-024"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE


class SendTimedOut(SendError):
    """Nobody took a message, or none came, in time."""

    default_code: ClassVar[str] = "MW-BRK-025"
    exit_code: ClassVar[ExitCode] = ExitCode.TIMED_OUT


class HookError(BrokerError):
    """A hook that the configuration names can't be loaded."""

    default_code: ClassVar[str] = "MW-BRK-015"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


CATALOGUE: Final[dict[str, str]] = {
    "MW-BRK-001": "The broker failed; the message names the cause.",
    "MW-BRK-002": "A listener's address can't be bound: another program holds the port, the address is not of this "
    "machine, or the port is below 1024 and needs a privilege. Set another [[broker.listener]].",
    "MW-BRK-003": "The users file can't be read or holds a wrong value. Passwords are argon2id hashes; "
    "`meshwire user add` writes them.",
    "MW-BRK-004": "There is no user of this name; `meshwire user list` shows those there are.",
    "MW-BRK-005": "The file named by --password-file can't be read or is empty; its first line is the password.",
    "MW-BRK-006": "The store can't be opened or written: no permission, no space, or a failing disk. The broker ends "
    "rather than acknowledge what it can't keep; what it acknowledged before is in the store.",
    "MW-BRK-007": "The file named by [broker] store_file is a database of another program.",
    "MW-BRK-008": "The store was written by a newer release, which this one can't read. Nothing was changed.",
    "MW-BRK-009": "Another broker uses this store. Each broker needs a store (or a state folder) of its own.",
    "MW-BRK-010": "The store is damaged. Put a backup in its place, or move it away: the broker then starts without "
    "the sessions, queues and retained messages it held.",
    "MW-BRK-011": "A listener's certificate, key or client CA can't be read, or key and certificate do not fit. "
    "`meshwire cert make` makes a set for trials.",
    "MW-BRK-012": "`meshwire cert make` can't read or write its folder; an authority there needs ca.crt and ca.key.",
    "MW-BRK-013": "A role is not valid: its name, one of its filters, or a filter without {tenantId} in front in a "
    "role that tokens may hold (make it password_only). Built-in roles can't be changed.",
    "MW-BRK-014": "There is no role of this name in the roles file; `meshwire role list` shows those there are.",
    "MW-BRK-015": "A hook named by [broker.hook.NAME] is not installed (entry point group meshwire.broker.hooks), or "
    "its factory failed; the message has the reason.",
    "MW-BRK-020": "An address is not valid, or does not fit the others: its topics overlap with another one's, or the "
    "address it names for dead letters is no queue or topic of the same tenant.",
    "MW-BRK-021": "There is no address of this name in the tenant; `meshwire address list` shows those there are.",
    "MW-BRK-022": "The tenant's plan allows no more addresses ([broker.plan.TENANT] max_addresses).",
    "MW-BRK-023": "The broker did not take or deliver the messages: no login, no right on the address, no receiver at "
    "a direct address, or a full queue. The message names the reason.",
    "MW-BRK-024": "No MQTT broker answers at this host and port.",
    "MW-BRK-025": "Nothing more came within --timeout.",
}
"""What `meshwire help CODE` says."""
