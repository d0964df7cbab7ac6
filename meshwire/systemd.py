"""Telling systemd how a service is: sd_notify(3) without its library. Without systemd nothing happens.

A unit of `Type=notify` is active when the service is ready; with `WatchdogSec=` it is started anew when its event loop
no longer turns.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

__all__ = ["Systemd"]

PARTS: Final = 3
"""The watchdog hears of us so many times in the interval after which it would act (half of it is the advice)."""


class Systemd:
    """The service manager, as far as a service speaks to it.

    Args:
        environment: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID; None: the process's own.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environment) if self._address else None
        """Interval after which we would be started anew, in seconds; None: nobody watches."""

    def tell(self, *states: str) -> bool:
        """Send states such as `READY=1`; False when there is nobody to hear it, or it can't be sent."""
        if not self._address:
            return False
        # A leading @ stands for the abstract namespace (unix(7)).
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto("\n".join(states).encode(), address)
            return True
        return False

    async def run(self, ready: asyncio.Event, status: str) -> None:
        """Say that we are ready when we are, keep the watchdog quiet, and say when we stop; until cancelled.

        Args:
            ready: set when the service serves.
            status: a line for `systemctl status`.
        """
        await ready.wait()
        self.tell("READY=1", f"STATUS={status}")
        try:
            while True:
                await asyncio.sleep(self.watchdog_s / PARTS if self.watchdog_s else 3600.0)
                if self.watchdog_s:
                    self.tell("WATCHDOG=1")
        finally:
            self.tell("STOPPING=1")


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) > 0 else None
