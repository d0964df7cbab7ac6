"""Observations that client applications store (dialect part F): JSON objects of a device, each with a time, in order.

They stay with the tenant that stored them, also when the device goes to another. The store is bounded per tenant: the
oldest go first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, insert, select

from gateway.registry import schema
from gateway.registry.database import Database
from meshwire.identity import DeviceId, TenantId

__all__ = ["MOST_PER_TENANT", "PAGE_OCTETS", "Observation", "Observations", "Page"]

PAGE_OCTETS: Final = 1_000_000
"""A page ends before it is longer than this (1 MB, as the vendor's)."""
MOST_PER_TENANT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Observation:
    """One stored observation."""

    mac: DeviceId
    at_s: float
    """Unix seconds of its timestamp."""
    tags: tuple[str, ...]
    body: dict[str, Any]
    """As it was written."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some observations, and where the next page begins."""

    bodies: list[str]
    """JSON texts."""
    after: int | None
    """To be given as `after` for the next page; None: this is the last."""


class Observations:
    """The observations of a database; may be used from any thread.

    Args:
        database: where they are.
        most: bound per tenant.
    """

    def __init__(self, database: Database, most: int = MOST_PER_TENANT) -> None:
        self._database = database
        self._most = most

    def add(self, tenant: TenantId, observations: Sequence[Observation]) -> None:
        """Store observations, all or none; the tenant's oldest go when there are too many."""
        rows = [
            {
                "tenant": tenant.value,
                "mac": observation.mac.value,
                "at": observation.at_s,
                "tags": f" {' '.join(observation.tags)} ",
                "body": json.dumps(observation.body, separators=(",", ":")),
            }
            for observation in observations
        ]
        if not rows:
            return
        table = schema.observations
        with self._database.writing() as connection:
            connection.execute(insert(table), rows)
            mine = table.c.tenant == tenant.value
            # Rows are numbered over all tenants, so the bound is found by counting back, and only now and then.
            newest = connection.scalar(select(func.max(table.c.id)).where(mine)) or 0
            if newest % 1000 < len(rows):
                oldest_kept = connection.scalar(
                    select(table.c.id).where(mine).order_by(table.c.id.desc()).offset(self._most - 1).limit(1)
                )
                if oldest_kept is not None:
                    connection.execute(delete(table).where(mine, table.c.id < oldest_kept))

    def page(
        self,
        tenant: TenantId,
        *,
        mac: DeviceId | None = None,
        after: int = 0,
        limit: int = 1000,
        from_s: float | None = None,
        to_s: float | None = None,
        tags: Iterable[str] = (),
    ) -> Page:
        """Observations in the order in which they were stored.

        Args:
            tenant: whose.
            mac: only of this device.
            after: what the page before said.
            limit: at most so many; a page also ends at 1 MB.
            from_s: not before this time (Unix seconds).
            to_s: before this time.
            tags: only those that have all of these.
        """
        table = schema.observations
        query = select(table.c.id, table.c.body).where(table.c.tenant == tenant.value, table.c.id > after)
        if mac is not None:
            query = query.where(table.c.mac == mac.value)
        if from_s is not None:
            query = query.where(table.c.at >= from_s)
        if to_s is not None:
            query = query.where(table.c.at < to_s)
        for tag in tags:
            query = query.where(table.c.tags.contains(f" {tag} ", autoescape=True))
        bodies: list[str] = []
        octets, last = 0, after
        with self._database.reading() as connection:
            for row in connection.execute(query.order_by(table.c.id).limit(limit + 1)):
                octets += len(row.body)
                if bodies and (len(bodies) == limit or octets > PAGE_OCTETS):
                    return Page(bodies, last)
                bodies.append(row.body)
                last = row.id
        return Page(bodies, None)
