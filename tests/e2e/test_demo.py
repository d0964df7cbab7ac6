"""The newcomer's command: every board is heard, scripts can read it, and nothing stays behind."""

from __future__ import annotations

import signal
from pathlib import Path

from demo_process import demo


def test_every_board_is_heard(tmp_path: Path) -> None:
    with demo(environment={"TMPDIR": str(tmp_path)}) as running:
        ready = running.event()
        assert ready["event"] == "ready"
        assert ready["mqtt"].startswith("mqtt://127.0.0.1:")
        assert set(ready["tenants"]) == {"riverside", "hilltop"}
        assert set(ready["tenants"]["hilltop"]) == {"token", "clientId", "clientSecret"}
        assert set(ready["caas"]) == {"username", "password"}
        assert len(ready["devices"]) == 5

        heard: set[str] = set()
        tenant_of = {device["mac"]: device["tenant"] for device in ready["devices"]}
        while heard != set(tenant_of):
            reading = running.event()
            tenant, branch, mac, kind = reading["topic"].split("/")
            assert (reading["event"], tenant, branch) == ("reading", tenant_of[mac], "read")
            assert reading["decoded"]["type"] == kind
            assert bytes.fromhex(reading["payload_hex"]).startswith(b"\xa2\x00")
            assert reading["qos"] == 1
            assert reading["latency_ms"] > 0
            heard.add(mac)
        running.end()


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(environment={"TMPDIR": str(tmp_path)}) as running:
        for _ in range(2):
            running.event()
        running.end(signal.SIGINT)
        assert "Traceback" not in running.talk()
    assert list(tmp_path.iterdir()) == []


def test_a_board_on_a_port_takes_the_place_of_a_simulated_one(tmp_path: Path) -> None:
    mac, port = "0013500500470001", "sim://standard?sensor=temp&period=1"
    with demo("--nics", "1", "--replace", f"{mac}={port}", environment={"TMPDIR": str(tmp_path)}) as running:
        assert running.event()["devices"][0]["port"] == port
        assert running.event()["topic"] == f"riverside/read/{mac}/temp"
        running.end()


def test_no_data_is_an_error_that_names_the_board(tmp_path: Path) -> None:
    options = ["--nics", "1", "--for", "3", "--replace", "0013500500470001=/dev/nonexistent"]
    with demo(*options, environment={"TMPDIR": str(tmp_path)}) as running:
        assert [event["event"] for event in running.rest()] == ["ready"]
        assert running.process.returncode == 1
        talk = running.talk()
        assert "MW-DEM-001" in talk
        assert "/dev/nonexistent" in talk
        assert "Traceback" not in talk
