"""The shell blocks of the documentation, run as a reader would run them, on ports of their own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from free_ports import free_port

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^( *)```sh( background)?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    text: str
    background: bool


def blocks(page: Path) -> list[Block]:
    return [Block(match[3], bool(match[2])) for match in BLOCK.finditer(page.read_text())]


def await_port(port: int) -> None:
    """A reader sees the server's line in its terminal; here its port tells."""
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


@contextmanager
def shells() -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    try:
        yield running
    finally:
        for shell in running:
            os.killpg(shell.pid, signal.SIGTERM)
        for shell in running:
            shell.communicate(timeout=15)


def run_page(page: Path, folder: Path) -> str:
    """Run all blocks of a page in order; background blocks keep running until the page ends."""
    http, mqtt, coap, nic = (free_port() for _ in range(4))
    moved = {"/tmp/first-site": str(folder / "site"), "1883": str(mqtt), "5683": str(coap), "4849": str(nic)}
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MESHWIRE_STATE": str(folder / "site"),
        "MESHWIRE_HTTP": f"http://127.0.0.1:{http}",
        "MESHWIRE_GATEWAY": f"coap://127.0.0.1:{coap}",
        "MESHWIRE_CONFIG": str(folder / "meshwire.toml"),
        "MESHWIRE_MQTT_PORT": str(mqtt),
    }
    (folder / "meshwire.toml").write_text(
        f"[[broker.listener]]\nport = {mqtt}\n[gateway]\nport = {coap}\n"
        f'http = "127.0.0.1:{http}"\n[gateway.bridge]\nport = {mqtt}\n'
    )
    output = ""
    with shells() as running:
        ready = not any(block.background for block in blocks(page))
        for block in blocks(page):
            text = block.text
            for old, new in moved.items():
                text = text.replace(old, new)
            if block.background:
                command = ["bash", "-c", text.strip()]
                running.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE, start_new_session=True
                    )
                )
                continue
            if running and not ready:
                await_port(mqtt)
                await_port(http)
                ready = True
            done = subprocess.run(
                ["bash", "-euc", text], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=90
            )
            assert done.returncode == 0, f"{page.name}:\n{text}\n{done.stdout}{done.stderr}"
            output += done.stdout
    return output


PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if blocks(page))


@pytest.mark.server
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_work(name: str, tmp_path: Path) -> None:
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto-clients is not installed")
    output = run_page(DOCS / name, tmp_path)
    if name == "tutorial/first-site.md":
        assert output.count("riverside/read/0013500500470001/temp") >= 3
        assert "exit code 6" in output
    if name == "how-to/follow-a-message.md":
        for event in ("queued", "sent", "stored", "published", "acknowledged"):
            assert f'"event": "notification {event}"' in output
        assert '"event": "message received"' in output
        assert {'"event": "command answered"', '"event": "request"'} <= set(re.findall(r'"event": "[^"]*"', output))


def test_the_tutorial_is_among_the_pages() -> None:
    assert "tutorial/first-site.md" in PAGES


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"
