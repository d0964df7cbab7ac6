"""From what a probe saw to what a person should look at: why, and the likely causes in the order to check them.

Pure. The order is by effort: what a look at the screen settles comes before what needs a screwdriver; causes that the
evidence rules out are not named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hardware.probe_report import BoardFacts, Finding, PortReport, Transport, check_errors
from meshwire.frame_text import discarded_line, frame_line, hex_text

__all__ = ["Cause", "causes", "evidence", "reason"]

_SHOWN_OCTETS: Final = 16
_LONGEST_BOOT_S: Final = 16


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that may be wrong.

    Args:
        what: the cause, in a few words.
        check: how to find out, or to mend it.
    """

    what: str
    check: str


def reason(report: PortReport) -> str:
    """Why the port was, or wasn't, chosen: the rest of its line."""
    if report.board is not None:
        return _chosen(report, report.board)
    text = f"not chosen: {report.finding.value}"
    if report.finding is Finding.HELD and report.holders:
        return f"{text}: {', '.join(map(str, report.holders))}"
    if report.reason:
        return f"{text}: {report.reason}"
    tried = ", ".join(dict.fromkeys(attempt.question for attempt in report.attempts))
    return f"{text}{_at_rates(report)}, {report.octets_seen} octets seen ({tried})"


def _chosen(report: PortReport, board: BoardFacts) -> str:
    at = f" at {report.baud} baud" if report.baud is not None else ""
    said = f'; says "{board.version_text}"' if board.version_text else "; GET / without a readable answer"
    return f"chosen: {board.firmware}{at}, UA after {board.answer_s * 1000:.0f} ms{said}"


def _at_rates(report: PortReport) -> str:
    return f" at {', '.join(map(str, report.rates))} baud" if report.rates else ""


def evidence(report: PortReport) -> tuple[str, ...]:
    """What was seen, in words; the octets where there were any."""
    lines = []
    if report.octets_seen:
        lines.append(f"first octets: {hex_text(report.first_octets, _SHOWN_OCTETS)}")
    damaged = sum(check_errors(attempt.heard) for attempt in report.attempts)
    noise = sum(len(attempt.heard.discarded) for attempt in report.attempts) - damaged
    if damaged or noise:
        lines.append(f"{damaged} frames with check or length errors, {noise} stretches of octets outside any frame")
    if report.uart_errors is not None and any(report.uart_errors.values()):
        counted = ", ".join(f"{count} {name}" for name, count in report.uart_errors.items() if count)
        lines.append(f"the UART counted errors: {counted}")
    lines += _best_attempt(report)
    return tuple(lines)


def _best_attempt(report: PortReport) -> list[str]:
    """What came in the attempt that said most, unless a board answered: then the facts speak."""
    if report.board is not None:
        return [] if not report.board.pending else [_pending(report.board)]
    chosen = next((a for a in report.attempts if a.finding is report.finding and a.heard.octets), None)
    if chosen is None:
        return []
    rate = f" at {chosen.baud} baud" if chosen.baud is not None else ""
    answer = [frame_line(frame) for frame in chosen.heard.frames[:2]]
    answer += [discarded_line(item) for item in chosen.heard.discarded[:2]]
    return [f"{chosen.question}{rate}: {'; '.join(answer)}"]


def _pending(board: BoardFacts) -> str:
    left = "taken" if board.released else "left there: DISC would have destroyed it"
    return f"a message waited in the board: {board.pending} ({left})"


def causes(report: PortReport) -> tuple[Cause, ...]:
    """What may be wrong, in the order to check it; nothing for a port with a board."""
    advise = _ADVICE.get(report.finding)
    return () if advise is None else advise(report)


def _silence(report: PortReport) -> tuple[Cause, ...]:
    if report.transport is Transport.SERIAL:
        return (*_held(report), _TX_RX, _untried_rate(report), _BOOTING, _NO_GROUND, _WRONG_CONNECTOR)
    # A pty may be a simulation, or the near end of a bridge (socat) to a line that is real.
    near = (_SERVER_SIDE,) if report.transport is Transport.NETWORK else (*_held(report), _NOBODY_THERE)
    return (*near, _TX_RX, _FAR_RATE, _BOOTING, _NO_GROUND)


def _held(report: PortReport) -> tuple[Cause, ...]:
    if not report.holders:
        return ()
    who = ", ".join(map(str, report.holders))
    return (
        Cause(
            f"another process reads it too: {who}",
            "on a pty that is mostly the board itself; anything else takes octets away: end it",
        ),
    )


_BOOTING: Final = Cause(
    f"the board is still booting (up to {_LONGEST_BOOT_S} s without a USB monitor)",
    f"`meshwire probe PORT --wait {_LONGEST_BOOT_S}`, or open the board's USB log",
)
_TX_RX: Final = Cause("TX and RX are swapped", "adapter TX goes to board RX, adapter RX to board TX; swap them once")
_NO_GROUND: Final = Cause(
    "no common ground, or no power", "ground to ground; the board's lamp is on; levels are 3.3 V on both sides"
)
_WRONG_CONNECTOR: Final = Cause(
    "the other connector",
    "the protocol is on the hardware UART (Serial1, pins 0 and 1); the board's USB port is only a log",
)
_FAR_RATE: Final = Cause("wrong rate at the far end", "the boards talk at 38400 baud, 8N1, without flow control")
_NOBODY_THERE: Final = Cause("no board runs behind this port", "start one: `meshwire sensor --port pty:LINK`")
_SERVER_SIDE: Final = Cause(
    "the server's own serial port: wrong rate, wrong port, or held there",
    "set 38400 baud, 8N1, no flow control on the server; raw mode, no telnet negotiation",
)


def _untried_rate(report: PortReport) -> Cause:
    tried = ", ".join(map(str, report.rates))
    return Cause("wrong rate: one that was not tried", f"tried: {tried}; ask the board's makers, then `--rate N`")


def _garbage(report: PortReport) -> tuple[Cause, ...]:
    wrong_rate = Cause(
        f"wrong rate{_at_rates(report)}",
        "octets come, and none is a frame: try `--rate N` with the rate of the board's firmware",
    )
    levels = Cause("levels or wiring", "3.3 V against 5 V or RS-232 (inverted), a ground that is missing, long wires")
    return (wrong_rate, levels, *_held(report), Cause("not a board of this kind", "compare what the device is"))


def _damaged(report: PortReport) -> tuple[Cause, ...]:
    return (
        *_held(report),
        Cause("octets are lost or damaged on the way", "shorter wires, a common ground, another adapter"),
        Cause("the rate is a little off", "a board with an inaccurate clock: compare another board"),
    )


def _text(report: PortReport) -> tuple[Cause, ...]:
    return (
        _WRONG_CONNECTOR,
        Cause("another device", f"it says: {report.first_octets[:60].decode(errors='replace').strip()!r}"),
    )


def _echo(report: PortReport) -> tuple[Cause, ...]:
    return (
        Cause("TX and RX of the adapter are joined", "look for a bridge or a loop-back plug"),
        Cause("a half-duplex adapter (RS-485) that hears itself", "switch its echo off; nobody else answered either"),
    )


def _other_frames(report: PortReport) -> tuple[Cause, ...]:
    return (
        Cause("another primary is on this line", "a NIC that is still connected: only one may ask; unplug it"),
        Cause("a station with another address", "these tools ask address 1; see the frames above"),
    )


def _refused(report: PortReport) -> tuple[Cause, ...]:
    return (Cause("the firmware is there and refuses a link (DM)", "reset the board; then ask its makers"),)


def _hung_up(report: PortReport) -> tuple[Cause, ...]:
    return (Cause("the device went away while it was asked", "cable, power, or the process behind it; then try again"),)


def _in_use(report: PortReport) -> tuple[Cause, ...]:
    return (Cause("a process has the port", "end it, or watch through it; nothing was sent to the board"),)


_ADVICE: Final[Mapping[Finding, Callable[[PortReport], tuple[Cause, ...]]]] = {
    Finding.SILENCE: _silence,
    Finding.GARBAGE: _garbage,
    Finding.DAMAGED: _damaged,
    Finding.TEXT: _text,
    Finding.ECHO: _echo,
    Finding.OTHER_FRAMES: _other_frames,
    Finding.REFUSED: _refused,
    Finding.HUNG_UP: _hung_up,
    Finding.HELD: _in_use,
}
