"""Any process may die: readings resume by themselves within 15 s."""

from __future__ import annotations

import time

import pytest
from back_office import PersistentSubscriber
from process_site import ProcessSite

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

MAC = "0013500500470001"
RESUME_S = 15.0
TRIES = 3
"""The pauses of the product are the same each time; those of a busy machine are not."""


def resumes(site: ProcessSite, subscriber: PersistentSubscriber, name: str) -> None:
    """Readings resume each time that `name` is killed and started again; in time, when the machine lets them."""
    took_s: list[float] = []
    while not took_s or took_s[-1] > RESUME_S:
        assert len(took_s) < TRIES, f"{name}: {took_s} s\n{site.logs()}"
        took_s.append(resumption_s(site, subscriber, name))


def resumption_s(site: ProcessSite, subscriber: PersistentSubscriber, name: str) -> float:
    """Kill `name`, start it again, and give the time until a reading has come that was sampled after that."""
    site.kill(name)
    time.sleep(1.0)
    restarted_at = time.time()
    site.start(name)

    def sampled_after() -> bool:
        texts = [bytes.fromhex(line) for line in subscriber.lines()[-3:]]
        epochs = [int(text[-18:].split(b",")[0].lstrip(b"\x01r")[-10:]) for text in texts if b"," in text]
        return any(epoch > restarted_at for epoch in epochs)

    site.wait_for(sampled_after, f"a new reading after {name} was restarted")
    assert subscriber.process.poll() is None, "mosquitto_sub has ended"
    return time.time() - restarted_at


@pytest.mark.parametrize("profile", ["standard", "milli-1.4.8"])
def test_readings_resume_whatever_process_is_restarted(site: ProcessSite, profile: str) -> None:
    site.start_servers()
    site.add_board_and_nic(MAC, "riverside", profile, "temp")
    subscriber = PersistentSubscriber(site, "riverside")
    try:
        site.wait_for(lambda: len(subscriber.lines()) >= 2, "first readings")
        for name in (f"board-{MAC}", f"nic-{MAC}", "gateway", "broker"):
            resumes(site, subscriber, name)
    finally:
        subscriber.stop()
