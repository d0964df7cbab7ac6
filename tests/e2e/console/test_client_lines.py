"""Every line that the console shows for a new client, run as it is shown."""

from __future__ import annotations

import asyncio
import html
import os
import re
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from console_browser import Browser
from console_site import RECORD
from fake_nic import FakeNic, serving
from operated_site import OperatedSite
from patience import PATIENCE_S

from gateway.addresses import Address
from meshwire.identity import DeviceId, TenantId

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.server]

MAC = DeviceId("001350050047dc9a")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OperatedSite]:
    for program in ("mosquitto_sub", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    async with OperatedSite(tmp_path_factory.mktemp("site")).running() as site:
        site.gateway.registry.add_device(MAC, TenantId("acme"))
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lines(site: OperatedSite) -> dict[str, str]:
    """What the page shows, by title."""
    browser: Browser = await site.administrator()
    await browser.go("/console/clients")
    await browser.go("/console/clients", {"tenant": "acme"})
    found = re.findall(r"<figcaption[^>]*>([^<]+)</figcaption>\s*<pre[^>]*><code>(.*?)</code>", browser.text, re.DOTALL)
    return {html.unescape(title): html.unescape(text) for title, text in found}


def script_of(lines: dict[str, str], title: str) -> str:
    """A line behind the one that gets the token, as somebody pastes them one after the other."""
    (line,) = [text for name, text in lines.items() if name.startswith(title)]
    (token,) = [text for name, text in lines.items() if name.startswith("A token")]
    return f"{token}\nMAC={MAC}\n{line}\n"


async def run(script: str) -> asyncio.subprocess.Process:
    """In a shell that finds this environment's programs first."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return await asyncio.create_subprocess_exec(
        "bash",
        "-euc",
        script,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
    )


@pytest.mark.parametrize(
    ("title", "payload"), [("Readings by mosquitto_sub", RECORD.hex()), ("Readings by Python", str(RECORD))]
)
async def test_a_reading_is_received(lines: dict[str, str], site: OperatedSite, title: str, payload: str) -> None:
    process = await run(script_of(lines, title))
    assert process.stdout is not None
    try:
        first = asyncio.ensure_future(process.stdout.readline())
        async with asyncio.timeout(PATIENCE_S):
            while not first.done():
                await site.send_reading(MAC)
                await asyncio.wait({first}, timeout=0.2)
        assert first.result().decode().strip() == f"acme/read/{MAC}/temp {payload}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        await process.wait()


async def test_devices_are_listed(lines: dict[str, str]) -> None:
    process = await run(script_of(lines, "Devices by curl"))
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0 and str(MAC) in said.decode(), said


async def test_a_command_is_answered(lines: dict[str, str], site: OperatedSite) -> None:
    async with serving(FakeNic()) as nic:
        site.gateway.registry.seen(MAC, Address("127.0.0.1", nic.port), time.time())
        process = await run(script_of(lines, "A command by aiocoap-client"))
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0 and b"plain" in said, said


async def test_there_is_a_line_for_each_way(lines: dict[str, str]) -> None:
    words = " ".join(lines)
    assert len(lines) == 5 and all(each in words for each in ("mosquitto_sub", "Python", "curl", "aiocoap-client"))
