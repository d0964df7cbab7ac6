"""The primary station: a NIC's end of the link to its sensor board.

Does:     makes the link by SNRM, with pauses, and makes a standing link again when it breaks; passes the turn with P
          and waits for F; sends up to a window of I frames per turn, and again what N(R) shows missing; polls, at line
          speed while there is traffic, else as often as the profile says; runs a session per exchange for boards that
          want that (SNRM, I and/or RR, DISC); names in LinkDown every SDU that it gives up.
Does not: repeat an I frame that a board may have executed (session per exchange); hold SDUs of a link that broke;
          know what an SDU means.
Caller owes: octets as they come, all of ``data_to_send``, ``handle_timer`` at ``next_deadline``; a profile whose
          ``baud`` is the line's and whose ``answer_timeout_s`` is above the line's and the board's delay; ``poll`` when
          the board pulls its wake line.

The procedure is the table in ``primary_table``; ``_step`` is the only gate: it looks up, moves, then acts, and goes on
while the station itself has something to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from meshwire.hdlc.address import Address
from meshwire.hdlc.answer_clock import AnswerClock
from meshwire.hdlc.control import MODULUS, ControlField, FrameKind, information, unnumbered
from meshwire.hdlc.errors import DiscardReason
from meshwire.hdlc.events import DownReason, LinkDown, LinkUp
from meshwire.hdlc.frame import Frame
from meshwire.hdlc.parameters import encode_parameters, negotiate
from meshwire.hdlc.primary_table import TRANSITIONS, Action, Input, State
from meshwire.hdlc.profile import STANDARD, LinkProfile, SessionKind
from meshwire.hdlc.station import DEFAULT_ADDRESS, BaseStation

_INPUTS: Final[Mapping[FrameKind, tuple[Input, Input]]] = {
    FrameKind.UA: (Input.UA, Input.UA),
    FrameKind.DM: (Input.DM, Input.DM),
    FrameKind.FRMR: (Input.FRMR, Input.FRMR),
    FrameKind.I: (Input.I, Input.I_FINAL),
    FrameKind.RR: (Input.S, Input.S_FINAL),
    FrameKind.RNR: (Input.S, Input.S_FINAL),
}
"""Responses: input without F, with F."""

_NUMBERED: Final = (FrameKind.I, FrameKind.RR, FrameKind.RNR)
_SLOWEST_POLL_S: Final = 1.0
"""Where the poll after traffic stops slowing down when the profile has no poll period."""


class PrimaryStation(BaseStation):
    """See the module. ``address`` is the secondary's, ``own_address`` this station's."""

    def __init__(
        self,
        profile: LinkProfile = STANDARD,
        *,
        address: Address = DEFAULT_ADDRESS,
        own_address: Address = DEFAULT_ADDRESS,
    ) -> None:
        super().__init__(profile, own_address, address)
        self._standing: Final = profile.session is SessionKind.STANDING
        self._state = State.DISCONNECTED
        self._deadline: float | None = None
        self._clock: Final = AnswerClock(profile)
        self._attempts = 0
        self._link_wanted = False
        self._release_wanted = False
        self._poll_wanted = False
        self._traffic = False  # an I frame went either way since the turn was passed
        self._poll_delay_s = 0.0
        self._request: int | None = None  # session: handle of the I frame that waits for its answer
        self._requested = False  # session: an I frame was sent
        self._asked = False  # session: RR was answered
        self._dropped: tuple[int, ...] = ()  # session: handle of an SDU that the peer cannot take

    # The owner's side.

    @property
    def state(self) -> State:
        """Where the procedure is."""
        return self._state

    def connect(self, now: float) -> None:
        """Make the link and keep it (standing), or ask the board now and every poll period (session per exchange)."""
        self._step(Input.CONNECT, None, now)

    def disconnect(self, now: float) -> None:
        """End the link by DISC when the turn is back; LinkDown names what was not delivered until then."""
        self._step(Input.DISCONNECT, None, now)

    def send(self, sdu: bytes, now: float) -> int:
        """Queue an SDU; return its handle. Makes a link if there is none. Raises SduError, SendQueueFull."""
        handle = self._send.push(sdu)
        self._counters.sdus_out += 1
        self._step(Input.SEND, None, now)
        return handle

    def poll(self, now: float) -> None:
        """Ask the board whether it has something, as soon as the line is free; makes a link if there is none."""
        self._step(Input.POLL, None, now)

    def set_busy(self, busy: bool, now: float) -> None:
        """While ``busy``, a standing link says RNR and takes no I frames; they come again. Not for sessions."""
        self._busy = busy
        if not busy:
            self._step(Input.POLL, None, now)

    # The driver's side.

    def receive_data(self, data: bytes, now: float) -> None:
        """Take octets from the line, in any cut. Each octet of an answer begins its time-out anew."""
        deadline = self._deadline
        super().receive_data(data, now)
        if not data or deadline is None or self._deadline != deadline:
            return  # the octets completed a frame that began another wait
        if self._state in _ANSWERED:
            self._deadline = self._clock.octets_came(now, self.profile.answer_timeout_s)
        elif self._state is State.SETTLING:
            self._deadline = self._clock.octets_came(now, self.profile.settle_time_s)

    def next_deadline(self) -> float | None:
        """Return when ``handle_timer`` must be called at the latest, None for never."""
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """Do what is due at ``now``; harmless when nothing is."""
        if self._deadline is None or now < self._deadline:
            return
        self._deadline = None
        if self._state in _ANSWERED:
            self._take(self._deframer.idle(), now)
            if self._state not in _ANSWERED or self._deadline is not None:
                return  # the answer lay behind octets that only looked like a frame
            self._counters.timeouts += 1
        spent = self._attempts >= self.profile.max_attempts
        self._step(Input.EXHAUSTED if spent else Input.EXPIRED, None, now)

    def pipe_lost(self, now: float) -> None:
        """The line is gone: LinkDown(PIPE_LOST) names every handle; nothing stays queued."""
        self._step(Input.PIPE_LOST, None, now)

    # From frames to inputs.

    def _take_frame(self, frame: Frame, now: float) -> None:
        inputs = _INPUTS.get(frame.control.kind, (Input.OTHER, Input.OTHER))
        what = inputs[frame.control.poll_final]
        self._step(Input.BROKEN if self._breaks_rules(frame) else what, frame, now)

    def _breaks_rules(self, frame: Frame) -> bool:
        """Whether a numbered frame has an N(R) that was never sent, or more information than was offered."""
        control, info = frame.control, frame.info
        if control.kind not in _NUMBERED:
            return False
        if not self._send.may_acknowledge(control.nr) or len(info) > self.profile.max_info_octets:
            return True
        return control.ns == self._receive.expected and not self._receive.fits(info)

    # The gate.

    def _step(self, what: Input | None, frame: Frame | None, now: float) -> None:
        while what is not None:
            self._state, action = TRANSITIONS[self._state][what]
            _PERFORM[action](self, frame, now)
            what, frame = self._decide(), None

    def _decide(self) -> Input | None:
        """Return what the station does by itself in its present state, None when it waits."""
        if self._state is State.DISCONNECTED:
            wanted = self._send.queued or self._poll_wanted or (self._standing and self._link_wanted)
            return Input.OPEN if wanted else None
        if self._state is not State.READY:
            return None
        return self._decide_turn() if self._standing else self._decide_session()

    def _decide_turn(self) -> Input | None:
        if self._release_wanted:
            return Input.RELEASE
        due = self._poll_wanted or (self._send.has_next and not self._peer_busy)
        return Input.PASS if due else None

    def _decide_session(self) -> Input:
        waiting = self._send.next_queued()
        if waiting and not (self._requested or self._asked or self._release_wanted):
            return Input.OVERSIZE if len(waiting[1]) > self.parameters.max_info_transmit else Input.REQUEST
        if (self._poll_wanted or self.profile.fetch_before_release) and not self._asked:
            return Input.FETCH
        return Input.RELEASE

    # Actions: wishes.

    def _nothing(self, frame: Frame | None, now: float) -> None:
        pass

    def _drop(self, frame: Frame | None, now: float) -> None:
        self._discard(DiscardReason.UNEXPECTED, frame.info if frame else b"")

    def _want_link(self, frame: Frame | None, now: float) -> None:
        if not self._link_wanted:
            self._poll_wanted = True
        self._link_wanted = True

    def _want_poll(self, frame: Frame | None, now: float) -> None:
        self._poll_wanted = True

    def _want_release(self, frame: Frame | None, now: float) -> None:
        self._release_wanted = True
        self._link_wanted = self._poll_wanted = False

    def _forget_link(self, frame: Frame | None, now: float) -> None:
        self._link_wanted = self._poll_wanted = False
        if self._state is State.DISCONNECTED:
            self._deadline = None
        if not self._send.empty:
            self._events.append(LinkDown(DownReason.RELEASED, *self._send.report_all()))

    # Actions: the link.

    def _send_snrm(self, frame: Frame | None, now: float) -> None:
        self._count_attempt()
        offer = encode_parameters(self.profile.parameters()) if self.profile.offer_parameters else b""
        self._transmit(unnumbered(FrameKind.SNRM), offer)
        self._await_answer(now)

    def _come_up(self, frame: Frame | None, now: float) -> None:
        self._restart(negotiate(self.profile.parameters(), self._read_parameters(frame.info if frame else b"")))
        self._counters.link_ups += 1
        self._attempts = 0
        self._deadline = None
        if self._standing and not self._release_wanted:
            self._link_wanted = self._poll_wanted = True  # the first poll fetches what waited for the link
        self._events.append(LinkUp(self.parameters))

    def _keep_quiet(self, frame: Frame | None, now: float) -> None:
        self._deadline = now + self.profile.quiet_time_s

    def _end_rest(self, frame: Frame | None, now: float) -> None:
        self._arm_period(now)

    def _refused(self, frame: Frame | None, now: float) -> None:
        self._fail(DownReason.REFUSED, now)

    def _give_up(self, frame: Frame | None, now: float) -> None:
        self._fail(DownReason.NO_ANSWER, now)

    def _peer_reset(self, frame: Frame | None, now: float) -> None:
        self._fail(DownReason.PEER_RESET, now, request_executed=False)

    def _rejected(self, frame: Frame | None, now: float) -> None:
        self._fail(DownReason.FRAME_REJECTED, now, request_executed=False)

    def _break(self, frame: Frame | None, now: float) -> None:
        self._fail(DownReason.FRAME_REJECTED, now)

    def _lose_pipe(self, frame: Frame | None, now: float) -> None:
        self._deframer.reset()
        self._out.clear()
        self._fail(DownReason.PIPE_LOST, now)
        self._link_wanted = False
        self._deadline = None
        self._clock.reset()

    def _fail(self, reason: DownReason, now: float, *, request_executed: bool = True) -> None:
        """The link is down: name every handle, forget every wish but the link's, rest.

        ``request_executed`` False: the peer said that it did not take the request of this session.
        """
        unsent, uncertain = self._send.report_all()
        if self._request is not None:
            request = (self._request,)
            unsent, uncertain = (unsent, request) if request_executed else (request + unsent, ())
        self._events.append(LinkDown(reason, self._dropped + unsent, uncertain))
        self._counters.resets += 1
        self._end_session()
        self._poll_wanted = False
        self._deadline = now + self.profile.retry_pause_s

    def _send_disc(self, frame: Frame | None, now: float) -> None:
        if self._release_wanted:
            self._poll_wanted = False
        self._transmit(unnumbered(FrameKind.DISC))
        self._await_answer(now)

    def _drop_and_send_disc(self, frame: Frame | None, now: float) -> None:
        self._dropped = (self._send.take_queued()[0],)
        self._send_disc(frame, now)

    def _released(self, frame: Frame | None, now: float) -> None:
        reason = DownReason.SDU_TOO_LONG if self._dropped else DownReason.RELEASED
        unsent, uncertain = self._send.report_all() if self._release_wanted else ((), ())
        self._events.append(LinkDown(reason, self._dropped + unsent, uncertain))
        self._end_session()
        self._arm_period(now)

    def _released_unanswered(self, frame: Frame | None, now: float) -> None:
        self._counters.releases_unanswered += 1
        self._released(frame, now)
        self._deadline = now + self.profile.retry_pause_s

    def _end_session(self) -> None:
        self._release_wanted = self._requested = self._asked = False
        self._request = None
        self._dropped = ()
        self._attempts = 0
        self._deadline = None

    def _arm_period(self, now: float) -> None:
        """Ask the board once per poll period (session per exchange)."""
        period_s = self.profile.poll_period_s
        self._deadline = now + period_s if self._link_wanted and period_s and not self._standing else None

    # Actions: the standing link.

    def _pass_turn(self, frame: Frame | None, now: float) -> None:
        self._poll_wanted = False
        self._attempts = 1
        self._traffic = self._send_turn()
        self._await_answer(now, self.parameters.window_receive)

    def _ask(self, frame: Frame | None, now: float) -> None:
        self._count_attempt()
        self._transmit_ready()
        self._await_answer(now, self.parameters.window_receive)

    def _take_plain(self, frame: Frame | None, now: float) -> None:
        assert frame is not None
        if self._take_numbered(frame):
            self._traffic = True

    def _take_and_turn(self, frame: Frame | None, now: float) -> None:
        self._take_plain(frame, now)
        self._take_turn(now)

    def _take_and_settle(self, frame: Frame | None, now: float) -> None:
        self._take_and_turn(frame, now)
        self._deadline = now + self.profile.settle_time_s

    def _settled(self, frame: Frame | None, now: float) -> None:
        self._poll_wanted = True

    def _take_turn(self, now: float) -> None:
        """The turn is back: go on at once after traffic, else ask again later and later, up to the poll period."""
        self._attempts = 0
        self._send.rewind()
        period_s = self.profile.poll_period_s
        if self._traffic:
            self._poll_delay_s = 0.0
            self._poll_wanted = True
            return
        self._poll_delay_s = min(max(2 * self._poll_delay_s, self.profile.fast_poll_s), period_s or _SLOWEST_POLL_S)
        rests = not period_s and self._poll_delay_s >= _SLOWEST_POLL_S
        self._deadline = None if rests else now + self._poll_delay_s

    # Actions: the session per exchange.

    def _send_request(self, frame: Frame | None, now: float) -> None:
        self._request, sdu = self._send.take_queued()
        self._requested = True
        self._transmit(information(0, self._receive.expected, True), sdu)
        self._await_answer(now)

    def _fetch(self, frame: Frame | None, now: float) -> None:
        self._attempts = 0
        self._poll_wanted = False
        self._ask(frame, now)

    def _take_answer(self, frame: Frame | None, now: float) -> None:
        """Any numbered frame answers; information is an SDU, whatever the numbers: a board counts in its own way."""
        assert frame is not None
        self._deadline = None
        is_information = frame.control.kind is FrameKind.I
        if self._request is not None:
            self._request = None
        else:
            # A board that pulled its wake line while it was being asked, and said "nothing", is asked once more: DISC
            # would destroy its message. After an I frame it is not, or it would send the same one for ever.
            self._asked = is_information or not self._poll_wanted
        if is_information:
            self._receive.expected = (frame.control.ns + 1) % MODULUS
            if frame.info:
                self._deliver(frame.info)

    # Time.

    def _count_attempt(self) -> None:
        self._attempts += 1
        if self._attempts > 1:
            self._counters.retries += 1

    def _transmit(self, control: ControlField, info: bytes = b"", segmented: bool = False) -> int:
        octets = super()._transmit(control, info, segmented)
        self._clock.add_octets(octets)
        return octets

    def _await_answer(self, now: float, frames: int = 1) -> None:
        self._deadline = self._clock.question_ends(now, frames)


_ANSWERED: Final = frozenset(
    (State.CONNECTING, State.AWAITING, State.ASKING, State.REQUESTING, State.FETCHING, State.RELEASING)
)
"""States in which a question stands on the line."""

_PERFORM: Final[Mapping[Action, Callable[[PrimaryStation, Frame | None, float], None]]] = {
    Action.NOTHING: PrimaryStation._nothing,
    Action.DISCARD: PrimaryStation._drop,
    Action.WANT_LINK: PrimaryStation._want_link,
    Action.WANT_RELEASE: PrimaryStation._want_release,
    Action.FORGET_LINK: PrimaryStation._forget_link,
    Action.WANT_POLL: PrimaryStation._want_poll,
    Action.LOSE_PIPE: PrimaryStation._lose_pipe,
    Action.SEND_SNRM: PrimaryStation._send_snrm,
    Action.KEEP_QUIET: PrimaryStation._keep_quiet,
    Action.END_REST: PrimaryStation._end_rest,
    Action.COME_UP: PrimaryStation._come_up,
    Action.REFUSED: PrimaryStation._refused,
    Action.GIVE_UP: PrimaryStation._give_up,
    Action.PEER_RESET: PrimaryStation._peer_reset,
    Action.REJECTED: PrimaryStation._rejected,
    Action.BREAK: PrimaryStation._break,
    Action.PASS_TURN: PrimaryStation._pass_turn,
    Action.ASK: PrimaryStation._ask,
    Action.TAKE: PrimaryStation._take_plain,
    Action.TAKE_AND_TURN: PrimaryStation._take_and_turn,
    Action.TAKE_AND_SETTLE: PrimaryStation._take_and_settle,
    Action.SETTLED: PrimaryStation._settled,
    Action.SEND_REQUEST: PrimaryStation._send_request,
    Action.FETCH: PrimaryStation._fetch,
    Action.FETCH_AGAIN: PrimaryStation._ask,
    Action.TAKE_ANSWER: PrimaryStation._take_answer,
    Action.SEND_DISC: PrimaryStation._send_disc,
    Action.DROP_AND_SEND_DISC: PrimaryStation._drop_and_send_disc,
    Action.RELEASED: PrimaryStation._released,
    Action.RELEASED_UNANSWERED: PrimaryStation._released_unanswered,
}
