"""What an answer, or the lack of one, means for a command: ended, again later, or unknown. Pure.

The rule is at most once: a command that may have been executed is sent again only when that does no harm. A NIC answers
5.03 when the board has surely not executed the request, and 5.04 when nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.commands.records import Command, Mode
from gateway.device_failure import DeviceFailure, DeviceRefused, DeviceUnreachable
from meshwire.coap import Message, codes, options

__all__ = ["Answered", "Lost", "Refused", "Retry", "Verdict", "hop_of", "judge_answer", "judge_failure"]

FIRST_TRANSMISSION_S: Final = 2.0
"""Before this no repetition has left (RFC 7252 section 4.8, ACK_TIMEOUT): an error is about the first."""
_LONGEST_MAX_AGE_S: Final = 3600
_HOPS: Final = frozenset({"gateway", "nic", "board", "mesh"})
_LONGEST_REASON: Final = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """The end: the device has spoken."""

    answer: Message


@dataclass(frozen=True, slots=True)
class Retry:
    """Not executed, or harmless: again later. `after_s` is None when nobody said when."""

    hop: str
    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The end: not executed."""

    hop: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The end: nobody knows."""

    hop: str
    reason: str


Verdict = Answered | Retry | Refused | Lost


def judge_answer(command: Command, answer: Message) -> Verdict:
    """What an answer means; its code tells whether the device or a hop before it speaks."""
    hop, reason = hop_of(answer)
    match answer.code:
        case codes.SERVICE_UNAVAILABLE:
            return Retry(hop, reason, _max_age_s(answer)) if command.mode is Mode.STORED else Refused(hop, reason)
        case codes.GATEWAY_TIMEOUT:
            return _not_answered(command, hop, reason, _max_age_s(answer))
        case codes.BAD_GATEWAY:
            return Lost(hop, reason)
        case _:
            return Answered(answer)


def judge_failure(command: Command, failure: DeviceFailure, elapsed_s: float, *, acknowledged: bool) -> Verdict:
    """What it means that no answer comes.

    Args:
        command: the one under way.
        failure: what the network says.
        elapsed_s: since the request was handed to the network.
        acknowledged: whether the device has acknowledged it.
    """
    reason = str(failure)
    match failure:
        case DeviceRefused():
            return Refused("nic", reason)
        case DeviceUnreachable() if command.mode is Mode.DIRECT and not acknowledged:
            return Refused("mesh", reason) if elapsed_s < FIRST_TRANSMISSION_S else Lost("mesh", reason)
        case _:
            return _not_answered(command, "nic" if acknowledged else "mesh", reason, None)


def _not_answered(command: Command, hop: str, reason: str, after_s: float | None) -> Verdict:
    if not command.may_repeat:
        return Lost(hop, reason)
    return Retry(hop, reason, after_s) if command.mode is Mode.STORED else Refused(hop, reason)


def hop_of(answer: Message) -> tuple[str, str]:
    """Which hop speaks, and its words: `nic 0013…: no link` → (nic, 5.03 no link); without a name: the NIC."""
    text = answer.payload[: 4 * _LONGEST_REASON].decode(errors="replace")[:_LONGEST_REASON]
    name, colon, rest = text.partition(":")
    hop = name.split()[0].lower() if name.strip() else ""
    if colon and hop in _HOPS:
        return hop, f"{codes.code_text(answer.code)} {rest.strip()}"
    return "nic", f"{codes.code_text(answer.code)} {text}".strip()


def _max_age_s(answer: Message) -> float | None:
    seconds = answer.uint(options.MAX_AGE)
    return None if seconds is None else float(min(max(seconds, 1), _LONGEST_MAX_AGE_S))
