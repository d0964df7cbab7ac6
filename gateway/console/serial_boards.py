"""Serial boards on the gateway's machine, for the first start: what `meshwire ports` and `meshwire probe` find.

Both run as processes of their own: the gateway knows no serial line, and a port that hangs can't hold it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Found", "SerialBoards", "SerialPort", "refuse_port"]

PORTS_WITHIN_S: Final = 10.0
PROBE_WITHIN_S: Final = 60.0
"""Every usual rate is tried at every port, at the same time."""
MOST_PORTS: Final = 64
_MOST_OCTETS: Final = 1 << 20
_START: Final = "from meshwire.cli import main; raise SystemExit(main())"
_MEEKLY: Final = f"import os; getattr(os, 'nice', abs)(10); {_START}"
"""The gateway and what it serves come first: to begin a program takes longer than most pages take."""
_NAMED: Final = re.compile(r"(/dev/|socket://|rfc2217://|sim://)[!-~]{1,240}")


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial port of this machine."""

    name: str
    """The one that lasts."""
    description: str
    holders: str
    """Programs that have it open; empty: it is free."""


@dataclass(frozen=True, slots=True)
class Found:
    """What answers at a port."""

    port: str
    is_board: bool
    why: str
    """Why it was chosen, or why not."""
    board: str = ""
    """What the board says it is."""
    profile: str = ""
    baud: int | None = None
    causes: tuple[str, ...] = ()
    """What may be amiss, each with what to check."""


def refuse_port(name: str) -> str | None:
    """Why a port that somebody named is not looked at."""
    if _NAMED.fullmatch(name):
        return None
    return f"{name[:80]!r} is no port: a path below /dev/, socket://HOST:PORT, rfc2217://HOST:PORT, or sim://PROFILE"


class SerialBoards:
    """Looks for boards; one look at a time, because a port can't be shared."""

    def __init__(self) -> None:
        self._looking = asyncio.Lock()

    @property
    def is_looking(self) -> bool:
        """A look is under way."""
        return self._looking.locked()

    async def ports(self) -> list[SerialPort]:
        """The serial ports of this machine."""
        return [
            SerialPort(
                str(line["port"]),
                str(line["description"]),
                ", ".join(f"{holder['command']} ({holder['pid']})" for holder in line["holders"]),
            )
            for line in await _lines(_MEEKLY, "ports", "--json", within_s=PORTS_WITHIN_S)
        ]

    async def look(self, ports: list[str]) -> list[Found]:
        """Ask each of these ports what is there; leaves boards as they were."""
        if not ports:
            return []
        async with self._looking:
            lines = await _lines(_START, "probe", "--json", "--", *ports[:MOST_PORTS], within_s=PROBE_WITHIN_S)
        found = [
            Found(
                port=str(line["port"]),
                is_board=bool(line["found"]),
                why=str(line["why"]),
                board=str((line["board"] or {}).get("version", "")),
                profile=str((line["board"] or {}).get("profile", "")),
                baud=line["baud"],
                causes=tuple(f"{each['what']}: {each['check']}" for each in line["causes"]),
            )
            for line in lines
        ]
        return sorted(found, key=lambda each: (not each.is_board, each.port))


async def _lines(start: str, *arguments: str, within_s: float) -> list[dict[str, Any]]:
    """What a command of ours prints, an object a line; what it has printed when the time is over counts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        start,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    octets = bytearray()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while len(octets) < _MOST_OCTETS and (some := await process.stdout.read(65_536)):
                    octets += some
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
    found = []
    for line in octets.splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
