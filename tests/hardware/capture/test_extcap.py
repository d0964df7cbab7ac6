"""The extcap program, called as Wireshark calls it: questions first, then a capture into a FIFO."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from patience import PATIENCE_S

import hardware
from hardware.capture import extcap
from hardware.ports import PortInfo, open_port, peer_path
from meshwire.capture.pcapng import Packet, read_packets

SCRIPT = Path(hardware.__file__).parent / "wireshark" / "meshwire-extcap"
DISC = bytes.fromhex("7ea00703035380d77e")
USB = PortInfo("/dev/ttyUSB0", "/dev/serial/by-id/usb-FTDI_1-port0", "FT232R {1}", "USB VID:PID=0403:6001", ())


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={"PATH": "/usr/bin:/bin", "MESHWIRE_PYTHON": sys.executable},
    )


def test_the_script_answers_from_a_bare_environment() -> None:
    answer = ask("--extcap-interfaces", "--extcap-version=4.0")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("extcap {version=")
    assert "interface {value=meshwire}{display=meshwire: any PORT}" in answer.stdout.splitlines()


def test_each_serial_port_is_an_interface(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(extcap, "list_ports", lambda: (USB,))
    assert extcap.main(["--extcap-interfaces"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == (
        "interface {value=meshwire:/dev/serial/by-id/usb-FTDI_1-port0}{display=meshwire: FT232R (1) /dev/ttyUSB0}"
    )


def test_link_types_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert extcap.main(["--extcap-dlts", "--extcap-interface", "meshwire"]) == 0
    assert capsys.readouterr().out.startswith("dlt {number=252}{name=")
    assert extcap.main(["--extcap-config", "--extcap-interface", "meshwire"]) == 0
    any_port = capsys.readouterr().out
    assert extcap.main(["--extcap-config", "--extcap-interface", "meshwire:/dev/ttyS0"]) == 0
    one_port = capsys.readouterr().out
    assert "{call=--port}" in any_port and "{call=--port}" not in one_port
    for line in any_port.splitlines():
        assert re.fullmatch(r"(arg|value) (\{\w+=[^{}]*\})+", line), line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--extcap-dlts", "--extcap-interface", "eth0"],
        ["--extcap-interface", "meshwire"],
        ["--capture", "--extcap-interface", "meshwire", "--fifo", "/nonexistent/fifo"],
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert extcap.main(arguments) != 0
    assert capsys.readouterr().err.startswith("meshwire-extcap: ")


def test_a_port_that_cannot_be_opened_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fifo = str(tmp_path / "capture")
    words = ["--capture", "--extcap-interface", "meshwire", "--port", "/dev/ttyNONE", "--fifo", fifo]
    assert extcap.main(words) == 4
    assert "MW-SER-002" in capsys.readouterr().err


async def test_a_capture_goes_into_the_fifo_and_ends_when_it_is_closed(tmp_path: Path) -> None:
    board, fifo = await open_port("pty"), tmp_path / "fifo"
    os.mkfifo(fifo)
    process = await asyncio.create_subprocess_exec(
        *(str(SCRIPT), "--capture", "--extcap-interface", f"meshwire:{peer_path(board)}", "--fifo", str(fifo)),
        env={"PATH": "/usr/bin:/bin", "MESHWIRE_PYTHON": sys.executable},
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader = asyncio.StreamReader()
            stream = await asyncio.to_thread(fifo.open, "rb", 0)
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), stream
            )
            file, found = b"", list[Packet]()
            while not found:
                board.write(DISC)  # again: what comes before the port is open is thrown away
                with suppress(TimeoutError):
                    file += await asyncio.wait_for(reader.read(4096), 0.2)
                found = list(read_packets(io.BytesIO(file)))
            assert found[0].octets == DISC
            transport.close()
            while process.returncode is None:
                board.write(DISC)
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 0.2)
            assert process.stderr is not None
            assert (process.returncode, await process.stderr.read()) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await board.aclose()
