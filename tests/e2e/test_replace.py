"""A board is exchanged while the demo runs: by command, over HTTP, and by the key `r`."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from demo_process import MESHWIRE, demo
from patience import PATIENCE_S

MAC = "0013500500470001"
COLD = "sim://standard?sensor=temp=20&period=1"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"TMPDIR": str(tmp_path), "MESHWIRE_RUN": str(tmp_path / "run"), "COLUMNS": "200"}


def is_reading(event: dict[str, Any]) -> bool:
    return event["event"] == "reading"


def is_cold(event: dict[str, Any]) -> bool:
    return is_reading(event) and ",68.00," in event["decoded"]["text"]


def sampled_at(event: dict[str, Any]) -> float:
    return float(event["decoded"]["epoch_s"])


def test_by_command_and_over_http_subscribers_notice_only_fresher_data(environment: dict[str, str]) -> None:
    with demo("--nics", "1", environment=environment) as running:
        ready, *_ = running.until(is_reading)
        run = subprocess.run(
            [str(MESHWIRE), "replace", f"{MAC}={COLD}", "--json"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        replaced_at = time.time()
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout)["port"] == COLD
        seen = running.until(is_cold)
        replaced = seen.index(next(event for event in seen if event["event"] == "replaced"))
        on_their_way = [event for event in seen[replaced + 1 : -1] if is_reading(event)]
        assert all(sampled_at(event) <= replaced_at for event in on_their_way), "the old board was heard after the new"
        new = [event for _ in range(3) for event in running.until(is_reading)]
        assert all(is_cold(event) for event in new), "the old board was heard beside the new"
        seen += new

        def call(method: str, path: str, body: dict[str, str] | None = None, token: str = "") -> tuple[int, Any]:
            request = urllib.request.Request(
                ready["http"] + path,
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Authorization": token or ready["admin"]["token"], "Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
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
        seen += running.until(lambda event: is_reading(event) and not is_cold(event))
        times = [sampled_at(event) for event in seen if is_reading(event)]
        assert times == sorted(times)
        running.end(signal.SIGINT)
        assert "Traceback" not in running.talk()


@pytest.mark.slow
def test_by_the_key_r(environment: dict[str, str]) -> None:
    near, far = pty.openpty()
    shell = subprocess.Popen(
        [str(MESHWIRE), "demo", "--nics", "1"],
        env=os.environ | environment,
        stdin=far,
        stdout=far,
        stderr=subprocess.DEVNULL,
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
        shell.send_signal(signal.SIGINT)
        try:
            while os.read(near, 65_536):
                pass
        except OSError:
            pass
        os.close(near)
        assert shell.wait(PATIENCE_S) == 0
