"""Commands on a site of real processes: foreign clients by all three ways, and a gateway that is killed meanwhile."""

from __future__ import annotations

import asyncio
import collections
import http.client
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from process_site import ProcessSite
from udp_nic import Manner, UdpNic

pytestmark = [pytest.mark.server, pytest.mark.timeout(500)]

MAC = "0013500500470001"
DOMAIN = "SG.YEL01.SSN.SSNSGS.NET"


class Listener:
    """mosquitto_sub on a tenant's response topics, with a session that the broker keeps."""

    def __init__(self, site: ProcessSite, token: str) -> None:
        self.out: Path = site.folder / "events"
        where = ["-h", "127.0.0.1", "-p", str(site.mqtt), "-u", "notused", "-P", token]
        command = ["mosquitto_sub", *where, "-i", "listener", "-c", "-q", "1", "-t", "riverside/cmd/+/res/+", "-v"]
        with self.out.open("ab") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        lines = self.out.read_text().splitlines(keepends=True)
        pairs = [line.split(" ", 1) for line in lines if line.endswith("\n")]
        return [(topic, json.loads(text)) for topic, text in pairs]

    def kinds(self, id: str) -> list[str]:
        return [event["event"] for _, event in self.events() if event["id"] == id]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)


@pytest.fixture
def listener(site: ProcessSite) -> Iterator[Listener]:
    for program in ("mosquitto_sub", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    site.environment["MESHWIRE__GATEWAY__PROXY__TIMEOUT_S"] = "5"
    site.start_servers()
    listener = Listener(site, site.token("riverside"))
    yield listener
    listener.stop()


def test_a_stored_command_by_each_way_to_a_board_that_comes_later(site: ProcessSite, listener: Listener) -> None:
    site.meshwire("device", "add", MAC, "--tenant", "riverside")
    token, stranger = site.token("riverside"), site.token("hilltop")
    target = "snsr/arduino/temp?cfg="

    def publish(token: str, tenant: str, id: str, **order: Any) -> None:
        where = ["-h", "127.0.0.1", "-p", str(site.mqtt), "-u", "notused", "-P", token, "-V", "mqttv5", "-q", "1"]
        asked = ["-D", "publish", "response-topic", f"{tenant}/cmd/app/res/inbox"]
        asked += ["-D", "publish", "correlation-data", "c-1", "-D", "publish", "message-expiry-interval", "100"]
        topic = f"{tenant}/cmd/{MAC}/req/{id}"
        site.attempt("mosquitto_pub", *where, *asked, "-t", topic, "-m", json.dumps(order))

    # The gateway hears orders once it has subscribed; publishing one again does nothing.
    def accepted() -> bool:
        publish(token, "riverside", "by-mqtt", method="PUT", path=f"{target}C", mode="stored")
        return "accepted" in listener.kinds("by-mqtt")

    site.wait_for(accepted, "an order by MQTT")
    place = f"http://127.0.0.1:{site.http}/api/solutions/x/devices/{MAC}/commands"
    order = {"method": "PUT", "path": f"{target}F", "mode": "stored", "ttl": 100, "id": "by-http"}
    headers = ["-H", f"Authorization: {token}", "-H", "Content-Type: application/json"]
    ordered = site.attempt("curl", "-sf", *headers, "-d", json.dumps(order), place)
    assert json.loads(ordered.stdout)["position"] == 1, ordered.stdout
    proxy = f"coap://127.0.0.1:{site.coap}"
    uri = f"coap://SSN{MAC}.{DOMAIN}:4849/{target}C&mode=stored&ttl=100&access_token="
    by_coap = site.attempt("aiocoap-client", "--proxy", proxy, "-m", "PUT", uri + token)
    coap_id = json.loads(by_coap.stdout)["id"]
    by_shell = site.meshwire("command", "send", MAC, "GET", f"{target[:-1]}", "--stored", "--ttl", "100", "--json")
    shell_id = json.loads(by_shell)["id"]
    # Of the other tenant nobody gets anywhere, and hears nothing.
    publish(stranger, "riverside", "foreign", method="PUT", path=f"{target}C", mode="stored")
    publish(stranger, "hilltop", "foreign", method="PUT", path=f"{target}C", mode="stored")
    assert "4.04" in site.attempt("aiocoap-client", "--proxy", proxy, "-m", "PUT", uri + stranger).stderr

    listed = [json.loads(line) for line in site.meshwire("command", "list", MAC, "--json").splitlines()]
    assert [each["id"] for each in listed] == ["by-mqtt", "by-http", coap_id, shell_id]
    assert [each["by"]["via"] for each in listed] == ["mqtt", "http", "coap", "http"]

    # It dies before the device is there, and has them all when it is back.
    site.kill("gateway")
    site.start("gateway")
    site.await_servers()
    site.add_board_and_nic(MAC, "riverside", "standard", "temp")
    for id in ("by-mqtt", "by-http", coap_id, shell_id):
        site.wait_for(lambda id=id: "answered" in listener.kinds(id), f"{id} is answered", 90)  # type: ignore[misc]
        events = {event["number"]: event for _, event in listener.events() if event["id"] == id}
        assert [events[number]["event"] for number in sorted(events)][:3] == ["accepted", "queued", "sent"]
        assert events[max(events)]["success"] and sorted(events) == list(range(1, max(events) + 1))
    inbox = [event for topic, event in listener.events() if topic == "riverside/cmd/app/res/inbox"]
    assert {event["id"] for event in inbox} == {"by-mqtt"}
    assert not listener.kinds("foreign")
    assert b",C".hex() in site.meshwire("command", "show", MAC, shell_id), "the last setting holds"
    # A direct one, now that the device is there; and one that the device refuses.
    done = site.meshwire("command", "send", MAC, "GET", "snsr/arduino/temp?sens", "--wait", "30", "--json")
    assert json.loads(done)["result"]["code"] == "2.05"
    wrong = site.attempt("meshwire", "command", "send", MAC, "GET", "snsr/arduino/nothing", "--wait", "30")
    assert wrong.returncode == 6 and "4.04" in wrong.stderr, wrong.stderr


@pytest.mark.slow
@pytest.mark.timeout(800)
@pytest.mark.parametrize("count", [1000])
def test_stored_commands_to_devices_that_come_and_go_while_the_gateway_is_killed(
    site: ProcessSite, listener: Listener, count: int
) -> None:
    """On real UDP: none executed after its time, none twice, every one has one final event at the subscriber."""
    asyncio.run(come_and_go(site, listener, count))


async def come_and_go(site: ProcessSite, listener: Listener, count: int) -> None:
    dice = random.Random(count)
    macs = [f"00135005{number:08x}" for number in range(0x2001, 0x200D)]
    rows = "mac,tenant\n" + "".join(f"{mac},riverside\n" for mac in macs)
    (site.folder / "devices.csv").write_text(rows)
    site.meshwire("device", "import", str(site.folder / "devices.csv"))
    token = site.token("riverside")
    nics = {mac: UdpNic() for mac in macs}
    for nic in nics.values():
        await nic.open()
    stop = asyncio.Event()

    async def weather() -> None:
        """Devices are there, deaf, or gone; who is there says so."""
        rare = [Manner.SEPARATE, Manner.LATER, Manner.DEAF, Manner.ACKNOWLEDGE, Manner.GONE, Manner.GONE]
        manners = [*[Manner.ANSWER] * 5, *rare]
        while not stop.is_set():
            for mac, nic in nics.items():
                if dice.random() < 0.1:
                    nic.manner = dice.choice(manners)
                if nic.manner is not Manner.GONE and dice.random() < 0.5:
                    nic.register(mac, site.coap)
            await asyncio.sleep(0.1)

    blowing = asyncio.create_task(weather())
    expires: dict[str, float] = {}
    kills = 3 if count >= 1000 else 1
    for part in range(kills + 1):
        share = count // (kills + 1)
        expires |= await asyncio.to_thread(submit, site, token, macs, range(part * share, (part + 1) * share), part)
        if part < kills:
            await asyncio.sleep(dice.random())
            await asyncio.to_thread(site.kill, "gateway")
            site.start("gateway")
            await asyncio.to_thread(site.await_servers)
    assert len(expires) >= count // (kills + 1) * (kills + 1)

    def finals() -> dict[str, set[tuple[int, str]]]:
        found: dict[str, set[tuple[int, str]]] = collections.defaultdict(set)
        for _, event in listener.events():
            if event["final"]:
                found[event["id"]].add((event["number"], event["event"]))
        return found

    # The longest life is 8 s; an answer may be waited for 5 s more.
    await asyncio.to_thread(site.wait_for, lambda: finals().keys() >= expires.keys(), "final events", 90)
    stop.set()
    await blowing
    ends = finals()
    executed: dict[str, list[float]] = collections.defaultdict(list)
    for nic in nics.values():
        nic.close()
        for message, at_s in nic.executed:
            executed[message.payload.decode()].append(at_s)
    kinds: dict[str, int] = collections.Counter()
    for id, expires_s in expires.items():
        assert len(ends[id]) == 1, (id, ends[id])
        ((_, kind),) = ends[id]
        kinds[kind] += 1
        times = executed[id]
        assert len(times) <= 1, f"{id} was executed {len(times)} times"
        # What left in time may have been read a little later here.
        assert all(at_s < expires_s + 1.0 for at_s in times), (id, times, expires_s)
        assert (kind == "answered") <= bool(times), id
        assert (kind in ("expired", "failed", "cancelled")) <= (not times), (id, kind, times)
    print(f"{count} commands, {kills} kills: {dict(kinds)}")
    assert kinds["answered"] and kinds["expired"]


def submit(site: ProcessSite, token: str, macs: list[str], numbers: range, part: int) -> dict[str, float]:
    """Order by HTTP, one connection; gives when each expires."""
    dice = random.Random(part)
    connection = http.client.HTTPConnection("127.0.0.1", site.http, timeout=PATIENCE_S)
    headers = {"Authorization": token, "Content-Type": "application/json"}
    expires = {}
    for number in numbers:
        id = f"n{number}"
        order = {"method": "PUT", "path": f"r{number}", "payload": id, "mode": "stored", "id": id}
        path = f"/api/solutions/x/devices/{dice.choice(macs)}/commands"
        connection.request("POST", path, json.dumps(order | {"ttl": dice.choice([1, 2, 4, 8])}), headers)
        response = connection.getresponse()
        document = json.loads(response.read())
        assert response.status in (200, 202), document
        expires[id] = document["expires"]
    connection.close()
    return expires
