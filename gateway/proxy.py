"""The forward proxy: a client's request to a device of its tenant, and the answer back.

The flow, in order: for what (4.02, 5.05) · who asks (4.01) · may it do that (4.03) · whose is it (4.04, the same
octets at the same time for unknown and foreign devices) · what is forwarded · is the body complete · is the answer here
already · where is the device (5.03) · ask it, or observe it. Authentication and ownership are decided before anything
changes or leaves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog
from structlog.contextvars import bound_contextvars

from gateway.access import Access
from gateway.addresses import Address
from gateway.blocks import Block, BlockTable, BodyKey
from gateway.bodies import Devices
from gateway.cache import Cache, CacheKey, Kept
from gateway.commands.coap_intake import CoapIntake
from gateway.commands.orders import split_arguments
from gateway.deadlines import Deadlines
from gateway.device_failure import DeviceFailure, DeviceUnreachable
from gateway.exchange import GiveUp, Reply, Response
from gateway.forwarding import PROXY_NAME, Forwarded, failure_response, forwarded_request, returned_response
from gateway.observations import Observations
from gateway.registry import Device, Registry
from gateway.target import Target, TargetError, target_of
from meshwire.coap import Message, codes, options
from meshwire.identity import DeviceId, Principal
from meshwire.logs import tells_messages

__all__ = ["Proxy"]

_UNAUTHORIZED: Final = Response(codes.UNAUTHORIZED, b"gateway: open a session first (POST /sessions)")
_FORBIDDEN: Final = Response(codes.FORBIDDEN, b"gateway: your roles do not allow this method")
_NOT_FOUND: Final = Response(codes.NOT_FOUND, b"gateway: no such device")
_SESSION_ENDED: Final = Response(codes.UNAUTHORIZED, b"gateway: the session has ended")
_BAD_BLOCK: Final = Response(codes.BAD_OPTION, b"gateway: a block option can't be read")
_LOST_BODY: Final = Response(codes.REQUEST_ENTITY_INCOMPLETE, b"gateway: this answer is not held any more")
_NO_OBSERVATION: Final = Response(codes.BAD_REQUEST, b"gateway: commands are no observations")
_LOOP: Final = Response(codes.HOP_LIMIT_REACHED, PROXY_NAME)
_READS: Final = frozenset({codes.GET, codes.FETCH})
NOT_FOUND_GRID_S: Final = 0.02
"""A 4.04 leaves at the next but one mark of this grid: how long the look-up took can't be seen."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One request that may go on: decided, and made ready for the device."""

    principal: Principal
    device: Device
    request: Forwarded
    key: CacheKey
    source: Address
    block2: Block | None


class Proxy:
    """See the module's text.

    Args:
        access: who asks, and whose device it is.
        registry: where devices are.
        devices: asks them.
        observations: asks them for what comes later.
        cache: what they have said and may be said again.
        blocks: bodies that clients send or fetch in blocks.
        commands: takes requests that are commands (`?mode=`, see `gateway/commands`).
        deadlines: for what is due later.
        now_s: their clock.
        domains: accepted domains of device host names; empty: any.
        write_roles: who has one of them may change something; empty: everybody.
        timeout_s: how long a device may take to answer.
        max_observers: clients' observations at once; a further one gets the state alone.
        is_own: whether an address is one of the gateway's own sockets.
    """

    def __init__(
        self,
        access: Access,
        registry: Registry,
        devices: Devices,
        observations: Observations,
        cache: Cache,
        blocks: BlockTable,
        commands: CoapIntake,
        deadlines: Deadlines,
        now_s: Callable[[], float],
        *,
        domains: Sequence[str],
        write_roles: Collection[str],
        timeout_s: float,
        max_observers: int,
        is_own: Callable[[Address], bool],
    ) -> None:
        self._access = access
        self._registry = registry
        self._devices = devices
        self._observations = observations
        self._cache = cache
        self._blocks = blocks
        self._commands = commands
        self._deadlines = deadlines
        self._now_s = now_s
        self._domains = tuple(domains)
        self._write_roles = frozenset(write_roles)
        self._timeout_s = timeout_s
        self._max_observers = max_observers
        self.observers = 0
        """Observations of clients."""
        self._is_own = is_own

    def __call__(self, request: Message, source: Address, reply: Reply) -> GiveUp | None:
        """Answer one proxied request."""
        wanted, target = self._decide(request, source)
        if isinstance(wanted, Response):
            self._refuse(wanted, reply)
            return None
        if (value := request.option(options.BLOCK1)) is not None:
            gathered = self._gather(wanted, value, reply)
            if gathered is None:
                return None
            wanted, reply = gathered
        if wanted.block2 is not None and wanted.block2.number and self._fetch(wanted, reply):
            return None
        if target is not None and (arguments := split_arguments(target.query)[0]) is not None:
            return self._command(wanted, arguments, request, reply)
        if wanted.request.code == codes.GET and request.uint(options.OBSERVE) == 0:
            return self._observe(wanted, source, reply, own_token=target is not None and bool(target.access_token))
        if wanted.request.code in _READS:
            return self._read(wanted, reply)
        return self._change(wanted, reply)

    # --- may it?

    def _decide(self, request: Message, source: Address) -> tuple[_Wanted | Response, Target | None]:
        """What may go on, or the answer if nothing may."""
        target, malformed = None, None
        try:
            target = target_of(request, self._domains)
        except TargetError as error:
            malformed = error
        principal = self._access.principal(source, target.access_token if target else None)
        if principal is None:
            return _UNAUTHORIZED, target
        if target is None:
            assert malformed is not None
            return Response(malformed.code, str(malformed).encode()), None
        if not self._may(principal, request.code):
            return _FORBIDDEN, target
        device = self._access.device(principal, target.mac)
        if device is None:
            return _NOT_FOUND, target
        block2 = None
        if (value := request.option(options.BLOCK2)) is not None and (block2 := Block.parse(value)) is None:
            return _BAD_BLOCK, target
        try:
            forwarded = forwarded_request(request, target)
        except TargetError as error:
            return Response(error.code, str(error).encode()), target
        key = CacheKey.of(device.mac, device.tenant, forwarded)
        return _Wanted(principal, device, forwarded, key, source, block2), target

    def _may(self, principal: Principal, code: int) -> bool:
        """Whoever belongs to the tenant may read; to change something takes a role."""
        if code in _READS or not self._write_roles:
            return True
        return not self._write_roles.isdisjoint(principal.roles) or self._access.administers(principal)

    def _refuse(self, response: Response, reply: Reply) -> None:
        if response is not _NOT_FOUND:
            reply(response)
            return
        marks = int(self._now_s() / NOT_FOUND_GRID_S) + 2
        self._deadlines.at(marks * NOT_FOUND_GRID_S, partial(reply, response))

    # --- bodies in blocks

    def _gather(self, wanted: _Wanted, value: bytes, reply: Reply) -> tuple[_Wanted, Reply] | None:
        """The request with its whole body; None: it was answered, the client sends more."""
        block = Block.parse(value)
        if block is None:
            reply(_BAD_BLOCK)
            return None
        # The payload differs from block to block; everything else names the body.
        body_key = BodyKey(wanted.source, wanted.key._replace(payload=b""))
        taken = self._blocks.gather(body_key, block, wanted.request.payload, self._now_s())
        if isinstance(taken, Response):
            reply(taken)
            return None

        def confirm(response: Response) -> None:
            reply(replace(response, options=response.with_option(options.BLOCK1, block.encode())))

        return replace(
            wanted, request=replace(wanted.request, payload=taken), key=wanted.key._replace(payload=taken)
        ), confirm

    def _fetch(self, wanted: _Wanted, reply: Reply) -> bool:
        """A later block of an answer that is held; a change is never made twice for it."""
        assert wanted.block2 is not None
        part = self._blocks.fetch(self._body_key(wanted), wanted.block2, self._now_s())
        if part is None:
            if wanted.request.code in _READS:
                return False
            part = _LOST_BODY
        reply(part)
        return True

    @staticmethod
    def _body_key(wanted: _Wanted) -> BodyKey:
        key = wanted.key
        # Who fetches the rest of a change's answer sends no payload again.
        return BodyKey(wanted.source, key if key.code in _READS else key._replace(payload=b""))

    def _sized(self, wanted: _Wanted, reply: Reply, response: Response) -> None:
        """Give an answer, in blocks when it is larger than what the client takes."""
        payload, wish = response.payload, wanted.block2
        if len(payload) > (1024 if wish is None else wish.size) or (wish is not None and wish.number):
            response = self._blocks.sized(self._body_key(wanted), wish, response, self._now_s())
        reply(response)

    # --- read

    def _read(self, wanted: _Wanted, reply: Reply) -> GiveUp | None:
        now = self._now_s()
        kept = self._cache.get(wanted.key)
        if kept is not None and kept.is_fresh(now):
            self._sized(wanted, reply, kept.aged(now, wanted.request.etags))
            return None
        extra = []
        if kept is not None and kept.etag is not None and kept.etag not in wanted.request.etags:
            extra.append((options.ETAG, kept.etag))
        if wanted.block2 is not None and not wanted.block2.number:
            # Says to the device what size is wanted (RFC 7959 section 2.4).
            extra.append((options.BLOCK2, wanted.block2.encode()))
        changes = self._cache.changes(wanted.device.mac)
        return self._ask(wanted, extra, partial(self._read_answer, wanted, reply, kept, changes), reply)

    def _read_answer(self, wanted: _Wanted, reply: Reply, kept: Kept | None, changes: int, response: Response) -> None:
        response = returned_response(response)
        now = self._now_s()
        if response.code == codes.VALID and kept is not None and response.option(options.ETAG) in (kept.etag, None):
            response = self._cache.confirmed(wanted.key, kept, response, now).aged(now, wanted.request.etags)
        else:
            self._cache.put(wanted.key, response, changes, now)
        self._sized(wanted, reply, response)

    # --- change

    def _change(self, wanted: _Wanted, reply: Reply) -> GiveUp | None:
        mac, principal, request = wanted.device.mac, wanted.principal, wanted.request
        path = "/".join(
            value.decode(errors="replace") for number, value in request.options if number == options.URI_PATH
        )
        by = principal.client or principal.name
        self._registry.audit.commanded(by, mac, wanted.device.tenant, request.code, path=path, via="coap")
        self._cache.changing(mac)

        def answered(response: Response) -> None:
            self._cache.changing(mac)
            self._sized(wanted, reply, returned_response(response))

        return self._ask(wanted, (), answered, reply)

    # --- command

    def _command(self, wanted: _Wanted, arguments: Sequence[bytes], request: Message, reply: Reply) -> GiveUp | None:
        """Leave it to the commands, which may keep it until the device returns."""
        if request.option(options.OBSERVE) is not None:
            reply(_NO_OBSERVATION)
            return None
        sized = partial(self._sized, wanted, reply)
        return self._commands.command(arguments, wanted.request.message(), wanted.device.mac, wanted.principal, sized)

    # --- ask

    def _ask(
        self,
        wanted: _Wanted,
        extra: Sequence[tuple[int, bytes]],
        on_answer: Callable[[Response], None],
        reply: Reply,
    ) -> GiveUp | None:
        sighting = self._registry.sighting(wanted.device.mac)
        if sighting is None:
            reply(failure_response(DeviceUnreachable("it has not told its address yet")))
            return None
        if self._is_own(sighting.address):
            _log.warning(
                "a device's address is the gateway's own",
                tenant=wanted.device.tenant.value,
                mac=wanted.device.mac.value,
            )
            reply(_LOOP)
            return None
        message, device = wanted.request.message(*extra), wanted.device
        fields = {"tenant": device.tenant.value, "mac": device.mac.value} if tells_messages() else {}
        try:
            with bound_contextvars(**fields):
                return self._devices.start(
                    message, sighting.address, on_answer, partial(_failed, reply), self._timeout_s
                )
        except DeviceFailure as failure:
            reply(failure_response(failure))
            return None

    # --- observe

    def _observe(self, wanted: _Wanted, source: Address, reply: Reply, *, own_token: bool) -> GiveUp | None:
        """An observation that lasts as long as the session, as the request's own token, and as the device is ours."""
        sighting = self._registry.sighting(wanted.device.mac)
        if sighting is not None and self._is_own(sighting.address):
            reply(_LOOP)
            return None
        if self.observers >= self._max_observers:
            # RFC 7641 section 4.1: a server that can't add an observer answers as if it had not been asked to.
            return self._read(wanted, reply)
        return _Observing(self, wanted, reply).begin(source, own_token=own_token)

    def subscribe(self, wanted: _Wanted, reply: Reply) -> GiveUp:
        """Take part in the shared observation; answers are sized for the client."""
        return self._observations.subscribe(
            wanted.key, wanted.device.mac, wanted.request, partial(self._sized, wanted, reply)
        )

    def may_still(self, principal: Principal, mac: DeviceId) -> bool:
        """Whether the device is still the party's."""
        return self._access.device(principal, mac) is not None

    def soon(self, call: Callable[[], None]) -> None:
        """Call a function when what is done now is done."""
        self._deadlines.at(self._now_s(), call)

    def when_over(self, source: Address, principal: Principal, call: Callable[[], None], *, own_token: bool) -> GiveUp:
        """Call a function when the right to observe ends; the result takes that back."""
        session = None if own_token else self._access.session(source)
        if session is not None:
            on_end = session.on_end
            on_end.append(call)
            return lambda: on_end.remove(call) if call in on_end else None
        if principal.expires_at is not None:
            # A timer that can be taken back: tokens live for an hour, most observations for less.
            return asyncio.get_running_loop().call_later(principal.expires_at - time.time(), call).cancel
        return lambda: None


class _Observing:
    """One client's observation."""

    def __init__(self, proxy: Proxy, wanted: _Wanted, reply: Reply) -> None:
        self._proxy = proxy
        self._wanted = wanted
        self._reply = reply
        self._is_over = False
        self._leave: GiveUp | None = None
        self._forget: GiveUp | None = None

    def begin(self, source: Address, *, own_token: bool) -> GiveUp:
        principal = self._wanted.principal
        self._proxy.observers += 1
        self._forget = self._proxy.when_over(source, principal, self._right_ended, own_token=own_token)
        leave = self._proxy.subscribe(self._wanted, self._answer)
        if self._is_over:
            leave()
        else:
            self._leave = leave
        return self.end

    def end(self) -> None:
        """The client has lost interest, or everything is said."""
        if not self._is_over:
            self._is_over = True
            self._proxy.observers -= 1
        leave, self._leave = self._leave, None
        forget, self._forget = self._forget, None
        if leave is not None:
            leave()
        if forget is not None:
            forget()

    def _answer(self, response: Response) -> None:
        if self._is_over:
            return
        if not self._proxy.may_still(self._wanted.principal, self._wanted.device.mac):
            response = _NOT_FOUND
        if response.last:
            self.end()
        self._reply(response)

    def _right_ended(self) -> None:
        """Told a little later, so that who ends a session by a request gets that one's answer first."""
        if not self._is_over:
            self.end()
            self._proxy.soon(partial(self._reply, _SESSION_ENDED))


def _failed(reply: Reply, failure: DeviceFailure) -> None:
    reply(failure_response(failure))
