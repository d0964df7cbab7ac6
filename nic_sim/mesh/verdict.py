"""Whether a scenario's expectations hold, with the figure that says so; pure."""

from __future__ import annotations

from dataclasses import dataclass

from nic_sim.mesh.ledger import Ledger
from nic_sim.mesh.scenario import Expectations

__all__ = ["Finding", "judge"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One expectation."""

    what: str
    holds: bool
    evidence: str


def judge(expected: Expectations, ledger: Ledger) -> list[Finding]:
    """Every expectation that the scenario has."""
    unaccounted = len(ledger.open)
    delivered = ledger.stored / ledger.made if ledger.made else 1.0
    ended = sum(ledger.commands.values())
    p99_s = ledger.latency_s(0.99)
    findings = [
        Finding(
            "nothing is stored twice", not ledger.repeated, f"{ledger.repeated} readings came to the store once more"
        )
    ]
    if expected.all_readings_arrive:
        arrived = ledger.stored == ledger.made
        findings.append(Finding("all readings arrive", arrived, f"{ledger.stored} of {ledger.made}"))
    if expected.readings_accounted:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(ledger.lost.items())) or "none lost"
        findings.append(
            Finding("every reading is accounted for", not unaccounted, f"{unaccounted} without a reason; {reasons}")
        )
    if expected.min_delivered is not None:
        enough = delivered >= expected.min_delivered
        findings.append(Finding(f"at least {expected.min_delivered:.2%} arrive", enough, f"{delivered:.4%}"))
    if expected.p99_latency_s is not None:
        quick = p99_s < expected.p99_latency_s
        findings.append(Finding(f"p99 < {expected.p99_latency_s:g} s", quick, f"{p99_s:.2f} s"))
    if expected.no_command_lost and ledger.ordered:
        states = ", ".join(f"{count} {state}" for state, count in sorted(ledger.commands.items()))
        findings.append(
            Finding(
                "every command has a final event", ended == ledger.ordered, f"{ended} of {ledger.ordered}: {states}"
            )
        )
    return findings
