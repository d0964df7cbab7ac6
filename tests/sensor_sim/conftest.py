"""A Milli board on a bench: a made-up clock, one frame in, one frame out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from meshwire.coap.message import CON, Message, encode
from meshwire.coap.options import OBSERVE, URI_PATH, URI_QUERY
from sensor_sim.milli.events import BoardReset, MilliEvent, WakePulse
from sensor_sim.milli.frame import build_frame
from sensor_sim.milli.profile import MILLI_PROFILES
from sensor_sim.milli.settings import MilliSettings
from sensor_sim.milli.station import MilliBoard
from sensor_sim.sensors import EchoSensor, LogisticsSensor, MethaneSensor, Sensor, TemperatureSensor
from sensor_sim.sources import Constant

SNRM, DISC = 0x93, 0x53
EPOCH = 1_700_000_000


class MilliBench:
    """Drives one board; `now` moves only when something is awaited from it."""

    def __init__(
        self,
        profile: str = "milli-1.4.8",
        *,
        period_s: float = 60.0,
        classifier: str = "arduino",
        boot_delay_s: float = 0.0,
        reading_time_s: float = 0.0,
        epoch: int | None = EPOCH,
        quiet: bool = True,
        sensors: Sequence[Sensor] | None = None,
    ) -> None:
        self.now = 1000.0
        self.signals: list[MilliEvent] = []
        self.mid = 0x2000
        self.sent, self.received = 0, 0
        settings = MilliSettings(
            MILLI_PROFILES[profile], classifier, period_s, boot_delay_s=boot_delay_s, reading_time_s=reading_time_s
        )
        self.board = MilliBoard(settings, sensors if sensors is not None else self.default_sensors(), self.now)
        if epoch is not None:
            self.board.clock.set(epoch, self.now)
        if quiet and not boot_delay_s:
            self.connect()
            self.release()
            self.signals.clear()

    @staticmethod
    def default_sensors() -> list[Sensor]:
        return [
            TemperatureSensor(Constant(22.5)),
            EchoSensor(),
            MethaneSensor(Constant(10)),
            LogisticsSensor(Constant(24.07), Constant(76), sequence=0x11A76),
        ]

    def wait(self, seconds: float) -> None:
        """Let time pass, with every timer fired at its moment."""
        end = self.now + seconds
        while (due := self.board.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.board.handle_timer(self.now)
            self._drain()
        self.now = end
        self._drain()

    def raw(self, octets: bytes) -> bytes:
        """Put octets on the line, keep silent until the board has looked, and give what it answers."""
        self.board.receive_data(octets, self.now)
        answer = b""
        for _ in range(10):
            due = self.board.next_deadline()
            if answer or due is None or due > self.now + 1.0:
                break
            self.now = due
            self.board.handle_timer(self.now)
            answer = self.board.data_to_send(self.now)
            self._drain()
        return answer

    def _drain(self) -> None:
        while (signal := self.board.next_signal()) is not None:
            self.signals.append(signal)
        while self.board.next_event() is not None:
            pass

    def frame(self, control: int, info: bytes = b"") -> bytes:
        return self.raw(build_frame(control, info))

    def connect(self) -> bytes:
        self.sent = self.received = 0
        return self.frame(SNRM)

    def release(self) -> bytes:
        return self.frame(DISC)

    def information(self, info: bytes) -> bytes:
        """One I frame on the link; gives the information field of the answer's I frame (b"" for no answer)."""
        answer = self.frame(self.received << 5 | self.sent << 1, info)
        self.sent = (self.sent + 1) % 8
        if answer and not answer[5] & 1:
            self.received = (self.received + 1) % 8
        return answer[8:-3] if len(answer) > 9 else b""

    def fetch(self) -> bytes:
        """SNRM, RR, DISC: the pending message, b"" when there is none."""
        self.connect()
        answer = self.frame(0x11)
        self.release()
        return answer[8:-3] if not answer[5] & 1 else b""

    def coap(
        self,
        code: int,
        path: str = "",
        query: str | None = None,
        *,
        mtype: int = CON,
        token: bytes = b"\xaa\xbb",
        observe: bytes | None = None,
        options: Sequence[tuple[int, bytes]] = (),
        payload: bytes = b"",
    ) -> bytes:
        """The octets of a request."""
        every = [*options, *((URI_PATH, part.encode()) for part in path.split("/") if part)]
        if query is not None:
            every.append((URI_QUERY, query.encode()))
        if observe is not None:
            every.append((OBSERVE, observe))
        every.sort(key=lambda option: option[0])
        self.mid += 1
        return encode(Message(mtype, code, self.mid, token, tuple(every), payload))

    def ask(self, code: int, path: str = "", query: str | None = None, **fields: object) -> bytes:
        """One request in a session of its own; gives the answer's octets."""
        request = self.coap(code, path, query, **fields)  # type: ignore[arg-type]
        self.connect()
        answer = self.information(request)
        self.release()
        return answer

    def resets(self) -> list[str]:
        return [signal.reason for signal in self.signals if isinstance(signal, BoardReset)]

    def pulses(self) -> list[float | None]:
        return [signal.width_s for signal in self.signals if isinstance(signal, WakePulse)]


@pytest.fixture
def bench() -> MilliBench:
    """A 1.4.8 board, booted, its reboot message fetched, its clock at EPOCH."""
    return MilliBench()


@pytest.fixture
def make_bench() -> Callable[..., MilliBench]:
    """Makes boards with other settings."""
    return MilliBench
