"""A line for each notification and each request to a device, at DEBUG: by `key` and `token` it is found again at the
NIC and at the broker. Whoever calls asks `meshwire.logs.tells_messages` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog

from gateway.addresses import Address
from gateway.envelope import EnvelopeError, unpack
from gateway.outbox import Outbox
from gateway.registry import Device
from meshwire.coap import Message, codes
from meshwire.identity import DeviceId

__all__ = ["of_answer", "of_records", "of_refusal", "of_request", "of_stored"]

_log = structlog.get_logger(__name__)


class _Owners(Protocol):
    def device(self, mac: DeviceId) -> Device | None: ...


def of_stored(owners: _Owners, keys: Iterable[bytes]) -> None:
    """Notifications are on disk: their NICs are answered 2.04."""
    for key in keys:
        text = key.decode()
        mac = text.partition("/")[0]
        device = owners.device(DeviceId(mac))
        tenant = None if device is None else device.tenant.value
        _log.debug("notification stored", tenant=tenant, mac=mac, key=text)


def of_refusal(mac: str, reason: str, source: Address) -> None:
    """A notification or registration was not taken."""
    _log.debug("notification refused", mac=mac, reason=reason, source=str(source))


def of_records(event: str, outbox: Outbox, sequences: Sequence[int]) -> None:
    """Something happened to records between outbox and broker: they were `published`, or are `acknowledged`."""
    for sequence in sequences:
        record = outbox.outstanding(sequence)
        if record is None:
            continue
        try:
            stored = unpack(record.payload)
        except EnvelopeError:
            continue
        notification, tenant = stored.notification, stored.tenant.value
        _log.debug(
            f"notification {event}",
            tenant=tenant,
            mac=notification.device.value,
            key=notification.key,
            sequence=sequence,
        )


def of_request(message: Message, address: Address) -> None:
    """A request to a device; who asked for it is in the context."""
    method, resource = codes.code_text(message.code), "/".join(message.path())
    _log.debug("request to a device", token=message.token.hex(), to=str(address), method=method, resource=resource)


def of_answer(message: Message, source: Address) -> None:
    """A device's answer to such a request, or one of its notifications."""
    _log.debug("answer of a device", token=message.token.hex(), source=str(source), code=codes.code_text(message.code))
