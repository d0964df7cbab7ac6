"""Parts for tests of commands: a clock that is driven, devices that answer from a script, commands to taste."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.addresses import Address
from gateway.commands.records import Command, CommandKey, Mode, Order, Origin, bare
from gateway.device_failure import DeviceFailure, DeviceRefused, DeviceSilent, DeviceUnreachable
from gateway.exchange import Response
from meshwire.coap import Message, codes, options
from meshwire.identity import DeviceId, LoginKind, Principal, TenantId

ACME = TenantId("acme")
OTHER = TenantId("other")
MAC = DeviceId("001350050047dc9a")
FOREIGN_MAC = DeviceId("001350050047dd92")
T0 = 1_700_000_000.0


@dataclass
class Clock:
    """Unix time that only a test moves."""

    now_s: float = T0

    def __call__(self) -> float:
        return self.now_s

    def forward(self, seconds: float) -> float:
        self.now_s += seconds
        return self.now_s


def request(path: str = "snsr/temp", query: str = "cfg=C", code: int = codes.PUT, payload: bytes = b"") -> Message:
    pairs = [(options.URI_PATH, part.encode()) for part in path.split("/")]
    pairs += [(options.URI_QUERY, query.encode())] if query else []
    return bare(code, tuple(pairs), payload)


def order(ttl_s: float | None = 60.0, **changes: Any) -> Order:
    values: dict[str, Any] = {"mode": Mode.STORED, "request": request(), "ttl_s": ttl_s}
    return Order(**(values | changes))


_ranks = itertools.count(1)


def command(id: str = "one", ttl_s: float = 60.0, now_s: float = T0, mac: DeviceId = MAC, **changes: Any) -> Command:
    values: dict[str, Any] = {
        "key": CommandKey(ACME, mac, id),
        "mode": Mode.STORED,
        "request": request(),
        "created_s": now_s,
        "expires_s": now_s + ttl_s,
        "origin": Origin("http", "somebody", ACME),
        "rank": float(next(_ranks)),
    }
    return Command(**(values | changes))


def party(tenant: TenantId = ACME, roles: tuple[str, ...] = ("COMMAND_CLIENT",), scope: str = "api") -> Principal:
    return Principal("somebody", tenant, frozenset(roles), LoginKind.TOKEN, scopes=frozenset(scope.split()))


@dataclass
class ScriptedDevices:
    """Takes the place of the CoAP side: who is there, and how each request is answered.

    `executed` is what boards have done, with the time by `clock`: a request that is answered or lost on its way back
    was executed, one that meets nobody was not.
    """

    clock: Callable[[], float]
    there: set[Address] = field(default_factory=set)
    behaviour: Callable[[Message, Address], Response | DeviceFailure | None] | None = None
    """None as its result: executed, and never answered."""
    executed: list[tuple[Message, Address, float]] = field(default_factory=list)
    pings: int = 0
    given_up: int = 0
    hanging: int = 0

    def start(
        self,
        request: Message,
        address: Address,
        on_answer: Callable[[Response], None],
        on_end: Callable[[DeviceFailure], None],
        timeout_s: float,
        on_acknowledged: Callable[[], None] | None = None,
    ) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        if request.code == codes.EMPTY:
            self.pings += 1
            there = address in self.there
            loop.call_soon(on_end, DeviceRefused("Reset") if there else DeviceSilent("not acknowledged"))
        elif address not in self.there:
            loop.call_soon(on_end, DeviceUnreachable("nobody is there"))
        else:
            what = self.behaviour(request, address) if self.behaviour else Response(codes.CHANGED, b"done")
            if what is None or not not_executed(what):
                self.executed.append((request, address, self.clock()))
            if what is None:
                self.hanging += 1
            elif isinstance(what, DeviceFailure):
                loop.call_soon(on_end, what)
            else:
                assert on_acknowledged is not None
                loop.call_soon(on_acknowledged)
                loop.call_soon(on_answer, what)

        def give_up() -> None:
            self.given_up += 1

        return give_up


def not_executed(what: Response | DeviceFailure) -> bool:
    """Whether a hop before the board has turned a request away."""
    if isinstance(what, Response):
        return what.code == codes.SERVICE_UNAVAILABLE
    return isinstance(what, DeviceRefused)
