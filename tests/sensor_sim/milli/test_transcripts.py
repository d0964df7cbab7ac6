"""Every transcript of dialect A.10, replayed against the board with a made-up clock, octet for octet."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from sensor_sim.sensors import TemperatureSensor
from sensor_sim.sources import Constant

VECTORS = Path(__file__).parents[2] / "vectors" / "milli_transcripts.toml"
TRANSCRIPTS = tomllib.loads(VECTORS.read_text())["transcript"]


def play(bench: Any, transcript: dict[str, Any], cut: int) -> None:
    for step in transcript["step"]:
        if step.get("wake"):
            bench.signals.clear()
            bench.wait(5.0)
            assert bench.pulses() == [0.002], step["what"]
            continue
        if "epoch" in step:
            bench.board.clock.set(step["epoch"], bench.now + 0.4)
        octets = bytes.fromhex(step["to"])
        head, tail = octets[:cut], octets[cut:]
        if tail:
            bench.board.receive_data(head, bench.now)
            octets = tail
        assert bench.raw(octets).hex(" ") == step.get("from", ""), step["what"]


@pytest.mark.parametrize("cut", [1000, 1, 8], ids=["whole", "cut after the flag", "cut after the header"])
@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript["name"])
def test_the_board_answers_as_the_firmware_did(make_bench: Any, transcript: dict[str, Any], cut: int) -> None:
    discard = transcript.get("discard_reboot", False)
    bench = make_bench(period_s=3.0, quiet=discard, sensors=[TemperatureSensor(Constant(22.5))])
    play(bench, transcript, cut)


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript["name"])
def test_one_octet_behind_a_frame_silences_the_board(make_bench: Any, transcript: dict[str, Any]) -> None:
    bench = make_bench(quiet=False)
    for step in transcript["step"]:
        if "to" in step:
            assert bench.raw(bytes.fromhex(step["to"]) + b"\x00") == b""
