"""The secondary station: a sensor board's end of a standing link in normal response mode.

Does:     answers SNRM with UA and the negotiated limits; keeps SDUs and sends up to a window of them when polled, the
          last with F; sends again what the primary's N(R) shows missing; answers DM without a link, FRMR to frames that
          break the rules; says RNR while its owner is busy; leaves a link on which nothing was heard for long.
Does not: ever speak unasked; repeat on a timer; pulse a wake line; keep SDUs of a link that broke (it names them).
Caller owes: octets as they come, all of ``data_to_send``, ``handle_timer`` at ``next_deadline``; to tell the primary by
          other means (the wake line) that ``wants_attention`` became true while the line was idle.

The procedure is the table in ``secondary_table``; ``_step`` is the only gate: it looks up, moves, then acts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from meshwire.hdlc.address import Address
from meshwire.hdlc.control import FrameKind, unnumbered
from meshwire.hdlc.errors import DiscardReason
from meshwire.hdlc.events import DownReason, LinkDown, LinkUp
from meshwire.hdlc.frame import Frame
from meshwire.hdlc.parameters import encode_parameters, negotiate
from meshwire.hdlc.profile import STANDARD, LinkProfile
from meshwire.hdlc.secondary_table import TRANSITIONS, Action, Input, State
from meshwire.hdlc.station import DEFAULT_ADDRESS, BaseStation

# Reasons in the third octet of a FRMR (ISO/IEC 13239: W, X, Y, Z).
_CONTROL_UNDEFINED: Final = 0x01  # W
_INFORMATION_NOT_PERMITTED: Final = 0x03  # X, which implies W
_INFORMATION_TOO_LONG: Final = 0x04  # Y
_NR_INVALID: Final = 0x08  # Z

_PLAIN: Final[Mapping[FrameKind, tuple[Input, Input]]] = {
    FrameKind.SNRM: (Input.SNRM, Input.SNRM),
    FrameKind.DISC: (Input.DISC, Input.DISC),
    FrameKind.I: (Input.I, Input.I_POLL),
    FrameKind.RR: (Input.S, Input.S_POLL),
    FrameKind.RNR: (Input.S, Input.S_POLL),
    FrameKind.UI: (Input.UI, Input.UI_POLL),
}
"""Commands this station obeys: input without P, with P. SNRM and DISC are answered even without P, as boards do."""


class SecondaryStation(BaseStation):
    """See the module. ``address`` is this station's, ``primary_address`` the only one it listens to."""

    def __init__(
        self,
        profile: LinkProfile = STANDARD,
        *,
        address: Address = DEFAULT_ADDRESS,
        primary_address: Address = DEFAULT_ADDRESS,
    ) -> None:
        super().__init__(profile, address, primary_address)
        self._state = State.DISCONNECTED
        self._deadline: float | None = None
        self._reject_info = b""

    # The owner's side.

    @property
    def state(self) -> State:
        """Where the procedure is."""
        return self._state

    @property
    def wants_attention(self) -> bool:
        """Whether SDUs wait for a poll."""
        return self._send.has_next

    def send(self, sdu: bytes, now: float) -> int:
        """Queue an SDU for the next poll, also before there is a link; return its handle."""
        handle = self._send.push(sdu)
        self._counters.sdus_out += 1
        self._step(Input.SEND, None, now)
        return handle

    def set_busy(self, busy: bool, now: float) -> None:
        """While ``busy``, polls are answered RNR and I frames are not taken; they come again."""
        self._busy = busy

    # The driver's side.

    def next_deadline(self) -> float | None:
        """Return when the inactivity time-out ends, None without a link."""
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """Leave a link on which nothing was heard for the inactivity time-out."""
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._step(Input.EXPIRED, None, now)

    def pipe_lost(self, now: float) -> None:
        """The line is gone: LinkDown(PIPE_LOST) names every handle; nothing stays queued."""
        self._step(Input.PIPE_LOST, None, now)

    # From frames to inputs.

    def _take_frame(self, frame: Frame, now: float) -> None:
        inputs = _PLAIN.get(frame.control.kind)
        reject = _CONTROL_UNDEFINED if inputs is None else self._fault(frame)
        if inputs is None or reject:
            inputs = (Input.INVALID, Input.INVALID_POLL)
            if self._state is not State.REJECTING:
                self._note_fault(frame, reject)
        self._step(inputs[frame.control.poll_final], frame, now)
        if self._state is not State.DISCONNECTED and self.profile.inactivity_timeout_s:
            self._deadline = now + self.profile.inactivity_timeout_s

    def _fault(self, frame: Frame) -> int:
        """Return the FRMR reason for a frame of a known kind, 0 when it keeps the rules."""
        control, info = frame.control, frame.info
        if control.kind is FrameKind.I:
            in_sequence = control.ns == self._receive.expected
            if len(info) > self.profile.max_info_octets or (in_sequence and not self._receive.fits(info)):
                return _INFORMATION_TOO_LONG
        elif control.kind not in (FrameKind.RR, FrameKind.RNR):
            return 0
        elif info:
            return _INFORMATION_NOT_PERMITTED
        return 0 if self._send.may_acknowledge(control.nr) else _NR_INVALID

    def _note_fault(self, frame: Frame, reason: int) -> None:
        """Make the information field of FRMR: rejected control field, V(R) and V(S), reason."""
        numbers = self._receive.expected << 5 | self._send.send_number << 1
        self._reject_info = bytes((frame.control.octet, numbers, reason))

    # The gate.

    def _step(self, what: Input, frame: Frame | None, now: float) -> None:
        self._state, action = TRANSITIONS[self._state][what]
        _PERFORM[action](self, frame)

    # Actions.

    def _nothing(self, frame: Frame | None) -> None:
        pass

    def _drop(self, frame: Frame | None) -> None:
        self._discard(DiscardReason.UNEXPECTED, frame.info if frame else b"")

    def _answer_dm(self, frame: Frame | None) -> None:
        self._transmit(unnumbered(FrameKind.DM))

    def _answer_ua(self, frame: Frame | None) -> None:
        self._deadline = None
        self._transmit(unnumbered(FrameKind.UA))

    def _accept(self, frame: Frame | None) -> None:
        self._accept_again(frame)
        self._counters.link_ups += 1
        self._events.append(LinkUp(self.parameters))

    def _accept_again(self, frame: Frame | None) -> None:
        self._restart(negotiate(self.profile.parameters(), self._read_parameters(frame.info if frame else b"")))
        self._transmit(unnumbered(FrameKind.UA), encode_parameters(self.parameters))

    def _start_over(self, frame: Frame | None) -> None:
        self._go_down(DownReason.PEER_RESET)
        self._accept(frame)

    def _release(self, frame: Frame | None) -> None:
        """The primary released the link; what was not begun stays queued for the next one."""
        unsent, uncertain = self._send.report_begun()
        self._events.append(LinkDown(DownReason.RELEASED, unsent, uncertain))
        self._answer_ua(frame)

    def _take_plain(self, frame: Frame | None) -> None:
        assert frame is not None
        self._take_numbered(frame)

    def _take_and_answer(self, frame: Frame | None) -> None:
        self._take_plain(frame)
        self._use_turn()

    def _drop_and_answer(self, frame: Frame | None) -> None:
        self._drop(frame)
        self._use_turn()

    def _use_turn(self) -> None:
        self._send.rewind()
        self._send_turn()

    def _reject(self, frame: Frame | None) -> None:
        self._go_down(DownReason.FRAME_REJECTED)

    def _reject_and_say(self, frame: Frame | None) -> None:
        self._go_down(DownReason.FRAME_REJECTED)
        self._say_frmr(frame)

    def _say_frmr(self, frame: Frame | None) -> None:
        self._transmit(unnumbered(FrameKind.FRMR), self._reject_info)

    def _give_up(self, frame: Frame | None) -> None:
        self._go_down(DownReason.NO_ANSWER)

    def _lose_pipe(self, frame: Frame | None) -> None:
        self._deframer.reset()
        self._out.clear()
        self._go_down(DownReason.PIPE_LOST)

    def _go_down(self, reason: DownReason) -> None:
        self._deadline = None
        self._counters.resets += 1
        self._events.append(LinkDown(reason, *self._send.report_all()))


_PERFORM: Final[Mapping[Action, Callable[[SecondaryStation, Frame | None], None]]] = {
    Action.NOTHING: SecondaryStation._nothing,
    Action.DISCARD: SecondaryStation._drop,
    Action.ANSWER_DM: SecondaryStation._answer_dm,
    Action.ANSWER_UA: SecondaryStation._answer_ua,
    Action.ACCEPT: SecondaryStation._accept,
    Action.ACCEPT_AGAIN: SecondaryStation._accept_again,
    Action.START_OVER: SecondaryStation._start_over,
    Action.RELEASE: SecondaryStation._release,
    Action.TAKE: SecondaryStation._take_plain,
    Action.TAKE_AND_ANSWER: SecondaryStation._take_and_answer,
    Action.DISCARD_AND_ANSWER: SecondaryStation._drop_and_answer,
    Action.REJECT: SecondaryStation._reject,
    Action.REJECT_AND_SAY: SecondaryStation._reject_and_say,
    Action.SAY_FRMR: SecondaryStation._say_frmr,
    Action.GIVE_UP: SecondaryStation._give_up,
    Action.LOSE_PIPE: SecondaryStation._lose_pipe,
}
