"""Epochs of gateways that speak OSCORE with NICs: each run takes one that no other has had (RFC 8613 section 7.2.1)."""

from __future__ import annotations

import time

from sqlalchemy import insert

from gateway.registry import schema
from gateway.registry.database import Database

__all__ = ["new_epoch"]


def new_epoch(database: Database) -> int:
    """A number above all that were taken before, durably, also by gateways that share the database.

    Raises:
        RegistryError: the database fails.
    """
    with database.durably_writing() as connection:
        taken = connection.execute(insert(schema.nic_epochs).values(taken=time.time()))
        key = taken.inserted_primary_key
        assert key is not None
        return int(key[0])
