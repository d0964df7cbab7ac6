"""The shell blocks of the documentation, run as a reader would run them, on ports of their own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from free_ports import free_port
from patience import PATIENCE_S
from process_site import is_open, wait_for

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^( *)```sh( background)?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    text: str
    background: bool


def blocks(page: Path) -> list[Block]:
    return [Block(match[3], bool(match[2])) for match in BLOCK.finditer(page.read_text())]


@dataclass
class Background:
    """Blocks that keep running; what they say goes to files of a folder."""

    folder: Path
    shells: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, text: str, environment: Mapping[str, str]) -> None:
        with self._log(len(self.shells)).open("wb") as log:
            command = ["bash", "-c", text]
            self.shells.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
            )

    def await_port(self, port: int) -> None:
        """A reader sees the server's line in its terminal; here its port tells."""
        wait_for(lambda: is_open(port), f"port {port} is open")

    def said(self) -> str:
        return "\n".join(self._log(number).read_text(errors="replace")[-4000:] for number in range(len(self.shells)))

    def stop(self) -> None:
        for shell in self.shells:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
        for shell in self.shells:
            shell.wait(PATIENCE_S)

    def _log(self, number: int) -> Path:
        return self.folder / f"background-{number}.log"


@contextmanager
def background(folder: Path) -> Iterator[Background]:
    running = Background(folder)
    try:
        yield running
    except AssertionError as error:
        raise AssertionError(f"{error}\nin the background:\n{running.said()}") from None
    finally:
        running.stop()


def run_page(page: Path, folder: Path) -> str:
    """Run all blocks of a page in order; background blocks keep running until the page ends."""
    http, mqtt = free_port(), free_port()
    coap, nic = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
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
    with background(folder) as running:
        ready = not any(block.background for block in blocks(page))
        for block in blocks(page):
            text = block.text
            for old, new in moved.items():
                text = text.replace(old, new)
            if block.background:
                running.start(text.strip(), environment)
                continue
            if running.shells and not ready:
                running.await_port(mqtt)
                running.await_port(http)
                ready = True
            done = subprocess.run(
                ["bash", "-euc", text], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=300
            )
            assert done.returncode == 0, f"{page.name}:\n{text}\n{done.stdout}{done.stderr}"
            output += done.stdout
    return output


PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if blocks(page))


@pytest.mark.server
@pytest.mark.timeout(900)
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
