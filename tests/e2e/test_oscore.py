"""Board to MQTT and back under OSCORE, by the commands that a person types; both ends die in between."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from back_office import PersistentSubscriber
from process_site import ProcessSite
from recording_relay import RecordingRelay

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(900)]

MAC = "0013500500470001"
NIC = f"nic-{MAC}"


@pytest.fixture
def relay(site: ProcessSite) -> Iterator[RecordingRelay]:
    made = RecordingRelay(site.coap)
    yield made
    made.close()


def test_readings_and_commands_under_a_key(site: ProcessSite, relay: RecordingRelay) -> None:
    config = site.folder / "meshwire.toml"
    config.write_text(config.read_text().replace("[gateway]\n", '[gateway]\nnic_oscore = "required"\n'))
    site.start_servers()
    site.add_board_and_nic(MAC, "riverside", "standard", "temp")
    subscriber = PersistentSubscriber(site, "riverside")
    get = ["meshwire", "coap", "get", MAC, "snsr/arduino/temp?sens", "--token", site.token("riverside")]

    def resumes(when: str) -> None:
        seen = len(subscriber.lines())
        site.wait_for(lambda: len(subscriber.lines()) > seen, f"readings {when}")
        site.wait_for(lambda: site.attempt(*get).returncode == 0, f"a command {when}")

    try:
        site.wait_for(lambda: "oscore-required" in explained(site), "plain readings are refused")
        assert not subscriber.lines()

        site.meshwire("device", "provision", MAC, "--out", "first.json")
        assert (site.folder / "first.json").stat().st_mode & 0o777 == 0o600
        restart_nic(site, relay, "first.json")
        resumes("under the key")
        for name in (NIC, "gateway"):
            site.kill(name)
            site.start(name)
            site.await_servers()
            resumes(f"after {name} died")

        relay.send_again(relay.requests[-3], 0x7777)
        site.wait_for(lambda: "oscore-replay" in explained(site), "a replay is refused")

        site.meshwire("device", "provision", MAC, "--out", "second.json", "--renew")
        site.wait_for(lambda: "oscore-wrong-key" in explained(site), "the former key is refused")
        reasons = json.dumps(site.status()["counters"])
        assert "oscore-wrong-key" in reasons and "oscore-replay" in reasons
        restart_nic(site, relay, "second.json")
        resumes("under the new key")
        clear = b"".join(relay.requests)
        assert b"bubble-up" not in clear and MAC.encode() not in clear and b"arduino" not in clear
    finally:
        subscriber.stop()


def restart_nic(site: ProcessSite, relay: RecordingRelay, key: str) -> None:
    """With another key, and through the relay."""
    site.kill(NIC)
    command = [
        part if not part.startswith("coap://") else f"coap://127.0.0.1:{relay.port}" for part in site.commands[NIC]
    ]
    if "--oscore-key" in command:
        del command[command.index("--oscore-key") :]
    site.commands[NIC] = [*command, "--oscore-key", str(site.folder / key)]
    site.start(NIC)


def explained(site: ProcessSite) -> str:
    return site.attempt("meshwire", "explain", MAC).stdout
