"""1,000 exchanges between a NIC's primary station and a Milli board over a bad line, made-up clock, fixed seeds.

A Milli board executes a repeated I frame again, so the promise is: every PUT runs at most once or is reported as
uncertain, is never blindly repeated, and is never reported unsent when it ran.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

import pytest

from meshwire.coap import codes
from meshwire.coap.message import ACK, CON, Message, decode, encode
from meshwire.coap.options import URI_PATH, URI_QUERY
from meshwire.hdlc.events import DataReceived, LinkDown
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.profile import MILLI
from sensor_sim.milli.profile import MILLI_PROFILES
from sensor_sim.milli.settings import MilliSettings
from sensor_sim.milli.station import MilliBoard
from sensor_sim.records import device_record

OCTET_S = 10 / 38400


@dataclass
class CountingSensor:
    """Remembers every setting that was executed."""

    type: str = "temp"
    executed: Counter[str] = field(default_factory=Counter)
    reads: int = 0

    def read(self, epoch: int) -> bytes:
        self.reads += 1
        return device_record(self.type, str(self.reads))

    def configuration(self, epoch: int) -> bytes:
        return device_record(self.type, "x")

    def configure(self, text: str) -> None:
        self.executed[text] += 1

    def reset(self) -> None:
        pass


class Outcome(Enum):
    ANSWERED = "answered"
    UNSENT = "unsent"
    UNCERTAIN = "uncertain"
    SILENT = "delivered without an answer"


@dataclass
class BadLine:
    """Damages, loses and adds octets; adds noise while nobody talks. One delivery a burst, at line rate."""

    rng: random.Random
    error: float
    loss: float
    noise: float
    reset: float = 0.0
    """How often, per event, the board resets."""

    def carry(self, data: bytes) -> bytes:
        out = bytearray()
        for octet in data:
            draw = self.rng.random()
            if draw < self.loss:
                continue
            if draw < self.loss + self.error:
                octet ^= 1 << self.rng.randrange(8)
            out.append(octet)
            if self.rng.random() < self.noise:
                out.append(self.rng.randrange(256))
        return bytes(out)


class Site:
    """Both stations and the line between them, driven from event to event."""

    def __init__(self, profile: str, line: BadLine) -> None:
        self.now = 0.0
        self.sensor = CountingSensor()
        self.board = MilliBoard(MilliSettings(MILLI_PROFILES[profile], period_s=0), [self.sensor], self.now)
        self.nic = PrimaryStation(MILLI)
        self.line = line
        self.in_flight: list[tuple[float, int, bool, bytes]] = []
        self.sent_frames: list[bytes] = []
        self.count = 0

    def exchange(self, message: Message) -> Outcome:
        """Send one request and drive everything until the primary has told what became of it."""
        handle = self.nic.send(encode(message), self.now)
        outcome: Outcome | None = None
        for _ in range(2000):
            self._flush()
            while (event := self.nic.next_event()) is not None:
                match event:
                    case DataReceived(sdu=sdu):
                        answer = decode(sdu)
                        if answer.mtype == ACK and answer.mid == message.mid:
                            outcome = Outcome.ANSWERED
                    case LinkDown(unsent=unsent, uncertain=uncertain):
                        if handle in unsent:
                            return Outcome.UNSENT
                        if handle in uncertain:
                            return Outcome.UNCERTAIN
                        return outcome or Outcome.SILENT
            self._advance()
        raise AssertionError("the exchange does not end")

    def _flush(self) -> None:
        for to_board, station in ((True, self.nic), (False, self.board)):
            if data := station.data_to_send(self.now):
                if to_board:
                    self.sent_frames.append(data)
                self.count += 1
                arrival = self.now + len(data) * OCTET_S
                heapq.heappush(self.in_flight, (arrival, self.count, to_board, self.line.carry(data)))
        while self.board.next_signal() is not None or self.board.next_event() is not None:
            pass

    def _advance(self) -> None:
        moments = [moment for moment in (self.nic.next_deadline(), self.board.next_deadline()) if moment is not None]
        if self.in_flight:
            moments.append(self.in_flight[0][0])
        self.now = max(self.now, min(moments))
        while self.in_flight and self.in_flight[0][0] <= self.now:
            _, _, to_board, data = heapq.heappop(self.in_flight)
            (self.board if to_board else self.nic).receive_data(data, self.now)
        self.nic.handle_timer(self.now)
        self.board.handle_timer(self.now)
        if self.line.rng.random() < self.line.reset:
            self.board.reset("brown-out", self.now)
        if self.line.rng.random() < self.line.noise:
            noise = self.line.rng.randbytes(3)
            (self.board if self.line.rng.random() < 0.5 else self.nic).receive_data(noise, self.now)


def put(number: int) -> Message:
    options = ((URI_PATH, b"arduino"), (URI_PATH, b"temp"), (URI_QUERY, f"cfg=n{number}".encode()))
    return Message(CON, codes.PUT, number & 0xFFFF, number.to_bytes(2, "big"), options)


def get(number: int) -> Message:
    options = ((URI_PATH, b"arduino"), (URI_PATH, b"temp"), (URI_QUERY, b"sens"))
    return Message(CON, codes.GET, number & 0xFFFF, number.to_bytes(2, "big"), options)


@pytest.mark.parametrize("profile", ["milli-1.4.8", "milli-1.4.5"])
@pytest.mark.parametrize(
    ("error", "loss", "noise", "reset", "least_answered"),
    [
        (0.0, 0.0, 0.0, 0.0, 1000),
        (0.001, 0.0005, 0.0005, 0.0, 600),
        (0.01, 0.005, 0.005, 0.0, 20),
        (0.001, 0.0005, 0.0005, 0.02, 500),
    ],
    ids=["clean", "bad", "very bad", "bad, and the board resets"],
)
def test_a_put_runs_at_most_once_or_is_uncertain(
    profile: str, error: float, loss: float, noise: float, reset: float, least_answered: int
) -> None:
    site = Site(profile, BadLine(random.Random(f"{profile}/{error}/{reset}"), error, loss, noise, reset))
    outcomes: Counter[Outcome] = Counter()
    for number in range(1, 1001):
        is_put = number % 2 == 0
        outcome = site.exchange(put(number) if is_put else get(number))
        outcomes[outcome] += 1
        if not is_put:
            continue
        executed = site.sensor.executed[f"n{number}"]
        carried = sum(f"cfg=n{number}".encode() in frame for frame in site.sent_frames)
        assert carried <= 1, "an I frame is never repeated"
        assert executed <= 1
        if outcome is Outcome.ANSWERED:
            assert executed == 1
        elif outcome is Outcome.UNSENT:
            assert executed == 0, "never reported unsent when it was executed"
        site.sent_frames.clear()
    assert outcomes[Outcome.ANSWERED] >= least_answered
    assert outcomes[Outcome.SILENT] == 0
    assert sum(outcomes.values()) == 1000
    # What was executed later than it was reported would show up here.
    assert max(site.sensor.executed.values()) == 1
    if error:
        assert outcomes[Outcome.UNCERTAIN] > 0
    if error > 0.005 or reset:
        assert outcomes[Outcome.UNSENT] > 0
