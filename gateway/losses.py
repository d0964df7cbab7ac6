"""The book of losses: each notification that was acknowledged to a NIC and did not reach the broker, with the reason.

It is a file of JSON lines beside the outbox's segments, bounded by leaving out the oldest; what a flood of losses costs
is one write a second.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import structlog

__all__ = ["Loss", "LossBook"]

MAX_LOSSES: Final = 10_000
"""Remembered; the counters know of more."""
_REWRITE_OCTETS: Final = 8 << 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Loss:
    """One notification."""

    sequence: int
    """Its number in the outbox."""
    lost_at: float
    """Unix seconds."""
    reason: str
    tenant: str | None = None
    device: str | None = None
    key: str | None = None
    """None where the record itself could not be read."""
    received_at: float | None = None


class LossBook:
    """See the module's text.

    Args:
        path: the file; None: in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._losses: deque[Loss] = deque(_read(path), maxlen=MAX_LOSSES)
        self._by_sequence = {loss.sequence: loss for loss in self._losses}
        self._unwritten: list[Loss] = []
        self._failed = False

    def add(self, loss: Loss) -> None:
        """Note a loss; it is on disk after the next `flush`."""
        if len(self._losses) == MAX_LOSSES:
            self._by_sequence.pop(self._losses[0].sequence, None)
        self._losses.append(loss)
        self._by_sequence[loss.sequence] = loss
        self._unwritten.append(loss)
        del self._unwritten[:-MAX_LOSSES]

    def get(self, sequence: int) -> Loss | None:
        """The loss of a record."""
        return self._by_sequence.get(sequence)

    def newest(self, tenant: str | None = None) -> Iterator[Loss]:
        """Losses, the newest first; with `tenant`: only those known to be its."""
        return (loss for loss in reversed(self._losses) if tenant in (None, loss.tenant))

    def flush(self) -> None:
        """Write what is new; a disk that is full costs the list, not the gateway."""
        if self._path is None or not self._unwritten:
            return
        try:
            if self._path.exists() and self._path.stat().st_size > _REWRITE_OCTETS:
                draft = self._path.with_suffix(".new")
                draft.write_text("".join(map(_line, self._losses)))
                draft.replace(self._path)
            else:
                with self._path.open("a") as file:
                    file.write("".join(map(_line, self._unwritten)))
        except OSError as error:
            if not self._failed:
                _log.warning("the book of losses can't be written", path=str(self._path), error=str(error))
            self._failed = True
            return
        self._failed = False
        self._unwritten.clear()


def _line(loss: Loss) -> str:
    return json.dumps(asdict(loss)) + "\n"


def _read(path: Path | None) -> Iterator[Loss]:
    """What earlier runs have noted; a line that is cut or strange is left out."""
    if path is None or not path.exists():
        return
    with path.open(errors="replace") as file:
        for line in file:
            try:
                yield Loss(**json.loads(line))
            except (ValueError, TypeError):
                continue
