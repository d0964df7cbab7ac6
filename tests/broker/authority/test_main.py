"""The authority as a process: it says when it serves, checks the engine first, and ends in order."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from patience import PATIENCE_S

from broker.adapters.errors import EngineRefuses
from broker.authority.__main__ import app

COMMANDS = [(["broker", "authority"], signal.SIGINT), (["broker-authority"], signal.SIGTERM)]
READY = "authority ready: http on 127.0.0.1:"


@pytest.mark.parametrize(("command", "number"), COMMANDS, ids=["verb", "one-word"])
def test_it_answers_until_interrupted(tmp_path: Path, command: list[str], number: signal.Signals) -> None:
    environment = os.environ | {"MESHWIRE_STATE": str(tmp_path), "MESHWIRE__AUTHORITY__PORT": "0"}
    process = subprocess.Popen(
        [Path(sys.executable).parent / "meshwire", *command],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if line.startswith(READY))
        secret = (tmp_path / "secrets" / "broker-authority").read_text()
        url = f"http://127.0.0.1:{line.removeprefix(READY).strip()}/{secret}/hooks/rabbitmq/user"
        login = b"username=nobody&password=x&client_id=c"
        with urllib.request.urlopen(url, data=login, timeout=PATIENCE_S) as response:
            assert response.read() == b"deny"
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, "Traceback" in errors) == (0, False)
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
