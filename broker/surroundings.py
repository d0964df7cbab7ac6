"""What all connections of a broker share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from broker.accounts import Accounts
from broker.admission import Admission
from broker.doorman import Doorman
from broker.engine import Engine
from broker.policy import Permissions
from broker.settings import BrokerSettings
from broker.statistics import Statistics
from broker.turn import Turn
from meshwire.identity import Principal

if TYPE_CHECKING:
    from broker.connection import Connection

__all__ = ["Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """See the module."""

    loop: asyncio.AbstractEventLoop
    settings: BrokerSettings
    engine: Engine
    doorman: Doorman
    accounts: Accounts
    permissions_of: Callable[[Principal], Permissions]
    """By the role table of now."""
    admission: Admission[Connection]
    turn: Turn
    statistics: Statistics
    connections: set[Connection]
    spawn: Callable[[Coroutine[None, None, None]], None]
    is_ending: Callable[[], bool]
    """The broker ends: who comes now, from a TLS handshake for instance, has come too late."""
    wall_clock: Callable[[], float]
    """Unix time in seconds."""
    log: FilteringBoundLogger
    """For what is told of each connection: ready, where the module's own is put together anew for each line."""
