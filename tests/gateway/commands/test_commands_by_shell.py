"""`meshwire command`: what is sent, what is shown, and the exit codes, against a gateway that runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from command_parts import ACME, MAC
from udp_nic import Manner, UdpNic, closing

from gateway.addresses import Address
from gateway.gateway import Gateway
from meshwire import cli
from meshwire.errors import ExitCode
from meshwire.identity import DeviceId
from meshwire.site import Site

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
async def nic(gateway: Gateway) -> AsyncIterator[UdpNic]:
    nic = UdpNic()
    await nic.open()
    with closing(nic):
        yield nic


@pytest.fixture
def run(gateway: Gateway, site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("MESHWIRE_STATE", str(site.path()))
    monkeypatch.setenv("MESHWIRE_HTTP", f"http://127.0.0.1:{gateway.http_port}")

    async def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = await asyncio.to_thread(cli.main, ["command", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def appear(gateway: Gateway, nic: UdpNic) -> None:
    gateway.registry.registered(MAC, Address("127.0.0.1", nic.port), time.time(), 60.0)


async def test_send_list_show_move_cancel(run: Run, gateway: Gateway, nic: UdpNic) -> None:
    for id in ("a", "b"):
        code, out, _ = await run(
            "send", MAC.value, "PUT", "led?on", "--stored", "--ttl", "60", "--id", id, "-m", "hex:00ff"
        )
        assert (code, "queued" in out) == (ExitCode.OK, True)
    code, out, _ = await run("move", MAC.host("x.net"), "b", "0", "--json")
    assert (code, json.loads(out)["position"]) == (0, 0)
    _, out, _ = await run("list", MAC.value)
    assert [line.split()[1] for line in out.splitlines()] == ["b", "a"]
    assert "PUT led?on" in out and "position 1" in out
    code, out, _ = await run("cancel", MAC.value, "a", "--json")
    assert (code, json.loads(out)["state"]) == (0, "cancelled")
    assert (await run("cancel", MAC.value, "a"))[0] == ExitCode.REFUSED
    appear(gateway, nic)
    code, out, _ = await run("show", MAC.value, "b", "--wait", "20")
    lines = out.splitlines()
    assert code == 0 and "answered  2.04  did it" in lines[0]
    assert [line.split()[1] for line in lines[1:]] == ["accepted", "queued", "sent", "delivered", "answered"]
    assert nic.executed[0][0].payload == b"\0\xff"
    assert (await run("list"))[1] == ""
    _, out, _ = await run("list", "--all", "--json")
    commands = [json.loads(line) for line in out.splitlines()]
    assert [each["id"] for each in commands] == ["b", "a"]
    assert commands[0]["by"]["principal"].startswith("cli:")


async def test_exit_codes(run: Run, gateway: Gateway, nic: UdpNic, tmp_path: Path) -> None:
    send = ("send", MAC.value, "PUT", "led")
    code, _, err = await run(*send)
    assert code == ExitCode.REFUSED and "MW-CMD-008" in err and "not reachable" in err
    code, _, err = await run(*send, "--stored")
    assert code == ExitCode.REFUSED and "ttl" in err
    assert (await run("send", "0000000000000001", "PUT", "led"))[0] == ExitCode.REFUSED
    assert (await run("send", "PUT", "led"))[0] == ExitCode.USAGE
    assert (await run("send", "xyz", "PUT", "led"))[0] == ExitCode.USAGE
    assert (await run(*send, "-m", f"@{tmp_path}/nothing"))[0] == ExitCode.USAGE
    assert (await run(*send, "--http", "http://127.0.0.1:1"))[0] == ExitCode.NOT_REACHABLE
    assert (await run(*send, "--http", "local"))[0] == ExitCode.NOT_REACHABLE
    code, _, err = await run(*send, "--stored", "--ttl", "0.1", "--wait", "20")
    assert code == ExitCode.TIMED_OUT and "MW-NET-003" in err
    appear(gateway, nic)
    (tmp_path / "body").write_bytes(b"from a file")
    code, out, _ = await run(*send, "--wait", "20", "-m", f"@{tmp_path}/body", "--json")
    assert (code, json.loads(out)["result"]["code"]) == (ExitCode.OK, "2.04")
    assert nic.executed[-1][0].payload == b"from a file"
    nic.manner = Manner.LATER
    code, _, err = await run(*send, "--wait", "20")
    assert code == ExitCode.FAILURE and "MW-CMD-009" in err and "no link" in err


async def test_groups(run: Run, gateway: Gateway, nic: UdpNic) -> None:
    gateway.registry.set_device(MAC, tags=["valves"])
    gateway.registry.add_device(DeviceId("001350050047dc9b"), ACME)
    stored = ("--stored", "--ttl", "60", "--json")
    _, out, _ = await run("send", "PUT", "led", "--all", "--tenant", "acme", *stored)
    everybody = json.loads(out)
    assert (everybody["devices"], everybody["ended"]) == (2, 0)
    code, out, _ = await run("group", "cancel", everybody["id"])
    assert code == 0 and "2 of 2 ended  2 cancelled" in out
    _, out, _ = await run("send", "PUT", "led", "--tag", "valves", "--tenant", "acme", *stored)
    group = json.loads(out)
    appear(gateway, nic)
    code, out, _ = await run("group", "show", group["id"], "--wait", "20")
    assert code == 0 and "1 of 1 ended  1 answered" in out and "did it" in out
    code, out, _ = await run("send", "GET", "led", "--devices", MAC.value, "--wait", "20", "--json")
    assert code == 0 and json.loads(out)["states"] == {"answered": 1}
    assert (await run("send", "PUT", "led", "--tag", "valves"))[0] == ExitCode.USAGE
    assert (await run("group", "show", "nothing"))[0] == ExitCode.REFUSED
