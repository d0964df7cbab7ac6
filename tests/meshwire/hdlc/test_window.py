"""Sequence numbers: sending ahead, acknowledging, going back, and whose SDU was lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.hdlc.errors import SduError, SendQueueFull
from meshwire.hdlc.window import ReceiveWindow, SendWindow


def window(frames: int = 7, info: int = 4, *sdus: bytes) -> SendWindow:
    made = SendWindow(max_sdu_octets=100, max_queued=100)
    made.restart(frames, info)
    for sdu in sdus:
        made.push(sdu)
    return made


def take_all(sender: SendWindow) -> list[tuple[int, bytes]]:
    taken = []
    while sender.has_next:
        number, segment = sender.take()
        taken.append((number, segment.info))
    return taken


def test_no_more_than_the_window_is_under_way() -> None:
    sender = window(2, 4, b"a", b"b", b"c")
    assert take_all(sender) == [(0, b"a"), (1, b"b")]
    sender.acknowledge(1)
    assert take_all(sender) == [(2, b"c")]


def test_going_back_repeats_from_the_first_unacknowledged() -> None:
    sender = window(7, 4, b"a", b"b", b"c")
    take_all(sender)
    sender.acknowledge(1)
    assert not sender.next_is_repeated
    sender.rewind()
    assert sender.next_is_repeated
    assert take_all(sender) == [(1, b"b"), (2, b"c")]


def test_numbers_wrap_at_eight() -> None:
    sender = window(7, 4, *(bytes((n,)) for n in range(20)))
    numbers = []
    while not sender.empty:
        numbers += [number for number, _ in take_all(sender)]
        sender.acknowledge(sender.send_number)
    assert numbers == [n % 8 for n in range(20)]


def test_only_what_was_sent_can_be_acknowledged() -> None:
    sender = window(3, 4, b"a", b"b", b"c", b"d")
    assert [sender.may_acknowledge(nr) for nr in range(8)] == [True] + [False] * 7
    take_all(sender)
    assert [sender.may_acknowledge(nr) for nr in range(8)] == [True] * 4 + [False] * 4
    sender.rewind()
    assert sender.may_acknowledge(3), "it was sent, although it would be sent again"
    sender.acknowledge(2)
    assert [nr for nr in range(8) if sender.may_acknowledge(nr)] == [2, 3]


def test_report_tells_lost_for_sure_from_perhaps_delivered() -> None:
    sender = window(3, 4, b"1", b"2222+2", b"3333+3333+3", b"4")
    take_all(sender)  # 1, 2222, +2
    sender.acknowledge(1)
    take_all(sender)  # 3333
    assert sender.report_all() == ((3, 4), (2,))
    assert sender.empty


def test_report_of_what_was_begun_leaves_the_rest_queued() -> None:
    sender = window(1, 4, b"1", b"2")
    take_all(sender)
    assert sender.report_begun() == ((), (1,))
    assert sender.queued == 1
    sender.restart(1, 4)
    assert take_all(sender) == [(0, b"2")]


def test_an_sdu_whose_end_was_not_sent_is_surely_not_there() -> None:
    sender = window(1, 1, b"ab")
    take_all(sender)
    assert sender.report_all() == ((1,), ())


@pytest.mark.parametrize("octets", [0, 101])
def test_sdus_no_link_can_carry_are_refused(octets: int) -> None:
    with pytest.raises(SduError):
        window().push(bytes(octets))


def test_the_queue_is_bounded() -> None:
    sender = SendWindow(max_sdu_octets=10, max_queued=2)
    sender.push(b"a")
    sender.push(b"b")
    with pytest.raises(SendQueueFull) as caught:
        sender.push(b"c")
    assert caught.value.limit == 2


def test_receiving_counts_and_forgets() -> None:
    receiver = ReceiveWindow(5)
    assert receiver.take(b"abc", True) is None
    assert receiver.expected == 1
    assert receiver.fits(b"de") and not receiver.fits(b"def")
    assert receiver.take(b"de", False) == b"abcde"
    receiver.take(b"x", True)
    receiver.restart()
    assert receiver.expected == 0
    assert receiver.take(b"y", False) == b"y"


@given(st.lists(st.integers(0, 7), max_size=60), st.integers(1, 7))
def test_everything_arrives_in_order_whatever_is_lost(losses: list[int], frames: int) -> None:
    """Turn after turn, the receiver gets only the first few frames; go-back-N still delivers all, once."""
    sdus = [bytes((n,)) for n in range(40)]
    sender = window(frames, 4, *sdus)
    got: list[bytes] = []
    for kept in [*losses, *([7] * 40)]:
        sender.rewind()
        for number, info in take_all(sender)[:kept]:
            if number == len(got) % 8:
                got.append(info)
        sender.acknowledge(len(got) % 8)
    assert got == sdus
    assert sender.empty
