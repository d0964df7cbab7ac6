"""`meshwire gateway` as a process: settings, ports, orderly end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

from gateway.settings import GatewaySettings, Qos
from meshwire.config import ConfigError, load_config, read_settings

QUIET = {"MESHWIRE_LOG_FORMAT": "json"}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | QUIET | {"MESHWIRE_STATE": str(tmp_path / "state")}
    command = [sys.executable, "-m", "gateway", "--json", "--port", "0", "--http", "127.0.0.1:0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_tells_its_ports_and_ends_in_order(process: subprocess.Popen[str], number: int) -> None:
    assert process.stdout is not None and process.stderr is not None
    ready = json.loads(process.stdout.readline())
    assert ready["event"] == "ready" and ready["coap"] > 0 and ready["http"] > 0
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in process.stderr.read()


def test_a_wrong_value_is_told_with_its_name_and_exit_code_3(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[gateway]\nhttp = "nowhere"\n[gateway.bridge]\ndefault_message_qos = "SOMETIMES"\n')
    command = [sys.executable, "-m", "gateway", "--config", str(config)]
    environment = os.environ | {"MESHWIRE_STATE": str(tmp_path / "state")}
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment, cwd=tmp_path)
    assert result.returncode == 3
    assert "gateway.http" in result.stderr and "gateway.bridge.default_message_qos" in result.stderr
    assert "Traceback" not in result.stderr


def test_settings_by_file_and_environment(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        'gateway_coap_mqtt_bridge_default_message_qos = "EXACTLY_ONCE"\n'
        '[gateway]\nport = 0\n[gateway.bridge.categories]\nlnic = "alert"\nncmth1 = "both"\n'
    )
    environment = {"MESHWIRE__GATEWAY__OUTBOX__DURABILITY": "os"}
    settings = read_settings(GatewaySettings, "gateway", load_config(config, environment))
    assert settings.bridge.default_message_qos is Qos.EXACTLY_ONCE
    assert settings.bridge.categories == {"lnic": "alert", "ncmth1": "both"}
    assert settings.outbox.durability == "os"
    with pytest.raises(ConfigError, match=r"gateway\.listen"):
        read_settings(GatewaySettings, "gateway", {"gateway": {"listen": []}})
    with pytest.raises(ConfigError, match=r"gateway\.bridge\.qos"):
        read_settings(GatewaySettings, "gateway", {"gateway": {"bridge": {"qos": 1}}})
