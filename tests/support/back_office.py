"""A back office that stays away from nothing: mosquitto_sub with a session that the broker keeps."""

from __future__ import annotations

import subprocess
from pathlib import Path

from process_site import ProcessSite


class PersistentSubscriber:
    """Every payload that ever arrived, as hexadecimal lines in a file; reconnects by itself, as mosquitto_sub does."""

    def __init__(self, site: ProcessSite, tenant: str, qos: int = 1) -> None:
        self.out: Path = site.folder / "received"
        where = ["-h", "127.0.0.1", "-p", str(site.mqtt), "-u", "notused", "-P", site.token(tenant)]
        session = ["-i", "back-office", "-c", "-q", str(qos), "-V", "mqttv311"]
        self.command = ["mosquitto_sub", *where, *session, "-t", f"{tenant}/read/#", "-F", "%x"]
        with self.out.open("ab") as file:
            self.process = subprocess.Popen(self.command, stdout=file, stderr=subprocess.DEVNULL)

    def lines(self) -> list[str]:
        return self.out.read_text().split()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
