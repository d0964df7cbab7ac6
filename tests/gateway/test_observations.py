"""Observe numbers as the client sees them, and bounded tables by a made-up clock."""

from __future__ import annotations

from gateway.deduplication import ExpiringTable
from gateway.observations import SequenceShift


def numbers(shift: SequenceShift, *sequence: int) -> list[int]:
    shift.begin_again(sequence[0])
    return [shift.client_number(number) for number in sequence]


def test_the_first_sequence_passes_unchanged() -> None:
    assert numbers(SequenceShift(), 3, 4, 9) == [3, 4, 9]


def test_a_new_sequence_goes_on_above_the_last_number() -> None:
    shift = SequenceShift()
    numbers(shift, 900, 905)
    assert numbers(shift, 3, 4, 7) == [906, 907, 910]
    assert numbers(shift, 70_000, 70_001) == [911, 912]


def test_numbers_wrap_at_24_bits() -> None:
    shift = SequenceShift()
    assert numbers(shift, 0xFFFFFF) == [0xFFFFFF]
    assert numbers(shift, 5, 6) == [0, 1]


def test_entries_end_with_their_lifetime() -> None:
    table: ExpiringTable[str, int] = ExpiringTable(10.0, 100)
    table.put("a", 1, 0.0)
    assert table.get("a", 10.0) == 1
    assert table.get("a", 10.1) is None
    table.put("b", 2, 20.0)
    assert len(table) == 1, "what has expired makes room by itself"


def test_the_oldest_entry_makes_room() -> None:
    table: ExpiringTable[int, int] = ExpiringTable(1000.0, 10)
    for number in range(100):
        table.put(number, number, float(number))
    assert len(table) == 10
    assert table.get(89, 100.0) is None and table.get(90, 100.0) == 90
    table.put(90, -1, 100.0)
    table.put(100, 100, 101.0)
    assert table.get(90, 101.0) == -1, "set again, it is the youngest"
    table.drop(90)
    assert table.get(90, 101.0) is None
