"""The NIC's CoAP server: own resources here, everything below `/snsr` to the board, failures to codes in one place."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from aiocoap.pipe import Pipe

from meshwire.coap import codes
from meshwire.coap.message import CON, Message
from meshwire.coap.options import (
    ACCEPT,
    BLOCK1,
    BLOCK2,
    CONTENT_FORMAT,
    ETAG,
    MAX_AGE,
    PROXY_SCHEME,
    PROXY_URI,
    SIZE2,
    URI_HOST,
    URI_PATH,
    URI_PORT,
    URI_QUERY,
    encode_uint,
    is_critical,
)
from meshwire.identity import DeviceId
from meshwire.logs import tells_messages
from nic_sim.errors import BoardError
from nic_sim.forward import Forwarder
from nic_sim.observe_manager import SNSR
from nic_sim.resources import Reply, Resource, ResourceError
from nic_sim.wire import for_network, read_request

__all__ = ["NicSite", "answer_own", "cut_block"]

_UNDERSTOOD: Final = frozenset({URI_HOST, URI_PORT, URI_PATH, URI_QUERY, ACCEPT, BLOCK1, BLOCK2})
DEFAULT_SZX: Final = 6
"""Blocks of 1024 octets unless the client wants smaller ones."""

_log = structlog.get_logger(__name__)


class NicSite:
    """What aiocoap asks for each request; not an `aiocoap.resource.Site`, which copies every message.

    Args:
        device: for diagnostics.
        resources: the NIC's own.
        forwarder: to the board.
        counters: of requests and answers.
    """

    def __init__(
        self, device: DeviceId, resources: Mapping[str, Resource], forwarder: Forwarder, counters: Counter[str]
    ) -> None:
        self._device = device
        self._resources = resources
        self._forwarder = forwarder
        self._counters = counters

    async def render_to_pipe(self, pipe: Pipe) -> None:
        """Answer one request."""
        answer: Callable[..., None] = pipe.add_response
        request = read_request(pipe.request)
        self._counters["requests"] += 1
        log = _log.bind(mac=self._device.value, token=pipe.request.token.hex()) if tells_messages() else None
        if log is not None:
            log.debug("request", method=codes.code_text(request.code), resource="/".join(request.path()))
        try:
            if request.option(PROXY_URI) is not None or request.option(PROXY_SCHEME) is not None:
                raise ResourceError(codes.PROXYING_NOT_SUPPORTED, "not a forward proxy; ask for /snsr/…")
            if request.path()[:1] == (SNSR,):
                self._counters["forwarded"] += 1
                await self._forwarder.render(pipe, request)
                if log is not None:
                    log.debug("request answered by the board")
                return
            response = answer_own(request, self._resources)
        except ResourceError as error:
            response = self._failure(error.code, error.diagnostic, None)
        except BoardError as error:
            response = self._failure(error.response_code, error.what, error.max_age_s)
        except Exception:
            _log.exception(
                "request failed", mac=self._device.value, token=pipe.request.token.hex(), request=str(request)
            )
            response = self._failure(codes.INTERNAL_SERVER_ERROR, "internal error", None)
        if log is not None:
            log.debug("request answered", code=codes.code_text(response.code))
        answer(for_network(response, request), is_last=True)

    def _failure(self, code: int, diagnostic: str, max_age_s: int | None) -> Message:
        """The one mapping of this hop's failures; the diagnostic payload names the hop."""
        self._counters[f"answered-{codes.code_text(code)}"] += 1
        options = () if max_age_s is None else ((MAX_AGE, encode_uint(max_age_s)),)
        return Message(CON, code, 0, b"", options, f"nic {self._device}: {diagnostic}".encode())


def answer_own(request: Message, resources: Mapping[str, Resource]) -> Message:
    """The response of one of the NIC's own resources.

    Raises:
        ResourceError: with the code for it.
    """
    for number, _ in request.options:
        if is_critical(number) and number not in _UNDERSTOOD:
            raise ResourceError(codes.BAD_OPTION, f"option {number} is not understood")
    resource = resources.get("/".join(request.path()))
    if resource is None:
        raise ResourceError(codes.NOT_FOUND, "no such resource; GET / lists them")
    handler = resource.methods.get(request.code)
    if handler is None:
        raise ResourceError(codes.METHOD_NOT_ALLOWED, f"{codes.code_text(request.code)} is not possible here")
    accept = request.uint(ACCEPT)
    if request.code == codes.GET and accept is not None and accept != resource.content_format:
        raise ResourceError(codes.NOT_ACCEPTABLE, f"only content format {resource.content_format}")
    return cut_block(_message(handler(request)), request.uint(BLOCK2))


def _message(reply: Reply) -> Message:
    options: list[tuple[int, bytes]] = []
    if reply.content_format is not None:
        options.append((CONTENT_FORMAT, encode_uint(reply.content_format)))
    if reply.max_age_s is not None:
        options.append((MAX_AGE, encode_uint(reply.max_age_s)))
    return Message(CON, reply.code, 0, b"", tuple(options), reply.payload)


def cut_block(response: Message, wanted: int | None) -> Message:
    """The block that the client wants (RFC 7959 section 2.4), if the payload is more than one.

    Args:
        response: with its whole payload.
        wanted: value of the request's Block2 option.

    Raises:
        ResourceError: a block beyond the end, or the reserved size 7.
    """
    number, szx = ((wanted or 0) >> 4, DEFAULT_SZX if wanted is None else wanted & 7)
    if szx == 7:
        raise ResourceError(codes.BAD_REQUEST, "block size exponent 7 is reserved")
    size = 1 << (szx + 4)
    if number == 0 and len(response.payload) <= size:
        return response
    start = number * size
    if start >= len(response.payload):
        raise ResourceError(codes.BAD_OPTION, "no such block")
    more = start + size < len(response.payload)
    etag = hashlib.blake2s(response.payload, digest_size=4).digest()
    block = encode_uint(number << 4 | more << 3 | szx)
    options = ((ETAG, etag), (BLOCK2, block), (SIZE2, encode_uint(len(response.payload))))
    cut = Message(CON, response.code, 0, b"", response.options, response.payload[start : start + size])
    return cut.with_options(options)
