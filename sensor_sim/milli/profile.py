"""What differs between the two versions of the Milli board's firmware, as one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshwire.coap.options import CBOR

__all__ = ["MILLI_1_4_5", "MILLI_1_4_8", "MILLI_PROFILES", "MilliProfile"]

_OLD_FORMAT: Final = 2
"""Content-Format 2: what firmware up to 1.4.6 put on its CBOR bodies (dialect B.4)."""


@dataclass(frozen=True, slots=True)
class MilliProfile:
    """One firmware version (dialect A.8, B.4, G)."""

    name: str
    version_text: str
    content_format: int
    """Content-Format number of sensor records."""
    answers_acknowledgements: bool
    """An ACK in an I frame gets an empty I frame (A.8 rule 7); otherwise nothing."""
    oldest_pending_wins: bool
    """A new notification is skipped while the slot is full; otherwise it replaces the one waiting."""
    wake_pulse_s: float
    """Width of the wake pulse of a notification, in seconds."""
    wake_pin_ready_at_boot: bool
    """The wake pin is an output before the boot pulse, so that the NIC sees it (A.1)."""
    deregistration_releases_wake: bool
    """False: a deregistration leaves the wake line LOW (A.1)."""
    deletes: bool
    """DELETE `?all` switches a sensor off (B.4)."""
    free_classifier: bool
    """The sketch may choose the classifier; otherwise it is `arduino`."""


MILLI_1_4_8: Final = MilliProfile(
    name="milli-1.4.8",
    version_text="Itron Reference CoAP Server: 1.4.8",
    content_format=CBOR,
    answers_acknowledgements=True,
    oldest_pending_wins=True,
    wake_pulse_s=0.002,
    wake_pin_ready_at_boot=True,
    deregistration_releases_wake=True,
    deletes=False,
    free_classifier=True,
)

MILLI_1_4_5: Final = MilliProfile(
    name="milli-1.4.5",
    version_text="Itron Reference CoAP Server: 1.4.5",
    content_format=_OLD_FORMAT,
    answers_acknowledgements=False,
    oldest_pending_wins=False,
    wake_pulse_s=0.001,
    wake_pin_ready_at_boot=False,
    deregistration_releases_wake=False,
    deletes=True,
    free_classifier=False,
)

MILLI_PROFILES: Final = {profile.name: profile for profile in (MILLI_1_4_8, MILLI_1_4_5)}
