"""The outbox: order, bounds, damage, and what a killed process leaves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_S

from gateway.errors import GatewayError
from gateway.outbox import Outbox, OutboxFull
from gateway.segments import HEADER_OCTETS, Damage, Record, encode_record, encode_records, read_records
from gateway.storage import FileStorage, MemoryStorage


def opened(folder: Path | None, *, max_octets: int = 1 << 20, segment_octets: int = 4096) -> Outbox:
    storage = MemoryStorage() if folder is None else FileStorage(folder)
    return Outbox(storage, max_octets=max_octets, segment_octets=segment_octets)


def store(outbox: Outbox, *payloads: bytes, time_ms: int = 1000) -> None:
    for payload in payloads:
        outbox.append(payload, time_ms)
    commit = outbox.begin_commit()
    assert commit is not None
    commit.write(sync=False)
    outbox.finish_commit(commit)


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"payload %06d" % n for n in range(start, start + count)]


def drain(outbox: Outbox, *, acknowledge: bool = True) -> list[bytes]:
    payloads = []
    while records := outbox.read(7):
        for record in records:
            payloads.append(record.payload)
            if acknowledge:
                outbox.acknowledge(record.sequence)
    return payloads


@pytest.fixture(params=["file", "memory"])
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Outbox:
    return opened(tmp_path / "outbox" if request.param == "file" else None)


def test_hands_out_in_the_order_of_storing_over_many_segments(outbox: Outbox) -> None:
    payloads = numbered(1000)
    for start in range(0, 1000, 30):
        store(outbox, *payloads[start : start + 30])
    assert drain(outbox) == payloads
    status = outbox.status(now_ms=5000)
    assert (status.depth, status.octets, status.age_s) == (0, 0, 0.0)


def test_what_is_not_committed_is_not_readable(outbox: Outbox) -> None:
    outbox.append(b"one", 1000)
    assert not outbox.has_unread and outbox.status(3000).depth == 1
    commit = outbox.begin_commit()
    assert commit is not None and outbox.begin_commit() is None
    commit.write(sync=True)
    assert not outbox.has_unread
    outbox.finish_commit(commit)
    assert [record.payload for record in outbox.read(10)] == [b"one"]


def test_depth_octets_and_age_are_visible(outbox: Outbox) -> None:
    store(outbox, b"12345", b"6789", time_ms=1000)
    store(outbox, b"later", time_ms=9000)
    assert outbox.status(11_000).depth == 3
    assert outbox.status(11_000).age_s == 10.0
    assert outbox.status(11_000).octets == 3 * HEADER_OCTETS + 14
    first, second = outbox.read(2)
    outbox.acknowledge(second.sequence)
    assert outbox.status(11_000).age_s == 10.0
    outbox.acknowledge(first.sequence)
    assert (outbox.status(11_000).depth, outbox.status(11_000).age_s) == (1, 2.0)


def test_refuses_beyond_its_limit_and_takes_again_after_acknowledgement(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_octets=10 * (HEADER_OCTETS + 100))
    store(outbox, *[bytes(100)] * 10)
    with pytest.raises(OutboxFull):
        outbox.append(b"one more", 1000)
    outbox.acknowledge(outbox.read(1)[0].sequence)
    store(outbox, bytes(100))
    assert len(drain(outbox)) == 10


def test_rewind_hands_out_again_what_was_not_acknowledged(outbox: Outbox) -> None:
    payloads = numbered(50)
    store(outbox, *payloads)
    for record in outbox.read(20):
        if record.sequence % 2 == 0:
            outbox.acknowledge(record.sequence)
    outbox.rewind()
    assert drain(outbox) == [payload for n, payload in enumerate(payloads) if n >= 20 or n % 2 == 0]
    assert outbox.status(0).depth == 0


def test_finished_segments_are_removed(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    for _ in range(20):
        store(outbox, *[bytes(200)] * 10)
    assert len(list(tmp_path.glob("*.log"))) > 5
    drain(outbox)
    assert len(list(tmp_path.glob("*.log"))) == 1


def test_reopened_it_goes_on_where_it_was(tmp_path: Path) -> None:
    payloads = numbered(300)
    outbox = opened(tmp_path)
    store(outbox, *payloads)
    for record in outbox.read(100):
        outbox.acknowledge(record.sequence)
    outbox.close()
    outbox = opened(tmp_path)
    assert outbox.status(0).depth == 200
    store(outbox, b"new")
    assert drain(outbox) == [*payloads[100:], b"new"]
    outbox.close()
    assert opened(tmp_path).status(0).depth == 0


@pytest.mark.parametrize("damage", ["gone", "zeros", "flipped"])
def test_a_lost_cursor_costs_duplicates_and_no_loss(tmp_path: Path, damage: str) -> None:
    outbox = opened(tmp_path)
    store(outbox, *numbered(40))
    drain(outbox)
    store(outbox, *numbered(5, start=40))
    outbox.close()
    cursor = tmp_path / "cursor"
    match damage:
        case "gone":
            cursor.unlink()
        case "zeros":
            cursor.write_bytes(bytes(24))
        case _:
            cursor.write_bytes(bytes(octet ^ 0x10 for octet in cursor.read_bytes()))
    assert drain(opened(tmp_path)) == numbered(45)


def test_every_torn_tail_is_cut_and_all_before_it_kept(tmp_path: Path) -> None:
    whole = b"".join(encode_record(n + 1, 1000, payload) for n, payload in enumerate(numbered(4)))
    record = len(whole) // 4
    for length in range(len(whole) + 1):
        folder = tmp_path / str(length)
        folder.mkdir()
        log = folder / f"{1:020d}.log"
        log.write_bytes(whole[:length])
        outbox = opened(folder)
        assert outbox.status(0).torn_octets == length % record
        assert log.stat().st_size == length - length % record
        store(outbox, b"after")
        assert drain(outbox) == [*numbered(length // record), b"after"]
        outbox.close()


def test_a_tail_of_zeros_is_cut(tmp_path: Path) -> None:
    """Some file systems leave zeros where a write did not reach the disk."""
    outbox = opened(tmp_path)
    store(outbox, *numbered(3))
    outbox.close()
    log = next(tmp_path.glob("*.log"))
    with log.open("ab") as file:
        file.write(bytes(4096))
    assert drain(opened(tmp_path)) == numbered(3)


def test_a_flipped_bit_costs_one_record_and_is_counted(tmp_path: Path) -> None:
    rng = random.Random(7)
    for attempt in range(60):
        folder = tmp_path / str(attempt)
        outbox = opened(folder, segment_octets=600)
        for payload in numbered(30):
            store(outbox, payload)
        outbox.close()
        log = rng.choice(sorted(folder.glob("*.log"))[:-1])
        octets = bytearray(log.read_bytes())
        octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
        log.write_bytes(octets)
        outbox = opened(folder, segment_octets=600)
        kept = drain(outbox)
        assert len(kept) == 29 and kept == sorted(kept)
        assert (outbox.status(0).damaged, outbox.status(0).depth) == (1, 0)
        outbox.close()


def test_records_cut_by_the_end_of_a_chunk_are_read_whole(tmp_path: Path) -> None:
    payloads = [bytes([n]) * 60_000 for n in range(30)]
    outbox = opened(tmp_path, max_octets=1 << 24, segment_octets=1 << 22)
    store(outbox, *payloads)
    assert drain(outbox) == payloads


def test_a_failed_write_is_forgotten(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    store(outbox, b"kept")
    outbox.append(b"failed", 1000)
    commit = outbox.begin_commit()
    assert commit is not None
    commit.segment.append(commit.octets[:10])
    outbox.fail_commit(commit)
    store(outbox, b"later")
    assert drain(outbox) == [b"kept", b"later"]
    assert outbox.status(0).damaged == 0


@pytest.mark.parametrize("kept", [[], [b"kept"]])
def test_a_segment_that_cannot_be_begun_is_a_failed_write(
    tmp_path: Path, kept: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = opened(tmp_path, segment_octets=40)
    if kept:
        store(outbox, *kept)
    with monkeypatch.context() as full:
        full.setattr(FileStorage, "begin", lambda storage, base: (_ for _ in ()).throw(OSError(28, "no room")))
        outbox.append(b"failed", 1000)
        commit = outbox.begin_commit()
        assert commit is not None
        with pytest.raises(OSError, match="no room"):
            commit.write(sync=True)
        outbox.fail_commit(commit)
        assert not outbox.status(0).is_writable
    store(outbox, b"later")
    assert drain(outbox) == [*kept, b"later"]
    assert outbox.status(0).is_writable and outbox.room == (1 << 20)


def test_a_second_gateway_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    with pytest.raises(GatewayError, match="in use"):
        opened(tmp_path)
    outbox.close()
    opened(tmp_path).close()


@given(st.lists(st.binary(max_size=80), max_size=8), st.binary(max_size=60))
def test_records_survive_any_octets_in_front(payloads: list[bytes], noise: bytes) -> None:
    log = noise + b"".join(encode_record(n, 5, payload) for n, payload in enumerate(payloads))
    items = list(read_records(log))
    assert [item.payload for item in items if isinstance(item, Record)] == payloads
    assert sum(item.end - item.start for item in items if isinstance(item, Damage)) == len(noise)


_WRITER = """
import sys
from pathlib import Path
from gateway.outbox import Outbox
from gateway.storage import FileStorage
outbox = Outbox(FileStorage(Path(sys.argv[1])), max_octets=1 << 30, segment_octets=20_000)
number = 0
while True:
    for _ in range(5):
        outbox.append(b"payload %06d" % number, 1000)
        number += 1
    commit = outbox.begin_commit()
    commit.write(sync=True)
    outbox.finish_commit(commit)
    print(number, flush=True)
"""


def test_what_was_committed_before_kill_9_is_there(tmp_path: Path) -> None:
    rng = random.Random(3)
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            told = 0
            for _ in range(rng.randrange(1, 60)):
                told = int(process.stdout.readline())
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_S)
        last = [line for line in process.stdout.read().split("\n") if line]
        process.stdout.close()
        promised = max([told, *map(int, last)])
        found = drain(opened(folder))
        assert found[:promised] == numbered(promised)
        assert found == numbered(len(found))


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.binary(max_size=40)), max_size=5), st.integers(1, 1 << 50))
def test_records_written_together_are_those_written_one_by_one(entries: list[tuple[int, bytes]], first: int) -> None:
    together = encode_records(first, [(time_ms, payload, None) for time_ms, payload in entries])
    assert together == b"".join(
        encode_record(n, time_ms, payload) for n, (time_ms, payload) in enumerate(entries, first)
    )


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_runs_are_acknowledged_in_any_order(lengths: list[int], data: Any) -> None:
    outbox = opened(None)
    outbox.append_all([(1, payload, None) for payload in numbered(sum(lengths))], sum(lengths) * (HEADER_OCTETS + 14))
    commit = outbox.begin_commit()
    assert commit is not None
    outbox.finish_commit(commit)
    records = outbox.read(1000)
    runs = [range(sum(lengths[:n]) + 1, sum(lengths[: n + 1]) + 1) for n in range(len(lengths))]
    for run in data.draw(st.permutations(runs)):
        assert not any(map(outbox.is_acknowledged, run))
        outbox.acknowledge_run(run)
        assert all(map(outbox.is_acknowledged, run)) and outbox.cursor not in run
    assert outbox.status(0).depth == outbox.status(0).octets == 0 and outbox.cursor == len(records) + 1
    assert outbox.room == 1 << 20
