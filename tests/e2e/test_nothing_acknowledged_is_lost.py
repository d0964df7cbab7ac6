"""Processes die by SIGKILL and connections are cut, under load; what a NIC was told is stored arrives all the same.

At QoS 1 nothing acknowledged to a NIC is missing at a back office whose session the broker keeps. At QoS 2 nothing
comes twice, either.
"""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from back_office import PersistentSubscriber
from cutting_proxy import CuttingProxy
from process_site import ProcessSite

from meshwire.coap import CON, Message, MessageError, decode, encode
from meshwire.coap.codes import CHANGED, POST
from meshwire.coap.options import URI_PATH, URI_QUERY
from meshwire.identity import DeviceId
from meshwire.notification import Notification, uplink_request

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

MACS = [DeviceId(f"{0x0013500500470001 + number:016x}") for number in range(3)]


class Feeder:
    """A NIC reduced to its uplink: posts numbered notifications and remembers which were answered 2.04.

    Args:
        port: of the gateway.
        mac: provisioned.
        first: its numbers count up from here.
    """

    def __init__(self, port: int, mac: DeviceId, first: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(0.3)
        self.acknowledged: list[int] = []
        self._mac = mac
        self._numbers = itertools.count(first)
        self._mid = 0

    def post(self) -> bool:
        """The next one, confirmable, sent at most twice; whether it was acknowledged."""
        number = next(self._numbers)
        notification = Notification(
            self._mac, "snsr/arduino/temp", number & 0xFFFFFF, 1, 60, b"%08d" % number, time.time()
        )
        path, query = uplink_request(notification)
        options = [(URI_PATH, part.encode()) for part in path] + [(URI_QUERY, part.encode()) for part in query]
        self._mid = (self._mid + 1) & 0xFFFF
        octets = encode(Message(CON, POST, self._mid, b"t", tuple(options), notification.payload))
        for _ in range(2):
            try:
                self.socket.send(octets)
                answer = decode(self.socket.recv(2048))
                while answer.mid != self._mid:
                    answer = decode(self.socket.recv(2048))
            except (OSError, MessageError):
                time.sleep(0.05)
                continue
            if answer.code == CHANGED:
                self.acknowledged.append(number)
                return True
        return False


class Load:
    """Several feeders, each on its thread, as long as the block runs."""

    def __init__(self, feeders: Sequence[Feeder]) -> None:
        self._feeders = feeders
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._feed, args=(feeder,)) for feeder in feeders]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _feed(self, feeder: Feeder) -> None:
        while not self._stop.is_set():
            feeder.post()
            # A pause of its own for each, so that a slow machine is not asked for more than it can deliver.
            self._stop.wait(0.002)

    @property
    def acknowledged(self) -> int:
        return sum(len(feeder.acknowledged) for feeder in self._feeders)


def warm_up(site: ProcessSite, feeder: Feeder, back_office: PersistentSubscriber) -> None:
    """Post until the subscription stands; what was published before it had no subscriber and does not count."""
    site.wait_for(lambda: feeder.post() and bool(back_office.lines()), "the first one arrives")
    feeder.acknowledged.clear()


ALL = ("gateway", "broker", "connection")
WITHOUT_BROKER = ("gateway", "connection")


def run_rounds(
    site: ProcessSite, qos: int, victims: Sequence[str], rounds: int, per_round: int, workers: int = 1
) -> None:
    """In each round one of `victims` in turn breaks while the load goes on."""
    proxy = CuttingProxy(site.mqtt)
    site.bridge_settings = {
        "MESHWIRE__GATEWAY__BRIDGE__PORT": str(proxy.port),
        "MESHWIRE__GATEWAY__BRIDGE__DEFAULT_MESSAGE_QOS": ("AT_MOST_ONCE", "AT_LEAST_ONCE", "EXACTLY_ONCE")[qos],
        "MESHWIRE__GATEWAY__BRIDGE__WORKERS": str(workers),
    }
    site.start_servers()
    for mac in MACS:
        site.meshwire("device", "add", str(mac), "--tenant", "riverside")
    back_office = PersistentSubscriber(site, "riverside", qos)
    feeders = [Feeder(site.coap, mac, 10_000_000 * place) for place, mac in enumerate(MACS, 1)]
    chance = random.Random(5)
    try:
        warm_up(site, feeders[0], back_office)
        with Load(feeders) as load:
            for number in range(rounds):
                before = load.acknowledged
                site.wait_for(lambda b=before: load.acknowledged - b >= per_round // 2, "the load runs")  # type: ignore[misc]
                time.sleep(chance.random() * 0.1)
                match victims[number % len(victims)]:
                    case "connection":
                        for _ in range(3):
                            proxy.cut()
                            time.sleep(chance.random() * 0.3)
                    case victim:
                        site.kill(victim)
                        site.start(victim)
                site.wait_for(lambda b=before: load.acknowledged - b >= per_round, "the load goes on")  # type: ignore[misc]
        acknowledged = {number for feeder in feeders for number in feeder.acknowledged}

        def missing() -> set[int]:
            return acknowledged - {int(bytes.fromhex(line)) for line in back_office.lines()}

        site.wait_for(lambda: not missing(), f"all of {len(acknowledged)} acknowledged")
        assert len(acknowledged) >= rounds * per_round
        if qos == 2:
            twice = [line for line, times in Counter(back_office.lines()).items() if times > 1]
            assert not twice, f"{len(twice)} came twice, such as {bytes.fromhex(twice[0])!r}\n{site.logs()}"
    finally:
        back_office.stop()
        proxy.close()


@pytest.mark.parametrize(("qos", "victims"), [(1, ALL), (2, WITHOUT_BROKER)])
def test_nothing_acknowledged_is_lost(site: ProcessSite, qos: int, victims: Sequence[str]) -> None:
    run_rounds(site, qos, victims, rounds=3, per_round=50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("qos", "victims", "workers"), [(1, ALL, 1), (2, WITHOUT_BROKER, 1), (2, ALL, 1), (1, ALL, 2)])
def test_nothing_acknowledged_is_lost_in_a_hundred_rounds(
    site: ProcessSite, qos: int, victims: Sequence[str], workers: int
) -> None:
    run_rounds(site, qos, victims, rounds=100, per_round=150, workers=workers)
