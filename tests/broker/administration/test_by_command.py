"""`meshwire user`, `role` and `address` with a broker that runs and without one: the same words and exit codes; and
what a running broker does about it at once.
"""

import asyncio
import importlib
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
from patience import PATIENCE_S
from process_site import ProcessSite

from broker.adapters.connection import BrokerAddress
from broker.addresses.traffic import Login, Place, request, send
from broker.administration import door
from broker.errors import SendError
from meshwire.cli import COMMANDS, main
from meshwire.site import Site
from meshwire.topics import ADDRESS_CONTROL_REPLY_TOPIC, ADDRESS_CONTROL_TOPIC

LONG = "p" * 90
"""A state folder with a longer path than a socket may have."""

SCRIPT = [
    ("user list", 0),
    ("user list --json", 0),
    ("user add desk --role OPERATOR --password-file {folder}/password", 0),
    ("user add shop --tenant acme --password-file {folder}/password", 0),
    ("user add made", 0),
    ("user add wrong --tenant a/b", 2),
    ("user add wrong --password-file {folder}/absent", 3),
    ("user set shop --role ADDRESS_SENDER --role weather", 0),
    ("user set nobody --role OPERATOR", 3),
    ("user remove desk", 0),
    ("user remove desk", 3),
    ("user list", 0),
    ("role list", 0),
    ("role add weather --subscribe {{tenantId}}/weather/# --publish {{tenantId}}/weather/+", 0),
    ("role add wide --subscribe +/weather/#", 3),
    ("role add wide --subscribe +/weather/# --password-only", 0),
    ("role add ADMIN --subscribe {{tenantId}}/#", 3),
    ("role remove wide", 0),
    ("role remove wide", 3),
    ("role remove ADMIN", 3),
    ("role list --json", 0),
    ("address list", 0),
    ("address add lost --tenant acme --type queue", 0),
    ("address add orders --tenant acme --type queue --max-ttl 3600 --dead-letter lost", 0),
    ("address add orders/more --tenant acme --type topic --filter address/+", 3),
    ("address add news --tenant acme --type multicast", 0),
    ("address add more --tenant acme --type queue", 3),
    ("address add orders --tenant acme --type queue --dead-letter lost --max-messages 9", 0),
    ("address set orders --tenant acme --min-ttl 60 --max-ttl 0", 0),
    ("address set orders --tenant acme --min-ttl 60 --max-ttl 30", 3),
    ("address set news --tenant acme --max-messages 8", 3),
    ("address set absent --tenant acme", 3),
    ("address show orders --tenant acme", 0),
    ("address show orders --tenant acme --json", 0),
    ("address show orders --tenant other", 3),
    ("address list --tenant acme", 0),
    ("address list --json", 0),
    ("address list --tenant nobody", 0),
    ("address remove lost --tenant acme", 3),
    ("address remove orders --tenant acme", 0),
    ("address remove orders --tenant acme", 3),
    ("address remove lost --tenant acme", 0),
    ("address list", 0),
]


@dataclass
class Desk:
    """Runs commands in this process on a folder of its own."""

    site: ProcessSite
    capture: pytest.CaptureFixture[str]

    @property
    def state(self) -> Site:
        return Site(Path(self.site.environment["MESHWIRE_STATE"]))

    def run(self, line: str) -> tuple[int, str, str]:
        code = main(line.format(folder=self.site.folder).split())
        told = self.capture.readouterr()
        return code, told.out, told.err.replace(str(self.site.folder), "FOLDER")

    def start(self) -> None:
        self.site.start("broker", "meshwire", "broker")
        self.site.wait_for(lambda: "broker ready" in self.site.log("broker"), "the broker is ready")

    def place(self, user: str, password: str) -> Place:
        return Place(BrokerAddress("127.0.0.1", self.site.mqtt), Login(user, password))


@pytest.fixture(autouse=True)
def patient_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.addresses.traffic.CONNECT_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str], Desk]]:
    made: list[ProcessSite] = []

    def desk(name: str) -> Desk:
        folder = tmp_path / name / LONG
        folder.mkdir(parents=True)
        site = ProcessSite(folder)
        config = folder / "meshwire.toml"
        config.write_text(config.read_text() + "[broker.plan.acme]\nmax_addresses = 3\n")
        (folder / "password").write_text("from-a-file\n")
        for key in ("MESHWIRE_STATE", "MESHWIRE_CONFIG"):
            monkeypatch.setenv(key, site.environment[key])
        made.append(site)
        return Desk(site, capsys)

    yield desk
    for site in made:
        site.stop()


def test_the_words_and_exit_codes_are_the_same_both_ways(make: Callable[[str], Desk]) -> None:
    alone = make("alone")
    without = [alone.run(line) for line, _ in SCRIPT]
    asked = make("asked")
    asked.start()
    with_broker = [asked.run(line) for line, _ in SCRIPT]
    for (line, code), one, other in zip(SCRIPT, without, with_broker, strict=True):
        assert one[0] == code, (line, one)
        if line == "user add made":
            assert len(one[1]) == len(other[1])
        else:
            assert one == other, line
    log = (asked.site.folder / "broker.log").read_text()
    changes = [line for line, code in SCRIPT if code == 0 and line.split()[1] not in ("list", "show")]
    assert log.count("administered by command") == len(changes)
    assert f'"uid": {os.getuid()}' in log
    assert "argon2id" not in log
    mode = (asked.state.state_dir / "broker" / "control.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_every_verb_of_the_three_is_in_the_script() -> None:
    verbs = {" ".join(line.split()[:2]) for line, _ in SCRIPT}
    for noun in ("user", "role", "address"):
        module, attribute = COMMANDS[noun].target.split(":")
        group = typer.main.get_command(getattr(importlib.import_module(module), attribute))
        by_mqtt = {"browse", "purge", "status"} if noun == "address" else set()
        assert {f"{noun} {verb}" for verb in group.commands} - verbs == {f"{noun} {verb}" for verb in by_mqtt}  # type: ignore[attr-defined]


def test_a_running_broker_has_done_it_when_the_command_ends(make: Callable[[str], Desk]) -> None:
    desk = make("asked")
    desk.start()

    async def post(count: int) -> None:
        bodies = [b"%d" % number for number in range(count)]
        async for _ in send(desk.place("shop", "from-a-file"), "acme/address/orders", bodies, timeout_s=PATIENCE_S):
            pass

    def listed(user: str, password: str) -> list[dict[str, object]]:
        answer = request(
            desk.place(user, password),
            ADDRESS_CONTROL_TOPIC,
            b'{"command":"list"}',
            ADDRESS_CONTROL_REPLY_TOPIC,
            timeout_s=PATIENCE_S,
        )
        return list(json.loads(asyncio.run(answer))["addresses"])

    assert desk.run("address add orders --tenant acme --type queue")[0] == 0
    assert desk.run("user add shop --tenant acme --role ADDRESS_SENDER --password-file {folder}/password")[0] == 0
    asyncio.run(post(3))
    (found,) = listed("gateway", desk.state.secret("gateway-mqtt"))
    assert (found["name"], found["stored"]) == ("orders", 3)

    assert desk.run("user set shop")[0] == 0
    with pytest.raises(SendError):
        asyncio.run(post(1))
    assert desk.run("role add seller --publish {{tenantId}}/address/orders")[0] == 0
    assert desk.run("user set shop --role seller")[0] == 0
    asyncio.run(post(1))
    assert desk.run("role remove seller")[0] == 0
    with pytest.raises(SendError):
        asyncio.run(post(1))

    code, out, told = desk.run("address remove orders --tenant acme")
    assert (code, out) == (0, "")
    assert "4 waiting messages dropped" in told
    assert listed("gateway", desk.state.secret("gateway-mqtt")) == []

    assert desk.run("user remove shop")[0] == 0
    with pytest.raises(SendError, match="refused the login"):
        asyncio.run(post(1))


def test_after_the_broker_was_killed_the_files_are_written(make: Callable[[str], Desk]) -> None:
    desk = make("killed")
    desk.start()
    assert desk.run("user add first --password-file {folder}/password")[0] == 0
    desk.site.kill("broker")
    assert (desk.state.state_dir / "broker" / "control.sock").exists()
    assert desk.run("user add second --password-file {folder}/password")[0] == 0
    assert [line.split()[0] for line in desk.run("user list")[1].splitlines()] == ["first", "gateway", "second"]


def test_a_broker_with_other_files_is_left_alone(make: Callable[[str], Desk]) -> None:
    desk = make("other")
    desk.start()
    other = desk.site.folder / "other.toml"
    other.write_text(f'[broker]\nusers_file = "{desk.site.folder}/mine.json"\n')
    assert desk.run(f"user add mine --password-file {{folder}}/password --config {other}")[0] == 0
    assert set(json.loads((desk.site.folder / "mine.json").read_text())["users"]) == {"gateway", "mine"}
    assert "mine" not in desk.run("user list")[1]


def test_commands_do_not_write_at_once(make: Callable[[str], Desk]) -> None:
    desk = make("alone")
    held = door.lock(desk.state)
    assert held is not None
    waiting = [
        subprocess.Popen(["meshwire", "role", "add", name, "--publish", "{tenantId}/x"], env=desk.site.environment)
        for name in ("one", "two", "three")
    ]
    with pytest.raises(subprocess.TimeoutExpired):
        waiting[0].wait(0.5)
    os.close(held)
    assert [process.wait(60) for process in waiting] == [0, 0, 0]
    own = [json.loads(line) for line in desk.run("role list --json")[1].splitlines()]
    assert [role["name"] for role in own if not role["built_in"]] == ["one", "three", "two"]
