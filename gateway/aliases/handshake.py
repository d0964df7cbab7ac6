"""What a TLS handshake tells on the way: that the server has asked for a client certificate."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

__all__ = ["on_certificate_request"]

_HANDSHAKE: Final = 22
_CERTIFICATE_REQUEST: Final = 13
"""TLS content type and handshake type (RFC 8446 sections 5.1 and 4)."""


def on_certificate_request(context: ssl.SSLContext, tell: Callable[[], object]) -> None:
    """Call `tell` when a server asks: some hang up on a client without certificate and don't say so.

    The callback is the standard library's for debugging; without it nothing is told.
    """

    def on_message(sock: object, direction: str, version: int, content: int, kind: int, data: bytes) -> None:
        if (direction, content, kind) == ("read", _HANDSHAKE, _CERTIFICATE_REQUEST):
            tell()

    if hasattr(context, "_msg_callback"):
        context._msg_callback = on_message
