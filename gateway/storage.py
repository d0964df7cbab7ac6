"""Where the outbox's octets lie: segment files with a cursor file beside them, or memory.

This file decides file names, locking and which system calls make octets durable. What the octets mean is told in
`segments.py`, when a segment is begun and removed in `outbox.py`. Only `append` and `sync` may run on another thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from gateway.errors import GatewayError

__all__ = ["FileStorage", "MemoryStorage", "RefusedSegment", "Segment", "Storage"]

_SEGMENT_SUFFIX: Final = ".log"
_DONE_SUFFIX: Final = ".done"
_CURSOR_NAME: Final = "cursor"
_RELEASED_NAME: Final = "released"
_VERSION_NAME: Final = "mqtt-version"
_STORE_NAME: Final = "client-id"
_CHECKED: Final = struct.Struct(">QQ")
_SLOT: Final = struct.Struct(">QQI")
"""Turn, value, and the checksum of both."""


class Segment(Protocol):
    """One run of records, written at its end only."""

    @property
    def base(self) -> int:
        """The first sequence number it holds or will hold."""

    @property
    def size(self) -> int:
        """Octets it holds."""

    def append(self, octets: bytes) -> None:
        """Write at the end."""

    def sync(self) -> None:
        """Return when all that was appended survives power loss."""

    def read(self, start: int, octets: int) -> bytes:
        """Up to `octets` from `start`."""

    def truncate(self, octets: int) -> None:
        """Cut everything from `octets` on."""

    def remove(self) -> None:
        """It is done with: give the space back, now or when the history has had its share."""

    def close(self) -> None:
        """Let go without removing."""


class RefusedSegment:
    """Stands for one that the system did not let us begin: nothing can be written to it."""

    size = 0

    def __init__(self, base: int, error: OSError) -> None:
        self.base = base
        self._error = error

    def append(self, octets: bytes) -> None:
        """Raises what the system said."""
        raise self._error

    def sync(self) -> None:
        """There is nothing in it."""

    def read(self, start: int, octets: int) -> bytes:
        """Nothing."""
        return b""

    def truncate(self, octets: int) -> None:
        """There is nothing in it."""

    def remove(self) -> None:
        """There is nothing of it."""

    def close(self) -> None:
        """There is nothing of it."""


class Storage(Protocol):
    """All segments of one outbox and its cursor."""

    def segments(self) -> list[Segment]:
        """What was left by an earlier run, oldest first."""

    def begin(self, base: int) -> Segment:
        """Begin a new segment."""

    def load_cursor(self) -> int:
        """The first sequence number that is not acknowledged, as far as it was saved; 0 when unknown."""

    def save_cursor(self, cursor: int) -> None:
        """Remember it; may be lost with power, never torn."""

    def load_released(self) -> int:
        """What `save_released` was told last; 0 when unknown."""

    def save_released(self, released: int, *, sync: bool = False) -> None:
        """Remember up to where QoS 2 messages may have been released at the broker; with `sync` for good."""

    def load_version(self) -> int:
        """What `save_version` was told last; 0 when unknown."""

    def save_version(self, level: int) -> None:
        """Remember the protocol level that the broker speaks."""

    def history(self) -> Iterable[bytes]:
        """The octets of each segment that is still there, finished ones too, the newest first; for any thread."""

    def name(self, prefix: str, make: Callable[[], str]) -> str | None:
        """The name that this store has for others, which begins with `prefix`; made at first, then the same for ever.

        None when nothing here outlives the process.
        """

    def close(self) -> None:
        """Let go of everything but the segments."""


class _FileSegment:
    def __init__(self, path: Path, base: int, finish: Callable[[Path], None], *, fresh: bool) -> None:
        self._path = path
        self._finish = finish
        self.base = base
        self._fresh = fresh
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def append(self, octets: bytes) -> None:
        view = memoryview(octets)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        os.fdatasync(self._descriptor)
        if self._fresh:
            # A new name is durable only when its folder is, too.
            _sync_folder(self._path.parent)
            self._fresh = False

    def read(self, start: int, octets: int) -> bytes:
        return os.pread(self._descriptor, octets, start)

    def truncate(self, octets: int) -> None:
        os.ftruncate(self._descriptor, octets)

    def remove(self) -> None:
        self.close()
        self._finish(self._path)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Number:
    """A number in a file, in two slots written in turn, each with its turn and a checksum: one is always whole."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        octets = os.pread(self.file, 2 * _SLOT.size, 0)
        self._turn, self.value = max(_read_slot(octets[: _SLOT.size]), _read_slot(octets[_SLOT.size :]))

    def save(self, value: int, *, sync: bool = False) -> None:
        self._turn, self.value = self._turn + 1, value
        checked = _CHECKED.pack(self._turn, value)
        os.pwrite(self.file, checked + zlib.crc32(checked).to_bytes(4, "big"), self._turn % 2 * _SLOT.size)
        if sync:
            os.fdatasync(self.file)

    def close(self) -> None:
        os.close(self.file)


class FileStorage:
    """Segments as files `<first sequence>.log`, `cursor` and `released` beside them, and the name of the store.

    Args:
        folder: made when it is not there.
        history_octets: so much of finished segments is kept, as `<first sequence>.done`.

    Raises:
        GatewayError: another process has it open.
    """

    def __init__(self, folder: Path, *, history_octets: int = 0) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._cursor = _Number(folder / _CURSOR_NAME)
        try:
            fcntl.flock(self._cursor.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._cursor.close()
            raise GatewayError(
                "the outbox is in use by another gateway",
                evidence=str(folder),
                fix="stop the other one, or give this one its own state folder (MESHWIRE_STATE)",
                code="MW-GWY-004",
            ) from None
        self._released = _Number(folder / _RELEASED_NAME)
        self._version = _Number(folder / _VERSION_NAME)
        self._history_octets = history_octets
        self._done = deque((path, path.stat().st_size) for path in sorted(folder.glob(f"*{_DONE_SUFFIX}")))
        self._forget_the_oldest()

    def segments(self) -> list[Segment]:
        paths = sorted(path for path in self._folder.glob(f"*{_SEGMENT_SUFFIX}") if path.stem.isdigit())
        return [_FileSegment(path, int(path.stem), self._finish, fresh=False) for path in paths]

    def begin(self, base: int) -> Segment:
        return _FileSegment(self._folder / f"{base:020d}{_SEGMENT_SUFFIX}", base, self._finish, fresh=True)

    def _finish(self, path: Path) -> None:
        if not self._history_octets:
            path.unlink(missing_ok=True)
            return
        done = path.rename(path.with_suffix(_DONE_SUFFIX))
        self._done.append((done, done.stat().st_size))
        self._forget_the_oldest()

    def _forget_the_oldest(self) -> None:
        while sum(octets for _, octets in self._done) > self._history_octets:
            self._done.popleft()[0].unlink(missing_ok=True)

    def history(self) -> Iterable[bytes]:
        names = {path.stem for path in self._folder.iterdir() if path.suffix in (_SEGMENT_SUFFIX, _DONE_SUFFIX)}
        for name in sorted(names, reverse=True):
            for suffix in (_SEGMENT_SUFFIX, _DONE_SUFFIX):
                # It may be renamed or removed while we look.
                with contextlib.suppress(FileNotFoundError):
                    yield (self._folder / f"{name}{suffix}").read_bytes()
                    break

    def load_cursor(self) -> int:
        return self._cursor.value

    def save_cursor(self, cursor: int) -> None:
        self._cursor.save(cursor)

    def load_released(self) -> int:
        return self._released.value

    def save_released(self, released: int, *, sync: bool = False) -> None:
        self._released.save(released, sync=sync)

    def load_version(self) -> int:
        return self._version.value

    def save_version(self, level: int) -> None:
        if level != self._version.value:
            self._version.save(level)

    def name(self, prefix: str, make: Callable[[], str]) -> str | None:
        path = self._folder / _STORE_NAME
        name = path.read_text().strip() if path.exists() else ""
        if not name.startswith(prefix):
            name = make()
            path.write_text(name + "\n")
        return name

    def close(self) -> None:
        self._cursor.close()
        self._released.close()
        self._version.close()


def _read_slot(octets: bytes) -> tuple[int, int]:
    if len(octets) < _SLOT.size:
        return 0, 0
    turn, value, checksum = _SLOT.unpack(octets)
    return (turn, value) if checksum == zlib.crc32(octets[: _CHECKED.size]) else (0, 0)


class _MemorySegment:
    def __init__(self, base: int) -> None:
        self.base = base
        self._octets = bytearray()

    @property
    def size(self) -> int:
        return len(self._octets)

    def append(self, octets: bytes) -> None:
        self._octets += octets

    def sync(self) -> None:
        """Nothing to do: memory does not survive."""

    def read(self, start: int, octets: int) -> bytes:
        return bytes(self._octets[start : start + octets])

    def truncate(self, octets: int) -> None:
        del self._octets[octets:]

    def remove(self) -> None:
        self._octets.clear()

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryStorage:
    """An outbox that ends with its process."""

    def __init__(self) -> None:
        self._segments: deque[_MemorySegment] = deque()

    def segments(self) -> list[Segment]:
        return []

    def begin(self, base: int) -> Segment:
        while self._segments and not self._segments[0].size:
            self._segments.popleft()
        self._segments.append(_MemorySegment(base))
        return self._segments[-1]

    def history(self) -> Iterable[bytes]:
        return [segment.read(0, segment.size) for segment in reversed(self._segments)]

    def load_cursor(self) -> int:
        return 0

    def save_cursor(self, cursor: int) -> None:
        """Nobody will ask."""

    def load_released(self) -> int:
        return 0

    def save_released(self, released: int, *, sync: bool = False) -> None:
        """Nobody will ask."""

    def load_version(self) -> int:
        return 0

    def save_version(self, level: int) -> None:
        """Nobody will ask."""

    def name(self, prefix: str, make: Callable[[], str]) -> str | None:
        return None

    def close(self) -> None:
        """Nothing to let go of."""
