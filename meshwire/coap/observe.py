"""Which of two notifications is newer (RFC 7641 section 3.4)."""

from __future__ import annotations

from typing import Final

__all__ = ["FRESH_AFTER_S", "SEQUENCE_MODULUS", "is_fresh"]

SEQUENCE_MODULUS: Final = 1 << 24
FRESH_AFTER_S: Final = 128.0
"""After so many seconds any notification counts as newer, whatever its number."""


def is_fresh(last: int, last_at_s: float, number: int, at_s: float) -> bool:
    """Whether notification `number`, received at `at_s`, is newer than `last`, received at `last_at_s`."""
    half = SEQUENCE_MODULUS >> 1
    return (
        (last < number and number - last < half)
        or (last > number and last - number > half)
        or at_s > last_at_s + FRESH_AFTER_S
    )
