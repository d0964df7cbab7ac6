"""Changing a process while it runs: a socket for its own user, and who finds it.

A process that has something to change (a bad line, a board that may be exchanged) listens on a Unix socket in a folder
that only its user may enter; a command finds the sockets there, asks what each is about, and sends its change. One JSON
object a line each way, then the connection ends. There is no such thing over the network: whoever may open a port of
this machine may also name its files.

Decides: folder, names, framing, what a dead process leaves. Leaves to its users: what can be asked. POSIX only;
elsewhere `open` gives None, and nothing can be changed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "ControlError", "ControlSocket", "Peer", "ask", "peers"]

CATALOGUE: Final = {
    "MW-CTL-001": "No running process of this user has what was named. Each process that can be changed has a socket in"
    " $MESHWIRE_RUN, else $XDG_RUNTIME_DIR/meshwire, else /tmp/meshwire-UID; command and process must agree on it.",
    "MW-CTL-002": "The process refused the change; the message has its words.",
    "MW-CTL-003": "The process did not answer: it is stopped, or very busy.",
}
"""Stable error codes of this file; shown by `meshwire help CODE`."""

Request = Mapping[str, Any]
Answer = dict[str, Any]

_MAX_LINE_OCTETS: Final = 64 * 1024
_REQUEST_S: Final = 10.0
_numbers = itertools.count(1)

_log = structlog.get_logger(__name__)


class ControlError(MeshwireError):
    """A running process was not found, or did not do as it was told."""

    default_code = "MW-CTL-001"
    exit_code = ExitCode.NOT_REACHABLE


def control_folder() -> Path:
    """`$MESHWIRE_RUN`, else `$XDG_RUNTIME_DIR/meshwire`, else `/tmp/meshwire-UID`."""
    if chosen := os.environ.get("MESHWIRE_RUN"):
        return Path(chosen)
    if (runtime := os.environ.get("XDG_RUNTIME_DIR")) and Path(runtime).is_dir():
        return Path(runtime) / "meshwire"
    return Path(tempfile.gettempdir()) / f"meshwire-{os.getuid()}"


def _make_folder() -> Path:
    """The folder, which must be ours alone: another user's would let them answer in our name."""
    folder = control_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone (mode 0700)")
    return folder


class ControlSocket:
    """A listening socket; made by `open`.

    Args:
        server: listens.
        path: of the socket.
    """

    def __init__(self, server: asyncio.AbstractServer, path: Path) -> None:
        self.path = path
        self._server = server

    @classmethod
    async def open(
        cls, kind: str, describe: Callable[[], Answer], carry_out: Callable[[Request], Awaitable[Answer]]
    ) -> ControlSocket | None:
        """Listen; None where that can't be (not POSIX, no folder), which is said in the log and harms nobody.

        Args:
            kind: what the process has to change: `fault`, `nic`, `site`.
            describe: what it is about, and how it stands.
            carry_out: makes a change and gives the new description; a ValueError or MeshwireError refuses it.
        """
        if not hasattr(asyncio, "start_unix_server") or not hasattr(os, "getuid"):
            return None

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _serve(reader, writer, describe, carry_out)

        try:
            path = _make_folder() / f"{kind}-{os.getpid()}-{next(_numbers)}.sock"
            path.unlink(missing_ok=True)  # of a dead process that had our number
            server = await asyncio.start_unix_server(serve, str(path), limit=_MAX_LINE_OCTETS)
        except OSError as error:
            _log.warning("can't be changed while it runs", kind=kind, error=str(error))
            return None
        return cls(server, path)

    def close(self) -> None:
        """Listen no more; may be called twice."""
        self._server.close()
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # others listen there, or it is gone already
            self.path.parent.rmdir()


async def _serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    describe: Callable[[], Answer],
    carry_out: Callable[[Request], Awaitable[Answer]],
) -> None:
    try:
        async with asyncio.timeout(_REQUEST_S):
            line = await reader.readline()
        writer.write(json.dumps(await _answer(line, describe, carry_out)).encode() + b"\n")
        async with asyncio.timeout(_REQUEST_S):
            await writer.drain()
    except (OSError, ValueError, TimeoutError):
        pass  # whoever asked has gone, or never asked
    finally:
        writer.close()


async def _answer(
    line: bytes, describe: Callable[[], Answer], carry_out: Callable[[Request], Awaitable[Answer]]
) -> Answer:
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError("not a JSON object")
        return describe() if request.get("do") == "describe" else await carry_out(request)
    except MeshwireError as error:
        return {"error": str(error)}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": str(error)}


# ---- the side that asks; without asyncio, for commands


@dataclass(frozen=True, slots=True)
class Peer:
    """A running process that can be changed.

    Args:
        path: its socket.
        pid: its number.
        description: what it said about itself.
    """

    path: Path
    pid: int
    description: Answer


def _age(path: Path) -> tuple[int, int, str]:
    """Two sockets of one process may be as old as each other by the file system's clock; then their numbers tell."""
    return path.lstat().st_mtime_ns, len(path.name), path.name


def peers(kind: str) -> list[Peer]:
    """The running processes of this user that have a `kind` to change, oldest first. Sockets of dead ones go away."""
    try:
        paths = sorted(control_folder().glob(f"{kind}-*.sock"), key=_age)
    except (OSError, AttributeError):
        return []
    found = []
    for path in paths:
        pid = int(path.stem.split("-")[1])
        try:
            found.append(Peer(path, pid, _exchange(path, {"do": "describe"}, 5.0)))
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()
        except (OSError, ValueError):
            continue  # it ends just now, or is stopped
    return found


def ask(peer: Peer, request: Request, *, timeout_s: float = 30.0) -> Answer:
    """Send a change and return the new description.

    Raises:
        ControlError: MW-CTL-002 refused, MW-CTL-003 no answer.
    """
    try:
        answer = _exchange(peer.path, request, timeout_s)
    except (OSError, ValueError) as error:
        raise ControlError(
            f"process {peer.pid} did not answer",
            evidence=str(error) or type(error).__name__,
            fix="see whether it runs (`ps`), and try again",
            code="MW-CTL-003",
        ) from None
    if "error" in answer:
        refused = ControlError(f"process {peer.pid} refused", evidence=str(answer["error"]), code="MW-CTL-002")
        refused.exit_code = ExitCode.REFUSED  # type: ignore[misc]
        raise refused
    return answer


def _exchange(path: Path, request: Request, timeout_s: float) -> Answer:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(json.dumps(dict(request)).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n") and (piece := connection.recv(_MAX_LINE_OCTETS)):
            line += piece
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    return answer
