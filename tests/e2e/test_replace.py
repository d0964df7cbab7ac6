"""A board is exchanged while the demo runs: by command, over HTTP, and by the key `r`."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MESHWIRE = Path(sys.executable).parent / "meshwire"
MAC = "0013500500470001"
COLD = "sim://standard?sensor=temp=20&period=1"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(tmp_path), "MESHWIRE_RUN": str(tmp_path / "run"), "COLUMNS": "200"}


def events(demo: subprocess.Popen[str], until: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    """What the demo says, up to and with the first event that `until` wants."""
    assert demo.stdout is not None
    for line in demo.stdout:
        event = json.loads(line)
        yield event
        if until(event):
            return
    raise AssertionError("the demo ended")


def is_reading(event: dict[str, Any]) -> bool:
    return event["event"] == "reading"


def is_cold(event: dict[str, Any]) -> bool:
    return is_reading(event) and ",68.00," in event["decoded"]["text"]


def sampled_at(event: dict[str, Any]) -> float:
    return float(event["decoded"]["epoch_s"])


def test_by_command_and_over_http_subscribers_notice_only_fresher_data(environment: dict[str, str]) -> None:
    command = [str(MESHWIRE), "demo", "--headless", "--json", "--nics", "1"]
    demo = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        ready, *_ = events(demo, is_reading)
        run = subprocess.run(
            [str(MESHWIRE), "replace", f"{MAC}={COLD}", "--json"], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout)["port"] == COLD
        seen = list(events(demo, is_cold))
        replaced = seen.index(next(event for event in seen if event["event"] == "replaced"))
        assert not any(is_reading(event) for event in seen[replaced + 1 : -1]), "the old board was heard after the new"
        seen += [event for _ in range(3) for event in events(demo, is_reading)]

        def call(method: str, path: str, body: dict[str, str] | None = None, token: str = "") -> tuple[int, Any]:
            request = urllib.request.Request(
                ready["http"] + path,
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Authorization": token or ready["admin"]["token"], "Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, None

        board = call("GET", "/api/lab/boards")[1]["boards"][0]
        assert (board["mac"], board["port"], board["state"], board["simulated"]) == (MAC, COLD, "up", False)
        tenants = ready["tenants"]["riverside"]["token"]
        assert call("PUT", f"/api/lab/boards/{MAC}", {"port": "sim"}, tenants)[0] == 403
        assert call("PUT", "/api/lab/boards/0013500500470009", {"port": "sim"})[0] == 404
        assert call("PUT", f"/api/lab/boards/{MAC}", {"port": "socket://nowhere"})[0] == 422
        assert call("PUT", f"/api/lab/boards/{MAC}", {"port": "sim", "profile": "other"})[0] == 422
        status, board = call("PUT", f"/api/lab/boards/{MAC}", {"port": "sim"})
        assert (status, board["simulated"], board["profile"]) == (200, True, "standard")
        seen += list(events(demo, lambda event: is_reading(event) and not is_cold(event)))
        times = [sampled_at(event) for event in seen if is_reading(event)]
        assert times == sorted(times)
    finally:
        demo.send_signal(signal.SIGINT)
        _, talk = demo.communicate(timeout=30)
    assert demo.returncode == 0, talk
    assert "Traceback" not in talk


@pytest.mark.slow
def test_by_the_key_r(environment: dict[str, str]) -> None:
    near, far = pty.openpty()
    demo = subprocess.Popen(
        [str(MESHWIRE), "demo", "--nics", "1"], env=environment, stdin=far, stdout=far, stderr=subprocess.DEVNULL
    )
    os.close(far)
    shown = ""

    def read_until(pattern: str) -> None:
        nonlocal shown
        while not re.search(pattern, shown):
            shown += os.read(near, 65_536).decode(errors="replace")

    try:
        read_until("[0-9] °F")
        os.write(near, b"r")
        read_until("empty line: nothing")
        os.write(near, b"1 /nowhere standard extra\n")
        read_until("nothing changed: '1 /nowhere standard extra' is not NUMBER PORT")
        shown = ""
        os.write(near, b"r")
        read_until("empty line: nothing")
        os.write(near, f"1 {COLD}\n".encode())
        read_until("now has sim://standard")
        read_until("68.00 °F")
    finally:
        demo.send_signal(signal.SIGINT)
        try:
            while os.read(near, 65_536):
                pass
        except OSError:
            pass
        os.close(near)
        assert demo.wait(30) == 0
