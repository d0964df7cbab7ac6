"""Why a protected message is not taken; the words are stable, for counters and for people."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["OscoreError", "Reason"]


class Reason(StrEnum):
    """What is wrong with a protected message (RFC 8613 sections 8.2 and 8.4)."""

    MALFORMED = "oscore-malformed"
    """The OSCORE option can't be read, or what was decrypted is no message."""
    WRONG_KEY = "oscore-wrong-key"
    """It was not protected with this key, or changed on the way."""
    REPLAY = "oscore-replay"
    """Its sequence number was taken already, or is older than the replay window."""
    UNPROTECTED = "oscore-unprotected"
    """It has no OSCORE option where it must have one."""
    EXHAUSTED = "oscore-exhausted"
    """There are no sequence numbers left: the key has to be renewed."""


class OscoreError(Exception):
    """A message can't be protected or is not taken."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
