"""Each administration verb with a gateway that runs and without one: the same words, the same exit code."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
from patience import PATIENCE_S

from broker.certificates import TrialAuthority
from gateway.tools.http_api import _say_once
from meshwire.cli import COMMANDS, main
from meshwire.identity import TenantId

pytestmark = pytest.mark.timeout(1200)  # the first test waits for the whole script, twice

MAC, OTHER = "0000000000000001", "0000000000000002"
NOUNS = (
    *("tenant", "device", "client", "console-user", "audit", "account", "instance", "endpoint", "command"),
    *("alias", "trigger", "package", "truststore", "keystore", "asyncapi", "explain", "outbox"),
)
LIVE_ALONE = {"outbox show", "outbox size"}
"""Figures of a gateway that runs; without one they say so."""

SCRIPT = [
    "tenant add acme --title Acme",
    "tenant add acme",
    "tenant list",
    "tenant list --json",
    "tenant set acme --max-devices 7",
    "tenant show acme",
    f"device add {MAC} --tenant acme --tag roof",
    f"device add {OTHER} --tenant other --type LNIC --disabled",
    f"device add {MAC} --tenant other",
    "device list",
    "device list --tenant nobody",
    f"device set {MAC} --domain x.net",
    f"device set {MAC}",
    f"device show {MAC}",
    "device show 00000000000000ff",
    "device show nonsense",
    f"device provision {MAC} --out {{folder}}/key",
    f"device unprovision {MAC}",
    f"device move {MAC} --to other",
    f"device move {MAC} --to acme",
    "device export",
    "device import {folder}/devices.csv --tenant acme",
    f"device remove {OTHER}",
    "client add --tenant acme",
    "client list",
    "client show {client}",
    "client set {client} --role COMMAND_CLIENT",
    "client renew {client}",
    "client remove {client}",
    "client show {client}",
    "console-user add tina --tenant acme",
    "console-user add tina --tenant acme",
    "console-user add ada --admin",
    "console-user add eve",
    "console-user add a/b --admin",
    "console-user list",
    "console-user list --tenant acme --json",
    "console-user show tina",
    "console-user renew tina",
    "console-user remove ada",
    "console-user show ada",
    "console-user remove tina",
    "account list",
    "account new acme --batch",
    "instance add rabbit --engine rabbitmq --tls",
    "instance list",
    "instance set rabbit --title Rabbit",
    "instance describe rabbit",
    "instance remove nothing",
    "account add plant --title Plant",
    "account show plant",
    "account assign plant rabbit",
    "account connections plant --option tls",
    "account connections plant --option mutual",
    "account unassign plant",
    "account new plant --batch --instance rabbit --endpoint mqtts://127.0.0.1:9",
    "endpoint add plant mqtt://broker.example.net:1883",
    "endpoint list",
    "endpoint set {endpoint} mqtt://broker.example.net:1884 --yes",
    "endpoint publish {endpoint} --address 192.0.2.1",
    "endpoint list --account plant",
    "endpoint remove {endpoint} --yes",
    "endpoint add plant mqtt://127.0.0.1:9",
    "endpoint check {endpoint}",
    "endpoint remove {endpoint}",
    "instance remove rabbit",
    f"command send {MAC} PUT snsr/temp?cfg=C --stored --ttl 600 --id one",
    f"command send {MAC} GET snsr/temp",
    f"command send {MAC} DANCE snsr/temp",
    f"command send {MAC} PUT snsr/temp --stored --ttl 600 --id two",
    f"command update {{folder}}/image.bin {MAC} --ttl 600",
    f"command list {MAC}",
    "command list --all",
    f"command move {MAC} two 0",
    f"command show {MAC} two",
    f"command cancel {MAC} two",
    f"command cancel {MAC} nothing",
    "command send PUT snsr/temp --stored --ttl 60 --tag roof --tenant acme",
    "command group show {group}",
    "command group cancel {group}",
    "truststore add ca {folder}/ca.crt",
    "truststore list",
    "truststore show ca",
    "keystore add mine {folder}/both.pem",
    "keystore list",
    "keystore show mine",
    "package add Plant description=all",
    "package list",
    "package show Plant",
    "package disable Plant",
    "package enable Plant",
    "alias add plant tcp://127.0.0.1:9 package=Plant",
    "alias add plant tcp://127.0.0.1:9",
    "alias add wrong ssl://broker will_qos=7",
    "alias list",
    "alias set plant description=hall",
    "alias enable plant",
    "alias disable plant",
    "alias show plant",
    "alias test plant",
    "alias export plant",
    "alias import {folder}/nothing.json",
    "package export Plant",
    "package import {folder}/export.json",
    "trigger add note plant --subscribe a/#",
    "trigger list",
    "trigger set note description=x",
    "trigger enable note",
    "trigger disable note",
    "trigger show note",
    "trigger remove note",
    "alias remove plant",
    "alias show plant",
    "package remove Plant",
    "truststore remove ca",
    "keystore remove mine",
    f"explain {MAC}",
    "outbox losses",
    "outbox size --offline 1h --rate 1 --octets 100",
    "tenant remove acme",
    "tenant remove nobody",
    "audit -n 200",
    "asyncapi",
]


@dataclass(frozen=True)
class Said:
    """What came of a command."""

    code: int
    out: str
    err: str


class Site:
    """A state folder, and all that is said of it."""

    def __init__(self, folder: Path, state: Path) -> None:
        self._folder = folder
        self._state = state
        self._names: dict[str, str] = {}

    def run(self, line: str) -> Said:
        """One command line, with ids of things made before in their places."""
        words = [word.format(folder=self._folder, **self._names) for word in line.split()]
        out, err = io.StringIO(), io.StringIO()
        _say_once.cache_clear()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
        self._remember(line, out.getvalue())
        return Said(int(code), self._plain(out.getvalue()), self._plain(err.getvalue()))

    def _remember(self, line: str, out: str) -> None:
        if line.startswith("client add"):
            self._names["client"] = json.loads(out)["clientId"]
        if line.startswith("endpoint add"):
            self._names["endpoint"] = json.loads(out)["id"]
        if " --tag roof --tenant" in line and line.startswith("command"):
            self._names["group"] = out.split()[0]
        if line.startswith("package export"):
            (self._folder / "export.json").write_text(out)

    def _plain(self, text: str) -> str:
        """Without what differs from run to run, and what only a gateway that runs can know."""
        text = re.sub(rf"no gateway runs on {re.escape(str(self._state))}: working on its data\n", "", text)
        text = text.replace(str(self._state), "STATE")
        text = re.sub(r'("(?:clientSecret|password)": ")[^"]+', r"\1*", text)
        text = re.sub(r"1[0-9]{9}\.[0-9]+|20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z?(\+00:00)?", "TIME", text)
        text = re.sub(r"\b(?!0{8})[0-9a-f]{8,32}\b", "ID", text)
        text = re.sub(r"\[Errno 111\] [^;]*", "refused", text)  # asyncio and uvloop say it in words of their own
        text = re.sub(r" *[0-9.]+ ms|\"ms\": [0-9.]+", "MS", text)
        text = re.sub(r'"live": (null|\{[^}]*\})', '"live": …', text)
        return re.sub(r"(?m)^((?:plant|note) .*?)  (disabled|-)$", r"\1  …", text)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[tuple[str, Said]]]]:
    """The whole script, by a gateway that runs and by nobody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MESHWIRE_HTTP", raising=False)
        found = {}
        for way in ("gateway", "nobody"):
            folder, state = tmp_path_factory.mktemp(way), tmp_path_factory.mktemp(f"{way}-state")
            _files(folder)
            patch.setenv("MESHWIRE_CONFIG", str(folder / "site.toml"))
            patch.setenv("MESHWIRE_STATE", str(state))
            site = Site(folder, state)
            with _gateway() if way == "gateway" else contextlib.nullcontext():
                found[way] = [(line, site.run(line)) for line in SCRIPT]
        yield found


def _files(folder: Path) -> None:
    (folder / "site.toml").write_text(
        '[gateway]\nport = 0\nhttp = "127.0.0.1:0"\nlisten = ["127.0.0.1"]\n[gateway.bridge]\nenabled = false\n'
    )
    (folder / "devices.csv").write_text("mac,tags\n0000000000000003,bulk\n")
    (folder / "nothing.json").write_text("{}")
    (folder / "image.bin").write_bytes(bytes(range(256)) * 8)
    authority = TrialAuthority.in_folder(folder)
    certificate, key = authority.client("gw", TenantId("acme"))
    (folder / "both.pem").write_bytes(key.read_bytes() + certificate.read_bytes())


@contextlib.contextmanager
def _gateway() -> Iterator[None]:
    command = [sys.executable, "-m", "gateway", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ, text=True)
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["event"] == "ready"
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        process.stdout.close()


@pytest.mark.parametrize("number", range(len(SCRIPT)), ids=[f"{number}-{line}" for number, line in enumerate(SCRIPT)])
def test_the_same_is_said(said: dict[str, list[tuple[str, Said]]], number: int) -> None:
    (line, there), (_, here) = said["gateway"][number], said["nobody"][number]
    assert (there.code, there.out, there.err) == (here.code, here.out, here.err), line
    assert "Traceback" not in there.err and "working on" not in there.err


def test_what_was_asked_for_is_really_done(said: dict[str, list[tuple[str, Said]]]) -> None:
    """The script is no series of refusals."""
    codes = [each.code for _, each in said["nobody"]]
    assert codes.count(0) > 0.75 * len(codes) and {1, 2, 3, 4, 5} <= set(codes)


@pytest.mark.parametrize("noun", NOUNS)
def test_every_verb_is_in_the_script(noun: str) -> None:
    applications = {COMMANDS[noun].target, *COMMANDS[noun].verbs.values()}
    verbs: set[str] = set()
    for target in applications:
        module, name = target.split(":")
        if not module.startswith("gateway."):
            continue  # `tenant attack`, `instance generate` … administer nothing of the gateway
        group = typer.main.get_command(getattr(importlib.import_module(module), name))
        verbs |= {" ".join([noun, *path]) for path in _paths(group)}
    missing = {verb for verb in verbs if not any(line.startswith(verb) for line in SCRIPT)} - LIVE_ALONE
    assert verbs and not missing


def _paths(command: object) -> Iterator[tuple[str, ...]]:
    commands = getattr(command, "commands", None)
    if not commands:
        yield ()
        return
    for name, inner in commands.items():
        yield from ((name, *rest) for rest in _paths(inner))
