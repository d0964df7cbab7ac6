"""A conformance case as data, and what comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hardware.conform.bench import Bench

__all__ = [
    "Case",
    "CaseSeries",
    "Exchange",
    "Group",
    "Outcome",
    "Profile",
    "Result",
    "Verdict",
    "failed",
    "judge",
    "skipped",
]


class Profile(StrEnum):
    """What a board is judged against."""

    STANDARD = "standard"
    MILLI = "milli"
    """The dialect of the Milli sensor boards: the standards, but for what those boards are known to do."""


class Group(StrEnum):
    """Cases that belong together, in the order in which they run."""

    FRAMING = "framing"
    LINK = "link"
    COAP = "coap"
    OPTIONS = "options"
    BLOCK = "block"
    OBSERVE = "observe"
    RESOURCES = "resources"
    PAYLOAD = "payload"
    TIMING = "timing"
    ENDURANCE = "endurance"


class Verdict(StrEnum):
    """What came of a case."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and, in words, what was seen."""

    verdict: Verdict
    seen: str = ""


def judge(good: object, seen: str) -> Outcome:
    """Pass when ``good`` is true; ``seen`` says in words what the board did."""
    return Outcome(Verdict.PASS if good else Verdict.FAIL, seen)


def failed(seen: str) -> Outcome:
    """The rule was broken."""
    return Outcome(Verdict.FAIL, seen)


def skipped(why: str) -> Outcome:
    """The rule cannot be judged on this board."""
    return Outcome(Verdict.NOT_APPLICABLE, why)


@dataclass(frozen=True, slots=True)
class Case:
    """One rule and how to find out whether a board keeps it.

    Args:
        id: stable name; never given to another rule.
        group: where it belongs.
        title: the subject, a few words.
        rule: what a board must do.
        clause: where that is written.
        run: does it on a bench whose link was just made.
        dialect: what a Milli board does instead, empty where it keeps the rule; judged by with that profile.
        dialect_clause: where that is written in the dialect document.
        needs: cases that must not have failed, or this one cannot be judged.
        destructive: sends what is known to crash boards.
    """

    id: str
    group: Group
    title: str
    rule: str
    clause: str
    run: Callable[[Bench], Awaitable[Outcome]]
    dialect: str = ""
    dialect_clause: str = ""
    needs: tuple[str, ...] = ()
    destructive: bool = False

    def rule_for(self, profile: Profile) -> tuple[str, str]:
        """Return the rule and its clause under ``profile``."""
        if profile is Profile.MILLI and self.dialect:
            return self.dialect, self.dialect_clause
        return self.rule, self.clause


@dataclass(frozen=True, slots=True)
class CaseSeries:
    """Makes the cases of one group.

    Args:
        prefix: of their ids.
        group: where they belong.
        document: in which their clauses are; empty: each clause names its own.
    """

    prefix: str
    group: Group
    document: str = ""

    def __call__(
        self,
        number: int,
        title: str,
        rule: str,
        clause: str,
        run: Callable[[Bench], Awaitable[Outcome]],
        dialect: str = "",
        dialect_clause: str = "",
        *,
        needs: tuple[str, ...] = (),
        destructive: bool = False,
    ) -> Case:
        """Case `number`; the rest as `Case` has it."""
        id, where = f"{self.prefix}-{number:03}", f"{self.document}, {clause}" if self.document else clause
        return Case(id, self.group, title, rule, where, run, dialect, dialect_clause, needs, destructive)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Octets of one direction: ``at_s`` seconds after the case began, ``>`` to the board or ``<`` from it."""

    at_s: float
    direction: str
    octets: bytes

    def __str__(self) -> str:
        return f"{self.at_s:8.3f} {self.direction} {self.octets.hex(' ')}"


@dataclass(frozen=True, slots=True)
class Result:
    """A case that was run, with the octets as evidence."""

    case: Case
    outcome: Outcome
    evidence: tuple[Exchange, ...]
    took_s: float
