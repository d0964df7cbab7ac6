"""Observations of board resources and what to do about them next. Pure: `now` comes in, decisions go out.

This file decides freshness, when to register again and in which order (time first, then observes). It sends nothing and
writes nothing; `observe_manager` carries the actions out and reports what came of them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from meshwire.coap.observe import is_fresh
from nic_sim.observation import (
    TOKEN_OCTETS,
    TRANSITIONS,
    Input,
    Key,
    LossReason,
    Observation,
    ObservationRow,
    State,
    Verdict,
    row_of,
)

__all__ = ["Action", "ObservationTable", "Register", "SetTime", "Unregister"]

DEFAULT_MAX_AGE_S: Final = 60.0
"""RFC 7252 section 5.10.5."""
RENEWAL_WAIT_S: Final = (5.0, 15.0)
"""RFC 7641 section 3.3.1: after Max-Age a client waits between 5 and 15 s, at random, and registers again."""
LONGEST_WAIT_S: Final = 3600.0
LEARNED_SLACK: Final = 1.5
"""A board that reports every n seconds is given 1.5 n, whatever Max-Age it announces."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 30.0
REFUSED_RETRY_S: Final = 60.0
"""A board that said no is asked again this often: a sketch may be replaced while the NIC runs."""


@dataclass(frozen=True, slots=True)
class SetTime:
    """Set the board's clock."""


@dataclass(frozen=True, slots=True)
class Register:
    """Register, or register again."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class Unregister:
    """Tell the board that nobody listens any more."""

    observation: Observation


Action = SetTime | Register | Unregister


class ObservationTable:
    """All Observations of one board.

    Args:
        time_sync_s: how often the board's clock is set; 0: never.
        board_wide_sequence: all Observe numbers come from one counter of the board.
        chance: for tokens and random waits.
    """

    def __init__(self, *, time_sync_s: float, board_wide_sequence: bool, chance: random.Random) -> None:
        self._time_sync_s = time_sync_s
        self._board_wide_sequence = board_wide_sequence
        self._chance = chance
        self._items: dict[Key, Observation] = {}
        self._by_token: dict[bytes, Observation] = {}
        self._reached = False
        self._time_pending = time_sync_s > 0
        """The clock must be set before anything is registered: the board has been, or may have been, reset."""
        self._time_due_s = 0.0
        self._time_failures = 0
        self._last_number: int | None = None
        """The newest Observe number of the board as a whole, since it was reset."""

    # ---- what exists

    def add(self, observation: Observation) -> Observation:
        """Take an Observation in; one with the same key keeps its token, epoch and counters."""
        known = self._items.get(observation.key)
        if known is not None:
            known.configured = known.configured or observation.configured
            known.delivery = observation.delivery if observation.configured else known.delivery
            return known
        self._items[observation.key] = observation
        self._by_token[observation.token] = observation
        return observation

    def remove(self, observation: Observation) -> None:
        self._items.pop(observation.key, None)
        self._by_token.pop(observation.token, None)

    def find(self, key: Key) -> Observation | None:
        return self._items.get(key)

    def on_path(self, path: str) -> list[Observation]:
        """Observations of one path that the board has, or should have."""
        return [item for item in self._items.values() if item.path == path and item.state is not State.CANCELLED]

    def all(self) -> list[Observation]:
        return list(self._items.values())

    def new_token(self) -> bytes:
        """A token that no Observation has."""
        while (token := self._chance.randbytes(TOKEN_OCTETS)) in self._by_token:
            pass
        return token

    def rows(self, now: float) -> list[ObservationRow]:
        return [row_of(item, now) for item in self._items.values()]

    # ---- what happens to the board

    @property
    def reached(self) -> bool:
        return self._reached

    def board_reached(self) -> bool:
        """The link works. Returns whether that is news."""
        news = not self._reached
        self._reached = True
        return news

    def board_lost(self, now: float, detail: str) -> bool:
        """The link broke. Returns whether that is news."""
        news = self._reached
        self._reached = False
        if news:
            self._lose_all(LossReason.LINK_LOST, now, detail)
        return news

    def board_replaced(self, *, board_wide_sequence: bool) -> None:
        """Another kind of board may be there now: its Observe numbers are not compared with those of the old one."""
        self._board_wide_sequence = board_wide_sequence
        self._last_number = None

    def board_rebooted(self, now: float, reason: LossReason = LossReason.REBOOT) -> None:
        """The board has forgotten its clock and every registration."""
        self._last_number = None
        self._lose_all(reason, now, "")

    def _lose_all(self, reason: LossReason, now: float, detail: str) -> None:
        self._time_pending = self._time_sync_s > 0
        self._time_due_s = now
        self._time_failures = 0
        for item in self.all():
            item.unregister_due = False
            if item.state is not State.CANCELLED:
                self._enter(item, Input.LOST, now, reason, detail)
                item.due_s = now
                item.failures = 0
            elif not item.configured:
                self.remove(item)

    # ---- what to do next

    def next_action(self, now: float) -> Action | None:
        """The most urgent thing that is due: the clock, then ends of registrations, then registrations."""
        self._expire(now)
        if not self._reached:
            return None
        if self._time_pending:
            return SetTime() if self._time_due_s <= now else None
        for item in self._items.values():
            if item.unregister_due:
                return Unregister(item)
        due = [item for item in self._items.values() if item.state is State.WAITING and item.due_s <= now]
        if due:
            return Register(min(due, key=lambda item: item.due_s))
        if self._time_sync_s > 0 and self._time_due_s <= now:
            return SetTime()
        return None

    def next_deadline(self) -> float | None:
        """When `next_action` may say something new by the clock alone."""
        deadlines = [item.due_s for item in self._items.values() if item.state is not State.CANCELLED]
        if self._time_sync_s > 0:
            deadlines = [self._time_due_s] if self._time_pending else [*deadlines, self._time_due_s]
        return min(deadlines, default=None)

    def _expire(self, now: float) -> None:
        for item in self._items.values():
            if item.state in (State.ACTIVE, State.REFUSED) and item.due_s <= now:
                self._enter(item, Input.EXPIRED, now, LossReason.EXPIRED if item.state is State.ACTIVE else None)
                item.due_s = now

    # ---- what came of it

    def time_set(self, now: float) -> None:
        """The board's clock is right, or the board has none that can be set."""
        self._time_pending = False
        self._time_failures = 0
        self._time_due_s = now + self._time_sync_s

    def time_failed(self, now: float) -> None:
        """No answer: try again, still before anything is registered."""
        self._time_due_s = now + _retry_s(self._time_failures)
        self._time_failures += 1

    def registered(
        self, item: Observation, now: float, sequence: int, max_age_s: float | None, *, represented: bool = False
    ) -> None:
        """The board accepted.

        Args:
            item: what was registered.
            now: seconds.
            sequence: Observe number of the response.
            max_age_s: its Max-Age; None: it has none.
            represented: it carries a representation, which makes it the first notification (RFC 7641 section 3.1).
        """
        if self._betrays_reboot(item, sequence):
            self.board_rebooted(now, LossReason.UNNOTICED_REBOOT)
        self._note_number(sequence)
        if not item.notified_since_registration:
            # Registering again brought no notification: the board reports less often than Max-Age makes believe (or
            # only on events), and each registration starts its period anew. So leave it alone for longer.
            item.floor_s = min(2 * max(item.floor_s, DEFAULT_MAX_AGE_S), LONGEST_WAIT_S)
        item.notified_since_registration = False
        item.epoch += 1
        item.registrations += 1
        item.failures = 0
        item.heard_at_s = now
        if represented or item.sequence is None or not is_fresh(item.sequence, 0.0, sequence, 0.0):
            # Also when the board began to count anew. Otherwise a 2.03 without representation replaces nothing: a
            # reading that waited in the board's slot since before has a lower number, and is news all the same.
            item.sequence, item.sequence_at_s = sequence, now
        if represented:
            item.notifications += 1
            item.notified_since_registration = True
        self._enter(item, Input.REGISTERED, now)
        item.due_s = self._refresh_at(item, now, max_age_s)

    def _betrays_reboot(self, item: Observation, sequence: int) -> bool:
        """One counter for the whole board, and it went back: the board was reset and its message did not reach us."""
        if not self._board_wide_sequence or item.state is not State.WAITING or item.last_loss is not LossReason.EXPIRED:
            return False
        return self._last_number is not None and not is_fresh(self._last_number, 0.0, sequence, 0.0)

    def _note_number(self, sequence: int) -> None:
        if self._last_number is None or is_fresh(self._last_number, 0.0, sequence, 0.0):
            self._last_number = sequence

    def refused(self, item: Observation, now: float, reason: LossReason, detail: str) -> None:
        """The board answered, but does not observe."""
        self._enter(item, Input.REFUSED, now, reason, detail)
        item.due_s = now + REFUSED_RETRY_S

    def registration_failed(self, item: Observation, now: float, detail: str) -> None:
        """No answer of the board."""
        self._enter(item, Input.FAILED, now, LossReason.NO_ANSWER, detail)
        item.due_s = now + _retry_s(item.failures)
        item.failures += 1

    def notified(
        self, token: bytes, now: float, sequence: int | None, max_age_s: float | None, *, success: bool
    ) -> tuple[Verdict, Observation | None]:
        """Judge a notification and note it.

        Args:
            token: of the message.
            now: seconds.
            sequence: its Observe number; None: it has none.
            max_age_s: its Max-Age; None: it has none.
            success: its code is 2.xx.
        """
        item = self._by_token.get(token)
        if item is None:
            return Verdict.UNKNOWN, None
        if not success or sequence is None:
            reason = LossReason.NO_OBSERVE_OPTION if success else LossReason.ERROR_NOTIFICATION
            self._enter(item, Input.ENDED, now, reason)
            item.due_s = now + self._chance.uniform(*RENEWAL_WAIT_S)
            return Verdict.ENDED, item
        if item.sequence is not None and not is_fresh(item.sequence, item.sequence_at_s, sequence, now):
            same = sequence == item.sequence
            item.duplicates += same
            item.stale += not same
            return (Verdict.DUPLICATE if same else Verdict.STALE), item
        self._take(item, now, sequence, max_age_s)
        return Verdict.FRESH, item

    def _take(self, item: Observation, now: float, sequence: int, max_age_s: float | None) -> None:
        self._note_number(sequence)
        if item.state is State.ACTIVE:
            item.floor_s = min(LEARNED_SLACK * (now - item.heard_at_s), LONGEST_WAIT_S)
        item.heard_at_s = now
        item.notified_since_registration = True
        item.sequence, item.sequence_at_s = sequence, now
        item.notifications += 1
        self._enter(item, Input.NOTIFIED, now)
        if item.state is State.ACTIVE:
            item.due_s = self._refresh_at(item, now, max_age_s)

    def _refresh_at(self, item: Observation, now: float, max_age_s: float | None) -> float:
        patience_s = max(DEFAULT_MAX_AGE_S if max_age_s is None else max_age_s, item.floor_s)
        return now + patience_s + self._chance.uniform(*RENEWAL_WAIT_S)

    # ---- what people and clients want

    def cancel(self, item: Observation, now: float) -> None:
        """End it; a registration that stands is taken back."""
        item.unregister_due = item.state is State.ACTIVE
        self._enter(item, Input.CANCEL, now, LossReason.CANCELLED)

    def renew(self, item: Observation, now: float) -> None:
        """Register again now."""
        item.unregister_due = False
        self._enter(item, Input.RENEW, now, LossReason.RENEWED if item.state is State.ACTIVE else None)
        item.due_s = now
        item.failures = 0

    def unregistered(self, item: Observation) -> None:
        """The board was told, or can't be: either way it is over."""
        item.unregister_due = False
        if not item.configured and item.state is State.CANCELLED:
            self.remove(item)

    # ---- the gate

    def _enter(
        self, item: Observation, what: Input, now: float, reason: LossReason | None = None, detail: str = ""
    ) -> None:
        old, new = item.state, TRANSITIONS[item.state, what]
        if reason is not None and (old is State.ACTIVE or what in (Input.REFUSED, Input.FAILED)):
            item.losses[reason] += 1
            item.last_loss, item.last_loss_at_s, item.last_detail = reason, now, detail
        if new is not old:
            item.state, item.since_s = new, now


def _retry_s(failures: int) -> float:
    return min(FIRST_RETRY_S * 2.0 ** min(failures, 16), LONGEST_RETRY_S)
