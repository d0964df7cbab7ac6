"""The newcomer's command: every board is heard, scripts can read it, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MESHWIRE = Path(sys.executable).parent / "meshwire"
pytestmark = pytest.mark.timeout(120)


def start(*options: str, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"TMPDIR": str(folder)}
    command = [str(MESHWIRE), "demo", "--headless", "--json", *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_every_board_is_heard(tmp_path: Path) -> None:
    demo = start(folder=tmp_path)
    assert demo.stdout is not None
    ready = json.loads(demo.stdout.readline())
    assert ready["event"] == "ready"
    assert ready["mqtt"].startswith("mqtt://127.0.0.1:")
    assert set(ready["tenants"]) == {"riverside", "hilltop"}
    assert set(ready["tenants"]["hilltop"]) == {"token", "clientId", "clientSecret"}
    assert set(ready["caas"]) == {"username", "password"}
    assert len(ready["devices"]) == 5

    heard: set[str] = set()
    tenant_of = {device["mac"]: device["tenant"] for device in ready["devices"]}
    while heard != set(tenant_of):
        reading = json.loads(demo.stdout.readline())
        tenant, branch, mac, kind = reading["topic"].split("/")
        assert (reading["event"], tenant, branch) == ("reading", tenant_of[mac], "read")
        assert reading["decoded"]["type"] == kind
        assert bytes.fromhex(reading["payload_hex"]).startswith(b"\xa2\x00")
        assert reading["qos"] == 1
        assert reading["latency_ms"] > 0
        heard.add(mac)
    demo.send_signal(signal.SIGTERM)
    _, talk = demo.communicate(timeout=60)
    assert demo.returncode == 0, talk


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = start(folder=tmp_path)
    assert demo.stdout is not None
    assert demo.stderr is not None
    for _ in range(2):
        assert demo.stdout.readline()
    demo.send_signal(signal.SIGINT)
    demo.stdout.read()
    talk = demo.stderr.read()
    assert demo.wait(60) == 0, talk
    assert "Traceback" not in talk
    assert list(tmp_path.iterdir()) == []


def test_a_board_on_a_port_takes_the_place_of_a_simulated_one(tmp_path: Path) -> None:
    mac = "0013500500470001"
    demo = start("--nics", "1", "--replace", f"{mac}=sim://standard?sensor=temp&period=1", folder=tmp_path)
    assert demo.stdout is not None
    ready = json.loads(demo.stdout.readline())
    assert ready["devices"][0]["port"] == "sim://standard?sensor=temp&period=1"
    reading = json.loads(demo.stdout.readline())
    assert reading["topic"] == f"riverside/read/{mac}/temp"
    demo.send_signal(signal.SIGTERM)
    demo.communicate(timeout=60)


def test_no_data_is_an_error_that_names_the_board(tmp_path: Path) -> None:
    demo = start("--nics", "1", "--for", "3", "--replace", "0013500500470001=/dev/nonexistent", folder=tmp_path)
    out, talk = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["ready"]
    assert "MW-DEM-001" in talk
    assert "/dev/nonexistent" in talk
    assert "Traceback" not in talk
