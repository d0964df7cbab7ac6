"""People who sign in at the console: what their names and passwords may be, for page, HTTP API and command line."""

from __future__ import annotations

from typing import Final

from gateway.access import ADMIN_SCOPE
from gateway.registry import Account

__all__ = ["KIND", "MIN_PASSWORD", "is_administrator", "refuse_name", "refuse_password"]

KIND: Final = "console"
"""Kind of the registry's accounts that may sign in at the console."""
MIN_PASSWORD: Final = 10
MAX_PASSWORD: Final = 1024
"""A longer one is never looked at (`gateway.credentials`)."""


def refuse_name(name: str) -> str | None:
    """Why this can't be a name, in words for people; None: it can."""
    if not 1 <= len(name) <= 64 or not name.isprintable() or name != name.strip() or "/" in name:
        return "A name has 1 to 64 printable characters, and no /."
    return None


def refuse_password(password: str) -> str | None:
    """Why this can't be a password, in words for people; None: it can."""
    if len(password) < MIN_PASSWORD:
        return f"A password has at least {MIN_PASSWORD} characters."
    if len(password) > MAX_PASSWORD:
        return f"A password has at most {MAX_PASSWORD} characters."
    return None


def is_administrator(account: Account) -> bool:
    """Whether somebody sees and changes what belongs to any tenant."""
    return ADMIN_SCOPE in account.scope.split()
