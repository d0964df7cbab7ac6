"""A started instance says so: one file in the site's folder, written anew every few seconds, removed at an orderly end.

The messaging service reads these files and lists the instances by themselves (`gateway/messaging/announcements.py`).
"""

import json
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Final

import structlog

from broker.accounts import Protection
from broker.settings import InstanceSettings, ListenerSettings
from meshwire.identity import LoginKind
from meshwire.site import Site

__all__ = ["EVERY_S", "Announcement", "protections"]

EVERY_S: Final = 2.0

_log = structlog.get_logger()


def protections(listeners: Iterable[ListenerSettings]) -> list[Protection]:
    """What these listeners can offer."""
    offered = set()
    for listener in listeners:
        offered.add(Protection.TLS if listener.is_tls else Protection.PLAIN)
        if LoginKind.CERTIFICATE in listener.authentication:
            offered.add(Protection.MUTUAL)
    return [each for each in Protection if each in offered]


class Announcement:
    """What one node says of itself.

    Args:
        settings: names; without an instance name nothing is said.
        site: where.
        listeners: with their ports, as they were bound.
        started: Unix time in seconds.
    """

    def __init__(
        self, settings: InstanceSettings, site: Site, listeners: Sequence[tuple[ListenerSettings, int]], started: float
    ) -> None:
        node = settings.node or f"{socket.gethostname()}-{listeners[0][1] if listeners else os.getpid()}"
        self._path: Path | None = None
        if settings.name:
            self._path = site.path("messaging", "instances", f"{settings.name}@{node}.json".replace("/", "_"))
        self._next_at = float("-inf")
        self._failed = False
        self._facts = {
            "instance": settings.name,
            "node": node,
            "engine": "embedded",
            "version": metadata.version("meshwire"),
            "started": started,
            "options": [each.value for each in protections(listener for listener, _ in listeners)],
            "listeners": [
                {"kind": listener.kind.value, "host": listener.host, "port": port} for listener, port in listeners
            ],
        }

    def tell(self, now: float, wall_s: float, tenants: Callable[[], Iterable[str]]) -> None:
        """Say that we are there, when it is time.

        Args:
            now: loop time in seconds.
            wall_s: Unix time in seconds.
            tenants: gives those of all connected clients, one each.
        """
        if self._path is None or now < self._next_at:
            return
        self._next_at = now + EVERY_S
        accounts = Counter(tenants())
        text = json.dumps({**self._facts, "at": wall_s, "clients": accounts.total(), "accounts": accounts})
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            draft.write_text(text)
            draft.replace(self._path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.warning("instance can't announce itself", path=str(self._path), reason=str(error))
            self._failed = True

    def withdraw(self) -> None:
        """Say no more; the file goes."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
