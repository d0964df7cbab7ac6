"""A private Mosquitto on this machine, for trials and tests: own folder, free ports, no service touched."""

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker.adapters.connection import BrokerAddress
from broker.adapters.errors import EngineError
from broker.adapters.free_ports import free_ports
from broker.adapters.mosquitto.configuration import PLUGIN, MosquittoConf, mosquitto_conf
from broker.adapters.mosquitto.dynsec import MosquittoUser, dynsec_document

__all__ = ["PrivateMosquitto", "server_program"]

PROGRAM: Final = Path("/usr/sbin/mosquitto")
START_TIMEOUT_S: Final = 60.0
"""A tenth of a second on a quiet machine; one that ends is told of at once."""


def plugin() -> Path | None:
    """The dynamic-security plug-in, wherever this machine's architecture has it."""
    return next(iter(sorted(Path("/usr/lib").glob(f"*/{Path(PLUGIN).name}"))), None)


def server_program() -> Path | None:
    """Mosquitto, or None where it or its dynamic-security plug-in is not installed."""
    return PROGRAM if PROGRAM.exists() and plugin() is not None else None


@dataclass(slots=True)
class PrivateMosquitto:
    """One Mosquitto with dynamic security.

    Args:
        folder: everything is written below it.
        users: in the generated file.
        control_user: name and password of who changes users.
    """

    folder: Path
    users: Sequence[MosquittoUser]
    control_user: tuple[str, str]
    port: int = 0
    internal_port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.port, self.internal_port = free_ports(2)

    @property
    def address(self) -> BrokerAddress:
        """The tenants' listener."""
        return BrokerAddress("127.0.0.1", self.port)

    @property
    def internal_address(self) -> BrokerAddress:
        """The listener of internal users."""
        return BrokerAddress("127.0.0.1", self.internal_port)

    def start(self) -> None:
        """Writes the files, starts the process and waits for its port; raises EngineError."""
        program = server_program()
        if program is None:
            raise EngineError(
                "Mosquitto is not installed", fix="on Debian: apt-get install mosquitto", code="MW-ENG-003"
            )
        conf = self._write()
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen([program, "-c", conf], stdout=output, stderr=output)
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and self._process.poll() is None:
            if _is_open(self.port) and _is_open(self.internal_port):  # it opens one after the other
                return
            time.sleep(0.01)
        self.stop()
        lines = (self.folder / "output").read_text(errors="replace").splitlines()[-5:]
        raise EngineError("Mosquitto did not come up", evidence=" | ".join(lines), code="MW-ENG-004")

    def _write(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        users, conf = self.folder / "dynamic-security.json", self.folder / "mosquitto.conf"
        users.write_text(dynsec_document(self.users, self.control_user))
        users.chmod(0o600)
        facts = MosquittoConf(
            port=self.port,
            internal_port=self.internal_port,
            dynsec_file=str(users),
            persistence_dir=f"{self.folder}/",
            plugin=str(plugin()),
        )
        # As root, Mosquitto would become another user, who can't come here.
        stay = "user root\n" if os.getuid() == 0 else ""
        conf.write_text(mosquitto_conf(facts) + stay)
        return conf

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10.0)
            self._process = None


def _is_open(port: int) -> bool:
    with socket.socket() as plug:
        return plug.connect_ex(("127.0.0.1", port)) == 0
