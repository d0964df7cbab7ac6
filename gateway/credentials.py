"""Verifying names and secrets of OAuth clients and password accounts against the registry.

Hashing is slow on purpose and runs on a worker thread, a bounded number at a time, so that guessing does not starve
the gateway. An unknown name costs as much time as a wrong secret.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.hashing import hash_secret, new_secret, secret_fits
from gateway.registry import Account, Registry

__all__ = ["Credentials"]

_AT_ONCE: Final = 2
"""Hashes computed at the same time; each takes 64 MiB."""
_LONGEST_SECRET: Final = 1024


class Credentials:
    """Verifies names and secrets against a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._nobody: str | None = None

    async def verify(self, name: str, secret: str, kind: str) -> Account | None:
        """The account that `name` and `secret` belong to, or None.

        Args:
            name: client id or user name.
            secret: as it was typed; longer than 1,024 characters is wrong.
            kind: "client" or "user".
        """
        if len(secret) > _LONGEST_SECRET:
            return None
        account = await asyncio.to_thread(self._registry.account, name, kind)
        async with self._turns:
            secret_hash = account.secret_hash if account is not None else await self._hash_of_nobody()
            fits = await asyncio.to_thread(secret_fits, secret_hash, secret)
        return account if fits else None

    async def _hash_of_nobody(self) -> str:
        if self._nobody is None:
            self._nobody = await asyncio.to_thread(hash_secret, new_secret())
        return self._nobody
