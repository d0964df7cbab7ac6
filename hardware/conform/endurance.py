"""Cases of group endurance: many exchanges with faults on the line, mended as a primary mends them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from hardware.conform.bench import Bench
from hardware.conform.case import Case, Group, Outcome, failed, judge
from meshwire.coap import codes
from meshwire.coap.message import Message, encode
from meshwire.hdlc.control import FrameKind

__all__ = ["CASES"]

_SEED: Final = 62056
_ATTEMPTS: Final = 6


@dataclass(slots=True)
class _Line:
    """Which frames are damaged: a share of those sent, and of those received, which are then not looked at."""

    random: random.Random
    share: float
    faults: int = 0

    def strikes(self) -> bool:
        """Whether this frame is damaged."""
        struck = self.random.random() < self.share
        self.faults += struck
        return struck


async def _endure(bench: Bench) -> Outcome:
    line = _Line(random.Random(_SEED), bench.settings.fault_share)
    for number in range(bench.settings.exchanges):
        request = bench.message(codes.GET, "sys/time")
        answer = await _exchange(bench, request, line)
        if answer is None:
            return failed(f"exchange {number + 1} of {bench.settings.exchanges} brought no answer")
        if answer.code != codes.CONTENT or len(answer.payload) != 4:
            return failed(f"exchange {number + 1}: {answer}")
    return judge(True, f"{bench.settings.exchanges} exchanges, {line.faults} damaged frames")


async def _exchange(bench: Bench, request: Message, line: _Line) -> Message | None:
    """One request over the bad line. A damaged command is put again; of a damaged answer, N(R) asks again."""
    sdu = encode(request)
    for _ in range(_ATTEMPTS):
        if line.strikes():
            damaged = bytearray(bench.frame(FrameKind.I, sdu))
            damaged[-3] ^= 1 << line.random.randrange(8)
            await bench.raw(bytes(damaged), until_final=True)
            continue
        if not line.strikes():
            return await bench.ask(sdu)
        if bench.milli:
            # The answer is lost, and only the same I frame brings another.
            await bench.raw(bench.frame(FrameKind.I, sdu), until_final=True)
            continue
        octets = bench.frame(FrameKind.I, sdu)
        bench.send_number = (bench.send_number + 1) % 8
        await bench.raw(octets, until_final=True)
        return await _fetch(bench, request)
    return None


async def _fetch(bench: Bench, request: Message) -> Message | None:
    for _ in range(40):
        await bench.poll()
        for message in tuple(bench.inbox):
            bench.inbox.remove(message)
            if message.token == request.token and codes.is_response(message.code):
                return message
    return None


CASES: Final = (
    Case("END-001", Group.ENDURANCE, "exchanges on a bad line",
         "Every exchange is answered rightly while a hundredth of the frames is damaged in either direction.",
         "ISO/IEC 13239, 5.5.3", _endure, "The same, by repeating the I frame.", "A.8 rule 4",
         needs=("HDLC-LNK-012", "HDLC-FRM-006", "RES-005")),
)  # fmt: skip
