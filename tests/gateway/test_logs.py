"""JSON logs: one object a line, whatever happens, and no secret in it, not even at the lowest level."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_port
from patience import PATIENCE_S

from meshwire.identity import Role, TenantId
from meshwire.mqtt import Connect, ProtocolVersion, encode
from meshwire.site import Site

SECRETS = {"a wrong password": "pass-word-of-nobody", "a wrong secret": "secret-of-nobody"}


class Servers:
    """Broker and gateway as processes, with all that they say on standard error."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder / "state")
        self.mqtt = free_port()
        config = folder / "site.toml"
        config.write_text(
            f'[gateway]\nport = 0\nhttp = "127.0.0.1:0"\nlisten = ["127.0.0.1"]\n[gateway.bridge]\nport = {self.mqtt}\n'
            f'[broker]\ndurability = "memory"\n[[broker.listener]]\nport = {self.mqtt}\n'
        )
        self._environment = {
            **os.environ,
            "MESHWIRE_STATE": str(self.site.state_dir),
            "MESHWIRE_CONFIG": str(config),
            "MESHWIRE_LOG_FORMAT": "json",
            "MESHWIRE_LOG_LEVEL": "debug",
        }
        self._logs = folder
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, *options: str) -> str:
        """Start a server; gives its first line on standard output, once it is ready."""
        with (self._logs / f"{name}.log").open("w") as log:
            command = [sys.executable, "-m", name, *options]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=self._environment, text=True)
        self._processes[name] = process
        assert process.stdout is not None
        if options:
            return process.stdout.readline()
        while f"{name} ready" not in self.log(name):
            assert process.poll() is None, self.log(name)
            time.sleep(0.02)
        return ""

    def stop(self) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
            process.wait(PATIENCE_S)
            if process.stdout is not None:
                process.stdout.close()

    def log(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    yield servers
    servers.stop()


def post(url: str, body: object, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def log_in(port: int, user: str, password: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connect = Connect("x", ProtocolVersion.V5, username=user, password=password.encode())
        connection.sendall(encode(connect, ProtocolVersion.V5))
        assert connection.recv(64)


def test_one_object_a_line_and_no_secret(servers: Servers, raw_client: Any) -> None:
    servers.start("broker")
    ready = json.loads(servers.start("gateway", "--json"))
    base, keys = f"http://127.0.0.1:{ready['http']}", servers.site.signing_keys()
    token = keys.issue(TenantId("acme"), [Role.COMMAND_CLIENT], now=time.time())
    admin = keys.issue(TenantId("ssni"), (), now=time.time(), scope="api admin")
    assert post(f"{base}/api/tokens", {"clientId": "x", "clientSecret": SECRETS["a wrong secret"]}, {}) == 401
    assert post(f"{base}/api/tenants", {"id": "acme"}, {"Authorization": admin}) == 201
    assert post(f"{base}/api/tenants", {"id": "b"}, {"Authorization": f"Bearer {token}"}) == 403
    alias = {"name": "plant", "host": "tcp://127.0.0.1:9", "username": "u", "password": SECRETS["a wrong password"]}
    alias |= {"enabled": True, "publish": [{"tenant": "acme"}]}
    assert post(f"{base}/api/aliases", alias, {"Authorization": admin}) == 201
    log_in(servers.mqtt, "notused", token)
    log_in(servers.mqtt, "nobody", SECRETS["a wrong password"])
    log_in(servers.mqtt, "notused", token[:-4] + "AAAA")
    client = raw_client(ready["coap"])
    client.send(b"\xff\xff nonsense")
    second = subprocess.run(
        [sys.executable, "-m", "gateway"], env=servers._environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert second.returncode != 0 and "MW-GWY-004" in second.stderr
    servers.stop()
    known = [*SECRETS.values(), token, admin, servers.site.secret("gateway-mqtt"), token[:-4]]
    for text in (servers.log("broker"), servers.log("gateway"), second.stderr):
        lines = text.splitlines()
        assert lines
        for line in lines:
            said = json.loads(line)
            assert isinstance(said, dict) and {"event", "level", "timestamp"} <= set(said), line
        assert not [secret for secret in known if secret in text]
    assert "broker ready: mqtt" in servers.log("broker") and "gateway is ready" in servers.log("gateway")


def test_libraries_speak_json_too() -> None:
    """Also what asyncio says of a task that failed, with its traceback, and warnings."""
    script = (
        "import asyncio, gc, warnings\nfrom meshwire.logs import configure_logging\nconfigure_logging()\n"
        "async def fail(): raise ValueError('two\\nlines')\n"
        "async def main():\n    task = asyncio.create_task(fail())\n    await asyncio.sleep(0)\n"
        "    await asyncio.sleep(0)\n    del task\n    gc.collect()\n"
        "asyncio.run(main())\nimport logging\nlogging.getLogger('x.y').error('a %s', 'thing')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MESHWIRE_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    first, second = [json.loads(line) for line in done.stderr.splitlines()]
    assert first["logger"] == "asyncio" and "two\nlines" in first["exception"]
    assert (second["event"], second["level"], second["logger"]) == ("a thing", "error", "x.y")
