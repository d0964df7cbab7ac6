"""One private RabbitMQ node on this machine: what it is called, where it listens, and what keeps it to itself."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.rabbitmq.tls import NodeTls

__all__ = ["LaunchedNode"]


@dataclass(slots=True)
class LaunchedNode:
    """One node: its name, ports, folder and process."""

    name: str
    folder: Path
    mqtt_port: int
    web_mqtt_port: int
    dist_port: int
    amqp_port: int | None = None
    management_port: int | None = None
    tls: NodeTls | None = None
    process: subprocess.Popen[bytes] | None = None

    def ports(self) -> dict[str, int]:
        """By what is spoken there."""
        ports = {"mqtt": self.mqtt_port, "ws": self.web_mqtt_port}
        if self.amqp_port is not None:
            ports["amqp"] = self.amqp_port
        if self.tls is not None:
            ports["mqtts"] = self.tls.ports.mqtts
            if not self.tls.is_mutual:
                ports["wss"] = self.tls.ports.wss
            if self.amqp_port is not None:
                ports["amqps"] = self.tls.ports.amqps
        return ports

    def pid(self) -> int | None:
        """The Erlang machine's process, once the node has written it down."""
        try:
            return int((self.folder / "pid").read_text())
        except (OSError, ValueError):
            return None

    def environment(self, epmd_port: int, home: Path) -> dict[str, str]:
        """All that keeps the node to itself; `rabbitmqctl` works with the same."""
        folder = self.folder
        schedulers = "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": schedulers,
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
