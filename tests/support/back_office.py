"""A back office that stays away from nothing: a foreign client with a session that the broker keeps.

At QoS 1 it is mosquitto_sub. At QoS 2 it is paho-mqtt: libmosquitto 2.0.11 puts a message that a restarted broker sends
again beside its first copy, and hands the stale one out when the identifier is used anew.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from patience import PATIENCE_S
from process_site import ProcessSite


class PersistentSubscriber:
    """Every payload that ever arrived, as hexadecimal lines in a file; reconnects by itself."""

    def __init__(self, site: ProcessSite, tenant: str, qos: int = 1) -> None:
        self.out: Path = site.folder / "received"
        token, topic_filter = site.token(tenant), f"{tenant}/read/#"
        if qos == 2:
            script = Path(__file__).with_name("paho_back_office.py")
            self.command = [sys.executable, str(script), str(site.mqtt), token, topic_filter, str(qos)]
        else:
            where = ["-h", "127.0.0.1", "-p", str(site.mqtt), "-u", "notused", "-P", token]
            session = ["-i", "back-office", "-c", "-q", str(qos), "-V", "mqttv311"]
            self.command = ["mosquitto_sub", *where, *session, "-t", topic_filter, "-F", "%x"]
        with self.out.open("ab") as file:
            self.process = subprocess.Popen(self.command, stdout=file, stderr=subprocess.DEVNULL)

    def lines(self) -> list[str]:
        whole, _, _ = self.out.read_text().rpartition("\n")
        return whole.split()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)
