"""Who observes which path of a Milli board, the board's one Observe counter, and when the next value is due (B.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_OBSERVERS", "Observer", "ObserverTable"]

MAX_OBSERVERS: Final = 4
_FIRST_NUMBER: Final = 3
_NUMBER_MODULUS: Final = 1 << 24
_NUMBER_AFTER_WRAP: Final = 2


@dataclass(slots=True)
class Observer:
    """One registration; the path alone is its key."""

    token: bytes
    due_s: float | None
    """Board time of the next periodic notification, Unix seconds; None when no timer runs."""


class ObserverTable:
    """At most one observer per path, at most four."""

    def __init__(self) -> None:
        self._observers: dict[str, Observer] = {}
        self._next_number = _FIRST_NUMBER

    def take_number(self) -> int:
        """The next Observe number: one counter for the whole board."""
        number = self._next_number
        self._next_number = number + 1 if number + 1 < _NUMBER_MODULUS else _NUMBER_AFTER_WRAP
        return number

    def register(self, path: str, token: bytes) -> bool:
        """Note an observer or replace its token, timer untouched; False when the table is full."""
        observer = self._observers.get(path)
        if observer is not None:
            observer.token = token
        elif len(self._observers) < MAX_OBSERVERS:
            self._observers[path] = Observer(token, None)
        else:
            return False
        return True

    def start_timer(self, path: str, due_s: float) -> None:
        """Run the path's timer to board time `due_s`."""
        self._observers[path].due_s = due_s

    def deregister(self, path: str, token: bytes) -> None:
        """End an observation. A wrong token stops the timer only: pushes still go out with the old token."""
        observer = self._observers.get(path)
        if observer is None:
            return
        if observer.token == token:
            del self._observers[path]
        else:
            observer.due_s = None

    def get(self, path: str) -> Observer | None:
        """The path's observer."""
        return self._observers.get(path)

    def timers(self) -> Iterator[tuple[str, float]]:
        """Path and due time of every timer that runs."""
        return ((path, observer.due_s) for path, observer in self._observers.items() if observer.due_s is not None)

    def __len__(self) -> int:
        return len(self._observers)
