"""Probe a port: try what can be tried harmlessly, and tell what is there.

The order: who holds the port; open; listen; SNRM at each rate, bare (Milli) and with parameters (standard), with
silence between; when UA comes, two GETs, one RR, and DISC. Nothing is written to the board, nothing is repeated that it
might have executed. What came is judged in `probe_report`, put into words in `advice`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hardware.errors import PortError, PortProblem
from hardware.holders import Holder, holders
from hardware.port_spec import DevicePort, FaultyPort, PortSpec, PtyPort, SimPort, parse_port
from hardware.ports import open_port
from hardware.probe_line import Heard, ProbeLine
from hardware.probe_report import Attempt, BoardFacts, Finding, PortReport, Transport, judge, weightiest
from hardware.probe_session import ProbeSession, snrm_frame
from hardware.uart_errors import UartErrors
from meshwire.coap.message import Message
from meshwire.frame_text import frame_line, message_line
from meshwire.hdlc.control import FrameKind
from meshwire.hdlc.errors import ParameterError
from meshwire.hdlc.frame import Frame
from meshwire.hdlc.parameters import DEFAULT_PARAMETERS, LinkParameters, decode_parameters
from meshwire.pipe import Pipe

__all__ = ["USUAL_RATES", "ProbePlan", "identify", "probe_port", "transport_of"]

USUAL_RATES: Final = (38400, 9600, 19200, 57600, 115200)
"""The boards' own rate first, then those that people set."""
LISTEN_S: Final = 0.5
MILLI_DELAY_S: Final = 0.3
"""An answer before this is not from a Milli board, which waits for 400 ms of silence."""
_MILLI_TEXT: Final = re.compile(r"Reference CoAP Server:\s*([0-9][0-9.]*)")
_KNOWN_MILLI: Final = ("1.4.8", "1.4.5")
_STANDARD_TEXT: Final = re.compile(r"\bstandard\b", re.IGNORECASE)

Opener = Callable[..., Awaitable[Pipe]]


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """How far to go.

    Args:
        rates: bits a second to try, in order; empty: the usual ones on lines that have a rate, none elsewhere.
        wait_s: go on asking for so many seconds before silence is believed (a Milli board may boot for 16 s).
    """

    rates: tuple[int, ...] = ()
    wait_s: float = 0.0


def transport_of(spec: PortSpec) -> Transport:
    """What kind of line a PORT is."""
    match spec:
        case FaultyPort(inner=inner):
            return transport_of(inner)
        case SimPort():
            return Transport.SIMULATED
        case PtyPort():
            return Transport.PTY
        case DevicePort(path=path):
            return Transport.PTY if str(Path(path).resolve()).startswith("/dev/pts/") else Transport.SERIAL
        case _:
            return Transport.NETWORK


async def probe_port(port: str, plan: ProbePlan | None = None, *, opener: Opener = open_port) -> PortReport:
    """Probe one PORT and tell all; never raises for what is wrong with the port.

    Args:
        port: any PORT.
        plan: how far to go.
        opener: opens a PORT at a rate; for tests.
    """
    plan = plan or ProbePlan()
    try:
        spec = parse_port(port)
    except PortError as error:
        return _not_opened(PortReport(port, Transport.SERIAL, Finding.NOT_OPENED), error)
    report = PortReport(port, transport_of(spec), Finding.SILENCE, holders=_holders_of(spec))
    if report.holders and report.transport is Transport.SERIAL:
        # Two readers would each get half of the octets, and our question would fall into somebody's conversation.
        return replace(report, finding=Finding.HELD, exit_code=5)
    try:
        return await _probe_rates(report, plan, opener)
    except PortError as error:
        return _not_opened(report, error)


def _not_opened(report: PortReport, error: PortError) -> PortReport:
    finding = Finding.HELD if error.problem is PortProblem.BUSY else Finding.NOT_OPENED
    return replace(report, finding=finding, reason=str(error), exit_code=int(error.exit_code))


def _holders_of(spec: PortSpec) -> tuple[Holder, ...]:
    """Who has the port open. The process behind a pty has, too: it is the board, and no reason to stop."""
    return holders(spec.path) if isinstance(spec, DevicePort) else ()


async def _probe_rates(report: PortReport, plan: ProbePlan, opener: Opener) -> PortReport:
    """One rate after the other until a board answers; again from the first while `wait_s` lasts."""
    now = asyncio.get_running_loop().time
    ends = now() + plan.wait_s
    rates: Sequence[int | None] = plan.rates or (USUAL_RATES if report.transport is Transport.SERIAL else (None,))
    while True:
        for baud in rates:
            report = await _probe_rate(report, baud, opener)
            if report.board is not None or report.finding is Finding.HUNG_UP:
                return report
        if now() >= ends:
            return report


async def _probe_rate(report: PortReport, baud: int | None, opener: Opener) -> PortReport:
    async with _opened(report.port, baud, opener) as (line, uart):
        attempts: list[Attempt] = []
        board = await _probe_line(line, baud, attempts)
        tried = (*report.attempts, *attempts)
        errors = uart.since_opening() or report.uart_errors
        finding = weightiest(tried)
        return replace(report, attempts=tried, finding=finding, baud=baud, board=board, uart_errors=errors)


@asynccontextmanager
async def _opened(port: str, baud: int | None, opener: Opener) -> AsyncIterator[tuple[ProbeLine, UartErrors]]:
    pipe = await (opener(port) if baud is None else opener(port, baud=baud))
    try:
        yield ProbeLine(pipe), UartErrors(port)
    finally:
        await pipe.aclose()


async def _probe_line(line: ProbeLine, baud: int | None, attempts: list[Attempt]) -> BoardFacts | None:
    """Listen, then ask both ways; stop asking at this rate as soon as anything is heard."""
    heard = await line.listen(LISTEN_S)
    attempts.append(Attempt(baud, "listened", judge(heard, None), heard))
    if heard.hung_up:
        return None
    for with_parameters, words in ((False, "SNRM"), (True, "SNRM with parameters")):
        question = snrm_frame(with_parameters=with_parameters)
        heard = await line.ask(question)
        finding = judge(heard, question)
        attempts.append(Attempt(baud, words, finding, heard))
        if finding is Finding.BOARD:
            return await _ask_facts(line, heard)
        if finding is not Finding.SILENCE:
            return None
    return None


async def identify(pipe: Pipe) -> str | None:
    """Which link profile a board on an opened line wants (`milli` or `standard`); None when it does not answer SNRM.

    A Milli board looks at its line only after 400 ms of silence; of a slow board the window tells, which a Milli board
    never raises above one frame (dialect A.5).
    """
    line = ProbeLine(pipe)
    profile = None
    for with_parameters in (False, True):
        heard = await line.ask(snrm_frame(with_parameters=with_parameters))
        if heard.hung_up:
            return None
        if (answer := _ua(heard)) is not None:
            profile = _link_profile(heard.delay_s or 0.0, _parameters(answer))
            if profile == "standard":
                break
    return profile


def _link_profile(delay_s: float, parameters: LinkParameters) -> str:
    return "milli" if delay_s >= MILLI_DELAY_S and parameters.window_receive == 1 else "standard"


def _ua(heard: Heard) -> Frame | None:
    return next((frame for frame in heard.frames if frame.control.kind is FrameKind.UA), None)


def _parameters(answer: Frame) -> LinkParameters:
    try:
        return decode_parameters(answer.info)
    except ParameterError:
        return DEFAULT_PARAMETERS


async def _ask_facts(line: ProbeLine, heard: Heard) -> BoardFacts:
    """What is it, what has it got, is anything waiting; then leave."""
    answer = _ua(heard)
    assert answer is not None and heard.delay_s is not None
    session = ProbeSession(line)
    root = await session.get()
    links = await session.get(".well-known", "core")
    await session.fetch_waiting()
    version = _text(root)
    firmware, profile = _firmware(version, _link_profile(heard.delay_s, _parameters(answer)))
    keeps = bool(session.unasked) and profile == "milli"
    return BoardFacts(
        firmware=firmware,
        profile=profile,
        version_text=version,
        links=_text(links),
        answer_s=heard.delay_s,
        parameters=frame_line(answer),
        pending="; ".join(message_line(message) for message in session.unasked),
        released=not keeps and await session.release(),
    )


def _text(message: Message | None) -> str:
    return "" if message is None else message.payload.decode(errors="replace")


def _firmware(version: str, by_timing: str) -> tuple[str, str]:
    """Firmware and link profile: by what the board says, else by how quickly it answers."""
    if found := _MILLI_TEXT.search(version):
        return f"milli-{found[1]}" + ("" if found[1] in _KNOWN_MILLI else " (not known to this release)"), "milli"
    if _STANDARD_TEXT.search(version):
        return "standard", "standard"
    return "other", by_timing
