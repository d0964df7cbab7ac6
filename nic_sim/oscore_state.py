"""The NIC's OSCORE key and the sequence numbers that it has used up: files, and nothing of the protocol.

The key's file is made by `meshwire device provision` and never written to. The numbers are reserved in the state folder
before they are used (RFC 8613 appendix B.1.1), so that a restart, or a power failure, uses none twice. They belong to
one key: another key begins anew, and a state that can't be read ends the NIC, for guessing would give the key away.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from meshwire.identity import DeviceId
from meshwire.oscore import KeyFileError, NicKey, OscoreContext, SequenceNumbers
from nic_sim.errors import NicError
from nic_sim.observation_store import replace_file

__all__ = ["NumberFile", "open_context"]

STATE_FILE: Final = "oscore.json"
RESERVED_AT_ONCE: Final = 1000
"""One write in so many messages."""
_CODE: Final = "MW-NIC-005"


class _State(BaseModel):
    model_config = ConfigDict(frozen=True)

    key: str
    """Fingerprint."""
    reserved: int = Field(ge=0)
    """Numbers below may have been used."""


class NumberFile:
    """The numbers of one key.

    Args:
        path: of the file; its folder exists.
        key: of the NIC.

    Raises:
        NicError: the file is there and can't be read.
    """

    def __init__(self, path: Path, key: NicKey) -> None:
        self._path = path
        self._fingerprint = key.fingerprint
        state = _read(path)
        self._reserved = state.reserved if state is not None and state.key == key.fingerprint else 0

    def reserve(self, count: int) -> int:
        """Make so many numbers ours, and say the first; raises OSError when that can't be written."""
        first = self._reserved
        state = _State(key=self._fingerprint, reserved=first + count)
        replace_file(self._path, state.model_dump_json().encode())
        _sync(self._path.parent)
        self._reserved = state.reserved
        return first


def open_context(key_file: Path, device: DeviceId, folder: Path) -> OscoreContext:
    """The context of a NIC.

    Args:
        key_file: as `meshwire device provision` has made it.
        device: who we are.
        folder: of the NIC's state.

    Raises:
        NicError: the key or the state can't be used.
    """
    try:
        key = NicKey.load(key_file)
    except KeyFileError as error:
        raise NicError(
            "the NIC's OSCORE key can't be used",
            evidence=f"{key_file}: {error}",
            fix=f"make one at the gateway: meshwire device provision {device} --out FILE",
            code=_CODE,
        ) from None
    if key.mac != device:
        raise NicError(
            "the OSCORE key is another NIC's",
            evidence=f"{key_file} is of {key.mac}, this is {device}",
            fix=f"give this NIC its own: meshwire device provision {device} --out FILE",
            code=_CODE,
        )
    numbers = NumberFile(folder / STATE_FILE, key)
    return OscoreContext(key.for_nic(), SequenceNumbers(numbers.reserve, RESERVED_AT_ONCE))


def _read(path: Path) -> _State | None:
    try:
        return _State.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        raise NicError(
            "the NIC does not know which OSCORE sequence numbers it has used",
            evidence=f"{path}: {str(error).splitlines()[0]}",
            fix="a number used twice gives the key away: provision a new key (--renew), then remove that file",
            code=_CODE,
        ) from None


def _sync(folder: Path) -> None:
    """The new name is on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
