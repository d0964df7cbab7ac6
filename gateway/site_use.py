"""Who works on a site's data: a gateway, which says where its HTTP API is, or a command that has them to itself.

One file in the state folder, `gateway/in-use`, with the kernel's lock on it, which ends with its holder, however that
ends. A gateway writes the URL of its API there; a command that works on the data itself leaves it empty, and whoever
comes meanwhile waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from gateway.errors import GatewayError
from meshwire.errors import ExitCode
from meshwire.site import Site

__all__ = ["GatewayRuns", "hold_alone", "hold_as_gateway", "tell_url"]

PAUSE_S: Final = 0.02
PATIENCE_S: Final = 30.0
"""A command that works on the data itself is done long before."""


class GatewayRuns(Exception):
    """A gateway holds the site.

    Args:
        url: of its HTTP API; empty: it has none.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class SiteBusy(GatewayError):
    """Somebody else holds the site, and does not end."""

    default_code = "MW-GWY-007"
    exit_code = ExitCode.FAILURE


def hold_as_gateway(site: Site) -> int:
    """Take the site for a gateway; gives the descriptor, which holds it until it is closed.

    Raises:
        GatewayError: another gateway has it.
        SiteBusy: a command has it and does not end.
    """
    descriptor = _open(site)
    try:
        url = _wait(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    if url is not None:
        os.close(descriptor)
        raise GatewayError(
            "another gateway works on this site's data",
            evidence=f"{site.state_dir}, {url or 'without HTTP API'}",
            fix="stop the other one, or give this one its own state folder (MESHWIRE_STATE)",
            code="MW-GWY-004",
        )
    os.ftruncate(descriptor, 0)
    return descriptor


def tell_url(descriptor: int, url: str) -> None:
    """Say where the gateway's API is, or that there is none; until then commands wait."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"url": url}).encode(), 0)


@contextlib.contextmanager
def hold_alone(site: Site) -> Iterator[None]:
    """Have the site's data to oneself.

    Raises:
        GatewayRuns: a gateway has them.
        SiteBusy: a command has them and does not end.
    """
    descriptor = _open(site)
    try:
        url = _wait(descriptor)
        if url is not None:
            raise GatewayRuns(url)
        os.ftruncate(descriptor, 0)
        yield
    finally:
        os.close(descriptor)


def _open(site: Site) -> int:
    return os.open(site.path("gateway", "in-use"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _wait(descriptor: int, now_s: Callable[[], float] = time.monotonic) -> str | None:
    """Until the lock is ours, or a gateway's URL can be read: that URL."""
    end_s = now_s() + PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            url = _url(descriptor)
        if url is not None:
            return url
        if now_s() > end_s:
            raise SiteBusy(
                "another command works on this site's data and does not end", fix="see `ps`, end it, and try again"
            )
        time.sleep(PAUSE_S)


def _url(descriptor: int) -> str | None:
    """What the holder says; None: it is a command, or does not say it yet."""
    try:
        said: Any = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return None
    return str(said["url"]) if isinstance(said, dict) and "url" in said else None
