"""Private RabbitMQ nodes on this machine, for trials and tests: own folders, free ports, an own port mapper.

Nothing of an installed service is touched: no file of /etc/rabbitmq or /var/lib/rabbitmq is read or written, and no
service is started. Every process is a child that `stop` ends by its id.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker.adapters.errors import EngineError
from broker.adapters.free_ports import free_ports
from broker.adapters.rabbitmq.configuration import RabbitNode, definitions, enabled_plugins, rabbitmq_conf
from broker.adapters.rabbitmq.node import LaunchedNode
from broker.adapters.rabbitmq.tls import NodeTls, TlsFiles, TlsPorts
from broker.addresses.address import Address

__all__ = ["PrivateCluster", "free_ports", "server_program"]

BOOT_TIMEOUT_S: Final = 300.0
"""Ten seconds on a quiet machine; one that ends is told of at once."""
STOP_TIMEOUT_S: Final = 60.0
TOOL_TIMEOUT_S: Final = 300.0
SMALLEST_CLUSTER: Final = 3
"""Two nodes have no majority when one of them is away (`cluster_partition_handling = pause_minority`)."""
_STARTED: Final = "Starting broker... completed"
"""A listener answers before it can serve, and others come after it."""
_PROGRAMS: Final = (Path("/usr/lib/rabbitmq/bin/rabbitmq-server"),)
"""Debian's own script; the one on the PATH changes the user and reads /etc."""


def server_program() -> Path | None:
    """The server's start script, or None where RabbitMQ is not installed."""
    found = [path for path in _PROGRAMS if path.exists()]
    return found[0] if found and shutil.which("epmd") else None


@dataclass(slots=True)
class PrivateCluster:
    """One node, or several that find each other.

    Args:
        folder: everything is written below it.
        authority_url: with its secret, without `/hooks`.
        size: number of nodes.
        max_queued_messages: bound of a client's queue.
        amqp: nodes speak AMQP 1.0 as well.
        management: nodes have the management plugin.
        addresses: queues and the like that exist from the first boot.
        tls: nodes listen with TLS as well.
    """

    folder: Path
    authority_url: str
    size: int = 1
    max_queued_messages: int = 50_000
    amqp: bool = False
    management: bool = False
    addresses: tuple[Address, ...] = ()
    tls: TlsFiles | None = None
    nodes: list[LaunchedNode] = field(default_factory=list)
    _epmd: subprocess.Popen[bytes] | None = None
    _epmd_port: int = 0
    _mark: str = ""
    _last_number: int = 0

    def __post_init__(self) -> None:
        (self._epmd_port,) = free_ports(1)
        self._mark = secrets.token_hex(3)
        for _ in range(self.size):
            self.nodes.append(self._new_node())

    def _new_node(self) -> LaunchedNode:
        """A node with a name that no node of this cluster has had."""
        self._last_number += 1
        name = f"meshwire{self._mark}n{self._last_number}@localhost"
        mqtt, web, dist, amqp, management, *tls = free_ports(8)
        folder = self.folder / f"node{self._last_number}"
        return LaunchedNode(
            name,
            folder,
            mqtt,
            web,
            dist,
            amqp if self.amqp else None,
            management if self.management else None,
            None if self.tls is None else NodeTls(self.tls.is_mutual, ports=TlsPorts(*tls), folder=str(folder)),
        )

    def start(self) -> None:
        """Starts the port mapper and all nodes at once, and waits until MQTT clients may connect.

        Raises:
            EngineError: RabbitMQ is not installed, or a node does not come up; the message holds its last lines.
        """
        if server_program() is None:
            raise EngineError(
                "RabbitMQ is not installed", fix="on Debian: apt-get install rabbitmq-server", code="MW-ENG-003"
            )
        self._write()
        self._start_epmd()
        try:
            for node in self.nodes:
                self.launch(node)
            for node in self.nodes:
                self.await_ready(node)
        except BaseException:
            self.stop()
            raise

    def _write(self) -> None:
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        for node in self.nodes:
            self._write_node(node)

    def _write_node(self, node: LaunchedNode) -> None:
        names = tuple(known.name for known in self.nodes) if self.size > 1 else ()
        node.folder.mkdir(parents=True, exist_ok=True)
        conf = RabbitNode(
            authority_url=self.authority_url,
            mqtt_port=node.mqtt_port,
            web_mqtt_port=node.web_mqtt_port,
            amqp_port=node.amqp_port,
            tls=node.tls,
            management_port=node.management_port,
            cluster=names,
            definitions_file=str(node.folder / "definitions.json"),
        )
        if self.tls is not None:
            self.tls.write(node.folder)
        (node.folder / "rabbitmq.conf").write_text(rabbitmq_conf(conf))
        (node.folder / "enabled_plugins").write_text(enabled_plugins(amqp=self.amqp, management=self.management))
        (node.folder / "definitions.json").write_text(self._definitions())

    def _definitions(self) -> str:
        return definitions(self.max_queued_messages, self.addresses, replicated=self.size > 1)

    def _start_epmd(self) -> None:
        command = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        self._epmd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def environment(self, node: LaunchedNode) -> dict[str, str]:
        """For `rabbitmqctl` and the like."""
        return node.environment(self._epmd_port, self.folder / "home")

    def launch(self, node: LaunchedNode) -> None:
        """Starts one node's process."""
        program = server_program()
        assert program is not None
        with (node.folder / "output").open("wb") as output:
            node.process = subprocess.Popen(
                [program], env=self.environment(node), stdout=output, stderr=output, start_new_session=True
            )

    def await_ready(self, node: LaunchedNode) -> None:
        """Returns when the node says that all its plugins, and with them all listeners, have started."""
        end = time.monotonic() + BOOT_TIMEOUT_S
        lines: list[str] = []
        while time.monotonic() < end:
            has_ended = node.process is None or node.process.poll() is not None
            lines = (node.folder / "output").read_text(errors="replace").splitlines()[-12:]
            if has_ended:
                break
            if any(_STARTED in line for line in lines):
                return
            time.sleep(0.1)
        raise EngineError("RabbitMQ did not come up", evidence=" | ".join(lines), code="MW-ENG-004")

    # --- growing and shrinking ---------------------------------------------------------------------------------------

    def add_node(self) -> LaunchedNode:
        """Starts one more node, which joins, and gives every replicated queue a copy there.

        Raises:
            EngineError: the node does not come up, or does not take copies.
        """
        node = self._new_node()
        self.nodes.append(node)
        self._write_node(node)
        self.launch(node)
        self.await_ready(node)
        self._tool("rabbitmq-queues", self.nodes[0], "grow", node.name, "all")
        return node

    def remove_node(self, node: LaunchedNode) -> None:
        """Takes a node out: clients are sent away, its copies are given up, then it is stopped and forgotten. What was
        acknowledged has copies on a majority of the others before.

        Raises:
            EngineError: too few nodes would be left, or a step fails; then the node is still there.
        """
        others = [known for known in self.nodes if known is not node]
        if len(others) < SMALLEST_CLUSTER:
            raise EngineError(
                "the cluster would be too small",
                evidence=f"{len(others)} nodes would be left",
                fix=f"keep {SMALLEST_CLUSTER}: fewer have no majority when one fails, and stop",
                code="MW-ENG-008",
            )
        self._tool("rabbitmq-upgrade", node, "drain")
        self._tool("rabbitmq-queues", others[0], "shrink", node.name)
        self._tool("rabbitmqctl", others[0], "decommission_mqtt_node", node.name)
        if (beam := node.pid()) is not None:
            with suppress(ProcessLookupError):
                os.kill(beam, signal.SIGTERM)
        self._reap([node])
        self.nodes.remove(node)
        self._tool("rabbitmqctl", others[0], "forget_cluster_node", node.name)

    def release(self) -> str:
        """Of RabbitMQ, such as `3.10.8`; raises EngineError."""
        return self._tool("rabbitmqctl", self.nodes[0], "version").strip()

    def _tool(self, program: str, node: LaunchedNode, *arguments: str) -> str:
        """Runs one of RabbitMQ's own tools against a node."""
        command = [str(_PROGRAMS[0].with_name(program)), "--node", node.name, *arguments]
        done = subprocess.run(
            command, env=self.environment(node), capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
        )
        if done.returncode:
            words = " | ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
            evidence = f"exit code {done.returncode}: {words}"
            raise EngineError(f"`{program} {arguments[0]}` failed", evidence=evidence, code="MW-ENG-009")
        return done.stdout

    def kill(self, node: LaunchedNode) -> None:
        """Ends a node without a word, as a power cut would."""
        if (beam := node.pid()) is not None:
            with suppress(ProcessLookupError):
                os.kill(beam, signal.SIGKILL)
        self._reap([node])

    def stop(self) -> None:
        """Ends all nodes in order, then the port mapper."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(node.pid() or node.process.pid, signal.SIGTERM)
        self._reap(self.nodes)
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait(STOP_TIMEOUT_S)
            self._epmd = None

    def _reap(self, nodes: Sequence[LaunchedNode]) -> None:
        """Waits for the processes; what stays is killed with all of its own session."""
        for node in nodes:
            if node.process is None:
                continue
            try:
                node.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                pass
            with suppress(ProcessLookupError):
                os.killpg(node.process.pid, signal.SIGKILL)
            node.process.wait(STOP_TIMEOUT_S)
            node.process = None
