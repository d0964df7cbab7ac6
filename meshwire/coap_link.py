"""CoAP over a Link, as a message interface of aiocoap: for a client, for a site, or for both at once.

Decides: how the two ends are named, which outstanding requests a link failure ends, that CoAP never repeats itself on
a link (HDLC decides about repetition; a board executes a repeated request again), and what is no message at all: the
strict codec of `meshwire.coap` looks at each SDU before aiocoap does. Leaves to aiocoap: tokens, message types,
block-wise transfer, observation. Caller owes: a running `Link`, and `await context.shutdown()`.

`attach_message_interface` is the only place of the product that calls aiocoap's private
`Context._append_tokenmanaged_messagemanaged_transport`; aiocoap is pinned to the version it was tried with.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog
from aiocoap import error, interfaces
from aiocoap.interfaces import MessageInterface, MessageManager
from aiocoap.message import Message
from aiocoap.numbers.codes import EMPTY
from aiocoap.numbers.types import ACK, CON
from aiocoap.protocol import Context
from aiocoap.resource import Site

from meshwire.coap import codes
from meshwire.coap.message import ACK as ACK_TYPE
from meshwire.coap.message import CON as CON_TYPE
from meshwire.coap.message import NON as NON_TYPE
from meshwire.coap.message import RST as RST_TYPE
from meshwire.coap.message import Message as PlainMessage
from meshwire.coap.message import MessageError, decode, encode
from meshwire.coap.options import BLOCK1, BLOCK2
from meshwire.hdlc.errors import HdlcError
from meshwire.hdlc.events import DataReceived, DownReason, Event, LinkDown
from meshwire.link import Link

__all__ = [
    "LinkEndpoint",
    "LinkFailure",
    "LinkMessageInterface",
    "Outcome",
    "attach_message_interface",
    "create_context",
]

_REMEMBERED_HANDLES: Final = 4096
"""Handles of SDUs that a LinkDown may still name; more than any station queues."""

_RESERVED_BLOCK_SIZE: Final = 7
"""SZX that a request must not carry (RFC 7959 section 2.2); aiocoap gives it its meaning over TCP (RFC 8323)."""

_log = structlog.get_logger(__name__)

# aiocoap is not annotated; these three are the calls into it, named once.
_new_context: Callable[..., Context] = Context
_new_message: Callable[..., Any] = Message
_decode_message: Callable[..., Any] = Message.decode


class Outcome(Enum):
    """What became of a request that got no answer."""

    NOT_EXECUTED = "not executed"
    UNKNOWN = "outcome unknown"


class LinkFailure(error.NetworkError):
    """The link could not carry a request to its answer.

    Args:
        link: name of the link.
        outcome: whether the peer may have executed the request.
        reason: why the link went down; None when it did not, and would not take the request.
        detail: what to say about it; default the reason.
    """

    def __init__(self, link: str, outcome: Outcome, reason: DownReason | None, detail: str = "") -> None:
        super().__init__(link, outcome, reason, detail)
        self.link = link
        self.outcome = outcome
        self.reason = reason
        self.detail = detail or (reason.value.replace("_", " ") if reason is not None else "")

    def __str__(self) -> str:
        return f"link {self.link}: {self.detail}; {self.outcome.value}"


class LinkEndpoint(interfaces.EndpointAddress):
    """The peer at the other end of a link. Two of the same name are the same peer.

    Both ends have a name because a Site asks for the URI of each request, and aiocoap answers 5.00 where there is none.

    Args:
        name: host part of the peer's URIs.
        local_name: host part of our own URIs.
        block_size_exponent: largest block to offer, as the exponent SZX (RFC 7959 section 2.2): 2 ** (4 + SZX) octets.
    """

    scheme = "coap"
    is_multicast = False
    is_multicast_locally = False
    maximum_block_size_exp: int = 6

    def __init__(self, name: str, local_name: str = "localhost", block_size_exponent: int = 6) -> None:
        self._name = name
        self._local_name = local_name
        self.maximum_block_size_exp = block_size_exponent

    @property
    def hostinfo(self) -> str:
        return self._name

    @property
    def hostinfo_local(self) -> str:
        return self._local_name

    @property
    def uri_base(self) -> str:
        return f"coap://{self._name}"

    @property
    def uri_base_local(self) -> str:
        return f"coap://{self._local_name}"

    @property
    def blockwise_key(self) -> tuple[str, str]:
        return ("link", self._name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LinkEndpoint) and other._name == self._name

    def __hash__(self) -> int:
        return hash(self.blockwise_key)

    def __repr__(self) -> str:
        return f"LinkEndpoint({self._name!r})"


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a link handle stands for in CoAP."""

    token: bytes
    mid: int
    is_request: bool
    is_confirmable: bool


class LinkMessageInterface(MessageInterface):
    """Moves CoAP messages over one Link for aiocoap.

    Args:
        manager: aiocoap's message manager of the context.
        link: the link; its events are listened to until `shutdown`.
        remote: the peer.
        standing: the link stands between exchanges, so that its loss ends everything outstanding, observations too.
            False where each exchange is a session of its own: then only the requests that the link names end.
    """

    def __init__(self, manager: MessageManager, link: Link, remote: LinkEndpoint, *, standing: bool) -> None:
        self.unreadable_messages = 0
        self._manager: Any = manager
        self._link = link
        self._remote = remote
        self._standing = standing
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._handed_over: WeakValueDictionary[int, Message] = WeakValueDictionary()
        self._unsubscribe = link.subscribe(self._on_event)

    # ---- called by aiocoap

    def send(self, message: Any) -> None:
        """Hand a message to the link, once: what aiocoap repeats after a time-out is dropped here."""
        if message.mtype is CON:
            if self._handed_over.get(message.mid) is message:
                return
            self._handed_over[message.mid] = message
        sent = _Sent(message.token, message.mid, message.code.is_request(), message.mtype is CON)
        try:
            handle = self._link.send(message.encode())
        except HdlcError as refused:
            # Not now: aiocoap is in the middle of noting the message down.
            failure = LinkFailure(self._link.name, Outcome.NOT_EXECUTED, None, str(refused))
            asyncio.get_running_loop().call_soon(self._end, sent, failure)
            return
        self._sent[handle] = sent
        if len(self._sent) > _REMEMBERED_HANDLES:
            self._sent.popitem(last=False)

    async def determine_remote(self, message: Any) -> LinkEndpoint | None:
        """Our peer, if the request is addressed to it by name; the name is then not sent along."""
        if message.requested_scheme not in ("coap", None):
            return None
        if (message.unresolved_remote or message.opt.uri_host) != self._remote.hostinfo:
            return None
        message.opt.uri_host = None
        return self._remote

    async def recognize_remote(self, remote: object) -> bool:
        """Is this our peer? (Not in aiocoap's interface description, but its message manager asks.)"""
        return remote == self._remote

    async def shutdown(self) -> None:
        self._unsubscribe()
        self._manager = None

    # ---- called by the link

    def _on_event(self, event: Event) -> None:
        if self._manager is None:
            return
        match event:
            case DataReceived(sdu=sdu):
                self._receive(sdu)
            case LinkDown():
                self._fail(event)

    def _receive(self, sdu: bytes) -> None:
        try:
            plain = decode(sdu)
            if _asks_for_reserved_block(plain):
                self._refuse(plain)
                return
            message = _decode_message(sdu, remote=self._remote)
        except MessageError as failure:
            self._reject(len(sdu), failure.reason, failure.mtype, failure.mid)
        except (error.UnparsableMessage, ValueError) as failure:
            self._reject(len(sdu), str(failure), plain.mtype, plain.mid)
        else:
            self._manager.dispatch_message(message)

    def _reject(self, octets: int, reason: str, mtype: int | None, mid: int | None) -> None:
        """What can't be read is not answered, but for a Reset to a confirmable one (RFC 7252 section 4.2)."""
        self.unreadable_messages += 1
        _log.warning("unreadable CoAP message", link=self._link.name, octets=octets, error=reason)
        if mtype == CON_TYPE and mid is not None:
            self._send_plain(PlainMessage(RST_TYPE, codes.EMPTY, mid))

    def _refuse(self, request: PlainMessage) -> None:
        """4.00 for the reserved block size (RFC 7959 section 2.2)."""
        mtype = ACK_TYPE if request.mtype == CON_TYPE else NON_TYPE
        self._send_plain(
            PlainMessage(mtype, codes.BAD_REQUEST, request.mid, request.token, payload=b"block size 7 is reserved")
        )

    def _send_plain(self, message: PlainMessage) -> None:
        try:
            self._link.send(encode(message))
        except HdlcError as refused:
            _log.debug("not answered", link=self._link.name, error=str(refused))

    def _fail(self, down: LinkDown) -> None:
        """End what the link says is lost; on a standing link also what had been delivered and not yet answered."""
        for handles, outcome in ((down.unsent, Outcome.NOT_EXECUTED), (down.uncertain, Outcome.UNKNOWN)):
            for handle in handles:
                if (sent := self._sent.pop(handle, None)) is not None:
                    self._end(sent, LinkFailure(self._link.name, outcome, down.reason))
        if self._standing:
            self._manager.dispatch_error(LinkFailure(self._link.name, Outcome.UNKNOWN, down.reason), self._remote)

    def _end(self, sent: _Sent, failure: LinkFailure) -> None:
        if self._manager is None:
            return
        pending = self._manager.token_manager.outgoing_requests.get((sent.token, self._remote))
        if sent.is_request and pending is not None:
            pending.add_exception(failure)
        if sent.is_confirmable:
            # NSTART = 1: aiocoap waits for the ACK of one confirmable message before it sends the next. None will come.
            acknowledgement: Any = _new_message(_mtype=ACK, _mid=sent.mid, code=EMPTY)
            acknowledgement.remote = self._remote
            self._manager.dispatch_message(acknowledgement)


def _asks_for_reserved_block(message: PlainMessage) -> bool:
    return codes.is_request(message.code) and any(
        message.uint(number) is not None and (message.uint(number) or 0) & 7 == _RESERVED_BLOCK_SIZE
        for number in (BLOCK1, BLOCK2)
    )


async def attach_message_interface(
    context: Context, factory: Callable[[MessageManager], Awaitable[MessageInterface]]
) -> None:
    """Hang a message interface of our own into an aiocoap context.

    Args:
        context: made by `aiocoap.Context(...)`.
        factory: makes the interface, given the message manager it has to serve.
    """
    private: Any = context
    await private._append_tokenmanaged_messagemanaged_transport(factory)


async def create_context(
    link: Link,
    site: Site | None = None,
    *,
    standing: bool = True,
    local_name: str = "localhost",
    block_size_exponent: int = 6,
) -> Context:
    """A CoAP context whose one peer is at the other end of `link`; requests go to `coap://<link.name>/…`.

    Args:
        link: the link; may be started before or after.
        site: answers what the peer asks; None answers 4.04 to everything.
        standing: whether the link stands between exchanges (see `LinkMessageInterface`).
        local_name: our own host name in the URIs of requests that come in.
        block_size_exponent: largest block to offer (6: 1024 octets; 3: 128 octets, for boards that take 239 in all).
    """
    remote = LinkEndpoint(link.name, local_name, block_size_exponent)
    context = _new_context(loop=asyncio.get_running_loop(), serversite=site, loggername=f"coap.link.{link.name}")

    async def make(manager: MessageManager) -> MessageInterface:
        return LinkMessageInterface(manager, link, remote, standing=standing)

    await attach_message_interface(context, make)
    return context
