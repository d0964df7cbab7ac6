"""The sensors a board carries: what each reads, and what its `cfg` takes (dialect B.4 and E.6).

A sensor knows numbers and texts, not CoAP: it answers in device records or raises SensorError, and each profile says
what code that becomes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Protocol

from sensor_sim.errors import SensorError, SensorFailure
from sensor_sim.records import LogisticsRecord, Tlv, device_record
from sensor_sim.sources import ValueSource

__all__ = ["EchoSensor", "LogisticsSensor", "MethaneSensor", "Sensor", "TemperatureSensor"]


class Sensor(Protocol):
    """What the board asks of a sensor. `epoch` is the board's clock in whole Unix seconds."""

    @property
    def type(self) -> str:
        """The device type: key 0 of its records, and its last path segment."""
        ...

    def read(self, epoch: int) -> bytes:
        """A device record of the present value; raises SensorError."""
        ...

    def configuration(self, epoch: int) -> bytes:
        """A device record of the present setting; raises SensorError."""
        ...

    def configure(self, text: str) -> None:
        """Take a new setting; raises SensorError and then changes nothing."""
        ...

    def reset(self) -> None:
        """Back to the settings after power-up; the measured world goes on."""
        ...


class TemperatureSensor:
    """`temp`: `epoch,value,unit`; `cfg=C` and `cfg=F` choose the unit, Fahrenheit at first."""

    type: Final = "temp"

    def __init__(self, celsius: ValueSource) -> None:
        self._celsius = celsius
        self._unit = "F"

    def read(self, epoch: int) -> bytes:
        """The temperature, two decimals, in the unit chosen."""
        celsius = self._celsius.value(epoch)
        value = celsius if self._unit == "C" else celsius * 9 / 5 + 32
        return device_record(self.type, f"{epoch},{value:.2f},{self._unit}")

    def configuration(self, epoch: int) -> bytes:
        """The unit."""
        return device_record(self.type, f"{epoch},{self._unit}")

    def configure(self, text: str) -> None:
        """`C` or `F`."""
        if text not in ("C", "F"):
            raise SensorError(SensorFailure.NOT_IMPLEMENTED)
        self._unit = text

    def reset(self) -> None:
        """Fahrenheit again."""
        self._unit = "F"


class EchoSensor:
    """`echo`: a text and the number of reads since it was set. It has no handler that reads its configuration."""

    type: Final = "echo"
    _GREETING: Final = "Hello World:"
    _MAX_TEXT_OCTETS: Final = 31

    def __init__(self) -> None:
        self.reset()

    def read(self, epoch: int) -> bytes:
        """The text and the count."""
        self._reads += 1
        return device_record(self.type, f"{self._text} {self._reads}")

    def configuration(self, epoch: int) -> bytes:
        """There is no such handler."""
        raise SensorError(SensorFailure.NO_HANDLER)

    def configure(self, text: str) -> None:
        """Replace the text and count from 1 again."""
        if len(text.encode()) > self._MAX_TEXT_OCTETS:
            raise SensorError(SensorFailure.BAD_DATA)
        self._text = text
        self._reads = 0

    def reset(self) -> None:
        """The greeting, counting from 1."""
        self._text = self._GREETING
        self._reads = 0


class MethaneSensor:
    """`ncmth1`: `<n>,lvl`, or with `cfg=hs` the health line `<n>,h,OK|NG,s`; `cfg=time` puts date and time in front."""

    type: Final = "ncmth1"
    _ALARM_LEVEL: Final = 50
    _SETTINGS: Final = ("lvl", "hs", "time")

    def __init__(self, level: ValueSource) -> None:
        self._level = level
        self._setting = "lvl"

    def read(self, epoch: int) -> bytes:
        """The gas level as a whole number."""
        level = max(0, round(self._level.value(epoch)))
        text = f"{level},lvl"
        if self._setting == "hs":
            text = f"{level},h,{'OK' if level < self._ALARM_LEVEL else 'NG'},s"
        elif self._setting == "time":
            text = f"{datetime.fromtimestamp(epoch, UTC):%d/%m/%y/%H/%M/%S},t,{text}"
        return device_record(self.type, text)

    def configuration(self, epoch: int) -> bytes:
        """What it reports."""
        return device_record(self.type, f"{epoch},{self._setting}")

    def configure(self, text: str) -> None:
        """`lvl`, `hs` or `time`."""
        if text not in self._SETTINGS:
            raise SensorError(SensorFailure.NOT_IMPLEMENTED)
        self._setting = text

    def reset(self) -> None:
        """The level alone."""
        self._setting = "lvl"


class LogisticsSensor:
    """`lnic`: a binary record of temperature, humidity and tilt, numbered from `sequence` on; nothing to configure."""

    type: Final = "lnic"

    def __init__(
        self,
        celsius: ValueSource,
        humidity: ValueSource,
        *,
        tilt: tuple[int, int, int] = (304, 720, 572),
        sequence: int = 1,
    ) -> None:
        self._celsius = celsius
        self._humidity = humidity
        self._tilt = tilt
        self._sequence = sequence

    def read(self, epoch: int) -> bytes:
        """The next record."""
        tlvs = (
            Tlv.temperature(self._celsius.value(epoch)),
            Tlv.humidity(self._humidity.value(epoch)),
            Tlv.tilt(*self._tilt),
        )
        record = LogisticsRecord(epoch, self._sequence, tlvs)
        self._sequence += 1
        return device_record(self.type, record.encode())

    def configuration(self, epoch: int) -> bytes:
        """Nothing to tell."""
        raise SensorError(SensorFailure.NOT_IMPLEMENTED)

    def configure(self, text: str) -> None:
        """Nothing to set."""
        raise SensorError(SensorFailure.NOT_IMPLEMENTED)

    def reset(self) -> None:
        """The record number is kept in flash: nothing changes."""
