"""Which options pass through the proxy, and how failures towards a device are told to a client. Pure.

RFC 7252 section 5.7: what a proxy understands it handles, what is safe to forward passes unchanged, an unsafe option
that it does not know is refused (4.02 for a request, 5.02 for a response) when critical, and dropped when elective.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gateway.device_failure import DeviceBusy, DeviceFailure, DeviceRefused, DeviceSilent
from gateway.exchange import Response
from gateway.target import Target, TargetError
from meshwire.coap import CON, Message, codes, options

__all__ = ["PROXY_NAME", "Forwarded", "failure_response", "forwarded_request", "returned_response"]

PROXY_NAME: Final = b"gateway"
"""How this hop calls itself in diagnostic payloads."""
_HANDLED: Final = frozenset(
    {
        options.URI_HOST,
        options.URI_PORT,
        options.URI_PATH,
        options.URI_QUERY,
        options.PROXY_URI,
        options.PROXY_SCHEME,
        options.NO_RESPONSE,
        options.ENDPOINT_ID,
        # The gateway is an end of all these: it observes, keeps and moves whole bodies by itself.
        options.OBSERVE,
        options.BLOCK1,
        options.BLOCK2,
        options.SIZE1,
    }
)
"""Of requests; what is needed of them is written anew."""
_HOP_BY_HOP: Final = frozenset({options.ETAG, options.HOP_LIMIT})
"""What the cache interprets, or each hop changes: no part of what a representation is kept under."""
_UNSAFE_AND_KNOWN: Final = frozenset({options.OBSERVE, options.MAX_AGE, options.BLOCK1, options.BLOCK2})
_MOST_HOPS: Final = 255
RETRY_AFTER_S: Final = 10


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A request for a device, without what belongs to the hop."""

    code: int
    options: tuple[tuple[int, bytes], ...]
    """Together with code and payload these name the representation (RFC 7252 section 5.6, "cache key")."""
    payload: bytes
    hop: tuple[tuple[int, bytes], ...] = ()
    """Further options, not part of the key: ETag, Hop-Limit."""

    @property
    def etags(self) -> tuple[bytes, ...]:
        """Representations that the client has."""
        return tuple(value for number, value in self.hop if number == options.ETAG)

    def message(self, *extra: tuple[int, bytes]) -> Message:
        """The request as it goes to the device."""
        pairs = self.options
        if self.hop or extra:
            pairs = tuple(sorted((*pairs, *self.hop, *extra), key=_number))
        return Message(CON, self.code, 0, b"", pairs, self.payload)


def _number(pair: tuple[int, bytes]) -> int:
    return pair[0]


def forwarded_request(request: Message, target: Target) -> Forwarded:
    """The request for the device.

    Raises:
        TargetError: 4.02 for an option that must not be forwarded, 5.08 when the hops are used up, 4.00 for a
            Hop-Limit that is none.
    """
    pairs = list(target.pairs)
    hop: list[tuple[int, bytes]] = []
    for number, value in request.options:
        if number in _HANDLED:
            continue
        if number in _HOP_BY_HOP:
            hop.append(_one_hop_less(value) if number == options.HOP_LIMIT else (number, value))
        elif not number & 2:
            pairs.append((number, value))
        elif number & 1:
            raise TargetError(codes.BAD_OPTION, f"gateway: option {number} can't be forwarded")
    pairs.sort(key=_number)
    return Forwarded(request.code, tuple(pairs), request.payload, tuple(hop))


def _one_hop_less(value: bytes) -> tuple[int, bytes]:
    """RFC 8768 section 3: each proxy takes one off, and the last one refuses; 0 and what is above 255 is malformed."""
    hops = options.decode_uint(value)
    if not 0 < hops <= _MOST_HOPS:
        raise TargetError(codes.BAD_REQUEST, "gateway: Hop-Limit is not 1 to 255")
    if hops == 1:
        raise TargetError(codes.HOP_LIMIT_REACHED, PROXY_NAME.decode())
    return options.HOP_LIMIT, options.encode_uint(hops - 1)


def returned_response(response: Response) -> Response:
    """The device's answer for the client."""
    for number, _ in response.options:
        if number & 2 and number not in _UNSAFE_AND_KNOWN:
            return _without_unsafe(response)
    if response.code == codes.HOP_LIMIT_REACHED:
        # RFC 8768 section 4: every proxy on the way back puts its name in front.
        return replace(response, payload=b" ".join((PROXY_NAME, response.payload)).rstrip())
    return response


def _without_unsafe(response: Response) -> Response:
    kept = []
    for number, value in response.options:
        if options.is_unsafe_to_forward(number) and number not in _UNSAFE_AND_KNOWN:
            if options.is_critical(number):
                return Response(codes.BAD_GATEWAY, f"gateway: answer with option {number} can't be forwarded".encode())
            continue
        kept.append((number, value))
    return replace(response, options=tuple(kept))


def failure_response(failure: DeviceFailure) -> Response:
    """What a client is told when a device gives no answer: which hop failed, and when to try again."""
    match failure:
        case DeviceSilent():
            return Response(codes.GATEWAY_TIMEOUT, f"gateway: no answer from the device ({failure})".encode())
        case DeviceRefused():
            return Response(codes.BAD_GATEWAY, f"gateway: the device refused the message ({failure})".encode())
        case DeviceBusy():
            return _later(f"gateway: device is busy ({failure})")
        case _:
            return _later(f"gateway: device is not reachable ({failure})")


def _later(diagnostic: str) -> Response:
    later = ((options.MAX_AGE, options.encode_uint(RETRY_AFTER_S)),)
    return Response(codes.SERVICE_UNAVAILABLE, diagnostic.encode(), later)
