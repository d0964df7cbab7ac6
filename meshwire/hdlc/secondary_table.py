"""The secondary station's procedure as one table: (state, input) -> (next state, action).

Laws
1. A secondary speaks only when asked: every action that transmits answers a frame that carried P, a SNRM or a DISC.
2. Only SNRM makes a link; whatever else comes while there is none is answered DM when it polls.
3. After a frame that breaks the rules only SNRM and DISC are obeyed; polls are answered FRMR.
4. A SNRM that repeats the last one (nothing else came between) changes nothing and is answered again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class State(Enum):
    """Where a secondary can be."""

    DISCONNECTED = auto()
    OPENED = auto()
    """UA was sent; nothing but SNRM was heard since."""
    NORMAL = auto()
    """Normal response mode."""
    REJECTING = auto()
    """Frame reject condition: the link is down, the primary does not know yet."""


class Input(Enum):
    """What can happen to a secondary. ``_POLL``: the frame carried P."""

    SNRM = auto()
    DISC = auto()
    I = auto()  # noqa: E741 - the standard's name
    I_POLL = auto()
    S = auto()
    """RR or RNR."""
    S_POLL = auto()
    UI = auto()
    UI_POLL = auto()
    INVALID = auto()
    """A frame that the standard answers with FRMR."""
    INVALID_POLL = auto()
    SEND = auto()
    EXPIRED = auto()
    """Nothing was heard for the inactivity time-out."""
    PIPE_LOST = auto()


class Action(Enum):
    """What a secondary does upon it."""

    NOTHING = auto()
    DISCARD = auto()
    ANSWER_DM = auto()
    ANSWER_UA = auto()
    ACCEPT = auto()
    """UA with parameters, LinkUp."""
    ACCEPT_AGAIN = auto()
    """UA with parameters."""
    START_OVER = auto()
    """LinkDown(PEER_RESET), then as ACCEPT."""
    RELEASE = auto()
    """UA, LinkDown(RELEASED)."""
    TAKE = auto()
    """N(R) acknowledges; the information is taken if N(S) is V(R)."""
    TAKE_AND_ANSWER = auto()
    DISCARD_AND_ANSWER = auto()
    REJECT = auto()
    """LinkDown(FRAME_REJECTED)."""
    REJECT_AND_SAY = auto()
    """LinkDown(FRAME_REJECTED), FRMR."""
    SAY_FRMR = auto()
    GIVE_UP = auto()
    """LinkDown(NO_ANSWER)."""
    LOSE_PIPE = auto()


Row = Mapping[Input, tuple[State, Action]]

_DISCONNECTED: Final[Row] = {
    Input.SNRM: (State.OPENED, Action.ACCEPT),
    Input.DISC: (State.DISCONNECTED, Action.ANSWER_DM),
    Input.I: (State.DISCONNECTED, Action.DISCARD),
    Input.I_POLL: (State.DISCONNECTED, Action.ANSWER_DM),
    Input.S: (State.DISCONNECTED, Action.DISCARD),
    Input.S_POLL: (State.DISCONNECTED, Action.ANSWER_DM),
    Input.UI: (State.DISCONNECTED, Action.DISCARD),
    Input.UI_POLL: (State.DISCONNECTED, Action.ANSWER_DM),
    Input.INVALID: (State.DISCONNECTED, Action.DISCARD),
    Input.INVALID_POLL: (State.DISCONNECTED, Action.ANSWER_DM),
    Input.SEND: (State.DISCONNECTED, Action.NOTHING),
    Input.EXPIRED: (State.DISCONNECTED, Action.NOTHING),
    Input.PIPE_LOST: (State.DISCONNECTED, Action.LOSE_PIPE),
}

_OPENED: Final[Row] = {
    Input.SNRM: (State.OPENED, Action.ACCEPT_AGAIN),
    Input.DISC: (State.DISCONNECTED, Action.RELEASE),
    Input.I: (State.NORMAL, Action.TAKE),
    Input.I_POLL: (State.NORMAL, Action.TAKE_AND_ANSWER),
    Input.S: (State.NORMAL, Action.TAKE),
    Input.S_POLL: (State.NORMAL, Action.TAKE_AND_ANSWER),
    Input.UI: (State.NORMAL, Action.DISCARD),
    Input.UI_POLL: (State.NORMAL, Action.DISCARD_AND_ANSWER),
    Input.INVALID: (State.REJECTING, Action.REJECT),
    Input.INVALID_POLL: (State.REJECTING, Action.REJECT_AND_SAY),
    Input.SEND: (State.OPENED, Action.NOTHING),
    Input.EXPIRED: (State.DISCONNECTED, Action.GIVE_UP),
    Input.PIPE_LOST: (State.DISCONNECTED, Action.LOSE_PIPE),
}

_NORMAL: Final[Row] = {
    Input.SNRM: (State.OPENED, Action.START_OVER),
    Input.DISC: (State.DISCONNECTED, Action.RELEASE),
    Input.I: (State.NORMAL, Action.TAKE),
    Input.I_POLL: (State.NORMAL, Action.TAKE_AND_ANSWER),
    Input.S: (State.NORMAL, Action.TAKE),
    Input.S_POLL: (State.NORMAL, Action.TAKE_AND_ANSWER),
    Input.UI: (State.NORMAL, Action.DISCARD),
    Input.UI_POLL: (State.NORMAL, Action.DISCARD_AND_ANSWER),
    Input.INVALID: (State.REJECTING, Action.REJECT),
    Input.INVALID_POLL: (State.REJECTING, Action.REJECT_AND_SAY),
    Input.SEND: (State.NORMAL, Action.NOTHING),
    Input.EXPIRED: (State.DISCONNECTED, Action.GIVE_UP),
    Input.PIPE_LOST: (State.DISCONNECTED, Action.LOSE_PIPE),
}

_REJECTING: Final[Row] = {
    Input.SNRM: (State.OPENED, Action.ACCEPT),
    Input.DISC: (State.DISCONNECTED, Action.ANSWER_UA),
    Input.I: (State.REJECTING, Action.DISCARD),
    Input.I_POLL: (State.REJECTING, Action.SAY_FRMR),
    Input.S: (State.REJECTING, Action.DISCARD),
    Input.S_POLL: (State.REJECTING, Action.SAY_FRMR),
    Input.UI: (State.REJECTING, Action.DISCARD),
    Input.UI_POLL: (State.REJECTING, Action.SAY_FRMR),
    Input.INVALID: (State.REJECTING, Action.DISCARD),
    Input.INVALID_POLL: (State.REJECTING, Action.SAY_FRMR),
    Input.SEND: (State.REJECTING, Action.NOTHING),
    Input.EXPIRED: (State.DISCONNECTED, Action.NOTHING),
    Input.PIPE_LOST: (State.DISCONNECTED, Action.LOSE_PIPE),
}

TRANSITIONS: Final[Mapping[State, Row]] = {
    State.DISCONNECTED: _DISCONNECTED,
    State.OPENED: _OPENED,
    State.NORMAL: _NORMAL,
    State.REJECTING: _REJECTING,
}
