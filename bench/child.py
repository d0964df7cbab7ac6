"""A server of a benchmark as a process of its own: it says its ports when it serves, and ends with the block."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench.brokers import pinned

__all__ = ["Child", "serving"]

END_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process that serves."""

    ports: tuple[int, ...]
    """As it said them."""
    pid: int


@contextmanager
def serving(name: str, command: Sequence[str], core: int | None = 0, *, quiet: bool = False) -> Iterator[Child]:
    """Run a server.

    Args:
        name: for the error's words.
        command: program and arguments.
        core: where it runs; None: wherever the system likes.
        quiet: its complaints are not shown.

    Raises:
        RuntimeError: it has ended without a word.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        stdin=subprocess.DEVNULL,
        preexec_fn=None if core is None else pinned(core),
    )
    assert process.stdout is not None
    try:
        ports = process.stdout.readline().split()
        if not ports:
            raise RuntimeError(f"{name} did not start")
        yield Child(tuple(map(int, ports)), process.pid)
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
