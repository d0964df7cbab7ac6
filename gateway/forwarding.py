"""Which options pass through the proxy, and how failures towards a device are told to a client. Pure.

RFC 7252 section 5.7: what a proxy understands it handles, what is safe to forward passes unchanged, an unsafe option
that it does not know is refused (4.02 for a request, 5.02 for a response) when critical, and dropped when elective.
"""

from __future__ import annotations

from typing import Final

from gateway.coap_context import DeviceFailure, DeviceRefused, DeviceSilent
from gateway.exchange import Response
from gateway.target import Target, TargetError
from meshwire.coap import CON, Message, codes, options

__all__ = ["failure_response", "forwarded_request", "returned_response"]

_HANDLED: Final = frozenset(
    {
        options.URI_HOST,
        options.URI_PORT,
        options.URI_PATH,
        options.URI_QUERY,
        options.PROXY_URI,
        options.PROXY_SCHEME,
        options.HOP_LIMIT,
        options.NO_RESPONSE,
        options.ENDPOINT_ID,
    }
)
"""Of requests; what is needed of them is written anew."""
_UNSAFE_AND_KNOWN: Final = frozenset({options.OBSERVE, options.MAX_AGE, options.BLOCK1, options.BLOCK2})
RETRY_AFTER_S: Final = 10


def forwarded_request(request: Message, target: Target) -> Message:
    """The request for the device.

    Raises:
        TargetError: 4.02 for an option that must not be forwarded, 5.08 when the hops are used up.
    """
    pairs = [(options.URI_PATH, value) for value in target.path] + [
        (options.URI_QUERY, value) for value in target.query
    ]
    pairs += _hop_limit(request)
    for number, value in request.options:
        if number in _HANDLED:
            continue
        if options.is_unsafe_to_forward(number) and number not in _UNSAFE_AND_KNOWN:
            if options.is_critical(number):
                raise TargetError(codes.BAD_OPTION, f"gateway: option {number} can't be forwarded")
            continue
        if number == options.OBSERVE and options.decode_uint(value) != 0:
            # The registration that it ends is the gateway's own and is ended by the gateway.
            continue
        pairs.append((number, value))
    return Message(CON, request.code, 0, b"", tuple(sorted(pairs, key=lambda pair: pair[0])), request.payload)


def _hop_limit(request: Message) -> list[tuple[int, bytes]]:
    """RFC 8768 section 3: each proxy takes one off, and the last one refuses."""
    hops = request.uint(options.HOP_LIMIT)
    if hops is None:
        return []
    if hops <= 1:
        raise TargetError(codes.HOP_LIMIT_REACHED, "gateway")
    return [(options.HOP_LIMIT, options.encode_uint(min(hops, 255) - 1))]


def returned_response(response: Response) -> Response:
    """The device's answer for the client."""
    kept = []
    for number, value in response.options:
        if options.is_unsafe_to_forward(number) and number not in _UNSAFE_AND_KNOWN and number != options.LOCATION_PATH:
            if options.is_critical(number):
                return Response(codes.BAD_GATEWAY, f"gateway: answer with option {number} can't be forwarded".encode())
            continue
        kept.append((number, value))
    return Response(response.code, response.payload, tuple(kept), response.last)


def failure_response(failure: DeviceFailure) -> Response:
    """What a client is told when a device gives no answer: which hop failed, and when to try again."""
    match failure:
        case DeviceSilent():
            return Response(codes.GATEWAY_TIMEOUT, f"gateway: no answer from the device ({failure})".encode())
        case DeviceRefused():
            return Response(codes.BAD_GATEWAY, f"gateway: the device refused the message ({failure})".encode())
        case _:
            later = ((options.MAX_AGE, options.encode_uint(RETRY_AFTER_S)),)
            return Response(codes.SERVICE_UNAVAILABLE, f"gateway: device is not reachable ({failure})".encode(), later)
