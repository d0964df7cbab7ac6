"""The bridges that `meshwire bench bridge` compares: ours, the naive one, Node's and a C loop, each a process on the
first core. Load and broker share the last one.
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

from bench.bridge_load import Job, Outcome, hello
from bench.brokers import Contender
from bench.child import serving
from bench.compiled import Unobtainable, compiled

__all__ = ["Bridge", "c_loop", "naive", "node", "ours", "to_last_core"]

INSTALL_S: Final = 90.0
QUIET_S: Final = 0.3
SETTLE_MAX_S: Final = 30.0
QOS_NAMES: Final = ("AT_MOST_ONCE", "AT_LEAST_ONCE", "EXACTLY_ONCE")
HERE: Final = Path(__file__).parent
NODE_PACKAGES: Final = ("coap@1", "mqtt@5")


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge that serves."""

    name: str
    port: int
    process: int
    broker: Contender

    @property
    def processes(self) -> tuple[int, ...]:
        """The bridge's process and its workers."""
        children = Path(f"/proc/{self.process}/task/{self.process}/children")
        return (self.process, *map(int, children.read_text().split())) if children.exists() else (self.process,)

    def load(self, job: Job) -> Outcome:
        """One measurement; raises as `slices`."""
        (outcome,) = self.slices(job)
        return outcome

    def slices(self, job: Job) -> Iterator[Outcome]:
        """The measurements of a job as they end; raises Unobtainable and RuntimeError."""
        try:
            broker = (self.broker.port, self.broker.process.pid)
            yield from job.run(self.port, self._hello("bench"), broker, self.processes)
        except RuntimeError as error:
            raise RuntimeError(f"{self.name}: {error}") from None

    def _hello(self, client_id: str) -> bytes:
        return hello(client_id, self.broker.username, self.broker.password)

    def settle(self) -> None:
        """Returns when the broker has delivered nothing for `QUIET_S`: what this bridge had taken in and not published
        must not be counted for the next one.
        """
        deadline = time.monotonic() + SETTLE_MAX_S
        with socket.create_connection(("127.0.0.1", self.broker.port), timeout=QUIET_S) as listener:
            listener.sendall(self._hello("bench-settling"))
            while time.monotonic() < deadline:
                try:
                    if not listener.recv(65_536):
                        raise RuntimeError(f"{self.name}: the broker closes while the bridge settles")
                except TimeoutError:
                    return
        raise RuntimeError(f"{self.name}: it does not settle within {SETTLE_MAX_S:.0f} s")


def to_last_core(broker: Contender) -> None:
    """The broker shares the load's core, so that the bridge has one for itself."""
    cores = sorted(os.sched_getaffinity(0))
    for task in Path(f"/proc/{broker.process.pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {cores[-1]})


@contextmanager
def ours(
    broker: Contender, qos: int, *, workers: int = 1, core: int | None = 0, user_properties: bool = False
) -> Iterator[Bridge]:
    """The gateway with its durable outbox: fsync, group commit, answers after it.

    Args:
        broker: where it publishes.
        qos: of all messages.
        workers: processes.
        core: where they run; None: wherever the system likes.
        user_properties: whether messages carry them, as they do by default; no other bridge sends any.
    """
    with tempfile.TemporaryDirectory() as folder:
        password = Path(folder, "password")
        password.write_text(broker.password or "none")
        bridge = {"port": broker.port, "window": 1000, "default_message_qos": QOS_NAMES[qos], "workers": workers}
        bridge["user_properties"] = user_properties
        bridge |= {"username": broker.username or "bench", "password_file": str(password)}
        settings = {"listen": ["127.0.0.1"], "port": 0, "http": "", "bridge": bridge}
        command = [sys.executable, "-m", "bench.bridge_load_gateway", json.dumps(settings), folder]
        with _serving("ours", command, broker, core) as served:
            yield served


@contextmanager
def naive(broker: Contender) -> Iterator[Bridge]:
    """An aiocoap resource that awaits an aiomqtt publish."""
    with _serving("naive", [sys.executable, "-m", "bench.bridge_load_naive", str(broker.port), "1"], broker) as served:
        yield served


@contextmanager
def node(broker: Contender) -> Iterator[Bridge]:
    """node-coap and MQTT.js, installed into a folder that is removed afterwards."""
    node_path, npm = shutil.which("node"), shutil.which("npm")
    if node_path is None or npm is None:
        raise Unobtainable("node and npm are not installed; for the comparison: apt-get install nodejs npm")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *NODE_PACKAGES]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_S)
        except (subprocess.SubprocessError, OSError) as error:
            raise Unobtainable(f"npm can't install {', '.join(NODE_PACKAGES)}: {type(error).__name__}") from None
        script = shutil.copy(HERE / "bridge_load_node.js", folder)
        with _serving("node-coap + MQTT.js", [node_path, script, str(broker.port), "1"], broker) as served:
            yield served


@contextmanager
def c_loop(broker: Contender) -> Iterator[Bridge]:
    """The C program, compiled here and now."""
    with _serving("C loop", [compiled("bridge_load_loop.c"), str(broker.port)], broker) as served:
        yield served


@contextmanager
def _serving(name: str, command: list[str], broker: Contender, core: int | None = 0) -> Iterator[Bridge]:
    with serving(name, command, core, quiet=True) as child:
        yield Bridge(name, child.ports[0], child.pid, broker)
