"""The server's end of a TLS connection as asyncio sees it, with the fields of a client's certificate read once.

asyncio asks for the fields after each handshake. A device shows the same certificate each time it comes, and reading it
costs as much as several messages. Decides nothing about trust: OpenSSL verifies each certificate in each handshake,
before it is asked for here.
"""

import ssl
from typing import Any, Final

__all__ = ["VerifyingObject"]

REMEMBERED_MAX: Final = 4_096

_fields: Final[dict[bytes, dict[str, Any]]] = {}
"""By the whole certificate (DER)."""


class VerifyingObject(ssl.SSLObject):
    """`sslobject_class` of a context that verifies what clients show, and of no other: of one that does not, asyncio
    expects no fields.
    """

    def getpeercert(self, binary_form: bool = False) -> Any:
        """As its base has it; the mapping is shared and must not be changed."""
        certificate = super().getpeercert(True)
        if binary_form or certificate is None:
            return certificate
        fields = _fields.get(certificate)
        if fields is None:
            fields = super().getpeercert() or {}
            if len(_fields) >= REMEMBERED_MAX:
                _fields.clear()
            _fields[certificate] = fields
        return fields
