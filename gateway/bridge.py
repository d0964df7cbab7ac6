"""From the outbox to MQTT: publishes in order, frees what the broker has taken, starts over when it was away.

Does: keep a bounded window of messages under way, hand the broker's verdicts back to the outbox. Does not: choose
topics (`publication.py`), connect (`reconnecting.py`). Messages leave in the order of storing on one connection, so
they are in order per device and path; after a lost connection the first unacknowledged one is sent again, and all
behind it. A message that the broker refuses for good is counted as lost and not tried again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.envelope import EnvelopeError, unpack
from gateway.mqtt import Connection, ConnectionLost, Login
from gateway.outbox import Outbox
from gateway.publication import publications
from gateway.reconnecting import stay_connected
from gateway.segments import Record
from gateway.settings import BridgeSettings
from gateway.statistics import Event, Statistics
from meshwire.notification import Category

__all__ = ["Bridge"]

REFUSED_FOR_GOOD: Final = {
    0x87: "not-authorized",
    0x90: "topic-name-invalid",
    0x92: "refused-by-pubrec",
    0x95: "packet-too-large",
    0x99: "payload-format-invalid",
    0x9B: "qos-not-supported",
}
"""MQTT 5.0 reason codes of PUBACK, PUBCOMP or DISCONNECT after which sending again can't help. 0x92 is what a broker
says to the PUBREL of a message that it had refused in PUBREC."""
_FAILURE: Final = 0x80
_RECORDS_A_TURN: Final = 100
"""After so many the loop serves others: at QoS 0 nothing else stops a long backlog."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Underway:
    """A record whose messages have been sent."""

    record: Record
    remaining: int
    refused: str = ""


class Bridge:
    """See the module's text.

    Args:
        outbox: read from the running loop only.
        settings: QoS, categories, window.
        login: towards the broker.
        statistics: counted here.
    """

    def __init__(self, outbox: Outbox, settings: BridgeSettings, login: Login, statistics: Statistics) -> None:
        self._outbox = outbox
        self._settings = settings
        self._login = login
        self._statistics = statistics
        self._wake = asyncio.Event()
        self._underway: dict[int, _Underway] = {}
        self._one_by_one = 0
        self._broken: ConnectionLost | None = None
        self._progress_at = 0.0
        self.is_connected = False

    def stored(self) -> None:
        """There is something new in the outbox."""
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        await stay_connected(self._login, self._serve, count=lambda what: self._statistics.count(Event.BRIDGE, what))

    async def _serve(self, connection: Connection) -> ConnectionLost:
        """Publish over one connection until it is lost."""
        self._start_over()
        lost = asyncio.create_task(connection.wait_lost(), name="connection to the broker")
        lost.add_done_callback(lambda task: self._wake.set())
        self.is_connected = True
        try:
            while not lost.done() and self._broken is None:
                self._pump(connection)
                self._check_progress()
                await self._wait()
            return self._judge(lost.result() if lost.done() else self._broken)
        finally:
            self.is_connected = False
            lost.cancel()

    def _start_over(self) -> None:
        self._outbox.rewind()
        self._underway.clear()
        self._broken = None
        self._wake.set()

    async def _wait(self) -> None:
        """Until there is something to do, or the broker has been silent for too long."""
        if self._wake.is_set():
            await asyncio.sleep(0)
        timeout_s = self._settings.acknowledge_timeout_s if self._underway else None
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _check_progress(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._underway:
            self._progress_at = now
        elif now - self._progress_at > self._settings.acknowledge_timeout_s:
            self._broken = ConnectionLost("the broker does not acknowledge")
            self._wake.set()

    def _pump(self, connection: Connection) -> None:
        """Fill the window."""
        if not self._underway:
            self._progress_at = asyncio.get_running_loop().time()
        window = self._window(connection)
        try:
            for _ in range(_RECORDS_A_TURN):
                records = self._outbox.read(1) if len(self._underway) < window else ()
                if not records:
                    return
                self._publish(connection, records[0])
            self._wake.set()
        except ConnectionLost as lost:
            self._broken = lost
            self._wake.set()

    def _window(self, connection: Connection) -> int:
        """Records under way at once; one may become two messages, and the broker counts messages."""
        if self._one_by_one:
            return 1
        return min(self._settings.window, max(1, connection.receive_maximum // len(Category)))

    def _publish(self, connection: Connection, record: Record) -> None:
        try:
            messages = publications(unpack(record.payload), self._settings)
        except EnvelopeError as error:
            self._lose(record, "unreadable")
            _log.error("a stored notification can't be read", sequence=record.sequence, error=str(error))
            return
        underway = self._underway[record.sequence] = _Underway(record, len(messages))
        for message in messages:
            connection.publish(message, lambda code: self._done(underway, code))

    def _done(self, underway: _Underway, code: int) -> None:
        """The broker's verdict on one message."""
        if self._underway.get(underway.record.sequence) is not underway:
            return
        self._progress_at = asyncio.get_running_loop().time()
        if code in REFUSED_FOR_GOOD:
            underway.refused = REFUSED_FOR_GOOD[code]
        elif code >= _FAILURE:
            # Quota exceeded, server busy and the like: keep it, come back after a pause.
            self._broken = ConnectionLost(f"the broker can't take a message now, reason code {code:#04x}", code)
            self._wake.set()
            return
        underway.remaining -= 1
        if underway.remaining == 0:
            self._finish(underway)

    def _finish(self, underway: _Underway) -> None:
        del self._underway[underway.record.sequence]
        self._one_by_one = max(0, self._one_by_one - 1)
        if underway.refused:
            self._lose(underway.record, underway.refused)
        else:
            self._statistics.count(Event.PUBLISHED)
            self._outbox.acknowledge(underway.record.sequence)
        self._wake.set()

    def _lose(self, record: Record, reason: str) -> None:
        self._statistics.count(Event.LOST, reason)
        self._outbox.acknowledge(record.sequence)
        _log.warning("a notification is lost", sequence=record.sequence, reason=reason)

    def _judge(self, lost: ConnectionLost | None) -> ConnectionLost:
        """A broker that hangs up because of one message would do so for ever: find that message and give it up."""
        assert lost is not None
        if lost.code in REFUSED_FOR_GOOD and self._underway:
            if len(self._underway) == 1:
                ((_, underway),) = self._underway.items()
                self._finish(_Underway(underway.record, 0, REFUSED_FOR_GOOD[lost.code]))
            else:
                self._one_by_one = len(self._underway)
        return lost
