"""Sensors by themselves: readings, settings, and what they refuse."""

from __future__ import annotations

import cbor2
import pytest

from meshwire.notification import decode_reading
from sensor_sim.errors import BoardSettingsError, SensorError, SensorFailure
from sensor_sim.sensors import EchoSensor, LogisticsSensor, MethaneSensor, Sensor, TemperatureSensor
from sensor_sim.sources import Constant
from sensor_sim.spec import MAX_SENSORS, SensorSpec, build_sensor, check_specs

EPOCH = 1_700_000_005


def text(record: bytes) -> object:
    return cbor2.loads(record)[1]


@pytest.mark.parametrize(
    ("celsius", "unit", "expected"),
    [
        (22.5, "F", "72.50"),
        (100, "F", "212.00"),
        (100, "C", "100.00"),
        (-40, "F", "-40.00"),
        (-0.004, "C", "-0.00"),
    ],
)
def test_temperature(celsius: float, unit: str, expected: str) -> None:
    sensor = TemperatureSensor(Constant(celsius))
    sensor.configure(unit)
    assert text(sensor.read(EPOCH)) == f"{EPOCH},{expected},{unit}"
    assert text(sensor.configuration(EPOCH)) == f"{EPOCH},{unit}"


def test_methane_lines() -> None:
    low, high = MethaneSensor(Constant(9.6)), MethaneSensor(Constant(60))
    assert text(low.read(EPOCH)) == "10,lvl"
    low.configure("hs")
    high.configure("hs")
    assert (text(low.read(EPOCH)), text(high.read(EPOCH))) == ("10,h,OK,s", "60,h,NG,s")
    low.configure("time")
    assert text(low.read(EPOCH)) == "14/11/23/22/13/25,t,10,lvl"
    assert text(low.configuration(EPOCH)) == f"{EPOCH},time"


def test_logistics_numbers_its_records() -> None:
    sensor = LogisticsSensor(Constant(24.07), Constant(76), sequence=5)
    readings = [decode_reading("lnic", sensor.read(EPOCH)) for _ in range(2)]
    assert [reading.values["sequence"] for reading in readings if reading] == [5, 6]
    assert readings[0] and readings[0].values["temperature_c"] == 24.07


@pytest.mark.parametrize(
    ("sensor", "setting", "failure"),
    [
        (TemperatureSensor(Constant(1)), "K", SensorFailure.NOT_IMPLEMENTED),
        (EchoSensor(), "x" * 32, SensorFailure.BAD_DATA),
        (MethaneSensor(Constant(1)), "", SensorFailure.NOT_IMPLEMENTED),
        (LogisticsSensor(Constant(1), Constant(1)), "x", SensorFailure.NOT_IMPLEMENTED),
    ],
)
def test_a_refused_setting_changes_nothing(sensor: Sensor, setting: str, failure: SensorFailure) -> None:
    with pytest.raises(SensorError) as caught:
        sensor.configure(setting)
    assert caught.value.failure is failure
    assert cbor2.loads(sensor.read(EPOCH))[0] == sensor.type


@pytest.mark.parametrize("name", ["temp", "echo", "ncmth1"])
def test_reset_brings_the_settings_of_power_up_back(name: str) -> None:
    sensor, fresh = (build_sensor(SensorSpec(name, "20" if name != "echo" else None), seed=1) for _ in range(2))
    sensor.configure({"temp": "C", "echo": "x", "ncmth1": "hs"}[name])
    sensor.reset()
    assert sensor.read(EPOCH) == fresh.read(EPOCH)


@pytest.mark.parametrize("name", ["temp", "ncmth1", "lnic"])
def test_equal_seeds_give_equal_readings(name: str) -> None:
    def readings(seed: int) -> list[bytes]:
        sensor = build_sensor(SensorSpec(name), seed=seed)
        return [sensor.read(EPOCH) for _ in range(20)]

    assert readings(3) == readings(3)
    assert readings(3) != readings(4)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("temp", SensorSpec("temp")),
        ("temp=22.5", SensorSpec("temp", "22.5")),
        ("temp=sine:22,5,60@5", SensorSpec("temp", "sine:22,5,60", 5.0)),
        ("echo@0", SensorSpec("echo", None, 0.0)),
    ],
)
def test_spec_texts(spec: str, expected: SensorSpec) -> None:
    assert SensorSpec.parse(spec) == expected


@pytest.mark.parametrize("spec", ["", "pressure", "temp=fog", "temp@", "temp@-1", "temp@nan", "temp@x"])
def test_bad_spec_texts_are_refused(spec: str) -> None:
    with pytest.raises(BoardSettingsError):
        SensorSpec.parse(spec)


def test_a_board_carries_one_to_four_sensors_of_different_types() -> None:
    for specs in ([], [SensorSpec("temp")] * 2, [SensorSpec(str(number)) for number in range(MAX_SENSORS + 1)]):
        with pytest.raises(BoardSettingsError):
            check_specs(specs)
