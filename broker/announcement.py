"""A started instance says so: one file in the site's folder, written anew every few seconds, removed at an orderly end.

The messaging service reads these files and lists the instances by themselves (`gateway/messaging/announcements.py`).
"""

import json
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import structlog

from broker.accounts import Protection
from broker.settings import InstanceSettings, ListenerSettings
from meshwire.identity import LoginKind
from meshwire.site import Site

__all__ = ["EVERY_S", "Announcement", "Node", "own_node", "protections"]

EVERY_S: Final = 2.0

_log = structlog.get_logger()


def protections(listeners: Iterable[ListenerSettings]) -> list[Protection]:
    """What these listeners can offer."""
    offered = set()
    for listener in listeners:
        offered.add(Protection.TLS if listener.is_tls else Protection.PLAIN)
        if LoginKind.CERTIFICATE in listener.authentication or listener.enable_client_cert_validation:
            offered.add(Protection.MUTUAL)
    return [each for each in Protection if each in offered]


@dataclass(frozen=True, slots=True)
class Node:
    """What one node says of itself.

    Attributes:
        instance: the instance that it is, or is a node of.
        name: tells the nodes of an instance apart.
        engine: which broker it is.
        version: of the broker; empty: not known.
        started: Unix time in seconds.
        options: how connections can be protected.
        listeners: kind, host and port of each.
    """

    instance: str
    name: str
    engine: str
    version: str
    started: float
    options: Sequence[Protection]
    listeners: Sequence[Mapping[str, object]]


def own_node(settings: InstanceSettings, listeners: Sequence[tuple[ListenerSettings, int]], started: float) -> Node:
    """The broker of this process.

    Args:
        settings: names.
        listeners: with their ports, as they were bound.
        started: Unix time in seconds.
    """
    name = settings.node or f"{socket.gethostname()}-{listeners[0][1] if listeners else os.getpid()}"
    options = protections(listener for listener, _ in listeners)
    places = [{"kind": listener.kind.value, "host": listener.host, "port": port} for listener, port in listeners]
    return Node(settings.name, name, "embedded", metadata.version("meshwire"), started, options, places)


class Announcement:
    """The file of one node.

    Args:
        site: where.
        node: who; without an instance name nothing is said.
    """

    def __init__(self, site: Site, node: Node) -> None:
        self._path: Path | None = None
        if node.instance:
            self._path = site.path("messaging", "instances", f"{node.instance}@{node.name}.json".replace("/", "_"))
        self._next_at = float("-inf")
        self._failed = False
        self._facts = {
            "instance": node.instance,
            "node": node.name,
            "engine": node.engine,
            "version": node.version,
            "started": node.started,
            "options": [each.value for each in node.options],
            "listeners": list(node.listeners),
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
