"""The base of all errors that reach a person: what failed, the evidence, what to do, and a stable code.

This file decides the shape of an error message and the exit codes; each package derives its own errors from
`MeshwireError` and keeps its codes in a table of its own.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

__all__ = ["ExitCode", "MeshwireError"]


class ExitCode(IntEnum):
    """Exit codes of every `meshwire` command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    CONFIGURATION = 3
    NOT_REACHABLE = 4
    REFUSED = 5
    DEVICE_ERROR = 6
    CONFORMANCE = 7
    TIMED_OUT = 27
    INTERRUPTED = 130


class MeshwireError(Exception):
    """A foreseeable failure, told in a way that lets the reader mend it.

    Args:
        what: what failed, one clause without a full stop.
        evidence: what was seen (a path, an errno, octets); empty when there is none.
        fix: what to do now.
        code: the stable code `MW-AAA-nnn` that `meshwire help CODE` explains.
    """

    default_code: ClassVar[str] = "MW-GEN-001"
    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE

    def __init__(self, what: str, *, evidence: str = "", fix: str = "", code: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.evidence = evidence
        self.fix = fix
        self.code = code or self.default_code

    def __str__(self) -> str:
        parts = [self.what]
        if self.evidence:
            parts.append(f"seen: {self.evidence}")
        if self.fix:
            parts.append(f"do: {self.fix}")
        return "; ".join(parts) + f" [{self.code}]"
