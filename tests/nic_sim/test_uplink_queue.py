"""The uplink queue: order, bound, and what a kill leaves behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from meshwire.identity import DeviceId
from meshwire.notification import Notification
from nic_sim import uplink_queue
from nic_sim.uplink_queue import UplinkQueue

MAC = DeviceId("001350050047dd92")


def reading(number: int, payload: bytes = b"\xa2\x00") -> Notification:
    content_format = 60 if number % 2 else None
    return Notification(MAC, "snsr/arduino/temp", number, 7, content_format, payload, 1_760_000_000.125 + number)


def queue(path: Path | None, limit: int = 1000, device: DeviceId = MAC) -> UplinkQueue:
    return UplinkQueue(path, limit, device)


def drain(items: UplinkQueue) -> list[Notification]:
    drained = []
    while (head := items.head()) is not None:
        drained.append(head)
        items.pop(head)
    return drained


def test_oldest_first(tmp_path: Path) -> None:
    items = queue(tmp_path / "j")
    sent = [reading(number) for number in range(5)]
    for each in sent:
        assert items.put(each) is None
    assert drain(items) == sent
    assert len(items) == 0 and items.head() is None


def test_overflow_drops_the_oldest_and_tells(tmp_path: Path) -> None:
    items = queue(tmp_path / "j", limit=3)
    dropped = [items.put(reading(number)) for number in range(5)]
    assert dropped == [None, None, None, reading(0), reading(1)]
    assert items.counters.overflowed == 2
    items.close()
    assert drain(queue(tmp_path / "j", limit=3)) == [reading(2), reading(3), reading(4)]


def test_pop_of_what_was_dropped_meanwhile_is_harmless() -> None:
    items = queue(None, limit=1)
    items.put(reading(1))
    head = items.head()
    assert head is not None
    items.put(reading(2))
    items.pop(head)
    assert items.head() == reading(2)


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    items = queue(tmp_path / "j")
    for number in range(10):
        items.put(reading(number, bytes([number]) * number))
    for _ in range(4):
        head = items.head()
        assert head is not None
        items.pop(head)
    # no close(): a kill
    again = queue(tmp_path / "j")
    assert again.counters.restored == 6
    assert drain(again) == [reading(number, bytes([number]) * number) for number in range(4, 10)]


def test_smaller_limit_after_a_restart_keeps_the_newest(tmp_path: Path) -> None:
    items = queue(tmp_path / "j")
    for number in range(10):
        items.put(reading(number))
    assert drain(queue(tmp_path / "j", limit=3)) == [reading(7), reading(8), reading(9)]


def test_torn_end_costs_only_the_last_entry(tmp_path: Path) -> None:
    path = tmp_path / "j"
    items = queue(path)
    for number in range(5):
        items.put(reading(number))
    items.close()
    whole = path.read_bytes()
    for cut in range(1, len(whole) // 5):
        path.write_bytes(whole[:-cut])
        again = queue(path)
        assert drain(again) == [reading(number) for number in range(4)]
        assert again.counters.damaged > 0
        again.close()


def test_random_damage_never_raises(tmp_path: Path) -> None:
    path = tmp_path / "j"
    items = queue(path)
    for number in range(8):
        items.put(reading(number))
    items.close()
    whole = path.read_bytes()
    chance = random.Random(3)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        again = queue(path)
        kept = drain(again)
        assert kept == [reading(number) for number in range(len(kept))]
        again.close()


def test_other_devices_journal_is_not_taken_over(tmp_path: Path) -> None:
    queue(tmp_path / "j").put(reading(1))
    assert len(queue(tmp_path / "j", device=DeviceId("001350050047dd93"))) == 0


def test_journal_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink_queue, "MAX_DEAD_OCTETS", 4096)
    items = queue(tmp_path / "j")
    items.put(reading(0))
    for number in range(1, 2000):
        items.put(reading(number))
        head = items.head()
        assert head is not None
        items.pop(head)
    assert (tmp_path / "j").stat().st_size < 3 * 4096
    items.close()
    assert drain(queue(tmp_path / "j")) == [reading(1999)]


def test_disk_that_refuses_is_counted(tmp_path: Path) -> None:
    items = queue(tmp_path / "gone" / "j")
    items.put(reading(1))
    assert items.counters.write_failures >= 1
    assert drain(items) == [reading(1)]
