"""The observe manager's driver: asks the table what is due, does it, and hands notifications on.

Does: carry out SetTime, Register and Unregister one at a time, put large notifications together, make Notifications for
the uplink, serve clients that observe by themselves, save what must survive. Does not: decide (`observations` does), or
speak CoAP to the network. Caller owes: a task for `run()`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, assert_never

import structlog

from meshwire.coap import codes
from meshwire.coap.message import Message
from meshwire.coap.observe import SEQUENCE_MODULUS
from meshwire.coap.options import CONTENT_FORMAT, MAX_AGE, OBSERVE
from meshwire.hdlc.events import DownReason
from meshwire.identity import DeviceId
from meshwire.notification import Notification
from nic_sim.block_fetch import fetch_rest, get_request, has_more
from nic_sim.board import BoardClient
from nic_sim.errors import BoardError, LinkUnavailable
from nic_sim.observation import Delivery, Key, LossReason, Observation, State, Verdict
from nic_sim.observation_store import Clocks, ObservationStore
from nic_sim.observations import Action, ObservationTable, Register, SetTime, Unregister
from nic_sim.subscription import Subscription
from nic_sim.time_sync import set_time_request

__all__ = ["SNSR", "ObserveManager", "board_path"]

SNSR: Final = "snsr"
"""First segment of outward paths that belong to the board; the board itself does not know it (dialect B.3)."""
MAX_FETCHES: Final = 4
"""Large notifications that are put together at the same time; more are counted and dropped."""
SAVE_EVERY_S: Final = 1.0
"""Sequence numbers are saved at most this often. A kill in between repeats keys at most; the gateway drops those."""

REBOOTS: Final = 6
"""So many reboots of the board (a Milli board tells each of them twice) ..."""
REBOOTS_WITHIN_S: Final = 60.0
"""... within this time are too many."""

_log = structlog.get_logger(__name__)


def board_path(path: str) -> tuple[str, ...]:
    """Segments on the board of an outward path such as `snsr/arduino/temp`."""
    return tuple(path.split("/")[1:])


class ObserveManager:
    """Keeps the board's observations, whatever happens to board, link or NIC.

    Args:
        device: whose notifications they are.
        client: the way to the board; this object becomes its listener.
        table: what is observed.
        store: what survives a restart.
        deliver: takes each fresh notification that bubbles up; must not block.
        unix_time: Unix seconds.
    """

    def __init__(
        self,
        device: DeviceId,
        client: BoardClient,
        table: ObservationTable,
        store: ObservationStore,
        deliver: Callable[[Notification], None],
        *,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.table = table
        self.counters: Counter[str] = Counter()
        self._device = device
        self._client = client
        self._store = store
        self._deliver = deliver
        self._unix_time = unix_time
        self._wake = asyncio.Event()
        self._registering = asyncio.Lock()
        self._subscriptions: dict[Key, list[Subscription]] = {}
        self._numbers: dict[Key, int] = {}
        self._heard: set[Key] = set()
        self._fetches: set[asyncio.Task[None]] = set()
        self._save_due = False
        self._saved_at = 0.0
        self._reboots: deque[float] = deque(maxlen=REBOOTS)
        self._restless = False
        self._log = _log.bind(mac=device.value)
        client.listener = self

    def configure(self, path: str, query: str | None, delivery: Delivery) -> Observation:
        """Observe a resource from now on, without any client being interested."""
        return self._adopt(Observation(path, query, self.table.new_token(), delivery))

    def _adopt(self, observation: Observation) -> Observation:
        now = self._now()
        self._store.restore(observation, self._clocks())
        observation.since_s = observation.due_s = now
        self._wake.set()
        return self.table.add(observation)

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        try:
            while True:
                action = self.table.next_action(self._now())
                if action is None:
                    await self._rest()
                else:
                    await self._perform(action)
        finally:
            self._save()

    async def _rest(self) -> None:
        """Until the table may have something new to say, or there is something to save."""
        deadline = self.table.next_deadline() if self.table.reached else None
        if self._save_due:
            save_at = self._saved_at + SAVE_EVERY_S
            if save_at <= self._now():
                self._save()
            else:
                deadline = save_at if deadline is None else min(deadline, save_at)
        try:
            async with asyncio.timeout_at(None if deadline is None else max(deadline, self._now() + 0.001)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _perform(self, action: Action) -> None:
        match action:
            case SetTime():
                await self._set_time()
            case Register(observation=observation):
                try:
                    await self.register(observation)
                except BoardError as error:
                    self._log.info("observe not established", resource=observation.text, error=error.what)
            case Unregister(observation=observation):
                await self._unregister(observation)
            case _:
                assert_never(action)

    # ---- the three actions

    async def _set_time(self) -> None:
        try:
            response = await self._client.request(set_time_request(self._unix_time()), own=True)
        except LinkUnavailable as error:
            self.table.time_failed(self._now())
            self._log.debug("time not set", error=error.what)
        except BoardError as error:
            self.table.time_failed(self._now())
            self._log.info("time not set", error=error.what)
        else:
            self.table.time_set(self._now())
            done = codes.is_success(response.code)
            # A board without a clock, or with one of its own, is no reason not to observe it.
            self._log.info("time set" if done else "board has no clock to set", answer=codes.code_text(response.code))

    async def register(self, item: Observation) -> Message:
        """Register one Observation now and return the board's response, whatever it is.

        Raises:
            BoardError: no response.
        """
        async with self._registering:
            request = get_request(board_path(item.path), item.query, ((OBSERVE, b""),))
            try:
                response = await self._client.request(_with_token(request, item.token), own=True)
            except BoardError as error:
                self.table.registration_failed(item, self._now(), error.what)
                raise
            self._note_registration(item, response)
            return response

    def _note_registration(self, item: Observation, response: Message) -> None:
        now, sequence = self._now(), response.uint(OBSERVE)
        if not codes.is_success(response.code):
            self._refuse(
                item, response, LossReason.ERROR_RESPONSE, f"the board answered {codes.code_text(response.code)}"
            )
        elif sequence is None:
            self._refuse(item, response, LossReason.NO_OBSERVE_OPTION, "the board does not observe this resource")
        else:
            again = item.registrations > 0
            represented = bool(response.payload)
            self.table.registered(item, now, sequence % SEQUENCE_MODULUS, _max_age(response), represented=represented)
            self._save()  # before anything of this epoch leaves the NIC
            self._log.info("observe established" if not again else "observe established again", resource=item.text)
            if represented:
                self._hand_on(item, response)

    def _refuse(self, item: Observation, response: Message, reason: LossReason, detail: str) -> None:
        self.table.refused(item, self._now(), reason, detail)
        self._serve_clients(item, response)  # for them it is over: what comes has no Observe option
        if item.configured:
            self._log.warning("observe refused", resource=item.text, reason=reason.value, detail=detail)

    async def _unregister(self, item: Observation) -> None:
        request = get_request(board_path(item.path), item.query, ((OBSERVE, b"\x01"),))
        try:
            await self._client.request(_with_token(request, item.token), own=True)
        except BoardError as error:
            self._log.info("observe not taken back", resource=item.text, error=error.what)
        self.table.unregistered(item)

    # ---- what the board says (BoardListener)

    def board_reached(self) -> None:
        if self.table.board_reached():
            self._log.info("link up")
        self._wake.set()

    def board_lost(self, reason: DownReason) -> None:
        if self.table.board_lost(self._now(), reason.value):
            self._log.warning("link down", reason=reason.value)
        self._wake.set()

    def board_rebooted(self) -> None:
        self._log.info("board rebooted")
        self._watch_reboots()
        self.table.board_rebooted(self._now())
        self._wake.set()

    def _watch_reboots(self) -> None:
        """A board that never comes to rest is worth a line, once: mostly the profile is for another kind of board."""
        now = self._now()
        self._reboots.append(now)
        if len(self._reboots) < REBOOTS or now - self._reboots[0] > REBOOTS_WITHIN_S:
            self._restless = False
        elif not self._restless:
            self._restless = True
            self._log.warning(
                "board reboots again and again",
                code="MW-NIC-021",
                times=REBOOTS,
                within_s=round(now - self._reboots[0], 1),
                do="check that --profile is the board's (`meshwire probe PORT` names it), then its power supply",
            )

    def board_notified(self, message: Message) -> bool:
        number = message.uint(OBSERVE)
        verdict, item = self.table.notified(
            message.token,
            self._now(),
            None if number is None else number % SEQUENCE_MODULUS,
            _max_age(message),
            success=codes.is_success(message.code),
        )
        self.counters[verdict.value] += 1
        self._wake.set()
        if item is None or (item.state is State.CANCELLED and not item.unregister_due):
            return False
        self._save_due = True
        if verdict is Verdict.FRESH:
            self._hand_on(item, message)
        elif verdict is Verdict.ENDED:
            self._log.warning("observe ended by the board", resource=item.text, code=codes.code_text(message.code))
        return True

    # ---- notifications on their way out

    def _hand_on(self, item: Observation, message: Message) -> None:
        if item.key not in self._heard:
            self._heard.add(item.key)
            self._log.info("first reading", resource=item.text)
        unix_s = self._unix_time()
        sequence, epoch = item.sequence or 0, item.epoch
        self._serve_clients(item, message)
        if not (item.configured and item.delivery.bubbles_up):
            return
        if not has_more(message):
            self._deliver(self._notification(item, sequence, epoch, message, unix_s))
        elif len(self._fetches) >= MAX_FETCHES:
            self.counters["large-dropped"] += 1
            self._log.warning("large notification dropped", resource=item.text, reason=f"{MAX_FETCHES} in progress")
        else:
            task = asyncio.create_task(self._complete(item, sequence, epoch, message, unix_s))
            self._fetches.add(task)
            task.add_done_callback(self._fetches.discard)

    async def _complete(self, item: Observation, sequence: int, epoch: int, first: Message, unix_s: float) -> None:
        try:
            whole = await fetch_rest(first, board_path(item.path), item.query, self._own_request)
        except BoardError as error:
            self.counters["large-dropped"] += 1
            self._log.warning("large notification dropped", resource=item.text, reason=error.what)
        else:
            self._deliver(self._notification(item, sequence, epoch, whole, unix_s))

    async def _own_request(self, request: Message) -> Message:
        return await self._client.request(request, own=True)

    def _notification(
        self, item: Observation, sequence: int, epoch: int, message: Message, unix_s: float
    ) -> Notification:
        return Notification(
            device=self._device,
            path=item.path,
            observe=sequence,
            epoch=epoch,
            content_format=message.uint(CONTENT_FORMAT),
            payload=message.payload,
            time_s=unix_s,
        )

    # ---- clients that observe by themselves

    def interest(self, path: str, query: str | None) -> Observation | None:
        """The Observation that a client's request may share; None when the board can't keep another one there."""
        known = self.table.find((path, query))
        if known is None:
            if self._client.profile.one_observer_per_path and self.table.on_path(path):
                return None
            known = self._adopt(Observation(path, query, self.table.new_token(), Delivery.COAP, configured=False))
        elif known.state is State.CANCELLED:
            self.table.renew(known, self._now())
        return known

    def subscribe(self, item: Observation) -> Subscription:
        """Have the notifications of an Observation queued for one more client."""
        subscription = Subscription(item)
        self._subscriptions.setdefault(item.key, []).append(subscription)
        item.clients += 1
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """One client less; the last one of an Observation that is not configured ends it."""
        item = subscription.observation
        waiting = self._subscriptions.get(item.key, [])
        if subscription not in waiting:
            return
        waiting.remove(subscription)
        item.clients -= 1
        self.counters["dropped-for-slow-client"] += subscription.dropped
        if not waiting:
            del self._subscriptions[item.key]
            self.forget(item)

    def forget(self, item: Observation) -> None:
        """End an Observation that nobody is interested in any more."""
        if item.clients or item.configured:
            return
        self.table.cancel(item, self._now())
        if not item.unregister_due:
            self.table.unregistered(item)
        self._wake.set()

    def next_number(self, item: Observation) -> int:
        """The next Observe number towards clients. Our own, because the board's begins anew when it is reset; it starts
        at the time of day in seconds, so that it also grows over a NIC restart (RFC 7641 section 4.4)."""
        number = (self._numbers.get(item.key, int(self._unix_time())) + 1) % SEQUENCE_MODULUS
        self._numbers[item.key] = number
        return number

    def _serve_clients(self, item: Observation, message: Message) -> None:
        waiting = self._subscriptions.get(item.key)
        if not waiting:
            return
        number = self.next_number(item)
        for subscription in waiting:
            subscription.put(number, message)

    # ---- what people want

    def cancel(self, items: Iterable[Observation]) -> None:
        """End registrations until they are renewed or the NIC starts again."""
        for item in items:
            self.table.cancel(item, self._now())
            self._log.info("observe cancelled", resource=item.text)
        self._wake.set()

    def renew(self, items: Iterable[Observation]) -> None:
        """Register again now."""
        for item in items:
            self.table.renew(item, self._now())
        self._wake.set()

    # ---- clocks and disk

    def _save(self) -> None:
        self._save_due = False
        self._saved_at = self._now()
        self._store.save((item for item in self.table.all() if item.configured), self._clocks())

    def _clocks(self) -> Clocks:
        return Clocks(self._now(), self._unix_time())

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _with_token(request: Message, token: bytes) -> Message:
    return Message(request.mtype, request.code, request.mid, token, request.options, request.payload)


def _max_age(message: Message) -> float | None:
    value = message.uint(MAX_AGE)
    return None if value is None else float(value)
