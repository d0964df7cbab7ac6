"""What the system refuses (a folder that can't be written, a full disk), in words that lead on.

This file decides what is told when no component had better words: the command line asks it last. It reads the state
folder's name and nothing else.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meshwire.errors import MeshwireError
from meshwire.site import Site

__all__ = ["in_words"]

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


def in_words(error: BaseException) -> MeshwireError | None:
    """What the system refused; None when `error`, its group or its cause is nothing of that kind."""
    for one in _all(error):
        if isinstance(one, sqlite3.OperationalError):
            return _of_database(one)
        if isinstance(one, OSError) and one.errno is not None and (one.filename is not None or one.errno in _NO_ROOM):
            return _of_file(one, one.errno)
    return None


def _all(error: BaseException) -> Iterator[BaseException]:
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _all(each)
    elif error.__cause__ is not None:
        yield from _all(error.__cause__)


def _of_file(error: OSError, number: int) -> MeshwireError:
    state = Site.default().state_dir
    seen = os.strerror(number) if error.filename is None else f"{error.filename}: {os.strerror(number)}"
    is_ours = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(state)
    what = "the state folder can't be used" if is_ours else "the system refused a file"
    if number in _NO_ROOM:
        fix = f"make room on that disk{', or set MESHWIRE_STATE to a folder on another one' if is_ours else ''}"
    elif is_ours:
        fix = "set MESHWIRE_STATE to a folder that this user may write, or give the right"
    else:
        fix = "check that path, and that this user may use it"
    return MeshwireError(what, evidence=seen, fix=fix, code="MW-GEN-002")


def _of_database(error: sqlite3.OperationalError) -> MeshwireError:
    state = Site.default().state_dir
    return MeshwireError(
        "a database of the state folder can't be used",
        evidence=f"{state}: {error}",
        fix="see that its disk has room and that this user may write the folder (`meshwire doctor`)",
        code="MW-GEN-003",
    )
