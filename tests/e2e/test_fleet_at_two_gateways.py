"""Simulated NICs and a NIC with a board of its own in one network, their work shared by two gateways at one broker."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from free_ports import free_port
from patience import PATIENCE_S
from process_site import BIN, ProcessSite, is_open

REAL = "00135005f1000001"
NICS = 30


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ProcessSite]:
    site = ProcessSite(tmp_path)
    try:
        yield site
    finally:
        site.stop()


def start_second_gateway(site: ProcessSite) -> tuple[int, dict[str, str]]:
    """Another state folder, the same broker; gives its CoAP port and the environment of its administrator."""
    coap, http = free_port(socket.SOCK_DGRAM), free_port()
    config = site.folder / "second.toml"
    config.write_text(
        f'[gateway]\nport = {coap}\nhttp = "127.0.0.1:{http}"\n'
        f"[gateway.bridge]\nport = {site.mqtt}\nclient_number = 2\n"
        f'password_file = "{site.folder / "site" / "secrets" / "gateway-mqtt"}"\n'
    )
    environment = site.environment | {
        "MESHWIRE_STATE": str(site.folder / "second"),
        "MESHWIRE_CONFIG": str(config),
        "MESHWIRE_HTTP": f"http://127.0.0.1:{http}",
    }
    with (site.folder / "second.log").open("ab") as log:
        site.processes["second"] = subprocess.Popen(
            [str(BIN / "meshwire"), "gateway"], env=environment, cwd=site.folder, stdout=log, stderr=log
        )
    site.wait_for(lambda: is_open(http), "the second gateway serves")
    return coap, environment


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_reading_arrives_once_whichever_gateway_took_it(site: ProcessSite) -> None:
    site.start_servers()
    second, its_environment = start_second_gateway(site)
    devices = str(site.folder / "devices.csv")
    site.meshwire("fleet", "--nics", str(NICS), "--write-import", devices, "--tenant", "acme")
    site.meshwire("device", "import", devices)
    command = [str(BIN / "meshwire"), "device", "import", devices]
    subprocess.run(command, env=its_environment, cwd=site.folder, check=True, capture_output=True, timeout=PATIENCE_S)
    token = site.token("acme")
    subscribe = [
        "meshwire",
        "mqtt",
        "sub",
        "-p",
        str(site.mqtt),
        "-u",
        "notused",
        "-P",
        token,
        "-t",
        "acme/read/#",
        "-q",
        "1",
        "--json",
    ]
    site.start("subscriber", *subscribe)
    site.add_board_and_nic(REAL, "acme", "standard", "temp")
    log = site.folder / "subscriber.log"
    site.wait_for(lambda: REAL in log.read_text(), "the real board's reading")
    gateways = ["--gateway", f"coap://127.0.0.1:{site.coap}", "--gateway", f"coap://127.0.0.1:{second}"]
    fleet = ["fleet", "--nics", str(NICS), "--period", "1", "--for", "4", "--json", *gateways]
    said = site.meshwire(*fleet, timeout=2 * PATIENCE_S)
    last = json.loads(said.splitlines()[-1])
    assert last["dropped"] == 0 and last["taken"] >= 2 * NICS

    def topics() -> list[str]:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [line["topic"] + str(line["payload"]) for line in lines if "00135005f0" in line["topic"]]

    site.wait_for(lambda: len(topics()) >= last["taken"], "all readings")
    assert len(set(topics())) == len(topics()), "nothing was published twice"
    assert len({topic.split("/")[2] for topic in topics()}) == NICS
    for name in ("gateway", "second"):
        assert site.processes[name].poll() is None
    stored = site.status()["counters"]
    assert isinstance(stored, dict) and 0 < stored["stored"] < last["taken"] + 60, "the other one has had its share"
