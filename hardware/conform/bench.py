"""The bench: one board on one open port, asked with exact octets.

Does:     keeps the primary's V(S) and V(R); carries CoAP messages in I frames and polls for answers; gathers what the
          board says by itself. The octets are the `Line`'s.
Does not: judge; repeat by itself; give up a link because the board broke a rule, for that is what is to be found out.
Caller owes: a running loop, whose clock is the only one used, and ``aclose``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from hardware.conform.case import Profile
from hardware.conform.line import Line, Turn
from meshwire.coap import codes, options
from meshwire.coap.message import ACK, CON, NON, RST, Message, MessageError, decode, encode
from meshwire.hdlc.address import Address
from meshwire.hdlc.control import ControlField, FrameKind
from meshwire.hdlc.errors import ParameterError
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.parameters import DEFAULT_PARAMETERS, decode_parameters
from meshwire.pipe import Pipe

__all__ = ["Bench", "BenchSettings", "Observed", "Turn"]

_MODULUS: Final = 8
_STATION: Final = Address(1)


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """How patient the bench is; times in seconds.

    Args:
        profile: what the board is judged against.
        sensor: path of the sensor that is read and observed.
        answer_timeout_s: silence that means no answer. Boards that look at their line only after 400 ms of silence need
            most of it, and it keeps the pause that they want after a frame they dropped.
        gap_s: silence that ends an answer.
        response_timeout_s: how long a CoAP response is polled for.
        notification_wait_s: how long one notification is waited for.
        exchanges: length of the endurance run.
        fault_share: part of the frames that it damages.
    """

    profile: Profile = Profile.STANDARD
    sensor: str = "arduino/temp"
    answer_timeout_s: float = 1.2
    gap_s: float = 0.06
    response_timeout_s: float = 4.0
    notification_wait_s: float = 75.0
    exchanges: int = 1000
    fault_share: float = 0.01


@dataclass(slots=True)
class Observed:
    """What one observation brought: the answer to the registration, then notifications with their arrival times."""

    answer: Message | None
    notifications: list[tuple[float, Message]] = field(default_factory=list)


class Bench(Line):
    """See the module. Make it with an open pipe inside a running loop."""

    def __init__(
        self, pipe: Pipe, settings: BenchSettings | None = None, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.settings: Final = settings or BenchSettings()
        super().__init__(pipe, answer_timeout_s=self.settings.answer_timeout_s, gap_s=self.settings.gap_s)
        self.wall_clock: Final = wall_clock
        self.inbox: deque[Message] = deque(maxlen=64)
        """Messages of the board that answered nothing: reboot message, notifications."""
        self.first_words: list[Message] = []
        """What the board said when it was first polled, in order, repetitions included."""
        self.observed: Observed | None = None
        """The one long observation that several cases look at."""
        self.keeps_delivered_message = False
        """The board sends a message again that was acknowledged; its slot is freed by DISC only."""
        # Another run on the same board must not look like a duplicate of this one (RFC 7252, 4.5).
        self._mid = int(wall_clock() * 1000) & 0xFFFF
        self._token = self._mid
        self._seen_mids: deque[int] = deque(maxlen=16)
        self._parts = b""
        self._max_info = DEFAULT_PARAMETERS.max_info_receive
        self.send_number = 0
        self.receive_number = 0

    @property
    def milli(self) -> bool:
        """Whether the dialect is the law."""
        return self.settings.profile is Profile.MILLI

    # ---- frames

    def frame(self, kind: FrameKind, info: bytes = b"", *, poll: bool = True, segmented: bool = False) -> bytes:
        """The octets of a command with the present V(S) and V(R)."""
        ns = self.send_number if kind is FrameKind.I else 0
        nr = self.receive_number if kind in (FrameKind.I, FrameKind.RR, FrameKind.RNR) else 0
        return encode_frame(Frame(_STATION, _STATION, ControlField(kind, ns, nr, poll), info, segmented))

    async def command(self, kind: FrameKind, info: bytes = b"", **how: bool) -> Turn:
        """Send one command and take the answer's sequence numbers into account."""
        return self._take(await self.raw(self.frame(kind, info, **how)))

    def _take(self, turn: Turn) -> Turn:
        """V(R), reassembly and CoAP of what came."""
        for frame in turn.frames:
            if frame.kind is FrameKind.I and frame.control.ns == self.receive_number:
                self.receive_number = (self.receive_number + 1) % _MODULUS
                self._parts += frame.info
                if not frame.segmented:
                    sdu, self._parts = self._parts, b""
                    self._take_message(sdu)
        return turn

    def _take_message(self, sdu: bytes) -> None:
        try:
            message = decode(sdu)
        except MessageError:
            return
        self.inbox.append(message)

    async def connect(self) -> Turn:
        """A new link: SNRM; numbers begin at 0."""
        self.send_number = self.receive_number = 0
        self._parts = b""
        turn = await self.raw(self.frame(FrameKind.SNRM), until_final=True)
        for frame in turn.frames:
            if frame.kind is FrameKind.UA:
                self._max_info = _offered(frame.info)
        return turn

    async def release(self) -> Turn:
        """DISC."""
        return await self.raw(self.frame(FrameKind.DISC), until_final=True)

    async def fresh(self) -> None:
        """The state in which each case begins: a link that was just made, nothing on the way."""
        await self.release()
        await self.connect()
        self.inbox.clear()

    async def poll(self) -> Turn:
        """RR with P."""
        return self._take(await self.raw(self.frame(FrameKind.RR), until_final=True))

    async def polled(self, seconds: float = 0.5) -> tuple[Message, ...]:
        """Poll until nothing came for ``seconds``; everything that the board has to say."""
        seconds += 3 * self.slowest_s
        end = self.now() + seconds
        while self.now() < end:
            before = len(self.inbox)
            turn = await self.poll()
            if len(self.inbox) > before:
                end = self.now() + seconds
                if await self._free_slot():
                    break
            elif not turn.has(FrameKind.I):
                await asyncio.sleep(0.03)
        return tuple(self.inbox)

    # ---- CoAP

    def message(
        self,
        code: int,
        path: str = "",
        query: str | None = None,
        *,
        mtype: int = CON,
        token: bytes | None = None,
        extra: Sequence[tuple[int, bytes]] = (),
        payload: bytes = b"",
    ) -> Message:
        """A request with a message ID and a token of its own."""
        self._mid = (self._mid + 1) & 0xFFFF
        self._token = (self._token + 1) & 0xFFFF
        every = [*extra, *((options.URI_PATH, part.encode()) for part in path.split("/") if part)]
        if query is not None:
            every.append((options.URI_QUERY, query.encode()))
        every.sort(key=lambda pair: pair[0])
        own = self._token.to_bytes(2, "big") if token is None else token
        return Message(mtype, code, self._mid, own, tuple(every), payload)

    def sensor(self, code: int = codes.GET, query: str = "sens", **fields: object) -> Message:
        """A request to the sensor under test."""
        return self.message(code, self.settings.sensor, query, **fields)  # type: ignore[arg-type]

    async def send(self, sdu: bytes) -> Turn:
        """Carry an SDU in I frames with P, each as long as the board's UA allows."""
        for start in range(0, max(1, len(sdu)), self._max_info):
            more = start + self._max_info < len(sdu)
            octets = self.frame(FrameKind.I, sdu[start : start + self._max_info], segmented=more)
            self.send_number = (self.send_number + 1) % _MODULUS
            turn = self._take(await self.raw(octets, until_final=True))
        return turn

    async def ask(self, message: Message | bytes, *, wait_s: float | None = None) -> Message | None:
        """Send a message and poll for what answers it: same token, or an empty message with the same MID."""
        sdu = message if isinstance(message, bytes) else encode(message)
        mid, token = int.from_bytes(sdu[2:4], "big"), sdu[4 : 4 + (sdu[0] & 15)]
        patience = (self.settings.response_timeout_s if wait_s is None else wait_s) + 3 * self.slowest_s
        await self.send(sdu)
        end = self.now() + patience
        pause_s = 0.01
        while (answer := self._answer(mid, token)) is None and self.now() < end:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.1)
            if (await self.poll()).has(FrameKind.I):
                end = self.now() + patience  # segments come, one a turn
        if answer is not None and answer.mtype == CON:
            await self.send(encode(Message(ACK, codes.EMPTY, answer.mid)))
        return answer

    def _answer(self, mid: int, token: bytes) -> Message | None:
        for message in self.inbox:
            empty = message.code == codes.EMPTY and message.mid == mid and message.mtype in (ACK, RST, NON)
            if empty and message.mtype == ACK and codes.is_request(message.code):
                continue
            if empty or (codes.is_response(message.code) and message.token == token):
                self.inbox.remove(message)
                return message
        return None

    async def get(self, path: str, query: str | None = None, **fields: object) -> Message | None:
        """GET and its answer."""
        return await self.ask(self.message(codes.GET, path, query, **fields))  # type: ignore[arg-type]

    # ---- messages that nobody asked for

    async def _free_slot(self) -> bool:
        """Find out once whether an acknowledged message comes again; if so, free it by DISC each time."""
        if not self.keeps_delivered_message:
            newest = self.inbox[-1]
            turn = await self.raw(self.frame(FrameKind.RR), until_final=True)
            same = [frame for frame in turn.frames if frame.kind is FrameKind.I and frame.info == encode(newest)]
            if not same:
                self._take(turn)
                return False
            self.keeps_delivered_message = True
        await self.release()
        await self.connect()
        return True

    async def listen(self, seconds: float, count: int) -> list[tuple[float, Message]]:
        """Poll for notifications, at most ``count`` of them, each awaited for ``seconds``."""
        heard: list[tuple[float, Message]] = []
        end = self.now() + seconds
        while len(heard) < count and self.now() < end:
            if self.inbox:
                message = self.inbox.popleft()
                if message.mid in self._seen_mids:
                    continue
                self._seen_mids.append(message.mid)
                heard.append((self.now(), message))
                end = self.now() + seconds
                if message.mtype == CON:
                    await self.send(encode(Message(ACK, codes.EMPTY, message.mid)))
                continue
            await self.poll()
            if self.inbox:
                await self._free_slot()
            else:
                await asyncio.sleep(0.25)
        return heard

    async def observation(self) -> Observed:
        """Register once for the whole run, gather a few notifications, and deregister."""
        if self.observed is None:
            request = self.sensor(extra=((options.OBSERVE, b""),))
            self.observed = Observed(await self.ask(request))
            self.inbox.clear()
            self.observed.notifications = await self.listen(self.settings.notification_wait_s, 4)
            await self.ask(self.sensor(token=request.token, extra=((options.OBSERVE, b"\x01"),)))
            self.observed.notifications = [
                (at_s, message)
                for at_s, message in self.observed.notifications
                if codes.is_response(message.code) or message.mtype in (CON, NON)
            ]
        return self.observed


def _offered(info: bytes) -> int:
    """The longest information field that a UA takes; the default where it does not say, or not readably."""
    try:
        return decode_parameters(info).max_info_receive
    except ParameterError:
        return DEFAULT_PARAMETERS.max_info_receive
