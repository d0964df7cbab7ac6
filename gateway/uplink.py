"""Notifications in the spelling that NICs use, read and packed without an object graph.

Nearly every datagram is a confirmable POST whose options in front of `o=` are the same each time. Those octets are
decoded once, by the general codec, and remembered as a Route; behind them one regular expression reads the rest.
Whatever is spelled otherwise is left to `meshwire.coap` and `meshwire.notification`, which decide what is valid:
`read` gives a result only where they would give the same.
"""

from __future__ import annotations

import re
import struct
from functools import partial
from typing import Final, NamedTuple

from gateway.addresses import Address
from gateway.envelope import VERSION
from meshwire.coap import CON, Message, MessageError, codes, decode, encode, options
from meshwire.coap.observe import SEQUENCE_MODULUS
from meshwire.identity import DeviceId
from meshwire.notification import NotificationError, parse_uplink

__all__ = ["Origin", "Route", "RouteTable", "Uplink", "pack_uplink"]

MAX_ROUTES: Final = 100_000
"""Resources of devices whose routes are remembered at least; twice as many at most."""
_CON_POST: Final = 2
_REST: Final = re.compile(
    rb"[\x33-\x3a\x43-\x4a]o=(0|[1-9][0-9]{0,7})"
    rb"(?:\x0d.|[\x03-\x0c])e=(0|[1-9][0-9]{0,17})"
    rb"\x0d\x03t=([1-9][0-9]{9}\.[0-9]{3})\xff(?=.)",
    re.DOTALL,
)
"""Uri-Query o=, e=, t= and the payload marker; the lengths in the option headers are compared afterwards."""
_ZERO: Final = ord("0")
_SHORT: Final = 12
"""Longest option whose length stands in the nibble (RFC 7252 section 3.1)."""
_FLOAT: Final = struct.Struct(">Bd")
_LONG: Final = struct.Struct(">BI")
_BEGINS: Final = {bytes((0x40 | octets, _CON_POST)): 4 + octets for octets in range(9)}
"""First two octets of a confirmable POST -> where its options begin, behind the token."""
_TIME: Final = re.compile(rb"([1-9][0-9]{9}\.[0-9]{3})\xff(?=.)", re.DOTALL)
"""The value of t= and the payload marker."""


class Route:
    """What the constant options of a datagram say: device, resource and content format."""

    __slots__ = (
        "content_format",
        "delta",
        "device",
        "epochs",
        "generation",
        "key_prefix",
        "memo",
        "path",
        "seen_from",
        "seen_s",
        "shape",
        "spelling",
        "tenant",
        "tenants",
    )

    def __init__(self, device: DeviceId, path: str, content_format: int | None) -> None:
        self.device = device
        self.path = path
        self.content_format = content_format
        self.delta = options.URI_QUERY - (options.URI_PATH if content_format is None else options.CONTENT_FORMAT)
        self.key_prefix = f"{device}/{path}/".encode()
        self.spelling: _Spelling | None = None
        """How the queries of the latest notification were spelled."""
        self.tenants: dict[str, bytes] = {}
        """Tenant -> the envelope's octets up to the path."""
        self.epochs: dict[bytes, bytes] = {}
        """Epoch as it was spelled -> the envelope's octets of epoch and content format; the latest epoch alone."""
        self.generation = -1
        self.tenant: str | None = None
        self.seen_from: Address | None = None
        self.seen_s = 0.0
        """For the receiving side: as of which state of the registry it knows the owner (None: look closer), and where
        and when the latest sign of life was noted."""
        self.memo: dict[tuple[str, bytes], object] = {}
        self.shape: object = None
        """Both for the publishing side: what it makes of this route once, and what its latest notification was like."""


class Uplink(NamedTuple):
    """One notification; numbers and time as they were spelled. A tuple, because there is one for every datagram."""

    route: Route
    observe: bytes
    epoch: bytes
    time: bytes
    payload: bytes
    key_epoch: bytes
    """The key up to the Observe number."""

    @property
    def key(self) -> bytes:
        """The idempotency key, as `Notification.key`."""
        return self[5] + self[1]


_uplink = partial(tuple.__new__, Uplink)
"""One of its values, without the detour over keywords."""


class _Spelling(NamedTuple):
    """The queries of a notification up to the value of t=, as far as they stay as they are from one to the next."""

    opening: bytes
    """Option header of o=, and `o=`; all Observe numbers of one length have the same."""
    digits: int
    """Of the Observe number: 2 to 7, so that each is in its range."""
    middle: bytes
    """The whole option e=, header and name of the option t=."""
    epoch: bytes
    key_epoch: bytes


class Origin(NamedTuple):
    """A notification with its owner, as it goes beside its record through the outbox."""

    uplink: Uplink
    tenant: str


class RouteTable:
    """The routes seen of late; how long the constant part is, is remembered for each source port.

    There are two generations: when the young one is full it becomes the old one, and what is used again moves over.
    So what was in use longest ago is forgotten, and a route in use costs one look.
    """

    def __init__(self) -> None:
        self._routes: dict[bytes, Route] = {}
        self._old_routes: dict[bytes, Route] = {}
        self._lengths: dict[int, int] = {}

    def read(self, octets: bytes, port: int) -> Uplink | None:
        """Read a datagram; None when it is not of the usual spelling.

        Args:
            octets: the datagram.
            port: where it came from; only a hint.
        """
        begin = _BEGINS.get(octets[:2])
        if begin is None:
            return None
        end = begin + self._lengths.get(port, 0)
        route = self._routes.get(octets[begin:end])
        if route is None:
            end = _first_query(octets, begin)
            constant = octets[begin:end]
            route = self._routes.get(constant) or self._recall(constant) or self._learn(constant)
            if route is None:
                return None
            self._lengths[port] = end - begin
        elif (spelling := route.spelling) is not None:
            opening, digits, middle, epoch, key_epoch = spelling
            begin = end + 3
            behind = begin + digits
            observe = octets[begin:behind]
            if octets.startswith(opening, end) and octets.startswith(middle, behind) and observe.isdigit():
                found = _TIME.match(octets, behind + len(middle))
                if found is not None and observe[0] != _ZERO:
                    return _uplink((route, observe, epoch, found[1], octets[found.end() :], key_epoch))
        return self._read_queries(route, octets, end)

    def _read_queries(self, route: Route, octets: bytes, end: int) -> Uplink | None:
        """Read what stands behind the constant options, and remember how it is spelled."""
        found = _REST.match(octets, end)
        if found is None:
            return None
        observe, epoch, time = found.groups()
        header, length = found.end(1), len(epoch) + 2
        fits = octets[header] == length if length <= _SHORT else octets[header : header + 2] == bytes((13, length - 13))
        if octets[end] != route.delta << 4 | len(observe) + 2 or not fits or found.start(2) - header > 4:
            return None
        if len(observe) == 8 and int(observe) >= SEQUENCE_MODULUS:
            return None
        key_epoch = b"%b%b/" % (route.key_prefix, epoch)
        if 1 < len(observe) < 8:
            middle = octets[header : found.start(3)]
            route.spelling = _Spelling(octets[end : end + 3], len(observe), middle, epoch, key_epoch)
        return Uplink(route, observe, epoch, time, octets[found.end() :], key_epoch)

    def _learn(self, constant: bytes) -> Route | None:
        """Decode the constant options by the general codec."""
        try:
            message = decode(b"\x40\x02\0\0" + constant)
            numbers = {number for number, _ in message.options}
            if message.payload or not numbers <= {options.URI_PATH, options.CONTENT_FORMAT}:
                return None
            content_format = message.uint(options.CONTENT_FORMAT)
            notification = parse_uplink(message.path(), ("o=0", "e=0", "t=0"), content_format, b"")
        except (MessageError, NotificationError):
            return None
        if encode(Message(CON, codes.POST, 0, b"", message.options)) != b"\x40\x02\0\0" + constant:
            return None
        route = Route(notification.device, notification.path, content_format)
        self._remember(constant, route)
        return route

    def _recall(self, constant: bytes) -> Route | None:
        route = self._old_routes.get(constant)
        if route is not None:
            self._remember(constant, route)
        return route

    def _remember(self, constant: bytes, route: Route) -> None:
        if len(self._routes) >= MAX_ROUTES:
            self._old_routes, self._routes = self._routes, {}
        self._routes[constant] = route


def _first_query(octets: bytes, position: int) -> int:
    """Where the first Uri-Query option begins; the end when there is none."""
    number, end = 0, len(octets)
    while position < end and octets[position] != 0xFF:
        start = position
        delta, length = octets[position] >> 4, octets[position] & 15
        position += 1
        if delta == 13 and position < end:
            delta, position = 13 + octets[position], position + 1
        elif delta > _SHORT:
            return end
        if length == 13 and position < end:
            length, position = 13 + octets[position], position + 1
        elif length > _SHORT:
            return end
        number += delta
        if number >= options.URI_QUERY:
            return start
        position += length
    return end


def pack_uplink(uplink: Uplink, tenant: str) -> bytes:
    """The envelope for the outbox: the same octets as `envelope.pack` gives."""
    route = uplink.route
    head = route.tenants.get(tenant)
    if head is None:
        texts = b"".join(_head(3, text.encode()) for text in (tenant, route.device.value, route.path))
        head = route.tenants[tenant] = bytes((0x89, VERSION)) + texts
    epoch = route.epochs.get(uplink.epoch)
    if epoch is None:
        content_format = b"\xf6" if route.content_format is None else _integer(0, route.content_format)
        epoch = _integer(0, int(uplink.epoch)) + content_format
        route.epochs = {uplink.epoch: epoch}
    number, payload = int(uplink.observe), uplink.payload
    length = len(payload)
    return b"".join(
        (
            head,
            _LONG.pack(0x1A, number) if number > 0xFFFF else _integer(0, number),
            epoch,
            _FLOAT.pack(0xFB, float(uplink.time)),
            _OCTETS_HEADS[length] if length < 0x100 else _integer(2, length),
            payload,
        )
    )


def _head(major: int, octets: bytes) -> bytes:
    return _integer(major, len(octets)) + octets


def _integer(major: int, value: int) -> bytes:
    """A CBOR head (RFC 8949 section 3), in its shortest form."""
    first = major << 5
    if value < 24:
        return bytes((first | value,))
    if value < 0x100:
        return bytes((first | 24, value))
    if value < 0x1_0000:
        return b"%c%b" % (first | 25, value.to_bytes(2, "big"))
    if value < 0x1_0000_0000:
        return b"%c%b" % (first | 26, value.to_bytes(4, "big"))
    return b"%c%b" % (first | 27, value.to_bytes(8, "big"))


_OCTETS_HEADS: Final = tuple(_integer(2, length) for length in range(0x100))
"""The heads of short byte strings: of nearly every payload."""
