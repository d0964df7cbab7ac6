"""An MQTT client session that only publishes: QoS 1 and 2, what is under way, what to send again. No socket, no clock.

Does: hold what the broker has not settled, read the broker's verdicts, resend on a new connection. Does not: choose
packet identifiers, limit how much is under way, connect, keep time. The caller owes: `begin` after each CONNACK, every
octet of the broker to `receive`, everything of `data_to_send` to the broker in order, and `release` for what is `held`.

On a session that the broker has kept, what was under way is sent again with DUP and its old identifier, or goes on at
PUBREL (MQTT 5.0 section 4.4); otherwise it is published anew. With PUBREL the broker forgets that it has the message:
whoever would publish it again after a crash has to remember, before that, that it must not. So PUBREL waits for the
caller.

Messages of QoS 1 are nearly always acknowledged in their order. Those with handles in turn are held as a run, and what
the broker says is compared with all the acknowledgements expected at once; where it is something else, the run falls
apart into single messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from meshwire.mqtt import (
    Disconnect,
    MqttError,
    Packet,
    PacketStream,
    PingResp,
    ProtocolVersion,
    PubAck,
    PubComp,
    PubRec,
    Side,
)

__all__ = ["PublishSession", "SessionEnded", "Verdict"]

_FAILURE: Final = 0x80
_DUP: Final = 8
_PUBACK, _PUBREC, _PUBCOMP = 0x40, 0x50, 0x70


class SessionEnded(Exception):
    """The broker has said goodbye or nonsense; `code` is the reason code of its DISCONNECT, or None."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class Verdict(NamedTuple):
    """The broker has settled a message; a tuple, because there is one for every message."""

    handle: int
    code: int
    """Reason code of PUBACK, PUBREC or PUBCOMP; 0x80 and above: it did not take the message."""
    span: int = 1
    """So many handles, from `handle` on, have this verdict."""


@dataclass(slots=True)
class _Run:
    """Messages of QoS 1 with handles in turn."""

    first: int
    packets: list[bytes]
    acknowledgements: bytes
    """PUBACK for each of them."""
    settled: int = 0
    """So many from the first on."""


class _Sent(NamedTuple):
    """A message that has an identifier."""

    handle: int
    packet: bytes


class PublishSession:
    """See the module's text. Handles are the caller's numbers for its messages.

    Args:
        final: reason codes of failure after which sending again can't help; with others a message stays under way, to
            be sent anew on the next connection.
    """

    def __init__(self, final: Container[int] = ()) -> None:
        self._final = final
        self._stream = PacketStream(Side.CLIENT)
        self._underway: dict[int, _Sent] = {}
        self._runs: deque[_Run] = deque()
        """Under way, too: published behind everything in `_underway`."""
        self._in_runs = 0
        self._received: set[int] = set()
        """Identifiers whose PUBREC has come: PUBREL is what to repeat."""
        self._resend: deque[int] = deque()
        self._is_kept = False
        self._refused: set[int] = set()
        self.held: dict[int, int] = {}
        """Identifier and handle of QoS 2 messages that the broker has, in order, whose PUBREL waits for `release`."""
        self._out: list[bytes] = []
        self.ended: SessionEnded | None = None
        """Set when the broker has said goodbye or nonsense on this connection."""

    @property
    def underway(self) -> int:
        """Messages on this connection that the broker has not settled."""
        return len(self._underway) + self._in_runs - len(self._resend)

    @property
    def oldest(self) -> int | None:
        """The handle of the message that has been under way longest."""
        for sent in self._underway.values():
            return sent.handle
        return self._runs[0].first + self._runs[0].settled if self._runs else None

    @property
    def waits_to_resend(self) -> bool:
        """Whether messages of an earlier connection have not been sent on this one."""
        return bool(self._resend)

    @property
    def exposed(self) -> list[int]:
        """The handles of what was sent on this connection and is not settled, in the order of publishing."""
        self._break_runs()
        waiting = set(self._resend)
        return list(dict.fromkeys(sent.handle for number, sent in self._underway.items() if number not in waiting))

    def clear(self) -> None:
        """Forget everything that is under way."""
        self._underway.clear()
        self._runs.clear()
        self._in_runs = 0
        self._received.clear()
        self._refused.clear()
        self.held.clear()
        self._resend.clear()
        self._out.clear()

    def begin(self, version: ProtocolVersion, *, session_present: bool) -> None:
        """A connection stands. Everything not settled is to be sent again by `resend`."""
        self._stream = PacketStream(Side.CLIENT, version)
        self._out.clear()
        self.ended = None
        self._is_kept = session_present
        if not session_present:
            self._received.clear()
            self.held.clear()
        self._break_runs()
        self._resend = deque(self._underway)

    def resend(self) -> None:
        """Send the next message of an earlier connection again."""
        packet_id = self._resend.popleft()
        if packet_id in self._received:
            if packet_id not in self.held:
                self._release(packet_id)
            return
        packet = self._underway[packet_id].packet
        if self._is_kept and packet_id not in self._refused:
            packet = bytes((packet[0] | _DUP,)) + packet[1:]
        self._refused.discard(packet_id)
        self._out.append(packet)

    def publish(self, handle: int, packet_id: int, head: bytes, tail: bytes, *, again: bool = False) -> bool:
        """Send a message; False when its identifier is still under way: then nothing has happened.

        Args:
            handle: comes back in the verdict; at QoS 0 there is none.
            packet_id: 1 to 65,535.
            head: PUBLISH up to the packet identifier.
            tail: everything behind it.
            again: an earlier process may have sent it, with the same identifier (DUP).
        """
        if not head[0] & 6:
            self._out.append(head + tail)
            return True
        self._break_runs()
        if packet_id in self._underway:
            return False
        packet = b"%b%c%c%b" % (head, packet_id >> 8, packet_id & 0xFF, tail)
        self._underway[packet_id] = _Sent(handle, packet)
        self._out.append(bytes((packet[0] | _DUP,)) + packet[1:] if again else packet)
        return True

    def publish_run(self, first: int, packets: list[bytes], acknowledgements: bytes) -> None:
        """Send messages of QoS 1 with handles in turn from `first` on; nothing may wait to be sent again.

        Args:
            first: handle of the first one.
            packets: PUBLISH as a whole, with identifiers that are not under way.
            acknowledgements: the PUBACK expected for each, without a reason code, in their order.
        """
        self._runs.append(_Run(first, packets, acknowledgements))
        self._in_runs += len(packets)
        self._out += packets

    def take_up(self, handle: int, packet_id: int, head: bytes, tail: bytes) -> bool:
        """Go on at PUBREL with a QoS 2 message that an earlier process has published; as `publish`."""
        self._break_runs()
        if packet_id in self._underway:
            return False
        self._underway[packet_id] = _Sent(handle, b"%b%c%c%b" % (head, packet_id >> 8, packet_id & 0xFF, tail))
        self._received.add(packet_id)
        self._release(packet_id)
        return True

    def release(self, packet_ids: Iterable[int]) -> None:
        """PUBREL for messages that are held."""
        for packet_id in packet_ids:
            del self.held[packet_id]
            self._release(packet_id)

    def is_settled(self, handle: int) -> bool:
        """Whether the broker has all that was published under a handle, be its PUBREL sent or not."""
        self._break_runs()
        return all(sent.handle != handle or number in self._received for number, sent in self._underway.items())

    def forget(self, handle: int) -> None:
        """Give up a message, whatever the broker thinks of it."""
        self._break_runs()
        for packet_id in [number for number, sent in self._underway.items() if sent.handle == handle]:
            del self._underway[packet_id]
            self._received.discard(packet_id)
            self.held.pop(packet_id, None)
            if packet_id in self._resend:
                self._resend.remove(packet_id)

    def data_to_send(self) -> bytes:
        """Everything to be written now, as one piece."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def receive(self, octets: bytes) -> list[Verdict]:
        """Read what the broker says; look at `ended` afterwards."""
        verdicts: list[Verdict] = []
        try:
            if not self._stream.buffered_octets:
                position = self._short_acknowledgements(octets, verdicts) if self._underway or not self._runs else 0
                octets = octets[self._run_acknowledgements(octets, position, verdicts) :]
            if octets:
                self._break_runs()
                self._stream.feed(octets)
                for packet in self._stream.packets():
                    verdicts.extend(self._packet(packet))
        except MqttError as error:
            self.ended = SessionEnded(f"the broker breaks the protocol: {error}")
        except SessionEnded as end:
            self.ended = end
        return verdicts

    def _short_acknowledgements(self, octets: bytes, verdicts: list[Verdict]) -> int:
        """The octets in front that are acknowledgements without a reason code; nearly all that a broker ever says."""
        position, end = 0, len(octets) - 3
        underway, received = self._underway, self._received
        while position < end and octets[position + 1] == 2:
            kind, packet_id = octets[position], octets[position + 2] << 8 | octets[position + 3]
            if kind == _PUBREC:
                self._pubrec(packet_id)
            elif kind in (_PUBACK, _PUBCOMP):
                sent = underway.pop(packet_id, None)
                if sent is None:
                    if self._runs:
                        break
                else:
                    if received:
                        received.discard(packet_id)
                        self.held.pop(packet_id, None)
                    verdicts.append(Verdict(sent.handle, 0))
            else:
                break
            position += 4
        return position

    def _run_acknowledgements(self, octets: bytes, position: int, verdicts: list[Verdict]) -> int:
        """Where the acknowledgements end that are those expected next for runs."""
        while self._runs:
            run = self._runs[0]
            begin = 4 * run.settled
            expected = run.acknowledgements[begin : begin + (len(octets) - position & ~3)]
            if not expected or octets[position : position + len(expected)] != expected:
                break
            count = len(expected) // 4
            verdicts.append(Verdict(run.first + run.settled, 0, count))
            run.settled += count
            self._in_runs -= count
            position += len(expected)
            if run.settled == len(run.packets):
                self._runs.popleft()
        return position

    def _break_runs(self) -> None:
        """Into single messages, in their order."""
        for run in self._runs:
            for number in range(run.settled, len(run.packets)):
                identifier = run.acknowledgements[4 * number + 2 : 4 * number + 4]
                self._underway[int.from_bytes(identifier, "big")] = _Sent(run.first + number, run.packets[number])
        self._runs.clear()
        self._in_runs = 0

    def _packet(self, packet: Packet) -> Iterator[Verdict]:
        match packet:
            case PubAck(packet_id, code):
                yield from self._settle(packet_id, code)
            case PubRec(packet_id, code):
                if code >= _FAILURE:
                    yield from self._settle(packet_id, code)
                else:
                    self._pubrec(packet_id)
            case PubComp(packet_id):
                self._received.discard(packet_id)
                self.held.pop(packet_id, None)
                # Whatever its code: after PUBREC the broker has the message; "not found" follows a repeated PUBREL.
                yield from self._settle(packet_id, 0)
            case Disconnect(code):
                raise SessionEnded(f"the broker has disconnected us, reason code {code:#04x}", code)
            case PingResp():
                pass
            case _:
                raise SessionEnded(f"the broker sent {type(packet).__name__}, which nobody asked for")

    def _pubrec(self, packet_id: int) -> None:
        sent = self._underway.get(packet_id)
        if sent is None or (packet_id in self._received and packet_id not in self.held):
            self._release(packet_id)
            return
        self._received.add(packet_id)
        self.held[packet_id] = sent.handle

    def _release(self, packet_id: int) -> None:
        self._out.append(b"\x62\x02" + packet_id.to_bytes(2, "big"))

    def _settle(self, packet_id: int, code: int) -> Iterator[Verdict]:
        sent = self._underway.get(packet_id)
        if sent is None:
            return
        if code < _FAILURE or code in self._final:
            del self._underway[packet_id]
        else:
            self._refused.add(packet_id)
        yield Verdict(sent.handle, code)
