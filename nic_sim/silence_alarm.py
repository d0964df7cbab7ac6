"""The silent-link alarm at work: listens to the board, raises and ends the alarm, resets the board.

An alarm is a warning in the log with what was seen of the line, a state in `/sys/link` and the metrics, and a
notification `sys/link` of type `link` that bubbles up like a reading. What counts as silence is decided in `silence`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import cbor2
import structlog

from meshwire.coap.options import CBOR
from meshwire.hdlc.events import DataReceived, Event
from meshwire.identity import DeviceId
from meshwire.link import LinkState
from meshwire.notification import Notification
from nic_sim.board_line import BoardLine, ResetAction
from nic_sim.silence import SilenceWatch, Step

__all__ = ["SilenceAlarm"]

ALARM_PATH: Final = "sys/link"
ALARM_TYPE: Final = "link"
CODE: Final = "MW-NIC-020"

_log = structlog.get_logger(__name__)


class SilenceAlarm:
    """See the module.

    Args:
        device: whose board it is.
        line: the board's line.
        deliver: takes the notification of an alarm.
        silent_after_s, reset_after_s: see `SilenceWatch`; both None: nothing is watched.
        reset_action: how the board is reset.
        unix_time: Unix seconds.
    """

    def __init__(
        self,
        device: DeviceId,
        line: BoardLine,
        deliver: Callable[[Notification], None],
        *,
        silent_after_s: float | None,
        reset_after_s: float | None,
        reset_action: ResetAction,
        unix_time: Callable[[], float],
    ) -> None:
        self._device = device
        self._line = line
        self._deliver = deliver
        self._settings = (silent_after_s, reset_after_s)
        self._reset_action = reset_action
        self._unix_time = unix_time
        self._watch: SilenceWatch | None = None
        self._frames_at_word = 0
        self._epoch = 0
        self._number = 0

    def report(self) -> dict[str, object]:
        """State for `/sys/link` and the metrics; empty while nothing is watched."""
        watch = self._watch
        if watch is None:
            return {}
        return {
            "silent_for_s": round(watch.silent_for_s(self._now()), 3),
            "silent_after_s": self._settings[0],
            "reset_after_s": self._settings[1],
            "reset_action": self._reset_action.value,
            "alarm": watch.alarmed,
            "alarms": watch.alarms,
            "board_resets": watch.resets,
        }

    async def run(self) -> None:
        """Watch, until cancelled; ends at once where nothing is to be watched."""
        if self._settings == (None, None):
            return
        watch = self._watch = SilenceWatch(*self._settings, self._now())
        self._epoch = int(self._unix_time())
        unsubscribe = self._line.subscribe(self._on_event)
        try:
            while True:
                deadline = watch.next_deadline()
                if deadline is None:  # an alarm stands and nothing else is to be done: look for its end now and then
                    deadline = self._now() + max(self._settings[0] or 1.0, 1.0)
                await asyncio.sleep(max(0.0, deadline - self._now()))
                for step in watch.due(self._now()):
                    self._take(step, watch)
        finally:
            unsubscribe()

    def _on_event(self, event: Event) -> None:
        if not (isinstance(event, DataReceived) and event.sdu) or self._watch is None:
            return
        silent_s = self._watch.silent_for_s(self._now())
        self._frames_at_word = self._line.station.counters.frames_in
        if self._watch.heard(self._now()):
            _log.warning("board speaks again", mac=self._device.value, silent_for_s=round(silent_s, 1))
            self._notify(f"speaks,{silent_s:.0f}")

    def _take(self, step: Step, watch: SilenceWatch) -> None:
        silent_s = round(watch.silent_for_s(self._now()), 1)
        match step:
            case Step.ALARM:
                _log.warning("board is silent", mac=self._device.value, silent_for_s=silent_s, **self._evidence())
                self._notify(f"silent,{silent_s:.0f}")
            case Step.RESET:
                done = self._line.reset(self._reset_action)
                _log.warning("board reset", mac=self._device.value, silent_for_s=silent_s, action=done.value)

    def _evidence(self) -> dict[str, object]:
        """What was seen of the line since the board's last word, and what that points to."""
        status = self._line.status
        frames = max(0, self._line.station.counters.frames_in - self._frames_at_word)
        if status.state is LinkState.OPENING:
            hint = f"{status.last_error}: see `meshwire ports`"
        elif status.state in (LinkState.UP, LinkState.IDLE):
            hint = "its link answers, its application does not: the sensor, or the observes (GET /sys/observe)"
        else:
            hint = "nothing comes: `meshwire probe PORT` names the causes in order"
        return {"link": status.state.value, "frames_since": frames, "do": hint, "code": CODE}

    def _notify(self, text: str) -> None:
        """The alarm as a reading of type `link`: `epoch,silent|speaks,seconds`."""
        self._number += 1
        now_s = self._unix_time()
        self._deliver(
            Notification(
                device=self._device,
                path=ALARM_PATH,
                observe=self._number,
                epoch=self._epoch,
                content_format=CBOR,
                payload=cbor2.dumps({0: ALARM_TYPE, 1: f"{int(now_s)},{text}"}),
                time_s=now_s,
            )
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
