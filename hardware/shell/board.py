"""BoardClient: CoAP to the board over a Link, one request at a time, and everything the board says by itself.

Does: message IDs, tokens, matching, observations, what is known of a request without an answer; polls boards that only
speak when they are asked, while something is observed. Does not: print, parse commands, hold dangerous requests back.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from hardware.shell.errors import BoardSilent
from meshwire.coap import codes
from meshwire.coap.message import ACK, CON, NON, RST, Message, MessageError, decode, encode
from meshwire.coap.options import OBSERVE
from meshwire.hdlc.errors import HdlcError
from meshwire.hdlc.events import DataReceived, DownReason, Event, LinkDown
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.primary_table import State
from meshwire.hdlc.profile import SessionKind
from meshwire.link import Link
from meshwire.round_trip import RoundTrips

__all__ = ["Answer", "BoardClient"]

ANSWER_S: Final = 20.0
"""Longest wait for a response: the link's own repetitions take up to 12 s on a Milli board."""
_SETTLE_S: Final = 8.0
_TURN_S: Final = 1.0
"""What a standing link is given for an answer that nobody matches."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response and how long it took, in seconds."""

    message: Message
    round_trip_s: float


@dataclass(slots=True)
class _Waiting:
    message: Message
    done: asyncio.Future[Message]
    handle: int = -1
    acknowledged: bool = False

    def fail(self, what: str, evidence: str) -> None:
        if not self.done.done():
            self.done.set_exception(
                BoardSilent(what, evidence=evidence, fix="`meshwire probe PORT` looks for the cause")
            )

    def answered_by(self, message: Message) -> bool:
        if message.token != self.message.token or message.mtype == RST:
            return False
        if message.mid == self.message.mid:
            return message.mtype in (ACK, NON)
        return message.mtype != ACK and (self.acknowledged or self.message.option(OBSERVE) is None)


class BoardClient:
    """See the module.

    Args:
        link: the line; driven by somebody else.
        station: the link's station.
        poll_s: seconds between two polls while something is observed, on links that end with each exchange.
    """

    def __init__(self, link: Link, station: PrimaryStation, *, poll_s: float) -> None:
        self.round_trips = RoundTrips()
        self.observations: dict[bytes, str] = {}
        """Token to target, of what is observed."""
        self.notifications = 0
        self.on_message: Callable[[Message, str | None], None] | None = None
        """Told of what comes unasked: the message, and the target where it is a notification."""
        self._link = link
        self._station = station
        self._poll_s = poll_s
        self._lock = asyncio.Lock()
        self._waiting: _Waiting | None = None
        self._session_ended = asyncio.Event()
        self._mid = int.from_bytes(os.urandom(2), "big")
        self._unsubscribe = link.subscribe(self._on_event)

    @property
    def per_exchange(self) -> bool:
        """Whether the link ends with each exchange."""
        return self._station.profile.session is SessionKind.PER_EXCHANGE

    def close(self) -> None:
        """Hear nothing more from the link."""
        self._unsubscribe()

    async def request(self, message: Message, *, token: bytes | None = None) -> Answer:
        """Send a request and return the response, whatever its code.

        Raises:
            BoardSilent: no response; the message says what is known of the request.
        """
        self._mid = (self._mid + 1) & 0xFFFF
        outgoing = replace(message, mtype=CON, mid=self._mid, token=token or self._mid.to_bytes(2, "big"))
        async with self._lock:
            answer = await self._exchange(outgoing)
        self.round_trips.add(answer.round_trip_s)
        return answer

    async def observe(self, message: Message, target: str) -> Answer:
        """Register for notifications of `target`; they reach `on_message`."""
        token = b"o" + self._mid.to_bytes(2, "big")
        answer = await self.request(message.with_options([(OBSERVE, b"")]), token=token)
        if codes.is_success(answer.message.code) and answer.message.option(OBSERVE) is not None:
            self.forget(target)
            self.observations[token] = target
        return answer

    async def cancel(self, message: Message, target: str) -> Answer:
        """Deregister (Observe 1) with the token of the registration (RFC 7641 section 3.6)."""
        token = next((token for token, known in self.observations.items() if known == target), None)
        answer = await self.request(message.with_options([(OBSERVE, b"\x01")]), token=token)
        self.forget(target)
        return answer

    def forget(self, target: str) -> None:
        """No notification of `target` is expected any more."""
        self.observations = {token: known for token, known in self.observations.items() if known != target}

    async def send_unmatched(self, sdu: bytes) -> None:
        """Send an SDU as it is, and let whatever comes back come: it reaches `on_message`."""
        async with self._lock:
            self._session_ended.clear()
            try:
                self._link.send(sdu)
            except HdlcError as error:
                raise _not_sent(error) from None
            await self._session_end()

    async def poll(self) -> None:
        """Ask the board whether it has something to say."""
        async with self._lock:
            self._session_ended.clear()
            self._link.poll()
            await self._session_end()

    async def alone(self, act: Callable[[], None], quiet_s: float, answer_s: float) -> None:
        """Do something on the line while the link rests, after silence, then leave time for an answer (seconds)."""
        async with self._lock:
            await self._rest()
            if self.per_exchange:
                await asyncio.sleep(quiet_s)
            act()
            await asyncio.sleep(answer_s)

    async def finish(self) -> None:
        """Leave the board with the link down: let a session end with its DISC, release a standing link."""
        async with self._lock:
            await self._rest()
            if not self.per_exchange:
                self._session_ended.clear()
                self._link.disconnect()
                await self._session_end()

    async def run(self) -> None:
        """Poll while something is observed; ends when cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            if self.observations and self.per_exchange and not self._lock.locked():
                await self.poll()

    # ---- one exchange

    async def _exchange(self, message: Message) -> Answer:
        now = asyncio.get_running_loop().time
        waiting = _Waiting(message, asyncio.get_running_loop().create_future())
        self._waiting = waiting
        began = now()
        try:
            async with asyncio.timeout(ANSWER_S):
                waiting.handle = self._link.send(encode(message))
                return Answer(await waiting.done, now() - began)
        except TimeoutError:
            raise BoardSilent("no answer", evidence=f"{ANSWER_S:g} s of silence; it may have been executed") from None
        except HdlcError as error:
            raise _not_sent(error) from None
        finally:
            self._waiting = None

    async def _session_end(self) -> None:
        """Wait until the session with its DISC is over; a standing link is given the time of a turn."""
        try:
            async with asyncio.timeout(_SETTLE_S if self.per_exchange else _TURN_S):
                await self._session_ended.wait()
        except TimeoutError:
            pass

    async def _rest(self) -> None:
        if self.per_exchange and self._station.state is not State.DISCONNECTED:
            self._session_ended.clear()
            await self._session_end()

    # ---- what the link tells

    def _on_event(self, event: Event) -> None:
        match event:
            case DataReceived(sdu=sdu) if sdu:
                self._receive(sdu)
            case LinkDown():
                self._session_ended.set()
                self._note_down(event)
            case _:
                pass  # the live view and the counters show it

    def _note_down(self, event: LinkDown) -> None:
        waiting = self._waiting
        lost = not self.per_exchange or event.reason is DownReason.PIPE_LOST
        if waiting is not None and waiting.handle in event.unsent:
            waiting.fail("the request was not executed", event.reason.value)
        elif waiting is not None and (waiting.handle in event.uncertain or lost):
            waiting.fail("no answer; the request may have been executed", event.reason.value)
        if lost:
            self.observations = {}  # a board forgets them with its link

    def _receive(self, sdu: bytes) -> None:
        try:
            message = decode(sdu)
        except MessageError as error:
            if self._waiting is not None:
                self._waiting.fail("the answer can't be read", f"{error.reason}: {sdu.hex(' ')}")
            return
        if not self._settles(message):
            self._answer(message)
            if self.on_message is not None and message.code != codes.EMPTY:
                target = self.observations.get(message.token)
                self.notifications += target is not None
                self.on_message(message, target)

    def _settles(self, message: Message) -> bool:
        """Whether the message belongs to the request that waits."""
        waiting = self._waiting
        if waiting is None or waiting.done.done():
            return False
        if message.code == codes.EMPTY:
            if message.mid != waiting.message.mid or message.mtype not in (ACK, RST):
                return False
            waiting.acknowledged = True
            if message.mtype == RST or self.per_exchange:
                waiting.fail("the board answered without a response", "RST" if message.mtype == RST else "an empty ACK")
            return True
        if codes.is_request(message.code) or not waiting.answered_by(message):
            return False
        if message.mtype == CON:
            self._reply(Message(ACK, codes.EMPTY, message.mid))
        waiting.done.set_result(message)
        return True

    def _answer(self, message: Message) -> None:
        """What CoAP owes for a message that came unasked; Milli boards are owed nothing (dialect A.8 rule 7)."""
        if message.mtype != CON:
            return
        if codes.is_request(message.code):
            self._reply(Message(ACK, codes.CHANGED, message.mid, message.token))
        else:
            known = message.token in self.observations
            self._reply(Message(ACK if known else RST, codes.EMPTY, message.mid))

    def _reply(self, message: Message) -> None:
        if not self.per_exchange:
            self._link.send(encode(message))


def _not_sent(error: HdlcError) -> BoardSilent:
    return BoardSilent("the request was not sent", evidence=str(error), fix="a shorter message")
