"""`meshwire user`: adds, lists and removes password users; shows a made password once and never a hash."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.credentials import UsersFile
from broker.errors import CATALOGUE, UsersFileError
from broker.users import app
from meshwire.identity import Principal
from meshwire.site import Site


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path))
    monkeypatch.delenv("MESHWIRE_CONFIG", raising=False)
    return Site(tmp_path).path("broker", "users.json")


def test_a_user_is_added_listed_and_removed(state: Path, tmp_path: Path) -> None:
    run = CliRunner()
    made = run.invoke(app, ["add", "desk", "--role", "BUBBLE_UP_READ_CONSUMER_ALL"])
    assert made.exit_code == 0
    login = UsersFile(state).verify("desk", made.stdout.splitlines()[-1].encode())
    assert isinstance(login, Principal)
    given = tmp_path / "password"
    given.write_text("from a file\n")
    assert run.invoke(app, ["add", "other", "--tenant", "acme", "--password-file", str(given)]).stdout == ""
    assert isinstance(UsersFile(state).verify("other", b"from a file"), Principal)
    listed = [json.loads(line) for line in run.invoke(app, ["list", "--json"]).stdout.splitlines()]
    assert listed == [
        {"name": "desk", "tenant": "ssni", "roles": ["BUBBLE_UP_READ_CONSUMER_ALL"]},
        {"name": "gateway", "tenant": "ssni", "roles": ["GATEWAY", "OPERATOR"]},
        {"name": "other", "tenant": "acme", "roles": []},
    ]
    assert run.invoke(app, ["remove", "other"]).exit_code == 0
    assert UsersFile(state).names() == ["desk", "gateway"]


def test_mistakes_are_told(state: Path) -> None:
    run = CliRunner()
    assert isinstance(run.invoke(app, ["remove", "nobody"]).exception, UsersFileError)
    assert run.invoke(app, ["add", "x", "--tenant", "a/b"]).exit_code == 2
    missing = run.invoke(app, ["add", "x", "--password-file", "/nonexistent"]).exception
    assert isinstance(missing, UsersFileError)
    assert missing.code in CATALOGUE
