"""Dialect A.3, A.6 and A.7: what the board makes of its UART buffer, and when."""

from __future__ import annotations

from typing import Any

import pytest

from meshwire.hdlc.crc import crc16_x25
from sensor_sim.milli.frame import UA_PARAMETERS, DropReason, build_frame
from sensor_sim.milli.station import IDLE_S

SNRM = build_frame(0x93)
UA = build_frame(0x63, UA_PARAMETERS)


def custom(format_and_length: int, addresses: bytes = b"\x03\x03", control: int = 0x93, info: bytes = b"") -> bytes:
    """A frame with right checksums and any header."""
    body = format_and_length.to_bytes(2, "big") + addresses + bytes((control,))
    body += crc16_x25(body).to_bytes(2, "little")
    if info:
        body += info
        body += crc16_x25(body).to_bytes(2, "little")
    return b"\x7e" + body + b"\x7e"


DROPS = [
    ("two frames back to back", SNRM + SNRM, DropReason.LENGTH),
    ("doubled opening flag", b"\x7e" + SNRM, DropReason.FORMAT),
    ("one noise byte in front", b"\x00" + SNRM, DropReason.FLAGS),
    ("missing opening flag", SNRM[1:], DropReason.FLAGS),
    ("missing closing flag", SNRM[:-1], DropReason.FLAGS),
    ("wrong HCS", SNRM[:6] + bytes((SNRM[6] ^ 1,)) + SNRM[7:], DropReason.HEADER_CHECK),
    ("wrong FCS", UA[:-2] + bytes((UA[-2] ^ 1,)) + b"\x7e", DropReason.FRAME_CHECK),
    ("format type other than A", custom(0xB007), DropReason.FORMAT),
    ("even address byte (destination)", custom(0xA007, b"\x02\x03"), DropReason.ADDRESS),
    ("even address byte (source)", custom(0xA007, b"\x03\x02"), DropReason.ADDRESS),
    ("length field above the frame", custom(0xA008), DropReason.LENGTH),
    ("length field below a frame with information", custom(0xA009, info=b"\x81\x80\x00"), DropReason.LENGTH),
    ("one flag", b"\x7e", DropReason.FLAGS),
    ("two flags", b"\x7e\x7e", DropReason.SHORT),
    ("256 bytes of information", custom(0xA000 | 265, control=0x10, info=bytes(256)), DropReason.TOO_LONG),
]

ACCEPTED = [
    ("a length field of 3 on a 7-byte frame", custom(0xA003)),
    ("segmentation bit is ignored", custom(0xA807)),
    ("dst 21 / src 05", custom(0xA007, b"\x21\x05")),
    ("255 bytes of information", custom(0xA000 | 264, info=bytes(255))),
    ("flags and escapes inside the information field", custom(0xA00F, info=bytes.fromhex("7e7d7e7d7e7e"))),
]


@pytest.mark.parametrize(("row", "octets", "reason"), DROPS, ids=[row for row, _, _ in DROPS])
def test_verified_drops(bench: Any, row: str, octets: bytes, reason: DropReason) -> None:
    assert bench.raw(octets) == b"", row
    assert dict(bench.board.counters.dropped) == {reason.value: 1}
    assert bench.raw(SNRM) == UA, "the buffer is empty again"


@pytest.mark.parametrize(("row", "octets"), ACCEPTED, ids=[row for row, _ in ACCEPTED])
def test_verified_accepted(bench: Any, row: str, octets: bytes) -> None:
    assert bench.raw(octets) == UA, row


def test_the_answer_begins_400_ms_after_the_last_octet(bench: Any) -> None:
    start = bench.now
    bench.board.receive_data(SNRM, start)
    bench.board.handle_timer(start + IDLE_S - 0.001)
    assert bench.board.data_to_send(start + IDLE_S - 0.001) == b""
    assert bench.board.next_deadline() == pytest.approx(start + 0.4)
    assert bench.raw(b"") == UA
    assert bench.now == pytest.approx(start + 0.4)


def test_a_gap_of_200_ms_inside_a_frame_is_accepted(bench: Any) -> None:
    bench.board.receive_data(SNRM[:4], bench.now)
    bench.now += 0.2
    assert bench.raw(SNRM[4:]) == UA


def test_a_gap_above_400_ms_inside_a_frame_drops_both_parts(bench: Any) -> None:
    bench.board.receive_data(SNRM[:4], bench.now)
    bench.now += 0.41
    assert bench.raw(SNRM[4:]) == b""
    assert bench.board.counters.dropped == {DropReason.FLAGS.value: 2}


def test_a_frame_of_single_octets_is_accepted(bench: Any) -> None:
    for octet in SNRM[:-1]:
        bench.board.receive_data(bytes((octet,)), bench.now)
        bench.now += 0.39
    assert bench.raw(SNRM[-1:]) == UA


def test_one_answer_is_one_burst(bench: Any) -> None:
    assert bench.raw(SNRM) == UA
    assert bench.board.data_to_send(bench.now + 10) == b""


def test_a_token_of_flags_and_escapes_is_echoed(bench: Any) -> None:
    bench.connect()
    token = bytes.fromhex("7e7d7e7d7e")
    assert bench.information(bytes.fromhex("4501abcd") + token)[4:9] == token


def test_more_than_the_buffer_is_lost_and_counted_once(bench: Any) -> None:
    for _ in range(100):
        bench.board.receive_data(bytes(100), bench.now)
    assert bench.raw(SNRM) == b""
    assert bench.board.counters.dropped == {DropReason.TOO_LONG.value: 1}
    assert bench.raw(SNRM) == UA


def test_reading_a_sensor_holds_up_the_answer(make_bench: Any) -> None:
    bench = make_bench(reading_time_s=0.25)
    bench.connect()
    start = bench.now
    assert bench.information(bench.coap(1, "arduino/temp", "sens")) != b""
    assert bench.now - start == pytest.approx(0.65)
    start = bench.now
    assert bench.information(bench.coap(1)) != b""
    assert bench.now - start == pytest.approx(0.4)


def test_a_booting_board_is_deaf_and_drops_what_its_ring_gathered(make_bench: Any) -> None:
    bench = make_bench(boot_delay_s=16.0, quiet=False)
    for _ in range(3):
        assert bench.raw(SNRM) == b""
        bench.now += 2.0
    assert bench.pulses() == []
    bench.wait(16.0)
    assert bench.pulses() == [0.001]
    assert bench.board.counters.dropped == {DropReason.LENGTH.value: 1}
    assert bench.raw(SNRM) == UA


def test_a_frame_that_came_during_boot_is_answered_after_it(make_bench: Any) -> None:
    bench = make_bench(boot_delay_s=1.0, quiet=False)
    bench.board.receive_data(SNRM, bench.now)
    bench.now += 1.0
    bench.board.handle_timer(bench.now)
    bench.now += 0.4
    bench.board.handle_timer(bench.now)
    assert bench.board.data_to_send(bench.now) == UA


def test_a_message_of_the_boards_own_code_waits_in_the_slot(make_bench: Any) -> None:
    bench = make_bench(boot_delay_s=1.0, quiet=False)
    bench.board.send(b"\x50\x00\x00\x01", bench.now)
    bench.wait(1.0)
    assert bench.fetch()[:4] == b"\x50\x03\xff\xff", "nothing can be said before the board has booted"
    bench.signals.clear()
    for number in (1, 2):
        bench.board.send(bytes((0x50, 0, 0, number)), bench.now)
    assert bench.fetch() == b"\x50\x00\x00\x01"
    assert bench.pulses() == [0.002]
