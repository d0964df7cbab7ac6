"""Software updates: an image goes in blocks through gateway and NIC to boards on real ptys, which restart into it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from command_parts import ACME, MAC
from nic_and_board import nic_and_board
from patience import PATIENCE_S

from gateway.gateway import Gateway
from gateway.statistics import Event
from meshwire import cli
from meshwire.identity import DeviceId
from meshwire.site import Site

IMAGE = b"meshwire-board 2.1.0\n" + bytes(range(256)) * 12
Run = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def gateway(site: Site, settings_for: Any, running: Any) -> AsyncIterator[Gateway]:
    async with running(Gateway(settings_for(http="127.0.0.1:0"), site)) as gateway:
        yield gateway


@pytest.fixture
def run(gateway: Gateway, site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("MESHWIRE_STATE", str(site.path()))
    monkeypatch.setenv("MESHWIRE_HTTP", f"http://127.0.0.1:{gateway.http_port}")

    async def run(*arguments: str) -> tuple[int, Any]:
        capfd.readouterr()
        code = await asyncio.to_thread(cli.main, ["command", *arguments, "--json"])
        # The gateway's log goes to the same place.
        return code, next(json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{"))

    return run


async def test_an_update_waits_for_its_board_which_restarts_into_it_and_goes_on(
    gateway: Gateway, run: Run, tmp_path: Path
) -> None:
    image = tmp_path / "image.bin"
    image.write_bytes(IMAGE)
    digest = hashlib.sha256(IMAGE).hexdigest()
    code, group = await run("update", str(image), "--devices", MAC.value)
    assert (code, group["states"]) == (0, {"queued": 1}), "it waits for a device that is away"
    async with nic_and_board(gateway.coap_port, MAC, tmp_path / "nic"):
        code, group = await run("group", "show", group["id"], "--wait", "50")
        (command,) = group["commands"]
        assert (command["state"], command["result"]["code"]) == ("answered", "2.04"), command
        assert (command["payloadOctets"], command["payloadSha256"]) == (len(IMAGE), digest)
        _, shown = await run("show", MAC.value, command["id"])
        assert [each["event"] for each in shown["events"]] == ["accepted", "queued", "sent", "delivered", "answered"]

        async def running_version() -> str:
            _, answer = await run("send", MAC.value, "GET", "snsr/sys/fw", "--wait", "30")
            result = answer.get("result") or {}  # no payload: while it restarts nobody answers
            return str(json.loads(result["payload"])["version"]) if "payload" in result else ""

        async with asyncio.timeout(PATIENCE_S):
            while await running_version() != "2.1.0":  # noqa: ASYNC110 - it restarts a second after its answer
                await asyncio.sleep(0.1)
            _, answer = await run("send", MAC.value, "GET", "snsr/", "--wait", "30")
            assert answer["result"]["payload"].endswith("(standard) 2.1.0")
            before = gateway.statistics.total(Event.STORED)
            while gateway.statistics.total(Event.STORED) == before:  # noqa: ASYNC110 - the NIC observes it anew
                await asyncio.sleep(0.1)


async def test_a_group_of_boards_is_updated_by_one_order(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    second = DeviceId("0013500500470002")
    gateway.registry.add_device(second, ACME, tags=["roof"])
    gateway.registry.set_device(MAC, tags=["roof"])
    image = tmp_path / "image.bin"
    image.write_bytes(IMAGE)
    async with (
        nic_and_board(gateway.coap_port, MAC, tmp_path / "first"),
        nic_and_board(gateway.coap_port, second, tmp_path / "second"),
    ):
        code, group = await run("update", str(image), "--tag", "roof", "--tenant", "acme", "--wait", "50")
        assert (code, group["final"], group["states"]) == (0, True, {"answered": 2})
    _, group = await run("group", "show", group["id"])
    assert {(each["device"], each["result"]["code"]) for each in group["commands"]} == {
        (MAC.value, "2.04"),
        (second.value, "2.04"),
    }
    assert gateway._commands.store.bodies_octets == len(IMAGE), "kept once"  # type: ignore[union-attr]


async def test_a_board_that_can_not_take_it_says_so(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    image = tmp_path / "image.bin"
    image.write_bytes(IMAGE)
    async with nic_and_board(gateway.coap_port, MAC, tmp_path / "nic", profile="milli-1.4.8"):
        code, command = await run("update", str(image), MAC.value, "--wait", "50")
        assert (code, command["state"], command["result"]["code"]) == (6, "answered", "4.13"), command
