"""The brokers that `meshwire bench broker` compares: ours and Debian's Mosquitto, each a process on one core, and what
the system says of them. The load client gets the other core.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher

from bench.mqtt_load.job import Job, Outcome
from broker.credentials import UsersFile

__all__ = ["MISSING_PEER", "Contender", "mosquitto", "mosquitto_path", "ours", "pinned"]

USER: Final = "bench"
PASSWORD: Final = "bench-password"
START_S: Final = 30.0
MISSING_PEER: Final = "mosquitto is not installed; for the comparison: apt-get install mosquitto"


@dataclass(frozen=True, slots=True)
class Contender:
    """A broker that serves."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    username: str | None = None
    password: str | None = None

    def load(self, job: dict[str, object]) -> Outcome:
        """One job of the load client, in its own process on its own core."""
        command = [sys.executable, "-m", "bench.mqtt_load", json.dumps(self.job(job))]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=180, preexec_fn=pinned(-1))
        if done.returncode:
            raise RuntimeError(f"{self.name}: the load client failed")
        return Outcome(**json.loads(done.stdout))

    @contextmanager
    def crowd(self, job: dict[str, object]) -> Iterator[None]:
        """Idle clients that stay while the block runs."""
        command = [sys.executable, "-m", "bench.mqtt_load", json.dumps(self.job(job))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=pinned(-1)) as client:
            assert client.stdout is not None
            if not client.stdout.readline():
                raise RuntimeError(f"{self.name}: the idle clients failed")
            yield
            client.communicate()

    def job(self, job: dict[str, object]) -> dict[str, object]:
        """The job with where to go and who one is; checked here, where a mistake has a traceback."""
        whole = job | {"port": self.port, "username": self.username, "password": self.password}
        Job(**whole)  # type: ignore[arg-type]
        return whole

    @property
    def resident_kb(self) -> int:
        """Resident memory of the broker."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    @property
    def processor_s(self) -> float:
        """Processor time the broker has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pinned(which: int) -> _Pin | None:
    """Pins a process about to run to the first (0) or last (-1) core; None where there is but one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return _Pin(cores[which]) if len(cores) > 1 else None


@dataclass(frozen=True, slots=True)
class _Pin:
    core: int

    def __call__(self) -> None:
        os.sched_setaffinity(0, {self.core})


def mosquitto_path() -> str | None:
    """Where Mosquitto is; Debian puts it where users' PATH does not look."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def ours(extra: str = "", listener: str = "") -> Iterator[Contender]:
    """Our broker with one user and the settings given (TOML below `[broker]` and `[[broker.listener]]`)."""
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        users = Path(folder, "users.json")
        UsersFile(users, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)).add(
            USER, PASSWORD, roles=("ADMIN",)
        )
        config = Path(folder, "broker.toml")
        config.write_text(
            f'schema_version = 1\n[broker]\nusers_file = "{users}"\n{extra}\n'
            f'[[broker.listener]]\nhost = "127.0.0.1"\nport = {port}\n{listener}\n'
        )
        environment = os.environ | {"MESHWIRE_STATE": folder}
        command = [sys.executable, "-m", "broker", "--config", str(config)]
        with _serving("ours", command, port, environment, USER, PASSWORD) as contender:
            yield contender


@contextmanager
def mosquitto(extra: str = "") -> Iterator[Contender]:
    """Debian's Mosquitto, set up as kindly as it can be: no window on what it takes, no delayed small packets."""
    path = mosquitto_path()
    if path is None:
        raise RuntimeError(MISSING_PEER)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)  # as root it changes to a user of its own
        port = _free_port()
        config = Path(folder, "mosquitto.conf")
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 50000\n"
            f"set_tcp_nodelay true\n{extra.format(folder=folder)}\n"
        )
        with _serving("mosquitto", [path, "-c", str(config)], port, None) as contender:
            yield contender


@contextmanager
def _serving(
    name: str,
    command: list[str],
    port: int,
    environment: dict[str, str] | None,
    username: str | None = None,
    password: str | None = None,
) -> Iterator[Contender]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, preexec_fn=pinned(0)
    )
    try:
        _until_open(process, port)
        yield Contender(name, port, process, username, password)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_open(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the broker did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
