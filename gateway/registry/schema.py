"""The tables, as SQLAlchemy Core knows them; `migrations.py` brings an older database to this shape.

`revision` counts changes of the whole database. A row carries the revision of its last change, so that another process
reads only what is new to it; of a device that was removed, `removed_devices` keeps the revision.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = [
    "SCHEMA_VERSION",
    "account_nodes",
    "accounts",
    "addresses",
    "audit",
    "devices",
    "endpoints",
    "instances",
    "metadata",
    "nic_epochs",
    "observations",
    "removed_devices",
    "state",
    "templates",
    "tenants",
]

SCHEMA_VERSION: Final = 6

metadata = MetaData()
_Serial = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows only of a column that is called INTEGER."""

state = Table(
    "registry_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("schema_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
"""One row, `id` 1."""

tenants = Table(
    "tenants",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("created", Double, nullable=False),
    Column("title", Text, nullable=False, server_default=""),
    Column("max_devices", Integer),
)
"""`max_devices`: null: as the configuration says."""

devices = Table(
    "devices",
    metadata,
    Column("mac", String(16), primary_key=True),
    Column("tenant", String(64), ForeignKey("tenants.id"), nullable=False, index=True),
    Column("type", String(64), nullable=False),
    Column("domain", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    Column("tags", Text, nullable=False, server_default=""),
    Column("revision", BigInteger, nullable=False, server_default="0", index=True),
    Column("sealed_key", Text, nullable=False, server_default=""),
)
"""`tags`: separated by blanks; `sealed_key`: the NIC's OSCORE key, encrypted, or empty."""

removed_devices = Table(
    "removed_devices",
    metadata,
    Column("mac", String(16), primary_key=True),
    Column("revision", BigInteger, nullable=False, index=True),
)

nic_epochs = Table(
    "nic_epochs",
    metadata,
    Column("epoch", _Serial, primary_key=True, autoincrement=True),
    Column("taken", Double, nullable=False),
)
"""A row for each run of a gateway that speaks OSCORE with NICs: above the sequence numbers that it uses."""

addresses = Table(
    "addresses",
    metadata,
    Column("mac", String(16), primary_key=True),
    Column("host", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("seen_at", Double, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("hash", Text, nullable=False),
    Column("tenant", String(64), ForeignKey("tenants.id"), nullable=False),
    Column("roles", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created", Double, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Index("audit_by_tenant", "tenant", "id"),
    Index("audit_by_subject", "subject", "id"),
)
"""No foreign key: the log outlives what it speaks of."""

observations = Table(
    "observations",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("mac", String(16), nullable=False),
    Column("at", Double, nullable=False),
    Column("tags", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("observations_by_device", "tenant", "mac", "id"),
    Index("observations_by_tenant", "tenant", "id"),
)
"""`at`: Unix seconds of the observation's own timestamp; `tags`: ` a b `, separated and framed by blanks."""

templates = Table(
    "device_templates",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("body", JSON, nullable=False),
)

# --- messaging service (since version 3)

account_nodes = Table(
    "account_nodes",
    metadata,
    Column("tenant", String(64), ForeignKey("tenants.id"), primary_key=True),
    Column("parent", String(64), ForeignKey("tenants.id"), nullable=False),
    Column("instance", String(64)),
    Column("options", Text),
)
"""What an account is beside a tenant; a tenant without a row is a child of the root account, and not assigned."""

instances = Table(
    "instances",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("engine", String(64), nullable=False),
    Column("title", Text, nullable=False),
    Column("has_plain", Boolean, nullable=False),
    Column("has_tls", Boolean, nullable=False),
    Column("has_mutual", Boolean, nullable=False),
    Column("options", Text, nullable=False),
    Column("announced", Boolean, nullable=False),
)
"""`announced`: what can be offered is known from the instance itself; else an administrator has said it."""

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("account", String(64), ForeignKey("tenants.id"), nullable=False, index=True),
    Column("scheme", String(8), nullable=False),
    Column("domain", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("secure", Boolean, nullable=False),
)
