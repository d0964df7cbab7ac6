"""What the tab key offers: commands; paths that the board names, that every board has, and that were used. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from hardware.shell.commands import Word

__all__ = ["COMMAND_WORDS", "Completion", "link_targets"]

COMMAND_WORDS: Final = (
    *("get", "put", "post", "delete", "observe", "cancel", "time", "raw", "hex", "wait"),
    *(word.value for word in Word),
)
_SECOND_WORDS: Final = {"time": ("get", "set"), "hex": ("on", "off")}
_TARGET_COMMANDS: Final = frozenset({"get", "put", "post", "delete", "observe", "cancel"})
_ALWAYS: Final = ("/", "/.well-known/core", "/sys/time", "/sys/stats?mod=coap")
_LINK: Final = re.compile(r"<([^<>]*)>([^<]*)")
_SENSORS: Final = 'if="arduino"'
"""A Milli board names the folder of its sensors, not the sensors (dialect B.3)."""
_SENSOR_TYPES: Final = ("temp", "echo")


def link_targets(links: str) -> tuple[str, ...]:
    """The targets that a link-format document names (RFC 6690), and the usual sensors below a Milli board's folder."""
    targets: list[str] = []
    for path, attributes in _LINK.findall(links):
        targets.append(path)
        if _SENSORS in attributes:
            targets += [f"{path}/{kind}?sens" for kind in _SENSOR_TYPES]
        elif "obs" in attributes or 'if="sensor"' in attributes:
            targets.append(f"{path}?sens")
    return tuple(dict.fromkeys(targets))


class Completion:
    """Offers words; grows as the board is known better."""

    def __init__(self) -> None:
        self._targets: dict[str, None] = dict.fromkeys(_ALWAYS)

    def learn(self, targets: Iterable[str]) -> None:
        """Offer these targets too."""
        self._targets.update(dict.fromkeys(targets))

    def offers(self, line: str, word: str) -> list[str]:
        """The words that may stand where `word` ends.

        Args:
            line: what stands in front of it.
            word: its beginning.
        """
        before = line.split()
        if not before:
            return [known + " " for known in COMMAND_WORDS if known.startswith(word)]
        if before[0] in _TARGET_COMMANDS and len(before) == 1:
            return sorted(target for target in self._targets if target.startswith(word))
        return [known for known in _SECOND_WORDS.get(before[0], ()) if known.startswith(word)]
