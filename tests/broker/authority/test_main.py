"""The authority as a process: it says when it serves, checks the engine first, and ends in order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.adapters.errors import EngineRefuses
from broker.authority.__main__ import app

RUN = "from broker.authority.__main__ import app; app()"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    environment = os.environ | {"MESHWIRE_STATE": str(tmp_path), "MESHWIRE__AUTHORITY__PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("authority ready: http on 127.0.0.1:")
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "secrets" / "broker-authority").stat().st_mode & 0o777 == 0o600


def test_a_setting_that_the_engine_cant_honour_is_refused_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meshwire.toml"
    path.write_text('[authority]\nengine = "rabbitmq-3.10"\n[gateway.bridge]\ndefault_message_qos = "EXACTLY_ONCE"\n')
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path))
    with pytest.raises(EngineRefuses) as caught:
        app(["--config", str(path)], standalone_mode=False)
    assert "QoS 2" in str(caught.value)
