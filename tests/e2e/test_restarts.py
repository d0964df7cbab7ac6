"""Any process may die: readings resume by themselves within 15 s, and nothing acknowledged is lost."""

from __future__ import annotations

import time

import pytest
from back_office import PersistentSubscriber
from process_site import ProcessSite, wait_for

pytestmark = [pytest.mark.server, pytest.mark.timeout(240)]

MAC = "0013500500470001"
RESUME_S = 15.0


def resumes(site: ProcessSite, subscriber: PersistentSubscriber, name: str) -> None:
    """Kill `name`, start it again, and see a reading that was sampled after that."""
    site.kill(name)
    time.sleep(1.0)
    restarted_at = time.time()
    site.start(name)

    def sampled_after() -> bool:
        texts = [bytes.fromhex(line) for line in subscriber.lines()[-3:]]
        epochs = [int(text[-18:].split(b",")[0].lstrip(b"\x01r")[-10:]) for text in texts if b"," in text]
        return any(epoch > restarted_at for epoch in epochs)

    wait_for(sampled_after, RESUME_S + 1, f"a new reading after {name} was restarted\n{site.logs()}")
    assert subscriber.process.poll() is None, "mosquitto_sub has ended"


@pytest.mark.parametrize("profile", ["standard", "milli-1.4.8"])
def test_readings_resume_whatever_process_is_restarted(site: ProcessSite, profile: str) -> None:
    site.start_servers()
    site.add_board_and_nic(MAC, "riverside", profile, "temp")
    subscriber = PersistentSubscriber(site, "riverside")
    try:
        wait_for(lambda: len(subscriber.lines()) >= 2, 30, f"first readings\n{site.logs()}")
        for name in (f"board-{MAC}", f"nic-{MAC}", "gateway", "broker"):
            resumes(site, subscriber, name)
    finally:
        subscriber.stop()
