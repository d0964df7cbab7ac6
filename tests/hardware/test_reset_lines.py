"""A board is reset by a pulse on DTR, RTS or a break, where the port has them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from patience import PATIENCE_S

from hardware import serial_pipe
from hardware.ports import open_port, peer_path
from hardware.serial_pipe import SerialPipe
from hardware.wake_line import WakeInput
from meshwire.pipe import FaultPlan, FaultyPipe, memory_pair, pulse_reset


class ModemPort:
    """pyserial's port with modem lines, on the reading end of a pipe; writes down what its lines do."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []
        self._fds = os.pipe()

    def fileno(self) -> int:
        return self._fds[0]

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    def _tell(name: str) -> property:  # type: ignore[misc]
        return property(lambda self: None, lambda self, value: self.told.append((name, value)))

    dtr = _tell("dtr")
    rts = _tell("rts")
    break_condition = _tell("break")


@pytest.mark.parametrize(
    ("line", "pulse"),
    [
        ("dtr", [("dtr", False), ("dtr", True)]),
        ("rts", [("rts", False), ("rts", True)]),
        ("break", [("break", True), ("break", False)]),
    ],
)
async def test_a_pulse_begins_at_once_and_ends(
    line: str, pulse: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_pipe, "RESET_PULSE_S", 0.01)
    port = ModemPort()
    pipe = FaultyPipe(SerialPipe(port, "port", WakeInput.NONE), FaultPlan())
    assert pulse_reset(pipe, line), "through wrappers, too"
    assert port.told == pulse[:1]
    async with asyncio.timeout(PATIENCE_S):
        while len(port.told) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert port.told == pulse
    await pipe.aclose()


async def test_ports_without_such_lines_say_so(tmp_path: Path) -> None:
    board = await open_port(f"pty:{tmp_path}/board")
    path = peer_path(board)
    assert path is not None
    port = await open_port(path)
    assert not pulse_reset(port, "dtr")
    assert not pulse_reset(board, "dtr")
    assert not pulse_reset(memory_pair()[0], "break")
    await port.aclose()
    await board.aclose()
