"""Who works on a site's data: told while its holder lives, and no longer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from gateway.errors import GatewayError
from gateway.gateway import Gateway
from gateway.site_use import GatewayRuns, hold_alone, hold_as_gateway, tell_url
from meshwire.cli import main
from meshwire.site import Site

HOLDER = """
import sys
from pathlib import Path
from gateway.site_use import hold_as_gateway, tell_url
from meshwire.site import Site
tell_url(hold_as_gateway(Site(Path(sys.argv[1]))), "http://127.0.0.1:9")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(site: Site) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(site.state_dir)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_gateway_that_was_killed_runs_no_longer(site: Site, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(GatewayRuns) as runs, hold_alone(site):
        pass
    assert runs.value.url == "http://127.0.0.1:9"
    with pytest.raises(GatewayError, match="another gateway") as refused:
        hold_as_gateway(site)
    assert refused.value.code == "MW-GWY-004"
    holder.kill()
    holder.wait()
    with hold_alone(site):
        pass
    os.close(hold_as_gateway(site))


def test_a_gateway_waits_for_a_command(site: Site) -> None:
    began = threading.Event()
    held: list[int] = []

    def start() -> None:
        began.set()
        held.append(hold_as_gateway(site))

    with hold_alone(site):
        gateway = threading.Thread(target=start)
        gateway.start()
        began.wait(PATIENCE_S)
        assert not held
    gateway.join(PATIENCE_S)
    tell_url(held[0], "")
    with pytest.raises(GatewayRuns) as runs, hold_alone(site):
        pass
    assert runs.value.url == "", "it runs, and has no API"
    os.close(held[0])


async def test_commands_beside_a_gateway(
    site: Site, settings_for: Any, running: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(site.state_dir))
    for name in ("MESHWIRE_HTTP", "MESHWIRE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    order = ["command", "send", "001350050047dc9a", "PUT", "x", "--stored", "--ttl", "60"]

    async def run(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, list(words))
        return int(code), capsys.readouterr().err

    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        assert (await run("tenant", "add", "north"))[0] == 0
        assert "north" in {tenant.id.value for tenant in gateway.registry.tenant_records()}, "it is known at once"
        assert (await run(*order))[0] == 0
        code, said = await run(*order, "--http", "local")
        assert code == 4 and "belong to the gateway" in said
    async with running(Gateway(settings_for(), site)):
        assert (await run("tenant", "add", "south"))[0] == 0, "it has no API"
        assert (await run(*order))[0] == 4
        code, said = await run("outbox", "show")
        assert code == 4 and "has no HTTP API" in said
    assert (await run(*order))[0] == 0
    code, said = await run("outbox", "show")
    assert code == 4 and "MW-NET-001" in said
    code, said = await run("tenant", "list", "--http", "http://127.0.0.1:9")
    assert code == 4 and "MW-NET-001" in said
    assert (Path(site.state_dir) / "gateway" / "commands.db").exists()


async def test_what_was_ordered_meanwhile_is_taken_up(
    site: Site, settings_for: Any, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(site.state_dir))
    for name in ("MESHWIRE_HTTP", "MESHWIRE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    mac = "001350050047dc9a"
    assert await asyncio.to_thread(main, ["device", "add", mac, "--tenant", "acme"]) == 0
    order = ["command", "send", mac, "PUT", "x", "--stored", "--ttl", "60", "--id", "early"]
    assert await asyncio.to_thread(main, order) == 0
    async with running(Gateway(settings_for(), site)) as gateway:
        assert gateway._commands is not None and len(gateway._commands.queue) == 1
