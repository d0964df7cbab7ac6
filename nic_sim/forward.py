"""Forwarding of `/snsr/…` to the board: plain requests, and observations that clients share with the NIC."""

from __future__ import annotations

from collections.abc import Callable

from aiocoap.pipe import Pipe

from meshwire.coap import codes
from meshwire.coap.message import Message
from meshwire.coap.options import OBSERVE, URI_QUERY, is_critical
from nic_sim.block_fetch import get_request
from nic_sim.board import BoardClient
from nic_sim.observation import Observation, State
from nic_sim.observe_manager import ObserveManager, board_path
from nic_sim.relations import EndReason, RelationTable
from nic_sim.wire import for_board, for_network

__all__ = ["Forwarder"]


class Forwarder:
    """The proxy part of the NIC.

    Args:
        client: the way to the board.
        manager: whose registrations clients share.
        relations: with clients.
    """

    def __init__(self, client: BoardClient, manager: ObserveManager, relations: RelationTable) -> None:
        self._client = client
        self._manager = manager
        self._relations = relations

    async def render(self, pipe: Pipe, request: Message) -> None:
        """Answer one request below `/snsr`.

        Raises:
            BoardError: the board did not answer.
        """
        answer: Callable[..., None] = pipe.add_response
        observe = request.uint(OBSERVE)
        if request.code == codes.GET and observe == 0:
            item = self._shared(request)
            if item is not None:
                await self._observe(pipe, request, item)
                return
        forwarded = for_board(request)
        if observe is not None and observe <= 1:
            # The NIC is the board's observer; what a client begins or ends with the NIC is no matter of the board.
            forwarded = forwarded.without(OBSERVE)
        answer(for_network(await self._client.request(forwarded), request), is_last=True)

    def _shared(self, request: Message) -> Observation | None:
        """The Observation to share; None when the board or the NIC can't keep one more: then it is a plain GET."""
        if self._relations.is_full or any(is_critical(n) for n, _ in request.options if n not in _KEY_OPTIONS):
            return None
        path, query = "/".join(request.path()).rstrip("/"), "&".join(request.query())
        if path.count("/") != len(request.path()) - 1 or "/" not in path:
            return None  # a slash inside a segment can't be written as a path; and the board's root never changes
        return self._manager.interest(path, query or None)

    async def _observe(self, pipe: Pipe, request: Message, item: Observation) -> None:
        answer: Callable[..., None] = pipe.add_response
        relation = self._relations.begin(pipe.request.remote, pipe.request.token, pipe.request.mid)
        subscription = self._manager.subscribe(item)
        try:
            first = await self._first_representation(item)
            subscription.clear()  # whatever came meanwhile is in `first`, or older
            number = self._manager.next_number(item)
            # Waiting is as good as active: the board was reset a moment ago, and the manager registers again.
            message, stands = first, item.state is not State.REFUSED and codes.is_success(first.code)
            while stands:
                relation.ending = None
                answer(for_network(message, request, number))
                number, message = await subscription.get()
                stands = codes.is_success(message.code) and message.option(OBSERVE) is not None
            relation.ending = EndReason.BOARD_ENDED
            answer(for_network(message, request), is_last=True)
        finally:
            self._manager.unsubscribe(subscription)
            self._relations.end(relation)

    async def _first_representation(self, item: Observation) -> Message:
        """What a client gets at once: RFC 7641 wants a representation, where a Milli board says 2.03 and nothing."""
        if item.state is not State.ACTIVE:
            response = await self._manager.register(item)
            if response.payload or not codes.is_success(response.code) or response.option(OBSERVE) is None:
                return response
        return await self._client.request(get_request(board_path(item.path), item.query))


_KEY_OPTIONS = frozenset({URI_QUERY, 3, 7, 11, 17})
"""Critical options of a request that may share an Observation: Uri-* and Accept (boards have one format each)."""
