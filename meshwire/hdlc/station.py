"""What both stations have: counters, and the way from octets to addressed, numbered frames and back.

A driver (``meshwire.link`` says what it needs) does four things with a station: feeds it (``receive_data``, ``send``,
…), writes what ``data_to_send`` gives, drains ``next_event``, and re-arms one timer from ``next_deadline``. ``now`` is
any clock that only goes forward, in seconds, the same one in every call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from meshwire.hdlc.address import Address
from meshwire.hdlc.control import ControlField, FrameKind, information, supervisory
from meshwire.hdlc.deframer import Deframer, Discarded
from meshwire.hdlc.errors import DiscardReason, ParameterError
from meshwire.hdlc.events import DataReceived, Event, FrameDiscarded
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.parameters import DEFAULT_PARAMETERS, LinkParameters, decode_parameters
from meshwire.hdlc.profile import LinkProfile
from meshwire.hdlc.window import ReceiveWindow, SendWindow

DEFAULT_ADDRESS: Final = Address(1)
"""Both stations of the boards known so far have address 1 in one octet."""


@dataclass(slots=True)
class Counters:
    """What a station did since it was made."""

    octets_in: int = 0
    octets_out: int = 0
    frames_in: int = 0
    """Well-formed frames, for whomever."""
    frames_out: int = 0
    sdus_in: int = 0
    sdus_out: int = 0
    """SDUs taken by ``send``."""
    retransmissions: int = 0
    """I frames sent again."""
    retries: int = 0
    """Questions put again after a time-out."""
    timeouts: int = 0
    resets: int = 0
    """Links that ended otherwise than by release."""
    releases_unanswered: int = 0
    """DISC without answer; the link was taken as released."""
    link_ups: int = 0
    discarded: dict[DiscardReason, int] = field(default_factory=dict)
    """Octets or frames that led to nothing, how often, by reason."""


class BaseStation(ABC):
    """The half of a station that knows no procedure: octets in and out, addresses, sequence numbers, events.

    ``own`` and ``peer`` are the addresses of this station and of the other one.
    """

    def __init__(self, profile: LinkProfile, own: Address, peer: Address) -> None:
        self.profile: Final = profile
        self.parameters = DEFAULT_PARAMETERS
        """What both sides keep to, from this station's point of view, since the last LinkUp."""
        self._own: Final = own
        self._peer: Final = peer
        self._counters: Final = Counters()
        self._deframer: Final = Deframer()
        self._send: Final = SendWindow(profile.max_sdu_octets, profile.max_queued_sdus)
        self._receive: Final = ReceiveWindow(profile.max_sdu_octets)
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()
        self._busy = False
        self._peer_busy = False
        self._last_heard = float("-inf")

    @property
    def counters(self) -> Counters:
        """Live counters; read only."""
        return self._counters

    @property
    def queued(self) -> int:
        """SDUs of which no octet was sent yet; ``profile.max_queued_sdus`` is the most."""
        return self._send.queued

    def receive_data(self, data: bytes, now: float) -> None:
        """Take octets from the line, in any cut."""
        self._counters.octets_in += len(data)
        if now - self._last_heard > self.profile.octet_timeout_s and self._deframer.held_octets:
            self._take(self._deframer.idle(), now)
        self._last_heard = now
        self._take(self._deframer.feed(data), now)

    def data_to_send(self, now: float) -> bytes:
        """Return all octets to be written to the line now; they are handed out once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def next_event(self) -> Event | None:
        """Return the next event, None when there is none left."""
        return self._events.popleft() if self._events else None

    @abstractmethod
    def _take_frame(self, frame: Frame, now: float) -> None:
        """Take a well-formed frame from the peer to this station."""

    def _take(self, found: list[Frame | Discarded], now: float) -> None:
        for item in found:
            if isinstance(item, Discarded):
                self._discard(item.reason, item.octets)
                continue
            self._counters.frames_in += 1
            if item.destination == self._own and item.source == self._peer:
                self._take_frame(item, now)
            else:
                self._discard(DiscardReason.OTHER_STATION, item.info)

    def _discard(self, reason: DiscardReason, octets: bytes) -> None:
        discarded = self._counters.discarded
        discarded[reason] = discarded.get(reason, 0) + 1
        self._events.append(FrameDiscarded(reason, octets))

    def _transmit(self, control: ControlField, info: bytes = b"", segmented: bool = False) -> int:
        """Put a frame on the line; return its octets."""
        octets = encode_frame(Frame(self._peer, self._own, control, info, segmented))
        self._out.append(octets)
        self._counters.frames_out += 1
        self._counters.octets_out += len(octets)
        return len(octets)

    def _restart(self, parameters: LinkParameters) -> None:
        """A new link: sequence numbers begin at 0."""
        self.parameters = parameters
        self._send.restart(parameters.window_transmit, parameters.max_info_transmit)
        self._receive.restart()
        self._peer_busy = False

    def _read_parameters(self, info: bytes) -> LinkParameters:
        """Return what the field of a SNRM or UA states; the defaults, counted, when it cannot be read."""
        try:
            return decode_parameters(info)
        except ParameterError:
            self._discard(DiscardReason.PARAMETERS, info)
            return DEFAULT_PARAMETERS

    def _send_turn(self) -> bool:
        """Send what is due and give up the turn; return whether that was information.

        Up to a window of I frames, the last with P or F. RR or RNR carries the bit when there is no I frame, and also
        after I frames while this station is busy: an I frame with the bit would say that it is not.
        """
        ends_supervisory = self._busy or self._peer_busy or not self._send.has_next
        has_information = self._send.has_next and not self._peer_busy
        while self._send.has_next and not self._peer_busy:
            self._counters.retransmissions += self._send.next_is_repeated
            number, segment = self._send.take()
            poll_final = not (ends_supervisory or self._send.has_next)
            self._transmit(information(number, self._receive.expected, poll_final), segment.info, not segment.last)
        if ends_supervisory:
            self._transmit_ready()
        return has_information

    def _transmit_ready(self) -> None:
        """Send RR, or RNR while this station is busy, with P or F."""
        kind = FrameKind.RNR if self._busy else FrameKind.RR
        self._transmit(supervisory(kind, self._receive.expected, True))

    def _take_numbered(self, frame: Frame) -> bool:
        """Take an I, RR or RNR frame; return whether new information came with it."""
        control = frame.control
        self._send.acknowledge(control.nr)
        if control.kind is FrameKind.I:
            self._peer_busy = self._peer_busy and not control.poll_final
            return self._take_information(frame)
        self._peer_busy = control.kind is FrameKind.RNR
        return False

    def _take_information(self, frame: Frame) -> bool:
        """Take an I frame if it is the expected one and this station is not busy; return whether it was."""
        if frame.control.ns != self._receive.expected:
            self._discard(DiscardReason.SEQUENCE, frame.info)
            return False
        if self._busy:
            self._discard(DiscardReason.BUSY, frame.info)
            return False
        sdu = self._receive.take(frame.info, frame.segmented)
        if sdu:
            self._deliver(sdu)
        return True

    def _deliver(self, sdu: bytes) -> None:
        self._counters.sdus_in += 1
        self._events.append(DataReceived(sdu))
