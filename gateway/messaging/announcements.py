"""Instances that have started say so: a file each in the site's folder, written anew every few seconds and removed at
an orderly end. Here they are read; `broker/announcement.py` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.messaging.rules import Option
from meshwire.site import Site

__all__ = ["STALE_S", "Announcement", "Listener", "read_announcements"]

STALE_S: Final = 10.0
"""An instance that has not been heard of for so long has ended without a word."""
_MOST_OCTETS: Final = 1 << 20


class Listener(BaseModel):
    """An address on which an instance listens."""

    kind: str
    host: str
    port: int


class Announcement(BaseModel):
    """What one node of an instance says of itself."""

    model_config = ConfigDict(frozen=True)

    instance: str
    node: str
    engine: str
    version: str = ""
    at: float
    """Unix seconds of the newest sign of life."""
    started: float
    options: tuple[Option, ...]
    """What its listeners can offer."""
    listeners: tuple[Listener, ...] = ()
    clients: int = Field(default=0, ge=0)
    accounts: dict[str, int] = Field(default_factory=dict)
    """Connected clients by account."""

    def is_alive(self, now_s: float) -> bool:
        """Whether the node was heard of lately."""
        return now_s - self.at <= STALE_S


def read_announcements(site: Site, now_s: float) -> list[Announcement]:
    """What all nodes that live say, in the order of their names. A file that can't be read says nothing, nor does that
    of a node that was killed.
    """
    paths = sorted(site.path("messaging", "instances", "x").parent.glob("*.json"))
    said = (_read(path) for path in paths)
    return [each for each in said if each is not None and each.is_alive(now_s)]


def _read(path: Path) -> Announcement | None:
    try:
        with path.open("rb") as file:
            return Announcement.model_validate_json(file.read(_MOST_OCTETS))
    except (OSError, ValidationError):
        return None
