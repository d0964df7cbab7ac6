"""The primary station's procedure as one table: (state, input) -> (next state, action).

Laws
1. One question at a time: after a frame with P the primary is silent until the answer's F, or a time-out and the quiet
   time after it.
2. A link comes up by UA to SNRM only, and every attempt ends in LinkUp or LinkDown.
3. On a standing link a time-out is answered by asking (RR with P), never by sending I frames again; what is sent
   again is decided by the N(R) of the answer. When the turn is back the line must have been silent for a moment before
   it is passed again, or a late answer would be taken for the next one, and so on for as long as there is traffic.
4. In a session per exchange an I frame is sent once. RR is asked again only after no answer, never after an answer.
   Every session in which the peer answered ends with DISC.
5. READY is left at once when there is something to do: OPEN to RELEASE are the station's own inputs, chosen by
   ``PrimaryStation._decide``.

States from READY on exist only while the peer is in normal response mode. AWAITING, ASK_QUIET, ASKING and SETTLING
belong to the standing link; REQUESTING, FETCHING and FETCH_QUIET to the session per exchange.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class State(Enum):
    """Where a primary can be."""

    DISCONNECTED = auto()
    RESTING = auto()
    """After a failure: the line is kept silent before anything is tried again."""
    CONNECTING = auto()
    """SNRM was sent."""
    CONNECT_QUIET = auto()
    """SNRM was not answered; silence before the next."""
    READY = auto()
    """The primary has the turn."""
    AWAITING = auto()
    """The turn was passed with P."""
    ASK_QUIET = auto()
    """The turn did not come back; silence before asking by RR."""
    ASKING = auto()
    """RR was sent after a time-out."""
    SETTLING = auto()
    """The turn came back after a time-out, perhaps from the question before the last: the other answers may follow."""
    REQUESTING = auto()
    """The I frame of the session was sent."""
    FETCHING = auto()
    """The RR of the session was sent."""
    FETCH_QUIET = auto()
    """RR was not answered; silence before the next."""
    RELEASING = auto()
    """DISC was sent."""


class Input(Enum):
    """What can happen to a primary. ``_FINAL``: the frame carried F."""

    CONNECT = auto()
    DISCONNECT = auto()
    SEND = auto()
    POLL = auto()
    PIPE_LOST = auto()
    EXPIRED = auto()
    """The state's time is over."""
    EXHAUSTED = auto()
    """The same, and the question was put as often as the profile allows."""
    UA = auto()
    DM = auto()
    FRMR = auto()
    I = auto()  # noqa: E741 - the standard's name
    I_FINAL = auto()
    S = auto()
    """RR or RNR."""
    S_FINAL = auto()
    BROKEN = auto()
    """A frame against the rules of a standing link: N(R) never sent, information too long."""
    OTHER = auto()
    """A frame that no secondary sends here: commands, UI, undefined control fields."""
    OPEN = auto()
    """A link is wanted."""
    PASS = auto()
    """Standing: there is something to send or to ask."""
    REQUEST = auto()
    """Session: an SDU waits."""
    OVERSIZE = auto()
    """Session: an SDU waits that the peer cannot take."""
    FETCH = auto()
    """Session: the peer is to be asked."""
    RELEASE = auto()
    """The session is complete, or the caller wants to end the link."""


class Action(Enum):
    """What a primary does upon it."""

    NOTHING = auto()
    DISCARD = auto()
    WANT_LINK = auto()
    WANT_RELEASE = auto()
    FORGET_LINK = auto()
    """No link is wanted any more; handles still queued are named in LinkDown(RELEASED)."""
    WANT_POLL = auto()
    LOSE_PIPE = auto()
    SEND_SNRM = auto()
    KEEP_QUIET = auto()
    """Time-out: arm the quiet time."""
    END_REST = auto()
    COME_UP = auto()
    REFUSED = auto()
    GIVE_UP = auto()
    """LinkDown(NO_ANSWER)."""
    PEER_RESET = auto()
    REJECTED = auto()
    """LinkDown(FRAME_REJECTED): the peer sent FRMR."""
    BREAK = auto()
    """LinkDown(FRAME_REJECTED): the peer broke the rules."""
    PASS_TURN = auto()
    ASK = auto()
    """RR with P after a time-out."""
    TAKE = auto()
    """N(R) acknowledges; the information is taken if N(S) is V(R)."""
    TAKE_AND_TURN = auto()
    TAKE_AND_SETTLE = auto()
    SETTLED = auto()
    SEND_REQUEST = auto()
    FETCH = auto()
    FETCH_AGAIN = auto()
    TAKE_ANSWER = auto()
    """Session: the answer's information, if any, is an SDU, whatever its sequence numbers."""
    SEND_DISC = auto()
    DROP_AND_SEND_DISC = auto()
    """As SEND_DISC; the SDU that is too long will be named in LinkDown(SDU_TOO_LONG)."""
    RELEASED = auto()
    RELEASED_UNANSWERED = auto()


Cell = tuple[State, Action]
Row = Mapping[Input, Cell]


def _owner(state: State) -> dict[Input, Cell]:
    """What the owner's calls do in every state in which they only leave a wish behind."""
    return {
        Input.CONNECT: (state, Action.WANT_LINK),
        Input.DISCONNECT: (state, Action.WANT_RELEASE),
        Input.SEND: (state, Action.NOTHING),
        Input.POLL: (state, Action.WANT_POLL),
        Input.PIPE_LOST: (State.DISCONNECTED, Action.LOSE_PIPE),
    }


def _deaf(state: State) -> dict[Input, Cell]:
    """No frame means anything here."""
    frames = (Input.UA, Input.DM, Input.FRMR, Input.I, Input.I_FINAL, Input.S, Input.S_FINAL, Input.BROKEN, Input.OTHER)
    return dict.fromkeys(frames, (state, Action.DISCARD))


def _undecided(state: State) -> dict[Input, Cell]:
    """The station's own inputs belong to other states."""
    own = (Input.OPEN, Input.PASS, Input.REQUEST, Input.OVERSIZE, Input.FETCH, Input.RELEASE)
    return dict.fromkeys(own, (state, Action.NOTHING))


def _time(expired: Cell, exhausted: Cell) -> dict[Input, Cell]:
    return {Input.EXPIRED: expired, Input.EXHAUSTED: exhausted}


def _silence(state: State, end: Cell) -> dict[Input, Cell]:
    """A pause ends the same way however often the question was put."""
    return _deaf(state) | _owner(state) | _undecided(state) | _time(end, end)


_FAILED: Final[dict[Input, Cell]] = {
    Input.DM: (State.RESTING, Action.PEER_RESET),
    Input.FRMR: (State.RESTING, Action.REJECTED),
}
"""The peer says that the link is over."""

_OPENING: Final[dict[Input, Cell]] = {
    Input.UA: (State.READY, Action.COME_UP),
    Input.DM: (State.RESTING, Action.REFUSED),
}
"""Answers to SNRM."""

_TURN: Final[dict[Input, Cell]] = {
    Input.I_FINAL: (State.READY, Action.TAKE_AND_TURN),
    Input.S_FINAL: (State.READY, Action.TAKE_AND_TURN),
    Input.BROKEN: (State.RESTING, Action.BREAK),
}
"""The turn comes back on a standing link."""

_LATE_TURN: Final[dict[Input, Cell]] = {
    Input.I_FINAL: (State.SETTLING, Action.TAKE_AND_SETTLE),
    Input.S_FINAL: (State.SETTLING, Action.TAKE_AND_SETTLE),
    Input.BROKEN: (State.RESTING, Action.BREAK),
}
"""The turn comes back after a time-out."""

_ANSWER: Final[dict[Input, Cell]] = dict.fromkeys(
    (Input.I, Input.I_FINAL, Input.S, Input.S_FINAL, Input.BROKEN), (State.READY, Action.TAKE_ANSWER)
)
"""A session's answer. Boards set F always and count in their own way: neither is asked of them."""

_FREED: Final[dict[Input, Cell]] = {
    Input.UA: (State.DISCONNECTED, Action.RELEASED),
    Input.DM: (State.DISCONNECTED, Action.RELEASED),
}
"""Answers to DISC."""


def _taking(state: State) -> dict[Input, Cell]:
    """Frames of an answer that goes on."""
    return {Input.I: (state, Action.TAKE), Input.S: (state, Action.TAKE)}


TRANSITIONS: Final[Mapping[State, Row]] = {
    State.DISCONNECTED: _silence(State.DISCONNECTED, (State.DISCONNECTED, Action.WANT_POLL))
    | {
        Input.DISCONNECT: (State.DISCONNECTED, Action.FORGET_LINK),
        Input.OPEN: (State.CONNECTING, Action.SEND_SNRM),
    },
    State.RESTING: _silence(State.RESTING, (State.DISCONNECTED, Action.END_REST))
    | {Input.DISCONNECT: (State.RESTING, Action.FORGET_LINK)},
    State.CONNECTING: _deaf(State.CONNECTING)
    | _owner(State.CONNECTING)
    | _undecided(State.CONNECTING)
    | _time((State.CONNECT_QUIET, Action.KEEP_QUIET), (State.RESTING, Action.GIVE_UP))
    | _OPENING,
    State.CONNECT_QUIET: _silence(State.CONNECT_QUIET, (State.CONNECTING, Action.SEND_SNRM)) | _OPENING,
    State.READY: _deaf(State.READY)
    | _owner(State.READY)
    | _time((State.READY, Action.WANT_POLL), (State.READY, Action.WANT_POLL))
    | _taking(State.READY)
    | _FAILED
    | {
        # An answer that comes after its question was answered already: its frames count, it gives no second turn.
        Input.I_FINAL: (State.READY, Action.TAKE),
        Input.S_FINAL: (State.READY, Action.TAKE),
        Input.BROKEN: (State.RESTING, Action.BREAK),
        Input.OPEN: (State.READY, Action.NOTHING),
        Input.PASS: (State.AWAITING, Action.PASS_TURN),
        Input.REQUEST: (State.REQUESTING, Action.SEND_REQUEST),
        Input.OVERSIZE: (State.RELEASING, Action.DROP_AND_SEND_DISC),
        Input.FETCH: (State.FETCHING, Action.FETCH),
        Input.RELEASE: (State.RELEASING, Action.SEND_DISC),
    },
    State.AWAITING: _deaf(State.AWAITING)
    | _owner(State.AWAITING)
    | _undecided(State.AWAITING)
    | _time((State.ASK_QUIET, Action.KEEP_QUIET), (State.RESTING, Action.GIVE_UP))
    | _taking(State.AWAITING)
    | _TURN
    | _FAILED,
    State.ASK_QUIET: _silence(State.ASK_QUIET, (State.ASKING, Action.ASK))
    | _taking(State.ASK_QUIET)
    | _LATE_TURN
    | _FAILED,
    State.ASKING: _deaf(State.ASKING)
    | _owner(State.ASKING)
    | _undecided(State.ASKING)
    | _time((State.ASK_QUIET, Action.KEEP_QUIET), (State.RESTING, Action.GIVE_UP))
    | _taking(State.ASKING)
    | _LATE_TURN
    | _FAILED,
    State.SETTLING: _silence(State.SETTLING, (State.READY, Action.SETTLED))
    | _taking(State.SETTLING)
    | _FAILED
    | {
        Input.I_FINAL: (State.SETTLING, Action.TAKE),
        Input.S_FINAL: (State.SETTLING, Action.TAKE),
        Input.BROKEN: (State.RESTING, Action.BREAK),
    },
    State.REQUESTING: _deaf(State.REQUESTING)
    | _owner(State.REQUESTING)
    | _undecided(State.REQUESTING)
    | _time((State.RESTING, Action.GIVE_UP), (State.RESTING, Action.GIVE_UP))
    | _ANSWER
    | _FAILED,
    State.FETCHING: _deaf(State.FETCHING)
    | _owner(State.FETCHING)
    | _undecided(State.FETCHING)
    | _time((State.FETCH_QUIET, Action.KEEP_QUIET), (State.RESTING, Action.GIVE_UP))
    | _ANSWER
    | _FAILED,
    State.FETCH_QUIET: _silence(State.FETCH_QUIET, (State.FETCHING, Action.FETCH_AGAIN)) | _ANSWER | _FAILED,
    State.RELEASING: _deaf(State.RELEASING)
    | _owner(State.RELEASING)
    | _undecided(State.RELEASING)
    | _time((State.RESTING, Action.RELEASED_UNANSWERED), (State.RESTING, Action.RELEASED_UNANSWERED))
    | _FREED,
}
