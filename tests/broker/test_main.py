"""`meshwire broker` as a process: one line when it is ready, an orderly end, and words for what is wrong."""

import asyncio
import os
import pty
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import aiomqtt
from patience import PATIENCE_S

from meshwire.site import Site


async def broker(tmp_path: Path, *arguments: str, stdin: int = DEVNULL) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "broker",
        *arguments,
        env={**os.environ, "MESHWIRE_STATE": str(tmp_path)},
        stdin=stdin,
        stdout=PIPE,
        stderr=PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # also when the tests run under nohup
    )


async def line_of(process: asyncio.subprocess.Process, begin: bytes) -> bytes:
    """What it says on stderr when it comes to that."""
    assert process.stderr is not None
    line = b""
    async with asyncio.timeout(PATIENCE_S):
        while not line.startswith(begin):
            line = await process.stderr.readline()
            assert line, "it ended"
    return line


async def test_it_serves_and_ends_in_order(tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text('schema_version = 1\n[[broker.listener]]\nhost = "127.0.0.1"\nport = 0\n')
    process = await broker(tmp_path, "--config", str(config))
    port = int((await line_of(process, b"broker ready: mqtt on 127.0.0.1:")).rsplit(b":", 1)[1])
    process.send_signal(signal.SIGHUP)  # as a service manager says "reload"
    await line_of(process, b"SIGHUP: ")
    password = Site(tmp_path).secret("gateway-mqtt")
    async with aiomqtt.Client("127.0.0.1", port, username="gateway", password=password) as client:
        await client.publish("acme/read/001350050047dd92/temp", b"x", qos=1)
    process.send_signal(signal.SIGTERM)
    out, error = await process.communicate()
    assert (process.returncode, out) == (0, b"")
    assert b"Traceback" not in error
    assert password.encode() not in error


async def test_it_ends_in_order_with_its_terminal(tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text("[[broker.listener]]\nport = 0\n")
    primary, terminal = pty.openpty()
    process = await broker(tmp_path, "--config", str(config), stdin=terminal)
    await line_of(process, b"broker ready: ")
    process.send_signal(signal.SIGHUP)
    await process.communicate()
    os.close(terminal)
    os.close(primary)
    assert process.returncode == 0


async def test_a_taken_port_and_a_wrong_value_have_their_exit_codes(tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config.write_text(f"[[broker.listener]]\nport = {taken.getsockname()[1]}\n")
        process = await broker(tmp_path, "--config", str(config))
        _, error = await process.communicate()
    assert process.returncode == 4
    assert b"MW-BRK-002" in error
    assert b"Traceback" not in error
    config.write_text("[broker.limits]\nmax_inflight = 0\n")
    process = await broker(tmp_path, "--config", str(config))
    _, error = await process.communicate()
    assert process.returncode == 3
    assert b"broker.limits.max_inflight" in error
