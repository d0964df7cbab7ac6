"""`meshwire doctor`: look at this installation and say, a line each, what is well and what to mend.

What only a component can judge is loaded by name, as the commands are.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from meshwire.errors import ExitCode
from meshwire.hdlc import crc
from meshwire.site import Site

__all__ = ["Finding", "app", "findings"]

_LEAST_FREE_MIB: Final = 100
"""Outbox and broker take some tens of MiB where a broker is away for an hour."""

app = typer.Typer(add_completion=False, help="Check this installation and say what is amiss.")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    ok: bool
    evidence: str
    fix: str = ""


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def _crc() -> Finding:
    """crcmod without its C extension falls back silently and is 13 to 20 times slower."""
    built = crc.CRCMOD_HAS_C_EXTENSION
    fix = "install a C compiler and reinstall crcmod: pip install --force-reinstall --no-binary :all: crcmod"
    return Finding("crcmod C extension", built, f"checksums by {crc.CRC_IMPLEMENTATION}", fix)


def _aiocoap() -> Finding:
    version = importlib.metadata.version("aiocoap")
    fix = "install exactly aiocoap==0.4.17: the serial link hangs on it"
    return Finding("aiocoap", version == "0.4.17", version, fix)


def _uvloop() -> Finding:
    present = importlib.util.find_spec("uvloop") is not None
    return Finding("uvloop", True, "installed" if present else "not installed (optional: pip install meshwire[fast])")


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding("open files", soft >= 1024, f"limit {soft}, at most {hard}", "raise it: ulimit -n 4096")


def _receive_buffer() -> Finding:
    path = Path("/proc/sys/net/core/rmem_max")
    if not path.exists():
        return Finding("UDP receive buffer", True, "limit unknown on this system")
    octets = int(path.read_text())
    return Finding(
        "UDP receive buffer",
        octets >= 4 << 20,
        f"net.core.rmem_max = {octets}",
        "sysctl -w net.core.rmem_max=4194304: bursts of notifications are lost by the kernel otherwise",
    )


def _state() -> Finding:
    path = Site.default().state_dir
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    fix = "set MESHWIRE_STATE to a folder that you may write, on a disk with room"
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".meshwire-doctor-") as folder:
            Path(folder, "trial").write_bytes(bytes(4_096))
    except OSError as error:
        return Finding("state folder", False, f"{path}: {error.strerror}", fix)
    free_mib = shutil.disk_usage(existing).free >> 20
    return Finding("state folder", free_mib >= _LEAST_FREE_MIB, f"{path}, {free_mib} MiB free", fix)


CHECKS: tuple[Callable[[], Finding], ...] = (_python, _crc, _aiocoap, _uvloop, _files, _receive_buffer, _state)
OF_COMPONENTS: Final = ("gateway.tools.broker_check:broker_findings",)
"""Checks that know what a component's settings mean; each is given the configuration's path."""


def findings(config: Path | None = None) -> Iterator[Finding]:
    """Run every check."""
    for check in CHECKS:
        yield check()
    for target in OF_COMPONENTS:
        module, name = target.split(":")
        yield from getattr(importlib.import_module(module), name)(config)


@app.callback(invoke_without_command=True)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="MESHWIRE_CONFIG", help="configuration (TOML)")
    ] = None,
) -> None:
    """Check this installation, and the broker that is configured; exit code 1 when something is to be mended."""
    healthy = True
    for finding in findings(config):
        healthy &= finding.ok
        if as_json:
            typer.echo(json.dumps(asdict(finding)))
        else:
            typer.echo(f"{'ok  ' if finding.ok else 'MEND'} {finding.check}: {finding.evidence}")
            if not finding.ok:
                typer.echo(f"     do: {finding.fix}")
    if not healthy:
        raise typer.Exit(ExitCode.FAILURE)
