"""The load of `meshwire bench bridge`, for all bridges alike: a C program, so that the load is not what is measured.

Many light NICs and one subscriber in one process on the last core. A NIC has one confirmable notification on the way
(NSTART of RFC 7252 section 4.7) and sends the next one when it gets a 2.04. What counts is what the broker gives the
subscriber; it subscribes at QoS 0 and costs the broker as little as it can: Mosquitto hands a message on when it
acknowledges it, or with QoS 2 when it is released.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.brokers import pinned
from bench.compiled import compiled
from meshwire.coap import CON, Message, codes, options
from meshwire.coap import encode as encode_message
from meshwire.identity import DeviceId
from meshwire.mqtt import Connect, ProtocolVersion, Subscribe, TopicSubscription, encode
from meshwire.notification import Notification, uplink_request

__all__ = ["NICS", "PROGRAM", "TENANT", "Job", "Outcome", "device_id", "hello"]

PROGRAM: Final = "bridge_load.c"
TENANT: Final = "acme"
NICS: Final = 256
RESOURCE: Final = "snsr/arduino/temp"
PAYLOAD: Final = bytes.fromhex("a2006474656d70017836") + b"1700000000,72.50,F".ljust(54, b" ")
"""A device record of 64 octets."""
FIRST_OBSERVE: Final = 1_000_000
"""Seven digits, as the program expects them."""
V311: Final = ProtocolVersion.V3_1_1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it, in the time of the measurement."""

    seconds: float
    acknowledged: int
    delivered: int
    repeated: int
    """Requests that had to be sent again."""
    p50_ms: float
    """From the request to its 2.04."""
    p99_ms: float
    bridge_s: float
    """Processor time of the bridge, of the broker and of the load."""
    broker_s: float
    load_s: float
    resident_kb: int
    """Of the bridge's first process, at the end."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Args:
        seconds: duration of a measurement, the first one after `warm_up_s`.
        epoch: told in the envelope; a new one for each run, so that nothing is a repetition.
        nics: light NICs, each with an address of its own.
        window: notifications that one NIC has on the way.
        rate: notifications a second, evenly; 0: as fast as the answers come.
        slices: measurements, one behind the other.
    """

    seconds: float
    warm_up_s: float
    epoch: int = 1
    nics: int = NICS
    window: int = 1
    rate: float = 0.0
    slices: int = 1

    def run(self, port: int, greeting: bytes, broker: tuple[int, int], processes: tuple[int, ...]) -> Iterator[Outcome]:
        """Do it, in a process of its own on the last core; gives what came of each slice at its end.

        Args:
            port: CoAP port of the bridge at 127.0.0.1.
            greeting: what the subscriber says at first.
            broker: its TCP port at 127.0.0.1, and its process.
            processes: of the bridge.

        Raises:
            RuntimeError: the bridge or the broker did not play along.
            Unobtainable: the program can't be compiled here.
        """
        slices = (self.slices, self.seconds, self.rate)
        numbers = (port, broker[0], self.window, self.warm_up_s, *slices, broker[1], *processes)
        with subprocess.Popen(
            [compiled(PROGRAM), *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=pinned(-1),
        ) as load:
            assert load.stdin is not None and load.stdout is not None
            load.stdin.write("\n".join((greeting.hex(), *map(self._datagram, range(self.nics)), "")))
            load.stdin.close()
            try:
                for line in load.stdout:
                    yield _outcome(line, _resident_kb(processes[0]))
            finally:
                load.kill()
        if load.returncode:
            raise RuntimeError("the load failed")

    def _datagram(self, number: int) -> str:
        """The line for one NIC: its first notification, and where the number stands that it counts up."""
        notification = Notification(device_id(number), RESOURCE, FIRST_OBSERVE, self.epoch, 60, PAYLOAD, 1.7e9)
        segments, queries = uplink_request(notification)
        pairs = [(options.URI_PATH, segment.encode()) for segment in segments]
        pairs.append((options.CONTENT_FORMAT, b"\x3c"))
        pairs += [(options.URI_QUERY, query.encode()) for query in queries]
        octets = encode_message(Message(CON, codes.POST, 0, number.to_bytes(2, "big"), tuple(pairs), PAYLOAD))
        return f"{octets.index(b'o=%d' % FIRST_OBSERVE) + 2} {octets.hex()}"


def _outcome(line: str, resident_kb: int) -> Outcome:
    seconds, acknowledged, delivered, repeated, p50, p99, load_s, broker_s, *bridge_s = map(float, line.split())
    counts = (int(acknowledged), int(delivered), int(repeated))
    return Outcome(seconds, *counts, p50, p99, sum(bridge_s), broker_s, load_s, resident_kb)


def device_id(number: int) -> DeviceId:
    """The MAC of a NIC of the load."""
    return DeviceId(f"{0x0013500500470000 + number:016x}")


def hello(client_id: str, username: str | None, password: str | None) -> bytes:
    """CONNECT and SUBSCRIBE at QoS 0 to everything of the load's tenant."""
    secret = None if password is None else password.encode()
    connect = Connect(f"{client_id}-{os.getpid()}", V311, username=username, password=secret)
    return encode(connect, V311) + encode(Subscribe(1, (TopicSubscription(f"{TENANT}/#", 0),)), V311)


def _resident_kb(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
