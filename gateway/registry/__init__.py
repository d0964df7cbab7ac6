"""The registry: whose device is whose and where it is reachable now; OAuth clients and password accounts of tenants.

`database.py` holds the tables in SQLite or PostgreSQL, `registry.py` what every notification asks for in memory, and a
file each the rest: accounts, audit log, observations, templates, import and export.
"""

from gateway.registry.database import Change, Database
from gateway.registry.records import Account, Device, IssuedClient, Sighting, Tenant
from gateway.registry.registry import Registry

__all__ = ["Account", "Change", "Database", "Device", "IssuedClient", "Registry", "Sighting", "Tenant"]
