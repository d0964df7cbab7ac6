"""The counters of a primary's link as one value: for people, for programs, and as metrics.

`meshwire link --stats`, the NIC's `/sys/link` and its metrics all show this value: a name means the same in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshwire.hdlc.errors import DiscardReason
from meshwire.hdlc.primary import PrimaryStation
from meshwire.link import Link
from meshwire.round_trip import RoundTrips

__all__ = ["LinkStats", "link_stats"]

_CHECK_REASONS = (DiscardReason.HCS, DiscardReason.FCS)


@dataclass(frozen=True, slots=True)
class LinkStats:
    """A snapshot. Times in seconds; the round trip is from a request to its response."""

    state: str
    since_s: float
    frames_in: int
    frames_out: int
    octets_in: int
    octets_out: int
    check_errors: int
    discarded: dict[str, int]
    retries: int
    retransmissions: int
    timeouts: int
    resets: int
    link_ups: int
    pipe_losses: int
    requests: int
    notifications: int
    round_trip_last_s: float
    round_trip_mean_s: float
    round_trip_most_s: float

    def record(self) -> dict[str, object]:
        """All of it by name."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in ((name, getattr(self, name)) for name in self.__slots__)
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """All of it as people read it."""
        yield "state", f"{self.state} for {self.since_s:.1f} s"
        yield "frames", f"{self.frames_out} out, {self.frames_in} in"
        yield "octets", f"{self.octets_out} out, {self.octets_in} in"
        discarded = ", ".join(f"{reason} {count}" for reason, count in self.discarded.items())
        yield "check errors", f"{self.check_errors}" + (f" (thrown away: {discarded})" if discarded else "")
        yield "retries", f"{self.retries} questions, {self.retransmissions} I frames; {self.timeouts} time-outs"
        yield "resets", f"{self.resets}; link made {self.link_ups} times, port lost {self.pipe_losses} times"
        yield "requests", f"{self.requests} answered, {self.notifications} notifications"
        yield (
            "round trip",
            f"last {self.round_trip_last_s * 1000:.0f} ms, mean {self.round_trip_mean_s * 1000:.0f} ms, "
            f"longest {self.round_trip_most_s * 1000:.0f} ms",
        )


def link_stats(link: Link, station: PrimaryStation, round_trips: RoundTrips, notifications: int) -> LinkStats:
    """What has happened so far.

    Args:
        link: the driver.
        station: its station.
        round_trips: of the requests to the board.
        notifications: how many the board has sent.
    """
    counters, status = station.counters, link.status
    return LinkStats(
        state=status.state.value,
        since_s=status.since_s,
        frames_in=counters.frames_in,
        frames_out=counters.frames_out,
        octets_in=counters.octets_in,
        octets_out=counters.octets_out,
        check_errors=sum(counters.discarded.get(reason, 0) for reason in _CHECK_REASONS),
        discarded={reason.value: count for reason, count in counters.discarded.items()},
        retries=counters.retries,
        retransmissions=counters.retransmissions,
        timeouts=counters.timeouts,
        resets=counters.resets,
        link_ups=counters.link_ups,
        pipe_losses=status.counters.pipe_losses,
        requests=round_trips.count,
        notifications=notifications,
        round_trip_last_s=round_trips.last_s,
        round_trip_mean_s=round_trips.mean_s,
        round_trip_most_s=round_trips.most_s,
    )
