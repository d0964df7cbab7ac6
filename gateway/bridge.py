"""From the outbox to MQTT: publishes in order, frees what the broker has taken, starts over when it was away.

Does: keep a bounded window of messages under way, hand the broker's verdicts back to the outbox. Does not: choose
topics (`publication.py`), know packets (`mqtt_session.py`), connect (`reconnecting.py`). Messages leave in the order
of storing on one connection, so they are in order per device and path; after a lost connection what is not settled is
sent again first, in the same order. A message that the broker refuses for good is counted as lost and not tried again.

At QoS 2 nothing is published twice that the broker has once, even when we were killed meanwhile: identifiers follow
from sequence numbers, and before PUBREL the outbox remembers that the broker has the message. A new process goes on at
PUBREL below that mark, and publishes the rest with the same identifiers, by which the broker recognises what it has.

A whole batch is published by one write of a turn of the loop: there is no task, future or event for a message.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from gateway.delivery import DeliveryRecord
from gateway.envelope import EnvelopeError
from gateway.losses import LossBook
from gateway.mqtt import ConnectFailure, ConnectionLost, Login, MqttVersion
from gateway.mqtt_publisher import PublisherConnection
from gateway.mqtt_session import PublishSession, Verdict
from gateway.outbox import Outbox
from gateway.publication import PacketMaker
from gateway.reconnecting import keep_connected
from gateway.segments import Record
from gateway.settings import BridgeSettings
from gateway.statistics import Event, Statistics
from meshwire.mqtt import MqttError, ProtocolVersion

__all__ = ["FREE_IDENTIFIERS", "REFUSED_FOR_GOOD", "Bridge", "Connector", "Packets"]

REFUSED_FOR_GOOD: Final = {
    0x87: "not-authorized",
    0x90: "topic-name-invalid",
    0x95: "packet-too-large",
    0x99: "payload-format-invalid",
    0x9B: "qos-not-supported",
}
"""MQTT 5.0 reason codes of PUBACK, PUBREC or DISCONNECT after which sending again can't help."""
_FAILURE: Final = 0x80
_IDENTIFIERS: Final = 65_532
"""So many packet identifiers are used: a multiple of `_MESSAGES_A_RECORD`."""
FREE_IDENTIFIERS: Final = (65_533, 65_534, 65_535)
"""For whoever else publishes on the connection."""
_MESSAGES_A_RECORD: Final = 4
"""There are fewer: read, alert, decoded."""
_MAY_HAVE_LEFT: Final = 4 * 1000
"""An earlier process may have published so many messages (the largest window, with room) and not heard of them."""
_RECORDS_A_TURN: Final = 256
"""After so many the loop serves others: at QoS 0 nothing else stops a long backlog."""

_TURN: Final = _IDENTIFIERS // _MESSAGES_A_RECORD
"""After so many records the identifiers come round."""
_RUN_IDENTIFIERS: Final = struct.pack(
    f">{_TURN + _RECORDS_A_TURN}H",
    *(number * _MESSAGES_A_RECORD % _IDENTIFIERS + 1 for number in range(_TURN + _RECORDS_A_TURN)),
)
"""Of records that become one message each, from any place in the turn on."""


def _acknowledgements(identifiers: bytes) -> bytes:
    octets = bytearray(b"\x40\x02\0\0" * (len(identifiers) // 2))
    octets[2::4], octets[3::4] = identifiers[::2], identifiers[1::2]
    return bytes(octets)


_RUN_ACKNOWLEDGEMENTS: Final = _acknowledgements(_RUN_IDENTIFIERS)
"""PUBACK for each of `_RUN_IDENTIFIERS`."""

_log = structlog.get_logger(__name__)


Connector = Callable[[MqttVersion, PublishSession, bool], PublisherConnection]
"""Makes a connection: protocol version, session, whether the broker is asked to resume it."""


class Packets(Protocol):
    """Who knows which packets a record becomes."""

    def packets(self, record: Record, version: ProtocolVersion) -> list[tuple[bytes, bytes]]:
        """Head and tail of each PUBLISH; none for a record that nobody wants any more."""

    def run(self, records: Sequence[Record], identifiers: bytes, version: ProtocolVersion) -> list[bytes]:
        """What the records in front become, as long as each becomes one message of QoS 1 in a common form.

        Args:
            records: in turn.
            identifiers: packet identifiers, two octets for each.
            version: of the connection.
        """


class Bridge:
    """See the module's text.

    Args:
        outbox: read from the running loop only.
        settings: QoS, categories, window.
        login: towards the broker.
        statistics: counted here.
        deliveries: told what becomes of each record; default: a record in memory.
        maker: what is published for a record; default: by `settings`.
        connect: how a connection is made; default: plain TCP as `login` says.
    """

    def __init__(
        self,
        outbox: Outbox,
        settings: BridgeSettings,
        login: Login,
        statistics: Statistics,
        *,
        deliveries: DeliveryRecord | None = None,
        maker: Packets | None = None,
        connect: Connector | None = None,
    ) -> None:
        self._outbox = outbox
        self._settings = settings
        self._login = login
        self._statistics = statistics
        self._deliveries = deliveries or DeliveryRecord(0, outbox, LossBook(None), statistics)
        self._maker: Packets = maker or PacketMaker(settings, statistics)
        self._connector: Connector = connect or self._plain
        self._session = PublishSession(REFUSED_FOR_GOOD)
        self._connection: PublisherConnection | None = None
        self._version: ProtocolVersion | None = None
        self._unsent: deque[tuple[int, int, bytes, bytes]] = deque()
        """Messages made and not yet given to the session: record, identifier, head and tail of the packet."""
        self._released_before = self._sent_before = 0
        """Records below were released, or may have been published, by an earlier process on a session that is kept."""
        self._several: dict[int, int] = {}
        """Records that became more than one message: how many of them are not settled."""
        self._refused: dict[int, str] = {}
        self._one_by_one = 0
        self._is_scheduled = False
        self._progress_at = 0.0
        self.is_connected = False
        self.failure: ConnectFailure | None = None
        """Of the last attempt to connect; None while connected."""

    def stored(self) -> None:
        """There is something new in the outbox."""
        if not self._is_scheduled and self._connection is not None:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    async def run(self) -> None:
        """Publish until cancelled."""
        await keep_connected(
            self._login,
            self._connect,
            self._serve,
            count=lambda what: self._statistics.count(Event.BRIDGE, what),
            failed=self._failed,
            speaks_5=self._login.speaks_5,
        )

    def _failed(self, failure: ConnectFailure) -> None:
        self.failure = failure

    def _connect(self, version: MqttVersion) -> PublisherConnection:
        return self._connector(version, self._session, self._version is not None or self._login.is_lasting)

    def _plain(self, version: MqttVersion, session: PublishSession, resume: bool) -> PublisherConnection:
        return PublisherConnection(self._login, version, session, resume=resume)

    async def _serve(self, connection: PublisherConnection) -> ConnectionLost:
        """Publish over one connection until it is lost."""
        self._take_up(connection)
        lost = asyncio.create_task(connection.wait_lost(), name="connection to the broker")
        try:
            while not lost.done():
                await asyncio.wait({lost}, timeout=self._settings.acknowledge_timeout_s / 4)
                self._check_progress(connection)
            return self._judge(lost.result())
        finally:
            self._connection = None
            self.is_connected = False
            lost.cancel()

    def _take_up(self, connection: PublisherConnection) -> None:
        if self._version not in (None, connection.version):
            # What is under way is encoded for the other version.
            self._session.clear()
            self._unsent.clear()
            self._several.clear()
            self._refused.clear()
            self._outbox.rewind()
        if not connection.session_present:
            self._released_before = self._sent_before = 0
            self._outbox.withdraw()
        elif self._version is None:
            self._released_before = self._outbox.released
            self._sent_before = max(self._outbox.released, self._outbox.cursor) + _MAY_HAVE_LEFT
        self._version = connection.version
        self._outbox.note_version(5 if connection.version is ProtocolVersion.V5 else 4)
        self._connection = connection
        connection.on_verdicts, connection.on_writable = self._settle, self.stored
        connection.may_rest = self._can_wait
        self._progress_at = asyncio.get_running_loop().time()
        self.is_connected, self.failure = True, None
        self.stored()

    def _check_progress(self, connection: PublisherConnection) -> None:
        now = asyncio.get_running_loop().time()
        if not self._session.underway:
            self._progress_at = now
        elif now - self._progress_at > self._settings.acknowledge_timeout_s:
            connection.give_up(ConnectionLost("the broker does not acknowledge"))

    # --- towards the broker

    def _pump(self) -> None:
        """Fill the window, and write it at once."""
        self._is_scheduled = False
        connection, session = self._connection, self._session
        if connection is None or not connection.is_writable:
            return
        try:
            self._fill(connection, session)
        except Exception as error:  # Nobody waits for this turn of the loop: without this the bridge would stand still.
            _log.exception("the bridge can't go on; it connects again")
            connection.give_up(ConnectionLost(f"our fault: {error}"))

    def _fill(self, connection: PublisherConnection, session: PublishSession) -> None:
        if not session.underway:
            self._progress_at = asyncio.get_running_loop().time()
        room = self._window(connection) - session.underway
        while room > 0 and session.waits_to_resend:
            session.resend()
            room -= 1
        if session.held:
            self._release(session)
        self._publish(connection, min(room, _RECORDS_A_TURN))
        connection.flush()

    def _window(self, connection: PublisherConnection) -> int:
        """Messages under way at once."""
        return 1 if self._one_by_one else min(self._settings.window, connection.receive_maximum)

    def _publish(self, connection: PublisherConnection, room: int) -> None:
        room -= self._publish_run(connection, room)
        unsent, publish = self._unsent, self._session.publish
        sent_before = self._sent_before
        left: list[Verdict] = []
        written: list[int] = []
        while room > 0:
            if not unsent:
                records = self._outbox.read(room)
                if not records:
                    break
                for record in records:
                    self._make(record, connection.version)
                continue
            sequence, packet_id, head, tail = unsent[0]
            if sequence < sent_before:
                done = self._publish_again(sequence, packet_id, head, tail)
            else:
                done = publish(sequence, packet_id, head, tail)
            if not done:
                # The identifier comes round again while its last message is still under way.
                break
            unsent.popleft()
            room -= 1
            written.append(sequence)
            if not head[0] & 6:
                left.append(Verdict(sequence, 0))
        if written:
            self._deliveries.published(written, time.time())
        if left:
            self._settle(left)

    def _publish_run(self, connection: PublisherConnection, room: int) -> int:
        """Publish what is as nearly all is, without a step for each message; gives how many messages these are.

        What else has been read is left to be published one by one.
        """
        session = self._session
        if room <= 0 or self._unsent or session.waits_to_resend:
            return 0
        records = self._outbox.read(room)
        if not records:
            return 0
        first, oldest = records[0].sequence, session.oldest
        last = first + len(records) - 1
        count = 0
        if (
            first >= self._sent_before
            and records[-1].sequence == last
            and (oldest is None or (oldest >= 0 and last - oldest < _TURN))
        ):
            begin = first % _TURN
            packets = self._maker.run(records, _RUN_IDENTIFIERS[2 * begin :], connection.version)
            count = len(packets)
            if count:
                session.publish_run(first, packets, _RUN_ACKNOWLEDGEMENTS[4 * begin : 4 * (begin + count)])
                self._deliveries.published(range(first, first + count), time.time())
        for record in records[count:]:
            self._make(record, connection.version)
        return count

    def _publish_again(self, sequence: int, packet_id: int, head: bytes, tail: bytes) -> bool:
        """A message that an earlier process may have published on this session."""
        qos = head[0] >> 1 & 3
        if sequence >= self._released_before:
            return self._session.publish(sequence, packet_id, head, tail, again=qos > 0)
        if qos == 2:
            return self._session.take_up(sequence, packet_id, head, tail)
        # It was acknowledged before those of QoS 2 were released.
        asyncio.get_running_loop().call_soon(self._settle, [Verdict(sequence, 0)])
        return True

    def _release(self, session: PublishSession) -> None:
        """Let the broker forget that it has messages, once that is noted for whoever comes after us."""
        several = self._several
        waiting = self._unsent[0][0] if self._unsent else 0
        handed_over = {
            handle
            for handle in session.held.values()
            if handle not in several or (handle != waiting and session.is_settled(handle))
        }
        released = self._outbox.release(handed_over)
        # A record's later messages may wait for the room that its first ones take: those must not wait for them.
        session.release([number for number, handle in session.held.items() if handle < released or handle == waiting])

    def _make(self, record: Record, version: ProtocolVersion) -> None:
        sequence = record.sequence
        try:
            messages = self._maker.packets(record, version)
        except (EnvelopeError, MqttError) as error:
            self._lose(sequence, "unreadable")
            _log.error("a stored notification can't be published", sequence=sequence, error=str(error))
            return
        if not messages:
            self._outbox.acknowledge(sequence)
        if len(messages) > 1:
            self._several[sequence] = len(messages)
        packet_id = sequence * _MESSAGES_A_RECORD % _IDENTIFIERS + 1
        for head, tail in messages:
            self._unsent.append((sequence, packet_id, head, tail))
            packet_id += 1

    # --- from the broker

    def _settle(self, verdicts: list[Verdict]) -> None:
        """The broker's verdicts on messages."""
        if verdicts:
            self._progress_at = asyncio.get_running_loop().time()
        done: list[int] = []
        for first, code, span in verdicts:
            sequences = range(first, first + span)
            if code < _FAILURE and not self._several and not self._refused:
                if span > 1:
                    self._published(sequences)
                else:
                    done.append(first)
                continue
            done += [sequence for sequence in sequences if self._finishes(sequence, code)]
        if done:
            self._published([sequence for sequence in done if sequence not in self._refused])
            for sequence in list(self._refused):
                if sequence not in self._several:
                    self._one_by_one = max(0, self._one_by_one - 1)
                    self._lose(sequence, self._refused.pop(sequence))
        if self._waits:
            self.stored()

    @property
    def _waits(self) -> bool:
        """Whether there is something to be sent."""
        session = self._session
        return bool(self._unsent or session.waits_to_resend or session.held or self._outbox.has_unread)

    def _can_wait(self) -> bool:
        """Whether the broker has enough to do, or we have nothing more for it."""
        connection = self._connection
        return connection is None or not self._waits or 2 * self._session.underway > self._window(connection) > 1

    def _published(self, sequences: Sequence[int]) -> None:
        """The broker has taken these records."""
        if sequences:
            self._one_by_one = max(0, self._one_by_one - len(sequences))
            self._statistics.count(Event.PUBLISHED, times=len(sequences))
            self._deliveries.acknowledged(sequences, time.time())
            if isinstance(sequences, range):
                self._outbox.acknowledge_run(sequences)
            else:
                self._outbox.acknowledge(*sequences)

    def _finishes(self, sequence: int, code: int) -> bool:
        """Note a verdict that is not the common one; whether the record is done with."""
        if code in REFUSED_FOR_GOOD:
            self._refused[sequence] = REFUSED_FOR_GOOD[code]
        elif code >= _FAILURE:
            # Quota exceeded, server busy and the like: keep it, come back after a pause.
            if self._connection is not None:
                reason = f"the broker can't take a message now, reason code {code:#04x}"
                self._connection.give_up(ConnectionLost(reason, code))
            return False
        remaining = self._several.pop(sequence, 1) - 1
        if remaining:
            self._several[sequence] = remaining
        return not remaining

    def _lose(self, sequence: int, reason: str) -> None:
        self._deliveries.lost(self._outbox.outstanding(sequence), sequence, reason, time.time())
        self._outbox.acknowledge(sequence)

    def _judge(self, lost: ConnectionLost) -> ConnectionLost:
        """A broker that hangs up because of one message would do so for ever: find that message and give it up."""
        exposed = self._session.exposed
        if lost.code in REFUSED_FOR_GOOD and exposed:
            self._one_by_one = len(exposed)
            if len(exposed) == 1:
                self._give_up(exposed[0], REFUSED_FOR_GOOD[lost.code])
        return lost

    def _give_up(self, sequence: int, reason: str) -> None:
        self._session.forget(sequence)
        self._unsent = deque(message for message in self._unsent if message[0] != sequence)
        self._several.pop(sequence, None)
        self._refused.pop(sequence, None)
        self._one_by_one = 0
        self._lose(sequence, reason)
