"""The keys of NICs: sealed in the registry by a secret of the site, and their contexts in memory.

A key is in the device's record, so it comes, goes and moves with it. Who reads the database alone learns nothing: keys
are encrypted (AES-256-GCM, the MAC as additional data) by the site's secret `nic-keys`, mode 0600, which gateways that
share a registry have to share, too. Contexts are made when they are needed, some 2 KB each.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.registry import Device
from meshwire.identity import DeviceId
from meshwire.oscore import NicKey, OscoreContext, SequenceNumbers
from meshwire.oscore.key import SALT_OCTETS, SECRET_OCTETS
from meshwire.site import Site

__all__ = ["NicKeys", "Seal"]

NUMBERS_AN_EPOCH: Final = 1 << 20
"""Of the 2^40 sequence numbers of a key; as many epochs fit."""
SECRET_NAME: Final = "nic-keys"
_NONCE_OCTETS: Final = 12

_log = structlog.get_logger(__name__)


class Seal:
    """Encrypts keys for the registry.

    Args:
        site: whose secret is used; it is made on first use.
    """

    def __init__(self, site: Site) -> None:
        self._cipher = AESGCM(hashlib.sha256(site.secret(SECRET_NAME).encode()).digest())

    def close(self, key: NicKey) -> str:
        """A key as the registry stores it."""
        nonce = os.urandom(_NONCE_OCTETS)
        sealed = nonce + self._cipher.encrypt(nonce, key.secret + key.salt, key.mac.eui64)
        return base64.b64encode(sealed).decode()

    def open(self, mac: DeviceId, sealed: str) -> NicKey | None:
        """The key of a device; None: it was sealed by another secret, or for another device."""
        try:
            octets = base64.b64decode(sealed, validate=True)
            both = self._cipher.decrypt(octets[:_NONCE_OCTETS], octets[_NONCE_OCTETS:], mac.eui64)
        except (InvalidTag, ValueError):
            return None
        if len(both) != SECRET_OCTETS + SALT_OCTETS:
            return None
        return NicKey(mac, both[:SECRET_OCTETS], both[SECRET_OCTETS:])


class _Entry(NamedTuple):
    sealed: str
    context: OscoreContext | None
    """None: the key can't be opened."""


class NicKeys:
    """See the module's text.

    Args:
        device: gives a provisioned device.
        seal: of the site.
        new_epoch: takes a number that no process of the site has had or will have, durably. It stands above the
            sequence numbers of everything that is sent in it, so none of them has to be written down.
    """

    def __init__(self, device: Callable[[DeviceId], Device | None], seal: Seal, new_epoch: Callable[[], int]) -> None:
        self._device = device
        self._seal = seal
        self._new_epoch = new_epoch
        self._epoch = new_epoch()
        self._entries: dict[DeviceId, _Entry] = {}
        """Never forgotten while we run: a context that is made again must not count from the beginning again."""

    def context(self, mac: DeviceId) -> OscoreContext | None:
        """The context of a device; None: it is not provisioned, or has no key that can be read."""
        device = self._device(mac)
        if device is None or not device.sealed_key:
            return None
        entry = self._entries.get(mac)
        if entry is None or entry.sealed != device.sealed_key:
            epoch = self._epoch if entry is None else self._new_epoch()
            entry = self._entries[mac] = self._open(mac, device.sealed_key, epoch)
        return entry.context

    def _open(self, mac: DeviceId, sealed: str, epoch: int) -> _Entry:
        key = self._seal.open(mac, sealed)
        if key is None:
            _log.error(
                "the key of a NIC can't be read: it was sealed by another site's secret",
                mac=mac.value,
                do=f"bring that site's secrets/{SECRET_NAME} here, or: meshwire device provision {mac} --renew",
            )
            return _Entry(sealed, None)
        epochs = itertools.chain((epoch,), iter(self._new_epoch, None))
        numbers = SequenceNumbers(lambda count: next(epochs) * count, NUMBERS_AN_EPOCH)
        return _Entry(sealed, OscoreContext(key.for_gateway(), numbers))
