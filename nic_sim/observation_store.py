"""What of the Observations survives a NIC restart: one JSON file, replaced atomically.

This file decides the format and that a damaged file is set aside, not fatal. Times are Unix seconds on disk and seconds
of the caller's clock in memory. Epochs must never go back (they are part of each notification's key), so an Observation
without a record begins at the current Unix time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from meshwire.coap.observe import SEQUENCE_MODULUS
from nic_sim.observation import TOKEN_OCTETS, Key, Observation

__all__ = ["Clocks", "ObservationStore", "replace_file"]

FORMAT_VERSION: Final = 1
MAX_RECORDS: Final = 64
"""Records of resources that are not configured any more are kept for their epochs, up to so many in all."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The same moment on both clocks."""

    now_s: float
    """The caller's clock."""
    unix_s: float


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)

    path: str
    query: str | None
    token: str = Field(pattern=rf"^[0-9a-f]{{{2 * TOKEN_OCTETS}}}$")
    epoch: int = Field(ge=0, lt=1 << 62)
    sequence: int | None = Field(default=None, ge=0, lt=SEQUENCE_MODULUS)
    sequence_at: float = 0.0
    notifications: int = Field(default=0, ge=0)
    registrations: int = Field(default=0, ge=0)
    duplicates: int = Field(default=0, ge=0)
    stale: int = Field(default=0, ge=0)


class _File(BaseModel):
    version: int = Field(ge=FORMAT_VERSION, le=FORMAT_VERSION)
    observations: tuple[_Record, ...] = ()


class ObservationStore:
    """The state file of one NIC.

    Args:
        path: of the file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures = 0
        self._records: dict[Key, _Record] = {(record.path, record.query): record for record in _read(path)}

    def tokens(self) -> set[bytes]:
        """All tokens ever given, so that none is given twice."""
        return {bytes.fromhex(record.token) for record in self._records.values()}

    def restore(self, observation: Observation, clocks: Clocks) -> None:
        """Give an Observation back what it was before the NIC stopped."""
        observation.epoch = int(clocks.unix_s)
        record = self._records.get(observation.key)
        if record is None:
            return
        observation.token = bytes.fromhex(record.token)
        observation.epoch = record.epoch
        observation.sequence = record.sequence
        observation.sequence_at_s = clocks.now_s - max(0.0, clocks.unix_s - record.sequence_at)
        observation.notifications = record.notifications
        observation.registrations = record.registrations
        observation.duplicates = record.duplicates
        observation.stale = record.stale

    def save(self, observations: Iterable[Observation], clocks: Clocks) -> None:
        """Write all records; a full disk is said, not fatal: the next save tries again."""
        for item in observations:
            self._records.pop(item.key, None)  # re-inserted at the end: the longest unused record goes first
            self._records[item.key] = _record(item, clocks)
        while len(self._records) > MAX_RECORDS:
            self._records.pop(next(iter(self._records)))
        content = _File(version=FORMAT_VERSION, observations=tuple(self._records.values()))
        try:
            replace_file(self.path, content.model_dump_json(indent=1).encode())
        except OSError as error:
            if not self.failures:
                _log.warning("observation state not saved", path=str(self.path), error=str(error))
            self.failures += 1
        else:
            self.failures = 0


def _record(item: Observation, clocks: Clocks) -> _Record:
    return _Record(
        path=item.path,
        query=item.query,
        token=item.token.hex(),
        epoch=item.epoch,
        sequence=item.sequence,
        sequence_at=clocks.unix_s - (clocks.now_s - item.sequence_at_s),
        notifications=item.notifications,
        registrations=item.registrations,
        duplicates=item.duplicates,
        stale=item.stale,
    )


def _read(path: Path) -> tuple[_Record, ...]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return ()
    try:
        return _File.model_validate(json.loads(text)).observations
    except (ValueError, ValidationError) as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        _log.warning("observation state is damaged, set aside", path=str(aside), error=str(error).split("\n")[0])
        return ()


def replace_file(path: Path, content: bytes) -> None:
    """Give `path` new content at once: a reader sees the old file or the new one, also after a power failure."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
