"""What an attack found."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Findings", "Proof", "Verdict"]


class Verdict(StrEnum):
    """The outcome of one attack."""

    HELD = "held"
    BREACH = "breach"
    LIMIT = "engine limit"
    """It succeeds, and the page about this engine says that it can't be prevented there."""
    SKIPPED = "skipped"
    """It could not be tried; the evidence says why."""


@dataclass(slots=True)
class Findings:
    """What one attack collects while it runs."""

    tries: int = 0
    breaches: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reactions: Counter[str] = field(default_factory=Counter)
    """What the broker did to the tries."""
    skipped: str = ""

    def breach(self, what: str) -> None:
        """A try that succeeded."""
        self.breaches.append(what)

    def reaction(self, what: str) -> None:
        """What the broker did to one try."""
        self.reactions[what] += 1

    @property
    def evidence(self) -> str:
        """What speaks for the broker."""
        return ", ".join([f"{count} {what}" for what, count in self.reactions.items()] + self.notes)


@dataclass(frozen=True, slots=True)
class Proof:
    """One row of the table."""

    attack: str
    title: str
    tries: int
    verdict: Verdict
    evidence: str
