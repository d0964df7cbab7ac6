"""A site of real processes on free ports: broker, gateway, boards on symlinked ptys, NICs; each may be killed alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from free_ports import free_port
from patience import PATIENCE_S

BIN = Path(sys.executable).parent


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    """Poll until `condition` holds; a process of its own tells nothing by events."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


class ProcessSite:
    """Processes by name; `kill` and `start` again with the same command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mqtt, self.http = free_port(), free_port()
        self.coap = free_port(socket.SOCK_DGRAM)
        self.bridge_settings: dict[str, str] = {}
        """More of `[gateway.bridge]`, by environment."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, list[str]] = {}
        config = folder / "meshwire.toml"
        config.write_text(
            f"[[broker.listener]]\nport = {self.mqtt}\n[gateway]\nport = {self.coap}\n"
            f'http = "127.0.0.1:{self.http}"\n[gateway.bridge]\nport = {self.mqtt}\n'
        )
        self.environment = os.environ | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "MESHWIRE_STATE": str(folder / "site"),
            "MESHWIRE_CONFIG": str(config),
            "MESHWIRE_HTTP": f"http://127.0.0.1:{self.http}",
            "MESHWIRE_GATEWAY": f"coap://127.0.0.1:{self.coap}",
        }

    def start(self, name: str, *command: str) -> None:
        """Start a process, or start it again by its name alone; its log goes to a file of its name."""
        self.commands.setdefault(name, list(command))
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            self.commands[name], env=self.environment | self.bridge_settings, cwd=self.folder, stdout=log, stderr=log
        )
        log.close()

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(PATIENCE_S)

    def meshwire(self, *arguments: str, timeout: float = PATIENCE_S) -> str:
        """Run a client command to its end and give its standard output."""
        done = self.attempt("meshwire", *arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stderr}{self.logs()}"
        return done.stdout

    def attempt(self, *command: str, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
        """Poll until `condition` holds; the logs are told if it does not, or when a process has ended by itself."""

        def holds() -> bool:
            if condition():
                return True
            ended = {name: process.returncode for name, process in self.processes.items() if process.poll() is not None}
            assert not ended, f"ended by themselves: {ended}"
            return False

        try:
            wait_for(holds, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def start_servers(self) -> None:
        self.start("broker", "meshwire", "broker")
        self.start("gateway", "meshwire", "gateway")
        self.await_servers()

    def await_servers(self) -> None:
        for port in (self.mqtt, self.http):
            self.wait_for(lambda port=port: is_open(port), f"port {port} is open")  # type: ignore[misc]

    def add_board_and_nic(self, mac: str, tenant: str, profile: str, sensor: str, *, period: float = 1.0) -> None:
        """Provision, and start a board on a symlinked pty and a NIC on it."""
        self.meshwire("device", "add", mac, "--tenant", tenant)
        link, nic_port = str(self.folder / f"tty-{mac}"), free_port(socket.SOCK_DGRAM)
        board = ["meshwire", "sensor", "--port", f"pty:{link}", "--profile", profile]
        self.start(f"board-{mac}", *board, "--sensor", sensor, "--period", str(period))
        nic = ["meshwire", "nic", "--mac", mac, "--serial", link, "--profile", profile, "--poll", "0.5"]
        where = ["--gateway", f"coap://127.0.0.1:{self.coap}", "--listen", f"127.0.0.1:{nic_port}"]
        state = ["--state", str(self.folder / f"nic-{mac}")]
        self.start(f"nic-{mac}", *nic, *where, *state, "--observe", f"snsr/arduino/{sensor}")

    def token(self, tenant: str) -> str:
        return self.meshwire("token", "issue", "--tenant", tenant).strip()

    def status(self) -> dict[str, object]:
        """The gateway's counters, by its HTTP API."""
        token = self.meshwire("token", "issue", "--tenant", "ssni", "--admin").strip()
        answer = self.attempt("curl", "-s", "-H", f"Authorization: {token}", f"http://127.0.0.1:{self.http}/api/status")
        return dict(json.loads(answer.stdout))

    def log(self, name: str) -> str:
        """All that a process has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def logs(self) -> str:
        """The ends of all logs, for a failed assertion."""
        parts = []
        for path in sorted(self.folder.glob("*.log")):
            parts.append(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}")
        return "\n".join(parts)

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE_S)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
