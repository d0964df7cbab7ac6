"""What deserves attention, said with its evidence and what to do; a pure function of what the console knows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.console.pulse import Sample

__all__ = ["Alarm", "Severity", "alarms"]

OUTBOX_WARNS_AT: Final = 0.5
OUTBOX_ALARMS_AT: Final = 0.9


class Severity(StrEnum):
    """How much it matters."""

    WARNING = "warning"
    """Nothing is lost so far."""
    CRITICAL = "critical"
    """Data is lost, or will be soon."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One line of the list."""

    severity: Severity
    what: str
    evidence: str
    do: str


def alarms(sample: Sample, offline: int) -> list[Alarm]:
    """The alarms of this moment, gravest first.

    Args:
        sample: the newest one.
        offline: devices that have not registered for too long.
    """
    found: list[Alarm] = []
    if sample.lost:
        found.append(
            Alarm(
                Severity.CRITICAL,
                "Notifications were lost",
                f"{sample.lost} since the gateway started",
                "see the reasons below; enlarge the outbox where it was full",
            )
        )
    if not sample.outbox_writable:
        found.append(
            Alarm(
                Severity.CRITICAL,
                "The outbox can't be written",
                "the system did not take the last batch; NICs are asked to keep what they have",
                "make room on the disk of the state folder; the gateway's log says what the system said",
            )
        )
    if sample.outbox_level >= OUTBOX_ALARMS_AT:
        found.append(
            Alarm(
                Severity.CRITICAL,
                "The outbox is nearly full",
                f"{sample.outbox_level:.0%} in use, {sample.outbox_depth} wait",
                "bring the broker back, or raise gateway.outbox.max_octets; NICs are asked to keep what they have",
            )
        )
    if not sample.connected:
        found.append(
            Alarm(
                Severity.WARNING,
                "The broker is away",
                f"{sample.outbox_depth} notifications wait, the oldest for {sample.outbox_age_s:.0f} s"
                + (f"; {sample.trouble}" if sample.trouble else ""),
                (sample.trouble_fix or "start the broker, or check gateway.bridge.host and port")
                + "; nothing is lost until the outbox is full",
            )
        )
    elif OUTBOX_WARNS_AT <= sample.outbox_level < OUTBOX_ALARMS_AT:
        found.append(
            Alarm(
                Severity.WARNING,
                "The outbox fills",
                f"{sample.outbox_level:.0%} in use though the broker is there",
                "see whether the broker takes messages as quickly as they come",
            )
        )
    if offline:
        found.append(
            Alarm(
                Severity.WARNING,
                "Devices are silent",
                f"{offline} of {sample.devices} have not registered in time",
                "see the network page for which and since when",
            )
        )
    return found
