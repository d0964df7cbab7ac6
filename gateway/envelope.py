"""A notification as it lies in the outbox: what is published later must not depend on what is known later.

The tenant is the one that owned the device when the notification came in; the payload is the board's, octet for octet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cbor2

from meshwire.identity import DeviceId, TenantId
from meshwire.notification import Notification

__all__ = ["VERSION", "EnvelopeError", "StoredNotification", "pack", "unpack"]

VERSION: Final = 1


class EnvelopeError(ValueError):
    """A stored record is of no known form."""


@dataclass(frozen=True, slots=True)
class StoredNotification:
    """A notification with its owner."""

    tenant: TenantId
    notification: Notification


def pack(stored: StoredNotification) -> bytes:
    """The octets for the outbox."""
    n = stored.notification
    fields = [VERSION, stored.tenant.value, n.device.value, n.path, n.observe, n.epoch, n.content_format, n.time_s]
    return cbor2.dumps([*fields, n.payload])


def unpack(octets: bytes) -> StoredNotification:
    """Read them back; raises EnvelopeError."""
    try:
        version, tenant, mac, path, observe, epoch, content_format, time_s, payload = cbor2.loads(octets)
        if version != VERSION:
            raise EnvelopeError(f"unknown version {version!r}")
        notification = Notification(DeviceId(mac), path, observe, epoch, content_format, payload, time_s)
        return StoredNotification(TenantId(tenant), notification)
    except (ValueError, TypeError, cbor2.CBORDecodeError) as error:
        raise EnvelopeError(str(error)) from None
