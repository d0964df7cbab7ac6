"""The Milli board's HDLC secondary, as run (dialect A.8): two modes, one pending-message slot, no timers.

Laws:
- All link state lives here. It changes only in `receive` (a frame came) and `offer` (a message wants the slot). The
  board can't tell that a cable was pulled, so nothing else does.
- One frame in gives no frame or one frame out. Nothing is ever sent otherwise, and no answer is kept.
- The table says what an input does in each mode; the sequence rules apply around it.

Does not: read the UART, know CoAP. The caller owes frames that `frame.examine` accepted, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from sensor_sim.milli.frame import UA_PARAMETERS, Input, MilliFrame, build_frame

__all__ = ["TRANSITIONS", "Action", "LinkMachine", "Mode"]

_MODULUS: Final = 8
_UA: Final = 0x63
_DM: Final = 0x0F
_FRMR: Final = 0x87
_RR: Final = 0x01

Execute = Callable[[bytes], bytes | None]
"""Runs one CoAP message; gives the answer's octets, b"" for an I frame without information, None for no answer."""


class Mode(Enum):
    """Whether an SNRM came since boot or the last DISC."""

    DISCONNECTED = "disconnected"
    NORMAL = "normal"


class Action(Enum):
    """What the board does with a frame."""

    ACCEPT = "UA with parameters; V(S) = V(R) = 0; the pending message is kept"
    RELEASE = "UA; the pending message is discarded"
    REFUSE = "DM"
    EXECUTE = "handle the CoAP message, answer with an I frame"
    ADVANCE = "V(R) advances, no answer"
    POLL = "I with the pending message, else RR"
    REJECT = "FRMR without information"
    IGNORE = "no answer"


_D, _N = Mode.DISCONNECTED, Mode.NORMAL

TRANSITIONS: Final[dict[tuple[Mode, Input], tuple[Mode, Action]]] = {
    (_D, Input.SNRM): (_N, Action.ACCEPT),
    (_D, Input.DISC): (_D, Action.REFUSE),
    (_D, Input.I_INFO): (_D, Action.REFUSE),
    (_D, Input.I_EMPTY): (_D, Action.REFUSE),
    (_D, Input.RR): (_D, Action.REFUSE),
    (_D, Input.RNR): (_D, Action.REFUSE),
    (_D, Input.UI): (_D, Action.REFUSE),
    (_D, Input.UA): (_D, Action.REFUSE),
    (_D, Input.DM): (_D, Action.REFUSE),
    (_D, Input.FRMR): (_D, Action.REFUSE),
    (_D, Input.UNKNOWN): (_D, Action.IGNORE),
    (_N, Input.SNRM): (_N, Action.ACCEPT),
    (_N, Input.DISC): (_D, Action.RELEASE),
    (_N, Input.I_INFO): (_N, Action.EXECUTE),
    (_N, Input.I_EMPTY): (_N, Action.ADVANCE),
    (_N, Input.RR): (_N, Action.POLL),
    (_N, Input.RNR): (_N, Action.REJECT),
    (_N, Input.UI): (_N, Action.REJECT),
    (_N, Input.UA): (_N, Action.REJECT),
    (_N, Input.DM): (_N, Action.REJECT),
    (_N, Input.FRMR): (_N, Action.REJECT),
    (_N, Input.UNKNOWN): (_N, Action.IGNORE),
}


class LinkMachine:
    """The secondary's state and its one gate, `receive`.

    Args:
        execute: runs a CoAP message that came in an I frame.
        oldest_pending_wins: what a full slot does with a new message (dialect A.8, pending slot).
    """

    def __init__(self, execute: Execute, *, oldest_pending_wins: bool) -> None:
        self._execute = execute
        self._oldest_pending_wins = oldest_pending_wins
        self._mode = Mode.DISCONNECTED
        self._send_state = 0
        self._receive_state = 0
        self._pending: bytes | None = None
        self._actions: dict[Action, Callable[[MilliFrame], bytes]] = {
            Action.ACCEPT: self._accept,
            Action.RELEASE: self._release,
            Action.REFUSE: lambda frame: build_frame(_DM),
            Action.EXECUTE: self._run,
            Action.ADVANCE: self._advance,
            Action.POLL: self._poll,
            Action.REJECT: lambda frame: build_frame(_FRMR),
            Action.IGNORE: lambda frame: b"",
        }

    @property
    def mode(self) -> Mode:
        """Disconnected or normal."""
        return self._mode

    @property
    def pending(self) -> bytes | None:
        """The message waiting in the slot."""
        return self._pending

    @property
    def sequence(self) -> tuple[int, int]:
        """V(S) and V(R)."""
        return self._send_state, self._receive_state

    def has_room(self) -> bool:
        """Whether `offer` would take a message."""
        return self._pending is None or not self._oldest_pending_wins

    def offer(self, message: bytes) -> None:
        """Put a message into the slot.

        Raises:
            ValueError: the slot is full and the oldest wins; ask `has_room` first.
        """
        if not self.has_room():
            raise ValueError("the pending slot is full")
        self._pending = message

    def receive(self, frame: MilliFrame) -> bytes:
        """Take one frame; gives the octets of the answer, b"" for none."""
        next_mode, action = TRANSITIONS[self._mode, frame.kind]
        if self._mode is Mode.NORMAL and action is not Action.IGNORE:
            self._acknowledge(frame)
        self._mode = next_mode
        return self._actions[action](frame)

    def _acknowledge(self, frame: MilliFrame) -> None:
        # Rule 1: only N(R) == V(S) + 1 moves V(S); anything else is ignored. A U frame counts as N(R) = 0.
        if frame.receive_number == (self._send_state + 1) % _MODULUS:
            self._send_state = frame.receive_number

    def _accept(self, frame: MilliFrame) -> bytes:
        self._send_state = self._receive_state = 0
        return build_frame(_UA, UA_PARAMETERS)

    def _release(self, frame: MilliFrame) -> bytes:
        self._pending = None
        return build_frame(_UA)

    def _advance(self, frame: MilliFrame) -> bytes:
        # Rule 2: a wrong N(S) is only logged; the frame is handled all the same.
        if frame.send_number == self._receive_state:
            self._receive_state = (self._receive_state + 1) % _MODULUS
        return b""

    def _run(self, frame: MilliFrame) -> bytes:
        self._advance(frame)
        answer = self._execute(frame.info)
        return b"" if answer is None else self._information(answer)

    def _poll(self, frame: MilliFrame) -> bytes:
        # Rule 5: the pending message is sent on every RR until DISC, acknowledged or not.
        if self._pending is not None:
            return self._information(self._pending)
        return build_frame(self._receive_state << 5 | _RR)

    def _information(self, info: bytes) -> bytes:
        return build_frame(self._receive_state << 5 | self._send_state << 1, info)
