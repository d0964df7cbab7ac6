"""The base of all errors that reach a person: what failed, the evidence, what to do, and a stable code.

This file decides the shape of an error message and the exit codes; each package derives its own errors from
`MeshwireError` and keeps its codes in a table of its own. What the system refuses (`meshwire.system_errors`) and
what has no code of its own is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import ClassVar, Final, Generic, TypeVar

__all__ = ["CATALOGUE", "ExitCode", "KindError", "MeshwireError"]

ProblemT = TypeVar("ProblemT", bound=StrEnum)

CATALOGUE: Final = {
    "MW-GEN-001": "A foreseeable failure without a code of its own; the message says what failed.",
    "MW-GEN-002": "The system refused to read or write a file: missing, not permitted, or no room on its disk; the "
    "message names the file. `meshwire -v COMMAND` shows where it happened.",
    "MW-GEN-003": "A database of the state folder can't be used: its disk is full, it is not writable, or damaged.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""


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


class KindError(MeshwireError, Generic[ProblemT]):
    """A failure of one of several kinds, whose values are their stable codes.

    Args:
        problem: the kind.
        what: what failed, one clause.
        evidence: what was seen.
        fix: what to do now.
    """

    exit_codes: ClassVar[Mapping[str, ExitCode]] = {}
    """How a command ends, by kind; the others end it as the class says."""

    def __init__(self, problem: ProblemT, what: str, *, evidence: str = "", fix: str = "") -> None:
        super().__init__(what, evidence=evidence, fix=fix, code=problem.value)
        self.problem = problem
        # An instance attribute over the class's: the kinds differ in how a command ends.
        self.exit_code = self.exit_codes.get(problem, self.exit_code)  # type: ignore[misc]
