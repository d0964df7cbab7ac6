"""What the sink asks about protection: whose request is this, may it come in plain, and how is its answer protected.

A NIC's request names its key by the ID Context, which is the NIC's EUI-64: by its length it is told from a request of a
client. It says nothing more in the clear. Refusals are answered in plain, as RFC 8613 section 8.2 has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.nic_oscore.keys import NicKeys
from gateway.registry import Device
from meshwire.coap import Message, codes, options
from meshwire.identity import DeviceId
from meshwire.oscore import Challenge, OscoreError, OscoreOption, Reason, Response

__all__ = ["NicGuard", "Opened", "Protect", "ProtectionError", "is_of_nic"]

_EUI64_OCTETS: Final = 8

Protect = Callable[[Response], Response]
"""Protects the answer of one request."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A request that was protected by its NIC."""

    mac: DeviceId
    request: Message
    """What is inside."""
    protect: Protect


class ProtectionError(Exception):
    """A protected request is not taken.

    Args:
        mac: whose it says it is.
        reason: for counters and people.
        code, diagnostic: of the answer, which is not protected.
    """

    def __init__(self, mac: DeviceId, reason: str, code: int, diagnostic: str) -> None:
        super().__init__(reason)
        self.mac = mac
        self.reason = reason
        self.code = code
        self.diagnostic = diagnostic


_ANSWERS: Final = {
    Reason.MALFORMED: (codes.BAD_OPTION, "Failed to decode COSE"),
    Reason.WRONG_KEY: (codes.BAD_REQUEST, "Decryption failed"),
    Reason.REPLAY: (codes.UNAUTHORIZED, "Replay detected"),
}
"""RFC 8613 section 8.2."""


def is_of_nic(message: Message) -> bool:
    """Whether a request is protected by the key of a NIC, and for the gateway itself."""
    value = message.option(options.OSCORE)
    if (
        value is None
        or message.option(options.PROXY_URI) is not None
        or message.option(options.PROXY_SCHEME) is not None
    ):
        return False
    header = _header(value)
    return header is not None and codes.is_request(message.code)


def _header(value: bytes) -> OscoreOption | None:
    try:
        header = OscoreOption.parse(value)
    except OscoreError:
        return None
    return header if header.context is not None and len(header.context) == _EUI64_OCTETS else None


class NicGuard:
    """See the module's text.

    Args:
        keys: of the site's NICs; None: protected requests do not come here.
        required: whether no NIC at all may send in plain.
    """

    def __init__(self, keys: NicKeys | None, *, required: bool) -> None:
        self._keys = keys
        self._required = required

    def wants(self, device: Device) -> bool:
        """Whether what a device sends has to be protected."""
        return self._required or bool(device.sealed_key)

    def open(self, message: Message) -> Opened | Challenge:
        """Open a request for which `is_of_nic` holds.

        Raises:
            ProtectionError: it is not taken.
            RegistryError: there are no sequence numbers to be had for a challenge.
        """
        header = _header(message.option(options.OSCORE) or b"")
        assert self._keys is not None and header is not None and header.context is not None
        mac = DeviceId(header.context.hex())
        context = self._keys.context(mac)
        if context is None or header.key_id is None:
            raise ProtectionError(mac, "oscore-no-key", codes.UNAUTHORIZED, "Security context not found")
        try:
            opened = context.open_request(message, header)
        except OscoreError as error:
            code, words = _ANSWERS.get(error.reason, (codes.UNAUTHORIZED, error.reason.value))
            raise ProtectionError(mac, error.reason.value, code, words) from None
        if isinstance(opened, Challenge):
            return opened
        request, request_id = opened
        return Opened(mac, request, lambda response: context.protect_response(response, request_id))
