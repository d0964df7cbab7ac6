"""Processes die by SIGKILL under load; what a NIC was told is stored arrives at a back office all the same."""

from __future__ import annotations

import random
import socket
import time

import pytest
from back_office import PersistentSubscriber
from process_site import ProcessSite, wait_for

from meshwire.coap import CON, Message, MessageError, decode, encode
from meshwire.coap.codes import CHANGED, POST
from meshwire.coap.options import URI_PATH, URI_QUERY
from meshwire.identity import DeviceId
from meshwire.notification import Notification, uplink_request

pytestmark = [pytest.mark.server, pytest.mark.timeout(240)]

MAC = DeviceId("0013500500470001")


class Feeder:
    """A NIC reduced to its uplink: posts numbered notifications and remembers which were answered 2.04."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(0.3)
        self.acknowledged: list[int] = []
        self.mid = 0

    def post(self, number: int) -> bool:
        """One confirmable POST, sent at most twice; whether it was acknowledged."""
        notification = Notification(MAC, "snsr/arduino/temp", number, 1, 60, b"%08d" % number, time.time())
        path, query = uplink_request(notification)
        options = [(URI_PATH, part.encode()) for part in path] + [(URI_QUERY, part.encode()) for part in query]
        self.mid = (self.mid + 1) & 0xFFFF
        octets = encode(Message(CON, POST, self.mid, b"t", tuple(options), notification.payload))
        for _ in range(2):
            try:
                self.socket.send(octets)
                answer = decode(self.socket.recv(2048))
            except (OSError, MessageError):
                time.sleep(0.05)
                continue
            if answer.mid == self.mid and answer.code == CHANGED:
                self.acknowledged.append(number)
                return True
        return False


def warm_up(feeder: Feeder, back_office: PersistentSubscriber) -> int:
    """Post until the subscription stands; what was published before it had no subscriber and does not count."""
    numbers = iter(range(1, 1000))
    wait_for(lambda: feeder.post(next(numbers)) and bool(back_office.lines()), 15, "the first one arrives")
    feeder.acknowledged.clear()
    return 1000


def run_rounds(site: ProcessSite, rounds: int, per_round: int) -> None:
    site.start_servers()
    site.meshwire("device", "add", str(MAC), "--tenant", "riverside")
    back_office = PersistentSubscriber(site, "riverside")
    feeder, chance = Feeder(site.coap), random.Random(5)
    try:
        number = warm_up(feeder, back_office)
        for _ in range(rounds):
            victim = chance.choice(["gateway", "broker"])
            dies_at = chance.randrange(per_round)
            for step in range(per_round):
                number += 1
                feeder.post(number)
                if step == dies_at:
                    site.kill(victim)
                    site.start(victim)
            wait_for(lambda n=number: feeder.post(n), 15, "the gateway takes data again")  # type: ignore[misc]

        def missing() -> set[int]:
            return set(feeder.acknowledged) - {int(bytes.fromhex(line)) for line in back_office.lines()}

        wait_for(lambda: not missing(), 30, f"all of {len(feeder.acknowledged)} acknowledged\n{site.logs()}")
    finally:
        back_office.stop()


def test_nothing_acknowledged_is_lost(site: ProcessSite) -> None:
    run_rounds(site, rounds=4, per_round=150)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_acknowledged_is_lost_in_a_hundred_rounds(site: ProcessSite) -> None:
    run_rounds(site, rounds=100, per_round=150)
