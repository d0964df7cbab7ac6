"""Where devices are: in memory at once, in the database by `save`.

Everything but `save` belongs to the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import select

from gateway.addresses import Address, of_nic
from gateway.registry import schema
from gateway.registry.database import Database
from gateway.registry.records import Sighting
from meshwire.identity import DeviceId
from meshwire.mesh_place import MeshPlace

__all__ = ["SightingTable"]

EARLY: Final = 0.9
"""A registration before this part of the promised interval is not the next one in turn."""


class SightingTable:
    """Where the devices of a database were seen last."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._sightings: dict[DeviceId, Sighting] = {}
        self._moved: set[DeviceId] = set()
        self._unsaved: set[DeviceId] = set()
        self._registrations: dict[DeviceId, tuple[float, float | None]] = {}
        self._places: dict[DeviceId, MeshPlace] = {}
        self._watchers: list[Callable[[DeviceId], None]] = []
        self._load_sightings()

    def seen(self, mac: DeviceId, address: Address, now_s: float) -> None:
        """Note that a device was heard from `address`; watchers are told when it has moved."""
        before = self._sightings.get(mac)
        self._sightings[mac] = Sighting(address, now_s)
        if before is None or before.address != address:
            self._moved.add(mac)
            self._tell_watchers(mac)
        else:
            self._unsaved.add(mac)

    def registered(
        self, mac: DeviceId, address: Address, now_s: float, interval_s: float | None, place: MeshPlace | None = None
    ) -> None:
        """Note a registration; one that comes long before it was due means that the device has started anew.

        Args:
            mac: the device.
            address: where it registered from.
            now_s: Unix time in seconds.
            interval_s: how often it will register, as it said; None: it did not.
            place: in the mesh, as it said.
        """
        before = self._registrations.get(mac)
        self._registrations[mac] = (now_s, interval_s)
        if place is None:
            self._places.pop(mac, None)
        else:
            self._places[mac] = place
        has_moved = (known := self._sightings.get(mac)) is None or known.address != address
        self.seen(mac, address, now_s)
        if before is not None and before[1] is not None and now_s - before[0] < EARLY * before[1] and not has_moved:
            self._tell_watchers(mac)

    def place(self, mac: DeviceId) -> MeshPlace | None:
        """Where a device hangs in the mesh, as it said with its last registration; not known after a restart."""
        return self._places.get(mac)

    def interval_s(self, mac: DeviceId) -> float | None:
        """How often the device said it registers."""
        registration = self._registrations.get(mac)
        return None if registration is None else registration[1]

    def sighting(self, mac: DeviceId) -> Sighting | None:
        """Where a device was seen last."""
        return self._sightings.get(mac)

    def _protect_sighting(self, mac: DeviceId, protected: bool) -> None:
        """From now on what goes to the device is, or is not, protected by its key."""
        known = self._sightings.get(mac)
        if known is not None:
            plain = Address(known.address.host, known.address.port)
            self._sightings[mac] = Sighting(of_nic(mac, plain) if protected else plain, known.seen_s)

    def watch(self, watcher: Callable[[DeviceId], None]) -> Callable[[], None]:
        """Be told when a device has a new address, has started anew, or is whose it was no longer; gives the function
        that ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def _tell_watchers(self, mac: DeviceId) -> None:
        for watcher in tuple(self._watchers):
            watcher(mac)

    def take_unsaved(self, *, moved_only: bool = False) -> list[tuple[DeviceId, Sighting]]:
        """Sightings that are to be given to `save`: devices with new addresses, or with new times, too."""
        macs, self._moved = self._moved, set()
        if not moved_only:
            macs |= self._unsaved
            self._unsaved = set()
        return [(mac, self._sightings[mac]) for mac in macs if mac in self._sightings]

    def save(self, sightings: Sequence[tuple[DeviceId, Sighting]]) -> None:
        """Write sightings, on any thread."""
        if not sightings:
            return
        rows = [
            {"mac": mac.value, "host": seen.address.host, "port": seen.address.port, "seen_at": seen.seen_s}
            for mac, seen in sightings
        ]
        with self.database.writing() as connection:
            connection.execute(self.database.upsert(schema.addresses, "mac"), rows)

    def keep_unsaved(self, sightings: Sequence[tuple[DeviceId, Sighting]]) -> None:
        """`save` has failed: give them out again."""
        self._moved |= {mac for mac, _ in sightings}

    def flush(self) -> None:
        """Write everything that has not been written."""
        self.save(self.take_unsaved())

    def _load_sightings(self) -> None:
        with self.database.reading() as connection:
            rows = connection.execute(select(schema.addresses)).all()
        for row in rows:
            self._sightings[DeviceId(row.mac)] = Sighting(Address(row.host, row.port), row.seen_at)

    def _forget_sighting(self, mac: DeviceId) -> None:
        self._sightings.pop(mac, None)
        self._places.pop(mac, None)
        self._unsaved.discard(mac)
        self._moved.discard(mac)
