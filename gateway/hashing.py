"""Secrets of clients and accounts: how they are made and hashed (argon2id, RFC 9106). Slow on purpose, some 50 ms."""

from __future__ import annotations

import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["hash_secret", "new_secret", "secret_fits"]

_HASHER: Final = PasswordHasher()


def new_secret() -> str:
    """A random secret of 43 characters."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """The argon2id hash to store."""
    return _HASHER.hash(secret)


def secret_fits(secret_hash: str, secret: str) -> bool:
    """Whether the hash is of this secret."""
    try:
        return _HASHER.verify(secret_hash, secret)
    except (VerificationError, InvalidHashError):
        return False
