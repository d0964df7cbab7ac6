"""The gateway's pulse: a sample a second of what runs through it, kept for a quarter of an hour.

One sampler serves every page and every viewer, so a hundred open browsers cost the gateway what one costs.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["Pulse", "Sample"]

EVERY_S: Final = 1.0
KEPT: Final = 900


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the gateway. Rates are per second since the sample before."""

    at_s: float
    """Unix time."""
    readings_per_s: float
    """Notifications stored."""
    published_per_s: float
    """Messages the broker has taken."""
    outbox_depth: int
    """Notifications that wait for the broker."""
    outbox_age_s: float
    """Of the oldest one that waits."""
    outbox_level: float
    """Share of the outbox that is in use, 0 to 1."""
    lost: int
    """Notifications lost since the gateway started, by whatever reason."""
    connected: bool
    """The bridge has its broker."""
    sessions: int
    """CoAP sessions of client applications."""
    devices: int
    observes_established: int = 0
    """Observations at devices, shared by those who observe the same."""
    observes_asking: int = 0
    """The device has not answered yet."""
    observes_lost: int = 0
    """Made again after a pause."""
    commands_waiting: int = 0
    """Commands that have not ended."""
    trouble: str = ""
    """Why the bridge has no broker, where that is known."""
    trouble_fix: str = ""
    """What to do about it, where that is known."""
    outbox_writable: bool = True
    """Its disk has taken the last batch."""

    def to_json(self) -> dict[str, Any]:
        """For the live stream."""
        return asdict(self)


class Pulse:
    """Samples the gateway's status.

    Args:
        status: gives it.
        now_s: Unix time.
    """

    def __init__(self, status: Callable[[], Mapping[str, Any]], now_s: Callable[[], float] = time.time) -> None:
        self._status = status
        self._now_s = now_s
        self._changed = asyncio.Event()
        self._before: tuple[float, int, int] | None = None
        self.samples: deque[Sample] = deque(maxlen=KEPT)
        """Oldest first."""

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.take()
            await asyncio.sleep(EVERY_S)

    def take(self) -> Sample:
        """One sample, now."""
        status, now_s = self._status(), self._now_s()
        counters = status["counters"]
        stored, published = _total(counters.get("stored", 0)), _total(counters.get("published", 0))
        before_s, stored_before, published_before = self._before or (now_s, stored, published)
        elapsed_s = now_s - before_s or EVERY_S
        self._before = now_s, stored, published
        trouble = status["bridge"].get("trouble") or {"reason": "", "fix": ""}
        outbox = status["outbox"] or {"depth": 0, "ageS": 0.0, "octets": 0, "maxOctets": 1}
        sample = Sample(
            at_s=round(now_s, 3),
            readings_per_s=round((stored - stored_before) / elapsed_s, 2),
            published_per_s=round((published - published_before) / elapsed_s, 2),
            outbox_depth=outbox["depth"],
            outbox_age_s=outbox["ageS"],
            outbox_level=round(outbox["octets"] / outbox["maxOctets"], 4),
            lost=_total(status["losses"]),
            connected=bool(status["bridge"]["connected"]) or not status["bridge"]["enabled"],
            trouble=trouble["reason"],
            trouble_fix=trouble["fix"],
            outbox_writable=bool(outbox.get("writable", True)),
            sessions=status["sessions"],
            devices=status["devices"],
            observes_established=status["proxy"].get("observationsEstablished", 0),
            observes_asking=status["proxy"].get("observationsAsking", 0),
            observes_lost=status["proxy"].get("observationsLost", 0),
            commands_waiting=status["commands"]["open"],
        )
        self.samples.append(sample)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return sample

    async def next(self) -> Sample:
        """The next sample, when it is taken."""
        await self._changed.wait()
        return self.samples[-1]


def _total(counter: int | Mapping[str, int]) -> int:
    return counter if isinstance(counter, int) else sum(counter.values())
