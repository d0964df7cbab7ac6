"""Each field tool as a newcomer calls it, on a board behind a terminal server: `socket://HOST:PORT`."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

MESHWIRE = Path(sys.executable).parent / "meshwire"
pytestmark = pytest.mark.timeout(120)


class TerminalServer:
    """Carries octets between one TCP client at a time and a serial port, as ser2net does.

    Args:
        path: the serial port.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(PATIENCE_S)
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            if select.select([self._listener], [], [], 0.1)[0]:
                client, _ = self._listener.accept()
                with client:
                    self._carry(client)

    def _carry(self, client: socket.socket) -> None:
        serial = os.open(self._path, os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(serial)
            while not self._ended.is_set():
                ready = select.select([client, serial], [], [], 0.1)[0]
                if client in ready:
                    if not (octets := client.recv(4096)):
                        return
                    os.write(serial, octets)
                if serial in ready:
                    client.sendall(os.read(serial, 4096))
        except OSError:
            pass
        finally:
            os.close(serial)


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """A standard board that reports every second, behind a terminal server."""
    command = [str(MESHWIRE), "-q", "sensor", "--port", "pty", "--profile", "standard", "--period", "1"]
    board = subprocess.Popen([*command, "--sensor", "temp=20"], stdout=subprocess.PIPE, text=True)
    assert board.stdout is not None
    server = TerminalServer(json.loads(board.stdout.readline())["pty"])
    yield f"socket://127.0.0.1:{server.port}"
    server.close()
    board.terminate()
    board.wait(PATIENCE_S)


def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(MESHWIRE), *arguments], input=text, capture_output=True, text=True, timeout=100)


def test_probe(port: str) -> None:
    probed = run("probe", port)
    assert probed.returncode == 0, probed.stderr
    assert "chosen: standard" in probed.stdout
    assert f"meshwire link {port}" in probed.stdout


def test_link(port: str) -> None:
    script = "get /arduino/temp?sens\nobserve /arduino/temp?sens\nwait 60 1\ncancel\n"
    linked = run("link", port, "--script", "-", "--json", "--stats", text=script)
    assert linked.returncode == 0, linked.stderr
    events = [json.loads(line) for line in linked.stdout.splitlines()]
    assert any(event["event"] == "notification" and ",68.00," in event["decoded"] for event in events)
    stats = next(event for event in events if event["event"] == "stats")
    assert (stats["check_errors"], stats["requests"]) == (0, 3)


def test_capture_and_replay(port: str, tmp_path: Path) -> None:
    file = tmp_path / "site.pcapng"
    script = "get /\nget /arduino/temp?sens\n"
    linked = run(
        "link", f"tap+{port}?file={file}", "--script", "-", "--no-frames", "--profile", "standard", text=script
    )
    assert linked.returncode == 0, linked.stderr
    replayed = run("replay", str(file), "--as", "nic", "--port", port, "--ignore", "value", "--ignore", "observe")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_conform(port: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    judged = run("conform", port, "--quick", "--case", "HDLC-FRM-001", "--case", "COAP-MSG-018", "--json", str(report))
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert report.is_file()


def test_learn(port: str, tmp_path: Path) -> None:
    learned = run("learn", port, "-w", str(tmp_path / "board.toml"), "--samples", "1", "--listen", "2", "--json")
    assert learned.returncode == 0, learned.stderr
    (sensor,) = json.loads(learned.stdout)["sensors"]
    assert (sensor["path"], sensor["observable"]) == ("arduino/temp", True)


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = f"socket://127.0.0.1:{listener.getsockname()[1]}"
    for command in (["probe", gone], ["link", gone, "--script", "-"], ["conform", gone], ["learn", gone]):
        ended = run(*command)
        assert ended.returncode == 4, (command, ended.stderr)
        assert "MW-SER-006" in ended.stderr + ended.stdout
        assert "Traceback" not in ended.stderr
