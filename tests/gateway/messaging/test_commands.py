"""`meshwire account`, `instance`, `endpoint` on the registry itself."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.tools.devices import device_app
from gateway.tools.errors import Refused, WrongInput
from gateway.tools.messaging import account_app, endpoint_app, instance_app
from meshwire import cli
from meshwire.site import Site

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path))
    monkeypatch.setenv("MESHWIRE_HTTP", "local")
    monkeypatch.delenv("MESHWIRE_CONFIG", raising=False)

    def run(app: typer.Typer, *arguments: str, input: str | None = None) -> str:
        done = CliRunner().invoke(app, list(arguments), input=input)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    yield run


def announce(folder: Path, name: str, *listeners: str, options: Sequence[str] = ("plain",)) -> None:
    said = {"instance": name, "node": "one", "engine": "embedded", "started": 0, "at": time.time()}
    kinds = [listener.split() for listener in listeners or ("mqtt 127.0.0.1",)]
    places = [{"kind": kind, "host": host, "port": 1883} for kind, host in kinds]
    path = Site(folder).path("messaging", "instances", f"{name}@one.json")
    path.write_text(json.dumps({**said, "options": list(options), "listeners": places}))


@pytest.mark.parametrize("asked", [True, False])
def test_the_way_to_a_new_account(run: Run, tmp_path: Path, asked: bool) -> None:
    with pytest.raises(Refused, match="no messaging service instance"):
        run(account_app, "new", "acme", "--batch")
    assert run(account_app, "list").split() == ["ssni", "not", "assigned"]
    if asked:
        run(account_app, "add", "acme")  # an account that is there already is taken further
    announce(tmp_path, "main")
    if asked:
        line = run(account_app, "new", "acme", input="main\nplain\nmqtt://broker.example.net:1883\n")
    else:
        line = run(account_app, "new", "acme", "--endpoint", "mqtt://broker.example.net:1883", "--batch")
    made = json.loads(line.splitlines()[-1])
    assert (made["account"], made["instance"], made["options"]) == ("acme", "main", ["plain"])
    assert made["endpoint"] == "mqtt://broker.example.net:1883" and made["clientSecret"]
    shown = json.loads(run(account_app, "show", "acme"))
    assert shown["instance"] == "main" and shown["endpoints"][0]["url"] == made["endpoint"]


@pytest.mark.parametrize(
    ("listeners", "option", "endpoint"),
    [
        (["mqtt 127.0.0.1", "mqtts broker.example.net"], "tls", "mqtts://broker.example.net:1883"),
        (["wss b.example.net", "mqtts ::1"], "tls", "wss://b.example.net:1883"),
        (["ws b.example.net", "mqtt b.example.net"], "plain", "mqtt://b.example.net:1883"),
        (["mqtt 0.0.0.0"], "plain", f"mqtt://{socket.gethostname()}:1883"),
        (["mqtt 127.0.0.1"], "mutual", ""),
    ],
)
def test_the_way_offers_an_endpoint_that_the_account_may_use(
    run: Run, tmp_path: Path, listeners: list[str], option: str, endpoint: str
) -> None:
    announce(tmp_path, "main", *listeners, options=["plain", "tls", "mutual"])
    line = run(account_app, "new", "acme", "--option", option, "--batch")
    assert json.loads(line.splitlines()[-1])["endpoint"] == endpoint


def test_the_way_makes_nothing_when_it_can_not_be_gone(run: Run, tmp_path: Path) -> None:
    announce(tmp_path, "main")
    with pytest.raises(WrongInput, match="not an endpoint"):
        run(account_app, "new", "acme", "--endpoint", "broker.example.net", "--batch")
    assert "acme" not in run(account_app, "list")
    with pytest.raises(WrongInput, match="not a connection option; seen: 'ssl'"):
        run(account_app, "new", "acme", input="Acme\nmain\nssl\n")


def test_what_there_is_not_is_told_by_its_code(run: Run, tmp_path: Path) -> None:
    announce(tmp_path, "main")
    run(account_app, "add", "acme")
    endpoint = json.loads(run(endpoint_app, "add", "acme", "mqtt://b.example.net:1883"))["id"]
    for arguments in (["assign", "acme", "nowhere"], ["assign", "nobody", "main"]):
        with pytest.raises(Refused) as caught:
            run(account_app, *arguments)
        assert caught.value.code == "MW-MSG-002"
    with pytest.raises(Refused, match="see `meshwire instance list`") as caught:
        run(instance_app, "describe", "nowhere")
    assert caught.value.code == "MW-MSG-002"
    with pytest.raises(Refused, match="'a b' is neither an IP address nor the name of a host"):
        run(endpoint_app, "publish", endpoint, "--address", "a b")


def test_accounts_instances_and_endpoints(run: Run, tmp_path: Path) -> None:
    announce(tmp_path, "main")
    assert "running" in run(instance_app, "list")
    run(instance_app, "add", "rabbit", "--engine", "rabbitmq", "--tls", "--option", "plain", "--option", "tls")
    run(instance_app, "set", "rabbit", "--title", "Rabbit")
    assert json.loads(run(instance_app, "describe", "rabbit"))["title"] == "Rabbit"
    run(account_app, "add", "acme")
    run(account_app, "add", "acme-east", "--parent", "acme")
    run(account_app, "assign", "acme", "rabbit")
    run(account_app, "connections", "acme", "--option", "tls")
    lines = run(account_app, "list").splitlines()
    assert [line.split()[:2] for line in lines] == [["ssni", "not"], ["acme", "rabbit"], ["acme-east", "rabbit"]]
    assert "(inherited)  tls" in lines[2]
    run(account_app, "connections", "acme", "--inherit")
    with pytest.raises(WrongInput):
        run(account_app, "connections", "acme")
    with pytest.raises(Refused, match="inherits"):
        run(account_app, "unassign", "acme-east")
    run(account_app, "unassign", "acme")
    run(instance_app, "remove", "rabbit")

    endpoint = json.loads(run(endpoint_app, "add", "acme", "mqtt://b.example.net:1883"))["id"]
    assert "b.example.net" in run(endpoint_app, "list", "--account", "acme-east")
    records = run(endpoint_app, "publish", endpoint, "--address", "10.0.0.1")
    assert records.startswith("b.example.net. 300 IN A 10.0.0.1")
    run(device_app, "add", "0000000000000001", "-T", "acme")
    with pytest.raises(Refused, match="in use; seen: account acme: 1 device;") as caught:
        run(endpoint_app, "remove", endpoint)
    assert caught.value.code == "MW-MSG-003"
    run(endpoint_app, "set", endpoint, "mqtts://b.example.net:8883", "--yes")
    run(endpoint_app, "remove", endpoint, "--yes")
    with pytest.raises(WrongInput, match="not an endpoint"):
        run(endpoint_app, "add", "acme", "b.example.net:1883")


def test_verbs_of_the_broker_stay_where_they_are() -> None:
    for verb in ("show", "check", "generate", "trial", "list", "add"):
        assert cli.main(["instance", verb, "--help"]) == 0
