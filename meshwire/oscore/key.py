"""What a NIC and its gateway share: the key made at provisioning, its file, and what is derived from it.

One key serves both directions. The NIC is `NIC_ID`, the gateway `GATEWAY_ID`; the ID Context is the NIC's EUI-64, which
goes with each request, so that the gateway finds the key and no two NICs have the same nonce under the same key.
Algorithms are those that every implementation has: AES-CCM-16-64-128 and HKDF with SHA-256 (RFC 8613 section 3.2).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cbor2
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshwire.identity import DeviceId, IdentityError

__all__ = ["GATEWAY_ID", "NIC_ID", "KeyFileError", "NicKey", "OscoreKey"]

NIC_ID: Final = b"\x01"
GATEWAY_ID: Final = b"\x00"
"""Sender IDs (RFC 8613 section 3.1)."""
SECRET_OCTETS: Final = 16
SALT_OCTETS: Final = 8
ALGORITHM: Final = 10
"""AES-CCM-16-64-128 (RFC 8152 section 10.2): key of 16 octets, nonce of 13, tag of 8."""
KEY_OCTETS: Final = 16
NONCE_OCTETS: Final = 13
_MODE: Final = 0o600


class KeyFileError(ValueError):
    """A key file can't be read, or is none."""


@dataclass(frozen=True, slots=True)
class OscoreKey:
    """The derived part of a Security Context (RFC 8613 section 3.1), as one of the two parties has it."""

    sender_id: bytes
    recipient_id: bytes
    id_context: bytes | None
    sender_key: bytes
    recipient_key: bytes
    common_iv: bytes

    @classmethod
    def derive(
        cls, secret: bytes, salt: bytes, *, sender_id: bytes, recipient_id: bytes, id_context: bytes | None
    ) -> OscoreKey:
        """Derive keys from a Master Secret and Master Salt (section 3.2.1)."""

        def expand(name: bytes, kind: str, octets: int) -> bytes:
            info = cbor2.dumps([name, id_context, ALGORITHM, kind, octets])
            return HKDF(SHA256(), octets, salt, info).derive(secret)

        return cls(
            sender_id,
            recipient_id,
            id_context,
            expand(sender_id, "Key", KEY_OCTETS),
            expand(recipient_id, "Key", KEY_OCTETS),
            expand(b"", "IV", NONCE_OCTETS),
        )


@dataclass(frozen=True, slots=True, repr=False)
class NicKey:
    """The secret of one NIC."""

    mac: DeviceId
    secret: bytes
    """Master Secret, 16 octets."""
    salt: bytes
    """Master Salt, 8 octets."""

    @classmethod
    def generate(cls, mac: DeviceId) -> NicKey:
        """A new key by the system's random numbers."""
        return cls(mac, os.urandom(SECRET_OCTETS), os.urandom(SALT_OCTETS))

    def __repr__(self) -> str:
        return f"NicKey({self.mac})"

    @property
    def fingerprint(self) -> str:
        """Tells keys of one NIC apart, and tells nothing of the key."""
        return hashlib.sha256(b"meshwire nic key" + self.mac.eui64 + self.secret + self.salt).hexdigest()[:16]

    def for_nic(self) -> OscoreKey:
        """As the NIC has it."""
        return self._derive(NIC_ID, GATEWAY_ID)

    def for_gateway(self) -> OscoreKey:
        """As the gateway has it."""
        return self._derive(GATEWAY_ID, NIC_ID)

    def _derive(self, sender_id: bytes, recipient_id: bytes) -> OscoreKey:
        return OscoreKey.derive(
            self.secret, self.salt, sender_id=sender_id, recipient_id=recipient_id, id_context=self.mac.eui64
        )

    def to_json(self) -> str:
        """The NIC's file: in the names of aiocoap's context folders, whose `secret.json` it may be."""
        fields = {
            "mac": self.mac.value,
            "secret_hex": self.secret.hex(),
            "salt_hex": self.salt.hex(),
            "sender-id_hex": NIC_ID.hex(),
            "recipient-id_hex": GATEWAY_ID.hex(),
            "id-context_hex": self.mac.value,
        }
        return json.dumps(fields, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> NicKey:
        """Read a NIC's file.

        Raises:
            KeyFileError: it lacks something, or is not of this form.
        """
        try:
            fields = json.loads(text)
            key = cls(
                DeviceId.parse(fields["mac"]), bytes.fromhex(fields["secret_hex"]), bytes.fromhex(fields["salt_hex"])
            )
        except (ValueError, KeyError, TypeError, AttributeError, IdentityError) as error:
            raise KeyFileError(f"no key of a NIC: {type(error).__name__}") from None
        ids = (fields.get("sender-id_hex"), fields.get("recipient-id_hex"), fields.get("id-context_hex"))
        if ids != (NIC_ID.hex(), GATEWAY_ID.hex(), key.mac.value):
            raise KeyFileError(
                "sender-id_hex, recipient-id_hex or id-context_hex is not what a NIC of this gateway has"
            )
        if len(key.secret) != SECRET_OCTETS or len(key.salt) != SALT_OCTETS:
            raise KeyFileError(f"the secret has to be {SECRET_OCTETS} octets, the salt {SALT_OCTETS}")
        return key

    def save(self, path: Path) -> None:
        """Write a new file with mode 0600; raises OSError, FileExistsError too: a key is never written over."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.to_json())

    @classmethod
    def load(cls, path: Path) -> NicKey:
        """Read a NIC's file.

        Raises:
            KeyFileError: it can't be read, others may read it, or it is no key.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise KeyFileError("others than its owner may read it: chmod 600")
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(getattr(error, "strerror", None) or "it is no text") from None
        return cls.from_json(text)
