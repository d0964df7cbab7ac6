"""Notifications in their usual spelling, taken in many at a time: what the sink would do with each, at a small part of
the cost. No socket, no clock.

Does: read, find the owner, tell repetitions apart, put into the outbox, make the answers once that is committed. Does
not: judge anything unusual, or refuse: whatever is not as nearly all are is left to the sink, in its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, Protocol

from gateway.addresses import Address
from gateway.deduplication import ExpiringTable, RecentKeys
from gateway.direct import DirectDelivery
from gateway.nic_oscore.guard import NicGuard
from gateway.outbox import Entry, Outbox
from gateway.registry import Device, Sighting
from gateway.segments import HEADER_OCTETS, MAX_PAYLOAD_OCTETS
from gateway.statistics import Event, Statistics
from gateway.uplink import Origin, Route, RouteTable, pack_uplink
from meshwire.coap import codes
from meshwire.identity import DeviceId

__all__ = ["Batch", "Datagram", "ExchangeKey", "Exchanges", "Intake", "Memory", "Owners", "Storing", "note_sighting"]

_SIGHTING_S: Final = 0.1
"""Signs of life of a device from one address are noted this often."""
_MAX_TOKEN: Final = 8
_HEADS: Final = tuple(bytes((first | 0x20, codes.CHANGED)) for first in range(0x40 + _MAX_TOKEN + 1))
"""First octet of a confirmable request -> type, token length and code of its 2.04 (RFC 7252 section 3)."""


class Datagram(NamedTuple):
    """Octets for a peer; a tuple, because there is one for every notification."""

    to: Address
    octets: bytes


_datagram = partial(tuple.__new__, Datagram)
_origin = partial(tuple.__new__, Origin)
"""Both of their two values, without the detour over keywords."""

ExchangeKey = bytes
"""Host, port and message ID: `Address.octets` and the two octets of the header."""


@dataclass(slots=True)
class Storing:
    """Notifications whose commit has not succeeded."""

    stored: bool = False


Exchanges = ExpiringTable[ExchangeKey, object]
"""Message IDs -> the answer's octets, or anything else while it is not known."""


@dataclass(slots=True)
class Memory:
    """What is known of requests that have come."""

    exchanges: Exchanges
    underway: dict[bytes, Storing]
    """Notifications that are not stored yet, by their idempotency keys."""
    stored: RecentKeys

    def note_stored(self, key: bytes, storing: Storing, now: float) -> None:
        """A notification is stored."""
        storing.stored = True
        del self.underway[key]
        self.stored.add(key, now)


@dataclass(slots=True)
class Batch:
    """Requests that were taken in together and wait for one commit; none repeats another, or an earlier one."""

    storing: Storing = field(default_factory=Storing)
    requests: list[tuple[bytes, Address]] = field(default_factory=list)
    exchanges: list[ExchangeKey] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)


class Owners(Protocol):
    """What is asked of the registry."""

    @property
    def generation(self) -> int:
        """Grows whenever `device` may give something else than before."""

    def device(self, mac: DeviceId) -> Device | None:
        """A provisioned device, or None."""

    def sighting(self, mac: DeviceId) -> Sighting | None:
        """Where it was seen last."""

    def seen(self, mac: DeviceId, address: Address, now_s: float) -> None:
        """It was heard from `address`."""


class Intake:
    """See the module's text.

    Args:
        owners: who owns which device.
        outbox: where notifications go.
        statistics: counted here.
        memory: shared with the sink.
        direct: names the tenants whose readings are not to be stored; None: all are.
        guard: says whose requests have to be protected; None: nobody's.
    """

    def __init__(
        self,
        owners: Owners,
        outbox: Outbox,
        statistics: Statistics,
        memory: Memory,
        direct: DirectDelivery | None,
        guard: NicGuard | None,
    ) -> None:
        self._owners = owners
        self._outbox = outbox
        self._statistics = statistics
        self._memory = memory
        self._direct = direct
        self._guard = guard
        self._routes = RouteTable()
        self.moves = 0
        """To be changed when a device may have moved: then the next sign of life is noted in any case."""

    def take(
        self, datagrams: Iterator[tuple[bytes, Address]], now: float, now_s: float, appended: list[Batch]
    ) -> tuple[bytes, Address] | None:
        """Take what comes up to the first datagram that is not of the usual kind.

        Args:
            datagrams: as they came.
            now: a monotonic time in seconds, for lifetimes.
            now_s: Unix time in seconds, for what is stored.
            appended: a batch is put here when there is one.

        Returns:
            The datagram that is left to be looked at closer; None: there are no more.
        """
        batch, memory = Batch(), self._memory
        exchanges = dict[ExchangeKey, None]()
        entries: list[Entry] = []
        room = left = self._outbox.room
        try:
            read, requests, keys, storing = self._routes.read, batch.requests, batch.keys, batch.storing
            held, underway, stored = memory.exchanges.held, memory.underway, memory.stored
            generation, time_ms = self._owners.generation + self.moves, int(now_s * 1000)
            for datagram in datagrams:
                octets, source = datagram
                uplink = read(octets, source.port)
                if uplink is None:
                    return datagram
                route, exchange, key = uplink[0], source.octets + octets[2:4], uplink[5] + uplink[1]
                if exchange in held or exchange in exchanges or key in underway or key in stored:
                    return datagram
                if route.generation != generation:
                    self._find_owner(route, generation)
                if (tenant := route.tenant) is None:
                    return datagram
                payload = pack_uplink(uplink, tenant)
                octets_left = left - HEADER_OCTETS - len(payload)
                if octets_left < 0 or len(payload) > MAX_PAYLOAD_OCTETS:
                    return datagram
                if route.seen_from is not source or now_s - route.seen_s > _SIGHTING_S:
                    note_sighting(self._owners, route.device, source, now_s)
                    route.seen_from, route.seen_s = source, now_s
                left = octets_left
                exchanges[exchange] = None
                underway[key] = storing
                keys.append(key)
                requests.append(datagram)
                entries.append((time_ms, payload, _origin((uplink, tenant))))
            return None
        finally:
            if entries:
                self._outbox.append_all(entries, room - left)
                batch.exchanges = list(exchanges)
                memory.exchanges.put_all(batch.exchanges, batch.storing, now)
                self._statistics.count(Event.DATAGRAM, "sink", len(entries))
                appended.append(batch)

    def stored(self, batch: Batch, now: float) -> list[Datagram]:
        """Its commit has succeeded: the answers."""
        batch.storing.stored = True
        for key in batch.keys:
            del self._memory.underway[key]
        self._memory.stored.add_all(batch.keys, now)
        heads, answers = _HEADS, []
        for octets, source in batch.requests:
            first = octets[0]
            answers.append(_datagram((source, heads[first] + octets[2 : 4 + (first & 15)])))
        self._memory.exchanges.replace_all(batch.exchanges, [octets for _, octets in answers])
        return answers

    def failed(self, batch: Batch) -> None:
        """Its commit has failed: the notifications may come again."""
        for key in batch.keys:
            del self._memory.underway[key]

    def _find_owner(self, route: Route, generation: int) -> None:
        device = self._owners.device(route.device)
        route.tenant = device.tenant.value if device is not None and self._is_usual(device) else None
        route.generation = generation
        route.seen_from = None

    def _is_usual(self, device: Device) -> bool:
        return (
            device.enabled
            and (self._direct is None or not self._direct.names(device.tenant.value))
            and (self._guard is None or not self._guard.wants(device))
        )


def note_sighting(owners: Owners, mac: DeviceId, source: Address, now_s: float) -> None:
    """Note a sign of life, unless one has just been noted."""
    known = owners.sighting(mac)
    if known is None or now_s - known.seen_s > _SIGHTING_S or known.address != source:
        owners.seen(mac, source, now_s)
