"""BoardClient: CoAP client towards the sensor board, on a Link, with one request in flight.

Does: message IDs and tokens, matching of answers, what is known about a request whose answer did not come, and handing
on what the board says by itself (reboot message, notifications). Does not: decide what to observe, or what goes to the
network. Caller owes: a task for `run()`, and a listener that never blocks.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import structlog

from meshwire.coap import codes
from meshwire.coap.message import ACK, CON, NON, RST, Message, MessageError, decode, encode
from meshwire.coap.options import OBSERVE
from meshwire.hdlc.events import DataReceived, DownReason, Event, LinkDown, LinkUp
from meshwire.link import LinkStatus
from meshwire.round_trip import RoundTrips
from nic_sim.board_profile import BoardProfile
from nic_sim.board_rules import check_request, normalise
from nic_sim.errors import BoardBusy, BoardError
from nic_sim.repetition import Fate, Outcome, failure_of

__all__ = ["BoardClient", "BoardLink", "BoardListener"]

MAX_WAITING_REQUESTS: Final = 16
"""Requests of clients that may wait for the one in flight; a Milli board needs 2 s for each."""
REQUEST_TOKEN_OCTETS: Final = 2
"""Tokens of requests are shorter than those of Observations (`observations.TOKEN_OCTETS`), so the two never meet."""
LINK_RETRY_S: Final = 5
"""A lost port is opened again within so many seconds (`meshwire.link.LONGEST_RETRY_S`)."""
ORDERLY: Final = frozenset({DownReason.RELEASED, DownReason.SDU_TOO_LONG})
"""Ends of a session that say nothing against link or board."""
REBOOT_PATH: Final = ("sys", "snsr")
REBOOT_QUERY: Final = "ev=rbt"

_log = structlog.get_logger(__name__)


class BoardLink(Protocol):
    """What is needed of `meshwire.link.Link`."""

    def send(self, sdu: bytes) -> int: ...
    def poll(self) -> None: ...
    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]: ...
    @property
    def status(self) -> LinkStatus: ...


class BoardListener(Protocol):
    """Who is told what the board says or does by itself."""

    def board_reached(self) -> None:
        """The link works: a standing link came up, or a session with the board ended in good order."""
        ...

    def board_lost(self, reason: DownReason) -> None:
        """The link broke; the board may have been reset, unplugged or replaced meanwhile."""
        ...

    def board_rebooted(self) -> None:
        """The board's reboot message came: it has forgotten its clock and all registrations."""
        ...

    def board_notified(self, message: Message) -> bool:
        """A response outside of a request came; True when its token belongs to an Observation."""
        ...


@dataclass(slots=True)
class _Sending:
    """The request in flight."""

    message: Message
    done: asyncio.Future[Message | Outcome]
    handle: int = -1
    acknowledged: bool = False

    def settle(self, result: Message | Outcome) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def answered_by(self, message: Message) -> bool:
        """Whether `message` is the response. An Observation's token also comes with notifications: those have their
        own message IDs, so a registration is answered by its own ID, or after an empty acknowledgement."""
        if message.token != self.message.token or message.mtype == RST:
            return False
        if message.mid == self.message.mid:
            return message.mtype in (ACK, NON)
        return message.mtype != ACK and (self.acknowledged or self.message.option(OBSERVE) is None)


@dataclass(slots=True, order=True)
class _Job:
    """A request in the queue: the NIC's own first (a clock, a registration), then in order of arrival."""

    rank: tuple[bool, int]
    message: Message = field(compare=False)
    answer: asyncio.Future[Message] = field(compare=False)


class BoardClient:
    """The NIC's half of the conversation with its board.

    Args:
        link: the serial link; driven by somebody else.
        profile: what kind of board it is.
        seed: for message IDs and tokens; None: from the operating system.
    """

    def __init__(self, link: BoardLink, profile: BoardProfile, *, seed: int | None = None) -> None:
        self.profile = profile
        self.counters: Counter[str] = Counter()
        self.round_trips = RoundTrips()
        """From a request to its response, the link's own repetitions included."""
        self.listener: BoardListener | None = None
        self._link = link
        self._jobs: asyncio.PriorityQueue[_Job] = asyncio.PriorityQueue()
        self._jobs_made = 0
        self._clients_waiting = 0
        self._sending: _Sending | None = None
        chance = random.Random(seed)
        self._mid = chance.getrandbits(16)
        self._token = chance.getrandbits(16)
        self._unsubscribe = link.subscribe(self._on_event)

    async def request(self, message: Message, *, own: bool = False) -> Message:
        """Send a request and return the board's response, whatever its code.

        Args:
            message: type and ID are ignored; an empty token is replaced by a fresh one.
            own: the NIC's own business, which goes before that of clients and is never refused for their number.

        Raises:
            BoardError: refused by the rules, too many waiting, or no response; the class says which.
        """
        message = normalise(message)
        check_request(message, self.profile)
        if own:
            return await self._queue(message, own)
        if self._clients_waiting >= MAX_WAITING_REQUESTS:
            self.counters["refused-busy"] += 1
            raise BoardBusy(f"{self._clients_waiting} requests wait for the board already", max_age_s=LINK_RETRY_S)
        self._clients_waiting += 1
        try:
            return await self._queue(message, own)
        finally:
            self._clients_waiting -= 1

    async def _queue(self, message: Message, own: bool) -> Message:
        self._jobs_made += 1
        job = _Job((not own, self._jobs_made), message, asyncio.get_running_loop().create_future())
        self._jobs.put_nowait(job)
        return await job.answer

    def poll(self) -> None:
        """Ask the board whether it has something to say."""
        self._link.poll()

    def board_replaced(self, profile: BoardProfile) -> None:
        """Another board is at the end of the line: nothing that was known of the old one holds."""
        self.profile = profile
        self.round_trips = RoundTrips()
        if self._sending is not None:
            self._sending.settle(Outcome(Fate.UNCERTAIN, DownReason.PIPE_LOST))
        if self.listener is not None:
            self.listener.board_lost(DownReason.PIPE_LOST)

    async def run(self) -> None:
        """Serve requests one after the other, until cancelled."""
        try:
            while True:
                await self._serve(await self._jobs.get())
        finally:
            self._unsubscribe()
            while not self._jobs.empty():
                self._jobs.get_nowait().answer.cancel()

    async def _serve(self, job: _Job) -> None:
        if job.answer.done():  # the requester has gone while it waited
            return
        try:
            response = await self._exchange(job.message)
        except BoardError as error:
            self.counters[f"failed-{type(error).__name__}"] += 1
            if not job.answer.done():
                job.answer.set_exception(error)
        except BaseException:
            job.answer.cancel()
            raise
        else:
            self.counters["answered"] += 1
            if not job.answer.done():
                job.answer.set_result(response)

    async def _exchange(self, message: Message) -> Message:
        repeats = 0
        while True:
            result = await self._send_once(message)
            if isinstance(result, Message):
                return result
            self.counters[f"sending-{result.fate.value}"] += 1
            if result.fate is Fate.UNSENT and result.reason is DownReason.PIPE_LOST:
                # It never was on the line: without this a flood against an absent board would use up all message IDs
                # within the 247 s in which a board may take one for a repetition (RFC 7252 section 4.4).
                self._mid = (self._mid - 1) & 0xFFFF
            if (failure := failure_of(result, message.code, repeats, LINK_RETRY_S)) is not None:
                raise failure
            repeats += 1
            self.counters["repeated"] += 1

    async def _send_once(self, message: Message) -> Message | Outcome:
        outgoing = replace(message, mtype=CON, mid=self._next_mid(), token=message.token or self._next_token())
        sending = _Sending(outgoing, asyncio.get_running_loop().create_future())
        self._sending = sending
        self.counters["sent"] += 1
        now = asyncio.get_running_loop().time
        began = now()
        try:
            async with asyncio.timeout(self.profile.answer_timeout_s):
                sending.handle = self._link.send(encode(outgoing))
                result = await sending.done
                if isinstance(result, Message):
                    self.round_trips.add(now() - began)
                return result
        except TimeoutError:
            return Outcome(Fate.SILENT, detail=f"{self.profile.answer_timeout_s:g} s without a response")
        finally:
            self._sending = None

    def _next_mid(self) -> int:
        self._mid = (self._mid + 1) & 0xFFFF
        return self._mid

    def _next_token(self) -> bytes:
        self._token = (self._token + 1) & 0xFFFF
        return self._token.to_bytes(REQUEST_TOKEN_OCTETS, "big")

    # ---- what the link tells

    def _on_event(self, event: Event) -> None:
        match event:
            case DataReceived(sdu=sdu):
                self._receive(sdu)
            case LinkDown():
                self._note_fate(event)
                self._tell_down(event.reason)
            case LinkUp():
                if self.listener is not None and not self.profile.session_per_exchange:
                    self.listener.board_reached()
            case _:
                pass  # a discarded frame: the station has counted it

    def _note_fate(self, event: LinkDown) -> None:
        sending = self._sending
        if sending is None:
            return
        if sending.handle in event.unsent:
            sending.settle(Outcome(Fate.UNSENT, event.reason))
        elif sending.handle in event.uncertain or self._answer_is_lost(event.reason):
            sending.settle(Outcome(Fate.UNCERTAIN, event.reason))

    def _answer_is_lost(self, reason: DownReason) -> bool:
        """Whether the answer to a request that was delivered can't come any more: a standing link begins anew with the
        board's queue empty; a session's answer may still be fetched by the next one, but not over a port that is gone
        (the board behind it may be another)."""
        return not self.profile.session_per_exchange or reason is DownReason.PIPE_LOST

    def _tell_down(self, reason: DownReason) -> None:
        if self.listener is None:
            return
        if reason not in ORDERLY:
            self.listener.board_lost(reason)
        elif self.profile.session_per_exchange:
            self.listener.board_reached()

    def _receive(self, sdu: bytes) -> None:
        if not sdu:
            self.counters["empty-frames"] += 1
            return
        try:
            message = decode(sdu)
        except MessageError as error:
            self.counters[f"unreadable-{error.reason}"] += 1
            if self._sending is not None and error.mid in (None, self._sending.message.mid):
                self._sending.settle(Outcome(Fate.UNREADABLE, detail=error.reason))
            return
        self._dispatch(message)

    def _dispatch(self, message: Message) -> None:
        sending = self._sending
        if message.code == codes.EMPTY:
            self._receive_empty(message)
        elif codes.is_request(message.code):
            self._receive_request(message)
        elif sending is not None and sending.answered_by(message):
            if message.mtype == CON:
                self._send_empty(ACK, message.mid)
            sending.settle(message)
        else:
            self._receive_unsolicited(message)

    def _receive_empty(self, message: Message) -> None:
        sending = self._sending
        if message.mtype == CON:
            self._send_empty(RST, message.mid)  # a CoAP ping
        elif sending is None or message.mid != sending.message.mid:
            self.counters["unmatched-empty"] += 1
        elif message.mtype == RST:
            sending.settle(Outcome(Fate.UNREADABLE, detail="a Reset instead of a response"))
        elif self.profile.acknowledges:
            sending.acknowledged = True  # the response comes separately (RFC 7252 section 5.2.2)
        else:
            sending.settle(Outcome(Fate.UNREADABLE, detail="an acknowledgement without a response"))

    def _receive_request(self, message: Message) -> None:
        is_reboot = message.code == codes.PUT and message.path() == REBOOT_PATH and REBOOT_QUERY in message.query()
        self.counters["reboot-messages" if is_reboot else "unknown-requests"] += 1
        if self.profile.acknowledges:
            code = codes.CHANGED if is_reboot else codes.NOT_FOUND
            mtype = ACK if message.mtype == CON else NON
            self._link.send(encode(Message(mtype, code, message.mid, message.token)))
        if is_reboot and self.listener is not None:
            self.listener.board_rebooted()

    def _receive_unsolicited(self, message: Message) -> None:
        known = self.listener is not None and self.listener.board_notified(message)
        self.counters["notifications" if known else "unmatched-responses"] += 1
        if not known:
            _log.debug("response matches nothing", message=str(message))
        if message.mtype in (CON, NON) and not (known and message.mtype == NON):
            self._send_empty(ACK if known else RST, message.mid)

    def _send_empty(self, mtype: int, mid: int) -> None:
        """An acknowledgement or Reset, for boards that heed them."""
        if self.profile.acknowledges:
            self._link.send(encode(Message(mtype, codes.EMPTY, mid)))
