"""A software update as an order: a stored command with the image as its payload, in the place of an older update."""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["FIRMWARE_PATH", "WEEK_S", "update_body"]

FIRMWARE_PATH: Final = "snsr/sys/fw?sha256={sha256}"
"""Where boards take images."""
WEEK_S: Final = 7 * 86_400.0
_OCTET_STREAM: Final = 42
"""CoAP Content-Format."""


def update_body(image: bytes, path: str, ttl_s: float) -> dict[str, object]:
    """The fields of an `OrderBody`.

    Args:
        image: the file.
        path: where it goes at the device; `{sha256}` becomes its digest.
        ttl_s: so long the device may take to come and get it, in seconds.
    """
    return {
        "method": "PUT",
        "path": path.replace("{sha256}", hashlib.sha256(image).hexdigest()),
        "payloadHex": image.hex(),
        "contentFormat": _OCTET_STREAM,
        "mode": "stored",
        "ttl": ttl_s,
        "replace": True,
        "idempotent": True,
    }
