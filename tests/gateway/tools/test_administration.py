"""`meshwire tenant`, `device`, `client`, `audit`: against a running gateway, and on the registry itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.registry import Registry
from gateway.tools.audit import audit_app
from gateway.tools.clients import client_app
from gateway.tools.devices import device_app
from gateway.tools.errors import NotReachable, Refused, WrongInput
from gateway.tools.tenants import tenant_app
from meshwire import cli
from meshwire.identity import DeviceId, TenantId

FIRST, SECOND = "0000000000000001", "0000000000000002"
Run = Callable[..., str]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path))
    monkeypatch.setenv("MESHWIRE_HTTP", "local")
    monkeypatch.delenv("MESHWIRE_CONFIG", raising=False)
    yield tmp_path


@pytest.fixture
def run(state: Path) -> Run:
    def run(app: typer.Typer, *arguments: str, input: str | None = None) -> str:
        done = CliRunner().invoke(app, list(arguments), input=input)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def registry_of(state: Path) -> Registry:
    return Registry(state / "gateway" / "registry.db")


def test_a_tenant_with_devices(run: Run, state: Path) -> None:
    run(tenant_app, "add", "acme", "--title", "Acme")
    run(device_app, "add", "SSN0000000000000001.x.net", "--tenant", "acme", "--tag", "roof", "--domain", "x.net")
    run(device_app, "add", SECOND, "-T", "acme", "--type", "LNIC", "--disabled")
    assert "2 devices" in run(tenant_app, "list") and "Acme" in run(tenant_app, "list")
    lines = run(device_app, "list").splitlines()
    assert [line.split()[0] for line in lines] == [FIRST, SECOND] and "disabled" in lines[1]
    (line,) = run(device_app, "list", "--tag", "roof", "--json").splitlines()
    assert json.loads(line)["domain"] == "x.net"
    run(device_app, "set", FIRST, "--disable", "--tag", "")
    shown = json.loads(run(device_app, "show", FIRST))
    assert (shown["enabled"], shown["tags"], shown["domain"]) == (False, [], "x.net")
    run(tenant_app, "set", "acme", "--max-devices", "2")
    assert "2 of 2 devices" in run(tenant_app, "list")
    with pytest.raises(Refused, match="no room"):
        run(device_app, "add", "0000000000000003", "-T", "acme")
    run(tenant_app, "set", "acme", "--max-devices", "-1", "--title", "A")
    assert "2 devices" in run(tenant_app, "list")
    run(device_app, "remove", FIRST)
    assert registry_of(state).device(DeviceId(FIRST)) is None


def test_moving_is_explicit_and_logged(run: Run, state: Path) -> None:
    run(device_app, "add", FIRST, "-T", "acme")
    with pytest.raises(Refused, match="taken"):
        run(device_app, "add", FIRST, "-T", "other")
    with pytest.raises(Refused, match="no such tenant"):
        run(device_app, "move", FIRST, "--to", "other")
    run(tenant_app, "add", "other")
    run(device_app, "move", FIRST, "--to", "other")
    device = registry_of(state).device(DeviceId(FIRST))
    assert device is not None and device.tenant == TenantId("other")
    assert "device.move-out" in run(audit_app, "--tenant", "acme")
    *_, last = run(audit_app, "--json", "--action", "device.move").splitlines()
    entry = json.loads(last)
    assert entry["by"].startswith("cli:") and entry["detail"] == {"former": "acme", "tenant": "other"}
    assert len(run(audit_app, "-n", "2").splitlines()) == 2


def test_devices_in_bulk(run: Run, state: Path) -> None:
    table = "mac,tags\n" + "".join(f"{number:016x},bulk\n" for number in range(1, 2501))
    assert json.loads(run(device_app, "import", "-", "-T", "acme", input=table))["added"] == 2500
    assert len(run(device_app, "list").splitlines()) == 2500
    for form, name in (("csv", "devices.csv"), ("json", "devices.json")):
        exported = run(device_app, "export", "--format", form)
        (state / name).write_text(exported)
        assert json.loads(run(device_app, "import", str(state / name)))["changed"] == 2500
    lines = run(device_app, "list", "--json")
    assert json.loads(run(device_app, "import", "-", "--dry-run", input=lines))["changed"] == 2500
    with pytest.raises(Refused, match="line 2"):
        run(device_app, "import", "-", "-T", "acme", input="mac\nxyz\n00000000000f0000\n")
    done = run(device_app, "import", "-", "-T", "acme", "--good-rows-only", input="mac\nxyz\n00000000000f0000\n")
    assert json.loads(done) == {"added": 1, "changed": 0, "refused": 1}
    with pytest.raises(WrongInput):
        run(device_app, "import", str(state / "absent.csv"))


def test_a_client_s_life(run: Run) -> None:
    client = json.loads(run(client_app, "add", "-T", "acme"))
    assert client["clientId"] in run(client_app, "list") and client["clientSecret"] not in run(client_app, "list")
    run(client_app, "set", client["clientId"], "--role", "COMMAND_CLIENT", "--scope", "api admin")
    shown = json.loads(run(client_app, "show", client["clientId"]))
    assert (shown["roles"], shown["scope"]) == (["COMMAND_CLIENT"], "api admin")
    renewed = json.loads(run(client_app, "renew", client["clientId"]))
    assert renewed["clientSecret"] != client["clientSecret"]
    run(client_app, "remove", client["clientId"])
    with pytest.raises(Refused, match="no such client"):
        run(client_app, "show", client["clientId"])
    for app in (client_app, device_app):
        with pytest.raises(WrongInput, match="nothing to change"):
            run(app, "set", FIRST)


def test_a_gateway_that_is_named_must_answer(run: Run) -> None:
    with pytest.raises(NotReachable):
        run(device_app, "list", "--http", "http://127.0.0.1:9")


def test_verbs_of_other_components_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["tenant", "attack", "--help"]) == 0
    assert cli.main(["tenant", "list", "--help"]) == 0
