"""Where the registry's database is, by the settings; the same for every process of a gateway."""

from __future__ import annotations

from gateway.registry.database import Database
from gateway.settings import RegistrySettings
from meshwire.site import Site

__all__ = ["open_database"]


def open_database(settings: RegistrySettings, site: Site) -> Database:
    """The registry's database as configured: PostgreSQL or SQLite by URL, else a file in the state folder."""
    password = settings.password_file.read_text().strip() if settings.password_file is not None else None
    return Database(settings.url or site.path("gateway", "registry.db"), password)
