"""The broker is away for an hour: everything that came in meanwhile is delivered, in order, and memory stays flat."""

from __future__ import annotations

import selectors
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from patience import PATIENCE_S
from process_site import ProcessSite, is_open, wait_for

from meshwire.coap import CON, Message, encode
from meshwire.coap.codes import POST
from meshwire.coap.options import URI_PATH, URI_QUERY
from meshwire.identity import DeviceId
from meshwire.notification import Notification, uplink_request

pytestmark = [pytest.mark.server]

MAC = DeviceId("0013500500470001")
WINDOW = 64
IDS_A_PORT = 50_000
CHANGED = 0x44


class Mosquitto:
    """Debian's broker with a store, which may come and go; and a subscriber whose session it keeps."""

    def __init__(self, folder: Path, port: int) -> None:
        path = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
        if path is None:
            pytest.skip("mosquitto is not installed")
        self._port = port
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
            "max_queued_messages 0\nmax_inflight_messages 0\nuser root\n"
        )
        self._command = [path, "-c", str(config)]
        self._process: subprocess.Popen[bytes] | None = None
        self.out = folder / "received"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        wait_for(lambda: is_open(self._port), "mosquitto listens")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def subscriber(self, *more: str) -> subprocess.Popen[bytes]:
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self._port), "-i", "back-office", "-c", "-q", "1"]
        with self.out.open("ab") as file:
            return subprocess.Popen([*command, "-t", "acme/read/#", "-F", "%p", *more], stdout=file)


def flood(port: int, count: int, after: dict[int, list[int]], pid: int) -> None:
    """Post numbered notifications with `WINDOW` under way; note resident memory when so many are acknowledged."""
    done = 0
    while done < count:
        # A message ID means one message for 247 s (RFC 7252 section 4.4), so each port sends fewer than there are.
        more = min(count - done, IDS_A_PORT)
        flood_from_a_port(port, done, done + more, after, pid)
        done += more


def flood_from_a_port(port: int, first: int, count: int, after: dict[int, list[int]], pid: int) -> None:
    """Numbers `first` to `count` - 1 from a source port of their own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nic, selectors.DefaultSelector() as selector:
        nic.connect(("127.0.0.1", port))
        nic.setblocking(False)
        selector.register(nic, selectors.EVENT_READ)
        head, tail = datagram_parts()
        sent = acknowledged = first
        waiting: dict[int, bytes] = {}
        while acknowledged < count:
            while len(waiting) < WINDOW and sent < count:
                octets = b"%b%b%b%d%b%08d" % (
                    head[:2],
                    (sent & 0xFFFF).to_bytes(2, "big"),
                    head[4:],
                    1_000_000 + sent,
                    tail,
                    sent,
                )
                waiting[sent & 0xFFFF] = octets
                nic.send(octets)
                sent += 1
            if not selector.select(2.0):
                for octets in waiting.values():
                    nic.send(octets)
                continue
            while True:
                try:
                    answer = nic.recv(64)
                except BlockingIOError:
                    break
                assert answer[1] == CHANGED, answer.hex()
                if waiting.pop(answer[2] << 8 | answer[3], None) is not None:
                    acknowledged += 1
                    if acknowledged in after:
                        after[acknowledged].append(resident_kb(pid))


def datagram_parts() -> tuple[bytes, bytes]:
    """What stands in front of and behind the observe number."""
    notification = Notification(MAC, "snsr/arduino/temp", 1_000_000, 1, 60, b"@", 1_700_000_000.0)
    path, query = uplink_request(notification)
    options = [(URI_PATH, part.encode()) for part in path] + [(URI_QUERY, part.encode()) for part in query]
    octets = encode(Message(CON, POST, 0, b"t", tuple(options), notification.payload))
    head, _, tail = octets.partition(b"1000000")
    return head, tail[:-1]


def resident_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def run_outage(site: ProcessSite, count: int, allowed_kb: int) -> None:
    mosquitto = Mosquitto(site.folder, site.mqtt)
    mosquitto.start()
    mosquitto.subscriber("-E").wait(PATIENCE_S)
    mosquitto.stop()
    site.start("gateway", "meshwire", "gateway")
    site.wait_for(lambda: is_open(site.http), "the gateway serves")
    site.meshwire("device", "add", str(MAC), "--tenant", "acme")
    pid = site.processes["gateway"].pid
    # From here on the tables that recognise repetitions are full, or as full as they get.
    marks: dict[int, list[int]] = {count * tenth // 10: [] for tenth in (2, 6, 10)}
    began = time.monotonic()
    flood(site.coap, count, marks, pid)
    stored_s = time.monotonic() - began
    mosquitto.start()
    subscriber = mosquitto.subscriber("-C", str(count))
    began = time.monotonic()
    try:
        subscriber.wait(600)
    finally:
        subscriber.kill()
        mosquitto.stop()
    drained_s = time.monotonic() - began
    resident = [kb for kbs in marks.values() for kb in kbs] + [resident_kb(pid)]
    print(f"{count} stored in {stored_s:.0f} s, drained in {drained_s:.0f} s; resident KiB {resident}")
    received = mosquitto.out.read_text().split()
    assert received == [f"{number:08d}" for number in range(count)], "everything, once, in order"
    assert resident[-1] - resident[0] < allowed_kb and max(resident) - resident[0] < allowed_kb, resident


@pytest.mark.timeout(900)
def test_what_came_in_while_the_broker_was_away_is_delivered_in_order(site: ProcessSite) -> None:
    run_outage(site, 6_000, 40_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_hour_without_the_broker(site: ProcessSite) -> None:
    """500,000 notifications: 139 a second for an hour."""
    run_outage(site, 500_000, 24_000)
