"""A learned board, played: a sensor that says what was recorded, in turn, and resources that always say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Final

from aiocoap import Message, error
from aiocoap.numbers.codes import CONTENT

from meshwire.learned_board import LearnedBoard, LearnedBoardError, LearnedSensor
from sensor_sim.errors import BoardSettingsError, SensorError, SensorFailure
from sensor_sim.spec import MAX_SENSORS
from sensor_sim.standard.system_resources import BoardResource

__all__ = ["RecordedResource", "RecordedSensor", "load_learned", "recorded_sensors"]

_EPOCH: Final = re.compile(rb"(?<![0-9])1[0-9]{9}(?=,)")
"""Unix seconds in decimal in front of a comma: when a reading was taken, in the records of Milli boards. From 2001 on
to 2033 they have ten digits, so a newer one takes the place of an older one octet for octet."""


class RecordedSensor:
    """A sensor that says its samples one after the other, and begins again at their end.

    Args:
        learned: what was seen.
        type: device type; the last segment of its path.
    """

    def __init__(self, learned: LearnedSensor, type: str) -> None:
        self.type: Final = type
        self.learned: Final = learned
        self._samples: Iterator[bytes] = cycle(learned.samples)

    def read(self, epoch: int) -> bytes:
        """The next sample, taken now: a time of reading in it becomes `epoch`."""
        return _dated(next(self._samples), epoch)

    def configuration(self, epoch: int) -> bytes:
        """What was seen of it."""
        if not self.learned.configuration:
            raise SensorError(SensorFailure.NOT_IMPLEMENTED)
        return _dated(self.learned.configuration, epoch)

    def configure(self, text: str) -> None:
        """Nobody knows what the board would make of it."""
        raise SensorError(SensorFailure.NOT_IMPLEMENTED)

    def reset(self) -> None:
        """Samples go on."""


def _dated(payload: bytes, epoch: int) -> bytes:
    return _EPOCH.sub(b"%010d" % epoch, payload, count=1)


class RecordedResource(BoardResource):
    """A resource of the standard board that always says the same.

    Args:
        payload: what it says.
        content_format: None: it names none.
    """

    def __init__(self, payload: bytes, content_format: int | None) -> None:
        super().__init__()
        self._payload = payload
        self._content_format = content_format
        if content_format is not None:
            self.ct = content_format

    async def render_get(self, request: Message) -> Message:
        """The payload; aiocoap cuts it into blocks."""
        if request.opt.accept not in (None, self._content_format):
            raise error.NotAcceptable
        return Message(code=CONTENT, payload=self._payload, content_format=self._content_format)


def load_learned(path: Path) -> LearnedBoard:
    """Read a file of `meshwire learn`.

    Raises:
        BoardSettingsError: there is none, or it is no learned board, or one that can't be played.
    """
    fix = "give a file that `meshwire learn PORT -w FILE` wrote, or the name of a profile"
    try:
        board = LearnedBoard.from_toml(path.read_text(encoding="utf-8"))
        recorded_sensors(board)
    except (OSError, UnicodeDecodeError) as failure:
        raise BoardSettingsError(f"can't read the profile {path}", evidence=str(failure), fix=fix) from None
    except LearnedBoardError as failure:
        raise BoardSettingsError(f"{path} can't be played", evidence=str(failure), fix=fix) from None
    return board


def recorded_sensors(board: LearnedBoard) -> Sequence[RecordedSensor]:
    """The sensors of a learned board.

    Raises:
        LearnedBoardError: a Milli board with a path that no Milli board has, or too many of them; none at all.
    """
    sensors = [RecordedSensor(learned, learned.path.rsplit("/", 1)[-1]) for learned in board.sensors]
    types = [sensor.type for sensor in sensors]
    if not 1 <= len(sensors) <= MAX_SENSORS or len(set(types)) != len(types):
        raise LearnedBoardError(f"a board has 1 to {MAX_SENSORS} sensors, with different last path segments")
    if board.base != "standard":
        folders = {learned.path.rsplit("/", 1)[0] for learned in board.sensors}
        if len(folders) != 1 or "/" in next(iter(folders)) or any("/" not in item.path for item in board.sensors):
            raise LearnedBoardError("the sensors of a Milli board are CLASSIFIER/TYPE with one CLASSIFIER")
        formats = {learned.content_format for learned in board.sensors}
        if len(formats) != 1:
            raise LearnedBoardError("a Milli board has one content format for all its sensors")
    return sensors
