"""What can go wrong with a capture or a replay; each kind has a stable code."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Final

from meshwire.errors import ExitCode, KindError

__all__ = ["CATALOGUE", "CaptureError", "CaptureProblem"]


class CaptureProblem(StrEnum):
    """The kinds; the values are the codes that users see and never change their meaning."""

    NOT_WRITABLE = "MW-CAP-001"
    NOT_A_CAPTURE = "MW-CAP-002"
    NOTHING_TO_REPLAY = "MW-CAP-003"
    PEER_LOST = "MW-CAP-004"


CATALOGUE: Final[dict[str, str]] = {
    CaptureProblem.NOT_WRITABLE: (
        "The capture file cannot be written: the folder is missing, the disk is full, or you may not write there. "
        "`-w -` writes to standard output."
    ),
    CaptureProblem.NOT_A_CAPTURE: (
        "The file is not pcapng, or is damaged. `meshwire capture` writes pcapng; classic pcap files have no "
        "directions, so nothing could be replayed from them."
    ),
    CaptureProblem.NOTHING_TO_REPLAY: (
        "The capture has no HDLC frames with a direction. They are on the interface of link type 147, which every "
        "capture of `meshwire capture` and `tap+PORT` has; a file with CoAP alone cannot be replayed."
    ),
    CaptureProblem.PEER_LOST: "The line given by --peer hung up, so nothing can be passed on. Start the capture again.",
}


class CaptureError(KindError[CaptureProblem]):
    """A capture or a replay could not be done."""

    default_code: ClassVar[str] = CaptureProblem.NOT_A_CAPTURE
    exit_codes: ClassVar[Mapping[str, ExitCode]] = {CaptureProblem.PEER_LOST: ExitCode.NOT_REACHABLE}
