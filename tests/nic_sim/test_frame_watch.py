"""Watching a NIC's line over CoAP: what is seen, that it ends by itself, that it is bounded and says what is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from meshwire.capture.batch import Numbered, decode_batch
from meshwire.capture.record import Record, Side
from meshwire.coap import codes, decode
from meshwire.hdlc.control import FrameKind
from nic_sim.frame_ring import BATCH_OCTETS, FrameRing

FRAMES = "/sys/link/frames"


async def watch(site: Any, after: int = 0, lease_s: int = 30) -> list[Numbered]:
    """Everything that is there after a number, batch by batch."""
    found: list[Numbered] = []
    while True:
        answer = await site.ask(codes.GET, f"{FRAMES}?after={after}&lease={lease_s}")
        assert int(answer.code) == codes.CONTENT and len(answer.payload) <= BATCH_OCTETS + 3
        batch = decode_batch(answer.payload)
        if not batch:
            return found
        found += batch
        after = batch[-1].number


@pytest.mark.parametrize("profile", ["milli-1.4.8", "standard"])
def test_frames_and_messages_of_both_sides_are_seen(profile: str, tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site(profile, tmp_path) as s:
            await s.readings(1)
            assert not s.nic.watch.is_on and s.nic.line.tap is None, "nobody watches: no tap"
            begun = await watch(s)
            assert begun[0].record.note == "watching begins"
            assert int((await s.ask(codes.GET, "/snsr/arduino/temp?sens")).code) == codes.CONTENT
            seen = await watch(s, begun[-1].number)
            numbers = [each.number for each in seen]
            assert numbers == list(range(begun[-1].number + 1, begun[-1].number + 1 + len(seen))), "nothing is missing"
            kinds = {(each.record.sender, each.record.frame.control.kind) for each in seen if each.record.frame}
            assert {(Side.NIC, FrameKind.I), (Side.BOARD, FrameKind.I)} <= kinds
            messages = [decode(each.record.sdu) for each in seen if each.record.sdu]
            asked = next(message for message in messages if message.path() == ("arduino", "temp"))
            assert any(message.token == asked.token and message.code == codes.CONTENT for message in messages)
            assert await watch(s, seen[-1].number + 10**9), "a number of an earlier life counts as none"

    run(scenario())


def test_the_lease_ends_by_itself_or_at_once(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            await watch(s, lease_s=5)
            await asyncio.sleep(4)
            last = (await watch(s, lease_s=5))[-1].number
            await asyncio.sleep(4)
            assert s.nic.watch.is_on, "renewed by being read"
            await asyncio.sleep(2)
            assert not s.nic.watch.is_on and s.nic.line.tap is None
            again = await watch(s, last)
            assert again[0].record.note == "watching begins" and again[0].number > last, "the pause is told"
            assert int((await s.ask(codes.DELETE, FRAMES)).code) == codes.DELETED
            assert not s.nic.watch.is_on

    run(scenario())


def test_arguments_are_checked_and_the_table_names_it(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            for query in ("after=-1", "after=x", "lease=0", "lease=301", "lease=9e1"):
                assert int((await s.ask(codes.GET, f"{FRAMES}?{query}")).code) == codes.BAD_REQUEST
            assert not s.nic.watch.is_on
            assert b"</sys/link/frames>" in (await s.ask(codes.GET, "/.well-known/core")).payload

    run(scenario())


def test_a_ring_is_bounded_and_numbers_tell_what_is_lost() -> None:
    ring = FrameRing(max_octets=2_000)
    for _ in range(500):
        ring.put(Record(1, Side.NIC, b"", note="x" * 20))
    first = decode_batch(ring.batch(after=10))[0].number
    assert 400 < first < 500, "the newest are there"
    last = [each.number for each in decode_batch(ring.batch(first))]
    assert last == list(range(first + 1, first + 1 + len(last)))
    ring.clear()
    assert decode_batch(ring.batch(0)) == []
    ring.put(Record(1, Side.NIC, b"x" * 3_000, note=""))
    assert ring.batch(500)[:1] == b"\x81", "one that is larger than all bounds is there alone"
