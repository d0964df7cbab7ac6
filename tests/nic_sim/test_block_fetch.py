"""Notifications that are larger than one block."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.coap.message import CON, Message
from meshwire.coap.options import BLOCK2, CONTENT_FORMAT, ETAG, OBSERVE, encode_uint
from nic_sim.block_fetch import fetch_rest, get_request, has_more
from nic_sim.errors import UnreadableAnswer

BODY = bytes(range(256)) * 2
SZX = 2


def block(number: int, etag: bytes = b"e", body: bytes = BODY, observe: bool = False) -> Message:
    size = 1 << (SZX + 4)
    more = (number + 1) * size < len(body)
    options = [(ETAG, etag), (CONTENT_FORMAT, b"\x3c"), (BLOCK2, encode_uint(number << 4 | more << 3 | SZX))]
    options += [(OBSERVE, b"\5")] if observe else []
    part = body[number * size : (number + 1) * size]
    return Message(CON, codes.CONTENT, 0, b"", tuple(sorted(options)), part)


class Board:
    def __init__(self, **changes: Any) -> None:
        self.asked: list[int] = []
        self.changes = changes

    async def request(self, message: Message) -> Message:
        number = (message.uint(BLOCK2) or 0) >> 4
        assert message.option(OBSERVE) is None
        self.asked.append(number)
        return block(number, **self.changes)


def fetch(board: Board) -> Message:
    return asyncio.run(fetch_rest(block(0, observe=True), ("a", "b"), "sens", board.request))


def test_rest_is_fetched_in_order() -> None:
    board = Board()
    whole = fetch(board)
    assert whole.payload == BODY
    assert board.asked == list(range(1, 8))
    assert whole.option(BLOCK2) is None and not has_more(whole)
    assert whole.uint(CONTENT_FORMAT) == 60


def test_representation_that_changed_meanwhile_is_given_up() -> None:
    with pytest.raises(UnreadableAnswer):
        fetch(Board(etag=b"f"))


def test_endless_body_is_given_up() -> None:
    with pytest.raises(UnreadableAnswer, match="8192"):
        fetch(Board(body=bytes(1 << 20)))


def test_single_block_has_no_more() -> None:
    assert not has_more(Message(CON, codes.CONTENT, 0))
    assert not has_more(block(7))
    assert has_more(block(0))


def test_get_request_splits_the_query() -> None:
    message = get_request(("a", "b"), "x=1&y", ((OBSERVE, b""),))
    assert (message.path(), message.query(), message.option(OBSERVE)) == (("a", "b"), ("x=1", "y"), b"")
    assert get_request(("a",), None).query() == ()
