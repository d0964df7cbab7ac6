"""The commands: alias, trigger, package, truststore, keystore; and what an export carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.certificates import TrialAuthority
from meshwire.cli import main
from meshwire.identity import TenantId


class Shell:
    """Runs `meshwire …` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object, code: int = 0) -> tuple[str, str]:
        self._capsys.readouterr()
        result = main([str(part) for part in arguments])
        said = self._capsys.readouterr()
        assert result == code, said
        return said.out, said.err

    def json(self, *arguments: object) -> Any:
        return json.loads(self(*arguments)[0])


@pytest.fixture
def sh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("MESHWIRE_HTTP", raising=False)
    monkeypatch.delenv("MESHWIRE_CONFIG", raising=False)
    return Shell(capsys)


def test_an_alias_is_saved_shown_changed_enabled_and_removed(sh: Shell) -> None:
    rule = "tenant=acme,type=nc*,topic=plant/{mac},qos=2"
    sh("alias", "add", "plant", "tcp://broker.example:1883", "keep_alive_s=0", "--publish", rule)
    shown = sh.json("alias", "show", "plant")
    assert (shown["keep_alive_s"], shown["enabled"], shown["live"]) == (0, False, None)
    assert shown["publish"][0]["topic"] == "plant/{mac}" and shown["publish"][0]["qos"] == 2
    sh("alias", "set", "plant", "description=north hall", "will_enabled=true", "will_topic=state")
    sh("alias", "enable", "plant")
    (listed,) = [json.loads(line) for line in sh("alias", "list", "--json")[0].splitlines()]
    assert (listed["enabled"], listed["description"], listed["origin"]) == (True, "north hall", "store")
    sh("alias", "disable", "plant")
    assert "disabled" in sh("alias", "list")[0]
    sh("alias", "remove", "plant")
    assert sh("alias", "list")[0] == ""
    assert "MW-ALI-002" in sh("alias", "show", "plant", code=5)[1]


def test_what_does_not_fit_is_told_by_field(sh: Shell) -> None:
    said = sh("alias", "add", "plant", "ssl://broker", "will_qos=7", code=3)[1]
    assert "will_qos" in said
    said = sh("alias", "add", "plant", "ssl://broker", "will_enabled=true", code=3)[1]
    assert "host:" in said and "will_topic:" in said and "MW-ALI-001" in said
    assert "FIELD=VALUE" in sh("alias", "add", "plant", "tcp://b:1", "colour", code=2)[1]


def test_no_password_on_the_command_line(sh: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    said = sh("alias", "add", "plant", "tcp://b:1", "username=u", "password=s3cret", code=2)[1]
    assert "s3cret" not in said and "--password-stdin" in said
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO("s3cret\n"))
    sh("alias", "add", "plant", "tcp://b:1", "username=u", "--password-stdin")
    for output in (sh("alias", "show", "plant"), sh("alias", "list", "--json"), sh("alias", "export")):
        assert "s3cret" not in "".join(output)


def test_the_configuration_file_is_seen(sh: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "site.toml"
    config.write_text(
        '[[gateway.alias]]\nname = "plant"\nhost = "tcp://b:1"\nusername = "u"\npassword = "s3cret"\n'
        'publish = [{ tenant = "acme" }]\n[[gateway.trigger]]\nname = "t"\nalias = "plant"\n'
        'subscriptions = [{ filter = "a/#" }]\n[gateway.trigger.action]\nkind = "log"\n'
    )
    monkeypatch.setenv("MESHWIRE_CONFIG", str(config))
    (listed,) = [json.loads(line) for line in sh("alias", "list", "--json")[0].splitlines()]
    assert listed["origin"] == "file" and listed["password"] == "**********"
    assert "MW-ALI-003" in sh("alias", "enable", "plant", code=5)[1]
    assert "valid" in sh("config", "check")[0]
    assert "s3cret" not in sh("config", "print")[0]
    config.write_text(config.read_text().replace("tcp://b:1", "b"))
    assert "b" in sh("alias", "show", "plant")[0]


def test_test_says_the_cause_and_has_an_exit_code(sh: Shell, free_port: int) -> None:
    sh("alias", "add", "plant", f"tcp://127.0.0.1:{free_port}")
    out, _ = sh("alias", "test", "plant", code=4)
    assert "tcp        FAILED" in out and "MW-ALI-111" in out and "do: " in out
    steps = [json.loads(line) for line in sh("alias", "test", "plant", "--json", code=4)[0].splitlines()]
    assert [step["step"] for step in steps] == ["fields", "dns", "tcp"]
    assert steps[-1]["code"] == "MW-ALI-111" and not steps[-1]["ok"]
    assert "connection refused" in sh("help", "MW-ALI-111")[0]


def test_triggers(sh: Shell) -> None:
    sh("alias", "add", "plant", "tcp://b:1")
    sh("trigger", "add", "hook", "plant", "--subscribe", "a/+:2", "--subscribe", "b/#", "--action", "kind=http",
       "--action", "url=http://127.0.0.1:1/x", "--enable")  # fmt: skip
    shown = sh.json("trigger", "show", "hook")
    assert shown["subscriptions"] == [{"filter": "a/+", "qos": 2}, {"filter": "b/#", "qos": 1}]
    assert (shown["action"]["kind"], shown["enabled"]) == ("http", True)
    sh("trigger", "set", "hook", "--action", "kind=log", "--action", "level=warning")
    assert sh.json("trigger", "show", "hook")["action"] == {"kind": "log", "level": "warning"}
    assert "subscriptions" in sh("trigger", "add", "none", "plant", code=3)[1]
    said = sh(
        "trigger", "set", "hook", "--action", "kind=command", "--action", "tenant=a/b", "--action", "path=/", code=3
    )
    assert "action.tenant" in said[1] and "action.path" in said[1]
    assert "MW-ALI-004" in sh("alias", "remove", "plant", code=5)[1]
    sh("trigger", "remove", "hook")
    sh("alias", "remove", "plant")


def test_a_package_goes_to_another_site(
    sh: Shell, tmp_path: Path, authority: TrialAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = authority.client("gw", TenantId("acme"))
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    sh("truststore", "add", "ca", authority.folder / "ca.crt")
    sh("keystore", "add", "mine", both)
    assert sh.json("keystore", "show", "mine")["keys"][0]["alias"] == "gw"
    sh("package", "add", "Plant", "description=all of the plant")
    tls = ("truststore=ca", "keystore=mine", "key_alias=gw")
    sh("alias", "add", "safe", "ssl://b:8883", "package=Plant", *tls, "--enable")
    sh("alias", "add", "plain", "tcp://b:1883", "package=Plant", "--enable")
    sh("alias", "add", "elsewhere", "tcp://b:1883")
    sh("trigger", "add", "note", "plain", "package=Plant", "--subscribe", "a/#", "--enable")
    document = sh("package", "export", "Plant")[0]
    assert "PRIVATE KEY" not in document and "BEGIN CERTIFICATE" in document
    file = tmp_path / "plant.json"
    file.write_text(document)

    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "other"))
    said = sh("package", "import", file)[1]
    assert "alias safe is saved, disabled" in said and "keystore" in said
    listed = {r["name"]: r for r in map(json.loads, sh("alias", "list", "--json")[0].splitlines())}
    assert listed.keys() == {"safe", "plain"}
    assert (listed["plain"]["enabled"], listed["safe"]["enabled"]) == (True, False)
    assert sh.json("truststore", "show", "ca")["authorities"] == ["CN=meshwire trial authority"]
    assert sh.json("trigger", "show", "note")["enabled"]
    assert "keystore" in sh("alias", "enable", "safe", code=3)[1]
    sh("keystore", "add", "mine", both)
    sh("alias", "enable", "safe")
    # Once more: an update of the same package is taken, a name of another package is not.
    sh("package", "import", file)
    sh("package", "disable", "Plant")
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "third"))
    sh("alias", "add", "plain", "tcp://b:1")
    assert "is taken by package WmRoot" in sh("package", "import", file, code=3)[1]
    assert "MW-ALI-001" in sh("package", "disable", "WmRoot", code=5)[1]


def test_what_is_no_export_is_told(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    assert "no export" in sh("package", "import", tmp_path / "x", code=5)[1]
    (tmp_path / "x").write_text("{")
    assert "MW-NET-005" in sh("alias", "import", tmp_path / "x", code=2)[1]
