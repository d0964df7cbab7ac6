"""Who holds a port: the process that locked it, or those that have it open. Linux only; elsewhere nobody is found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Holder", "holders", "lock_holder"]


@dataclass(frozen=True, slots=True)
class Holder:
    """A process.

    Args:
        pid: its number.
        command: its name, as `ps` shows it; empty where the system does not tell.
    """

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command or 'a process'} (pid {self.pid})"


def lock_holder(path: str) -> Holder | None:
    """The process that holds the advisory lock (flock) of `path`, by /proc/locks, else one that has it open."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for pid, inode in _locks():
        if inode == wanted and pid > 0:
            return _process(pid)
    others = [holder for holder in holders(path) if holder.pid != os.getpid()]
    return others[0] if others else None


def holders(path: str) -> tuple[Holder, ...]:
    """The processes that have `path` open, as far as this user may see, lowest pid first."""
    target = Path(path).resolve()
    return tuple(_process(pid) for pid in sorted(_pids()) if target in _open_paths(pid))


def _locks() -> Iterator[tuple[int, str]]:
    """Pid and `major:minor:inode` of every FLOCK lock: `1: FLOCK ADVISORY WRITE 4711 00:18:5 0 EOF`."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK":
            yield int(fields[4]), fields[5]


def _pids() -> Iterator[int]:
    try:
        yield from [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return


def _open_paths(pid: int) -> Iterator[Path]:
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        with suppress(OSError):
            yield descriptor.readlink()


def _process(pid: int) -> Holder:
    try:
        return Holder(pid, Path(f"/proc/{pid}/comm").read_text().strip())
    except OSError:
        return Holder(pid, "")
