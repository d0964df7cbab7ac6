"""The proxy's cache of representations (RFC 7252 sections 5.6 and 5.7.1). No clock, no socket.

Kept is what a device says may be kept: a 2.05 with a Max-Age of its own, or with an ETag by which it can be asked
again. A 2.05 that says neither would count as fresh for 60 s; we ask the board again, as everybody expects of a sensor.

The key is the device, its tenant, the method, every option that is neither NoCacheKey nor interpreted here (ETag,
Hop-Limit, block and observe options), and the payload. Whatever is sent to change something at a device drops all that
is kept of it, since one resource of a board often shows in several; answers under way at that time are not kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from gateway.exchange import Response
from gateway.forwarding import Forwarded
from meshwire.coap import codes, options
from meshwire.identity import DeviceId, TenantId

__all__ = ["Cache", "CacheKey", "Kept"]

DEFAULT_MAX_AGE_S: Final = 60
ENTRY_OCTETS: Final = 600
"""What an entry takes beside its payload and options, roughly."""
_NO_CACHE_KEY_MASK: Final = 0x1E
_NO_CACHE_KEY: Final = 0x1C


class CacheKey(NamedTuple):
    """What a representation is kept under; a tuple of plain values, because there is one for every read."""

    mac: str
    tenant: str
    code: int
    options: tuple[tuple[int, bytes], ...]
    payload: bytes

    @classmethod
    def of(cls, mac: DeviceId, tenant: TenantId, request: Forwarded) -> CacheKey:
        """The key of a request for a device of a tenant."""
        pairs = request.options
        if any(number & _NO_CACHE_KEY_MASK == _NO_CACHE_KEY for number, _ in pairs):
            pairs = tuple(pair for pair in pairs if pair[0] & _NO_CACHE_KEY_MASK != _NO_CACHE_KEY)
        return cls(mac.value, tenant.value, request.code, pairs, request.payload)


@dataclass(slots=True)
class Kept:
    """One representation."""

    response: Response
    stored_s: float
    max_age_s: int

    @property
    def etag(self) -> bytes | None:
        """By which the device can be asked whether it is still good."""
        return self.response.option(options.ETAG)

    def is_fresh(self, now_s: float) -> bool:
        """Whether it may be given without asking."""
        return now_s - self.stored_s < self.max_age_s

    def aged(self, now_s: float, etags: Iterable[bytes] = ()) -> Response:
        """The answer to a client: Max-Age is what is left of it; 2.03 for who has it already."""
        age_s = int(now_s - self.stored_s)
        left = options.encode_uint(max(0, self.max_age_s - age_s))
        etag = self.etag
        if etag is not None and etag in etags:
            return Response(codes.VALID, b"", ((options.ETAG, etag), (options.MAX_AGE, left)))
        return replace(self.response, options=self.response.with_option(options.MAX_AGE, left))


class Cache:
    """See the module's text.

    Args:
        max_octets: of everything kept; what was not used for longest goes first. 0: nothing is kept.
    """

    def __init__(self, max_octets: int) -> None:
        self._max_octets = max_octets
        self._octets = 0
        self._kept: OrderedDict[CacheKey, Kept] = OrderedDict()
        self._by_device: dict[str, set[CacheKey]] = {}
        self._changes: dict[str, int] = {}
        """How often each device was told to change something."""

    @property
    def octets(self) -> int:
        """What is kept takes so much."""
        return self._octets

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: CacheKey) -> Kept | None:
        """What is kept under a key, fresh or not."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def changes(self, mac: DeviceId) -> int:
        """A number that tells whether something was changed between two moments."""
        return self._changes.get(mac.value, 0)

    def changing(self, mac: DeviceId) -> None:
        """A request that may change something goes to a device, or has come back."""
        if self._max_octets:
            self._changes[mac.value] = self._changes.get(mac.value, 0) + 1
            for key in self._by_device.pop(mac.value, ()):
                self._octets -= _octets(key, self._kept.pop(key))

    def put(self, key: CacheKey, response: Response, changes: int, now_s: float) -> None:
        """Keep an answer, if it may be kept.

        Args:
            key: of its request.
            response: as it goes to the client.
            changes: `changes` of the device when the request was sent.
            now_s: when it came.
        """
        if response.code != codes.CONTENT or not self._max_octets:
            return
        max_age = response.uint(options.MAX_AGE)
        if not max_age and response.option(options.ETAG) is None:
            self._drop(key)
            return
        if changes != self._changes.get(key.mac, 0):
            return
        self._drop(key)
        kept = Kept(
            replace(response, options=response.with_option(options.OBSERVE, None), last=True), now_s, max_age or 0
        )
        self._kept[key] = kept
        self._by_device.setdefault(key.mac, set()).add(key)
        self._octets += _octets(key, kept)
        while self._octets > self._max_octets:
            self._drop(next(iter(self._kept)))

    def confirmed(self, key: CacheKey, kept: Kept, answer: Response, now_s: float) -> Kept:
        """The device says (2.03) that what is kept is still good, and for how long; other options are renewed too."""
        pairs = dict(kept.response.options) | dict(answer.options)
        response = replace(kept.response, options=tuple(sorted(pairs.items())))
        max_age = answer.uint(options.MAX_AGE)
        renewed = Kept(response, now_s, DEFAULT_MAX_AGE_S if max_age is None else max_age)
        if self._kept.get(key) is kept:
            self._octets += _octets(key, renewed) - _octets(key, kept)
            self._kept[key] = renewed
        return renewed

    def _drop(self, key: CacheKey) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self._octets -= _octets(key, kept)
        keys = self._by_device[key.mac]
        keys.discard(key)
        if not keys:
            del self._by_device[key.mac]


def _octets(key: CacheKey, kept: Kept) -> int:
    pairs = sum(len(value) for _, value in key.options) + sum(len(value) for _, value in kept.response.options)
    return ENTRY_OCTETS + pairs + len(key.payload) + len(kept.response.payload)
