"""Why a command is not taken or can't be changed, with codes for CoAP and HTTP; and the stable codes for people."""

from __future__ import annotations

from typing import ClassVar, Final

from gateway.errors import GatewayError
from meshwire.coap import codes
from meshwire.errors import ExitCode

__all__ = [
    "CATALOGUE",
    "CommandError",
    "CommandRefused",
    "CommandStoreError",
    "NoSuchCommand",
    "NoSuchDevice",
    "NotAllowed",
    "NotWaiting",
    "QueueFull",
    "StillArriving",
]

CATALOGUE: Final = {
    "MW-CMD-001": "The command can't be taken as it is written: the message names the field and what it must be.",
    "MW-CMD-002": "The party's roles do not allow commands: its token or account needs COMMAND_CLIENT.",
    "MW-CMD-003": "There is no such device for this party: unknown, foreign and disabled devices answer alike.",
    "MW-CMD-004": "There is no such command (or group), or it is older than gateway.commands.keep_s.",
    "MW-CMD-005": "The command waits no more: it was sent or has ended, so it can't be cancelled or moved.",
    "MW-CMD-006": "Too many commands wait for this device, or for all (gateway.commands.max_…), or too long payloads.",
    "MW-CMD-007": "The commands' database can't be opened or written; nothing was accepted.",
    "MW-CMD-008": "The device can't be reached now, and a direct command does not wait for it.",
    "MW-CMD-009": "The command ended without an answer of the device: expired, cancelled, failed, or unknown outcome.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""


class CommandError(GatewayError):
    """Base of this package's errors; each carries what a CoAP and an HTTP client are answered."""

    default_code: ClassVar[str] = "MW-CMD-001"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED
    coap_code: ClassVar[int] = codes.BAD_REQUEST
    http_status = 422


class CommandRefused(CommandError):
    """A field is missing, unknown or out of range."""


class NotAllowed(CommandError):
    """The party may not command."""

    default_code = "MW-CMD-002"
    coap_code = codes.FORBIDDEN
    http_status = 403


class NoSuchDevice(CommandError):
    """Unknown, foreign or disabled."""

    default_code = "MW-CMD-003"
    coap_code = codes.NOT_FOUND
    http_status = 404

    def __init__(self, which: str = "") -> None:
        super().__init__("no such device", evidence=which)


class NoSuchCommand(CommandError):
    """Unknown, or another tenant's."""

    default_code = "MW-CMD-004"
    coap_code = codes.NOT_FOUND
    http_status = 404

    def __init__(self, what: str = "command") -> None:
        super().__init__(f"no such {what}")


class NotWaiting(CommandError):
    """It was sent or has ended."""

    default_code = "MW-CMD-005"
    coap_code = codes.CONFLICT
    http_status = 409

    def __init__(self, state: str) -> None:
        super().__init__("the command waits no more", evidence=f"it is {state}", fix="see what it came to")
        self.state = state


class StillArriving(NotWaiting):
    """The same id came twice at almost the same time: the first one is being written, and will be told of."""

    def __init__(self) -> None:
        super().__init__("arriving just now")


class QueueFull(CommandError):
    """No room; worth trying again later."""

    default_code = "MW-CMD-006"
    coap_code = codes.SERVICE_UNAVAILABLE
    http_status = 503

    def __init__(self, evidence: str) -> None:
        super().__init__(
            "too many commands wait", evidence=evidence, fix="cancel some, give them a shorter TTL, or try later"
        )


class CommandStoreError(CommandError):
    """SQLite said no."""

    default_code = "MW-CMD-007"
    coap_code = codes.SERVICE_UNAVAILABLE
    http_status = 503
