"""Dialect A.8: every row of the secondary's table in both columns, and the sequence quirks 1 to 9."""

from __future__ import annotations

from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.hdlc.crc import crc16_x25
from meshwire.hdlc.events import DownReason
from sensor_sim.milli.frame import UA_PARAMETERS, Input, build_frame
from sensor_sim.milli.link_machine import TRANSITIONS, Mode
from sensor_sim.milli.server import REBOOT_MESSAGE

UA_WITH_PARAMETERS = build_frame(0x63, UA_PARAMETERS)
UA = build_frame(0x63)
DM = build_frame(0x0F)
FRMR = build_frame(0x87)
PING = bytes.fromhex("40001234")

ROWS = [
    ("SNRM (with or without info)", 0x93, b"", UA_WITH_PARAMETERS, UA_WITH_PARAMETERS),
    ("SNRM (with or without info)", 0x93, b"\x81\x80\x00", UA_WITH_PARAMETERS, UA_WITH_PARAMETERS),
    ("DISC", 0x53, b"", DM, UA),
    ("I, CoAP info", 0x10, PING, DM, build_frame(0x20, bytes.fromhex("70001234"))),
    ("I, no info", 0x10, b"", DM, b""),
    ("RR", 0x11, b"", DM, build_frame(0x01)),
    ("RNR", 0x15, b"", DM, FRMR),
    ("UI", 0x13, b"", DM, FRMR),
    ("UA", 0x73, b"", DM, FRMR),
    ("DM", 0x1F, b"", DM, FRMR),
    ("FRMR", 0x97, b"", DM, FRMR),
    ("unknown control (REJ)", 0x19, b"", b"", b""),
    ("unknown control (SABM)", 0x3F, b"", b"", b""),
    ("unknown control (SREJ)", 0x1D, b"", b"", b""),
]
IDS = [f"{row} {control:02x} {len(info)}" for row, control, info, _, _ in ROWS]


@pytest.mark.parametrize(("row", "control", "info", "disconnected", "normal"), ROWS, ids=IDS)
@pytest.mark.parametrize("profile", ["milli-1.4.8", "milli-1.4.5"])
def test_disconnected_column(
    make_bench: Any, profile: str, row: str, control: int, info: bytes, disconnected: bytes, normal: bytes
) -> None:
    assert make_bench(profile).frame(control, info) == disconnected, row


@pytest.mark.parametrize(("row", "control", "info", "disconnected", "normal"), ROWS, ids=IDS)
@pytest.mark.parametrize("profile", ["milli-1.4.8", "milli-1.4.5"])
def test_normal_column(
    make_bench: Any, profile: str, row: str, control: int, info: bytes, disconnected: bytes, normal: bytes
) -> None:
    bench = make_bench(profile)
    bench.connect()
    assert bench.frame(control, info) == normal, row
    still = Mode.DISCONNECTED if row == "DISC" else Mode.NORMAL
    assert bench.board.link.mode is still


def test_the_table_has_every_cell() -> None:
    assert set(TRANSITIONS) == {(mode, kind) for mode in Mode for kind in Input}


@pytest.mark.parametrize("control", [0x83, 0x43, 0x01], ids=["SNRM", "DISC", "RR"])
def test_the_poll_bit_is_ignored_and_the_final_bit_always_set(bench: Any, control: int) -> None:
    body = bytes((*build_frame(control)[1:5], control))
    answer = bench.raw(b"\x7e" + body + crc16_x25(body).to_bytes(2, "little") + b"\x7e")
    assert answer[5] & 0x10


def test_quirk_1_only_the_next_number_acknowledges(make_bench: Any) -> None:
    bench = make_bench(quiet=False)
    bench.connect()
    assert bench.frame(0x11)[5] == 0x10  # pending I, N(S)=0
    for wrong in (0x11, 0x51, 0x91, 0xF1):  # N(R) 0, 2, 4, 7
        assert bench.frame(wrong)[5] == 0x10
    assert bench.frame(0x31)[5] == 0x12  # N(R)=1: V(S) advances


def test_quirk_1_a_u_frame_counts_as_n_r_0(make_bench: Any) -> None:
    bench = make_bench(quiet=False)
    bench.connect()
    for number in range(1, 8):
        bench.frame(number << 5 | 0x11)
    assert bench.board.link.sequence == (7, 0)
    assert bench.frame(0x13) == FRMR  # UI
    assert bench.board.link.sequence == (0, 0)


def test_quirk_2_a_repeated_i_frame_is_executed_again_with_the_same_numbers(bench: Any) -> None:
    bench.connect()
    request = bench.coap(codes.GET, "arduino/echo", "sens")
    first = bench.frame(0x10, request)
    again = bench.frame(0x10, request)
    assert first[5] == again[5] == 0x30
    assert b"Hello World: 1" in first and b"Hello World: 2" in again


def test_quirk_2_a_repeated_put_is_executed_again(bench: Any) -> None:
    bench.connect()
    request = bench.coap(codes.PUT, "arduino/echo", "cfg=x")
    for _ in range(2):
        assert bench.frame(0x10, request)[9] == codes.CHANGED
        assert b"x 1" in bench.frame(0x10, bench.coap(codes.GET, "arduino/echo", "sens"))


def test_quirk_3_answers_carry_v_r_and_v_s(bench: Any) -> None:
    bench.connect()
    for number in range(10):
        control = (number % 8) << 5 | (number % 8) << 1 | 0x10
        expected = ((number + 1) % 8) << 5 | (number % 8) << 1 | 0x10
        assert bench.frame(control, PING)[5] == expected


def test_quirk_4_a_response_is_not_kept(bench: Any) -> None:
    bench.connect()
    bench.frame(0x10, PING)
    assert bench.frame(0x11) == build_frame(0x21)  # RR gets just RR


def test_quirk_5_the_pending_message_comes_on_every_rr_until_disc(make_bench: Any) -> None:
    bench = make_bench(quiet=False)
    bench.connect()
    assert bench.frame(0x11) == build_frame(0x00, REBOOT_MESSAGE)
    assert bench.frame(0x31) == build_frame(0x02, REBOOT_MESSAGE)
    assert bench.frame(0x51) == build_frame(0x04, REBOOT_MESSAGE)
    bench.connect()  # it also survives a new SNRM
    assert bench.frame(0x11) == build_frame(0x00, REBOOT_MESSAGE)
    bench.release()
    bench.connect()
    assert bench.frame(0x11) == build_frame(0x01)


def test_quirk_5_disc_without_a_link_keeps_the_pending_message(make_bench: Any) -> None:
    bench = make_bench(quiet=False)
    assert bench.release() == DM
    assert bench.fetch() == REBOOT_MESSAGE


def test_quirk_6_a_get_does_not_disturb_the_pending_slot(make_bench: Any) -> None:
    bench = make_bench(quiet=False)
    bench.connect()
    assert bench.information(bench.coap(codes.GET)) != b""
    assert bench.frame(0x31) == build_frame(0x22, REBOOT_MESSAGE)


@pytest.mark.parametrize("message", ["60001234", "60451234ff00", "624512340102"], ids=["empty", "2.05", "token"])
def test_quirk_7_an_ack_gets_an_empty_i_frame_from_1_4_8(bench: Any, message: str) -> None:
    bench.connect()
    assert bench.frame(0x10, bytes.fromhex(message)) == build_frame(0x20)
    assert bench.frame(0x32, bytes.fromhex(message)) == build_frame(0x42)  # the empty I frame counts as an I frame
    assert bench.board.link.sequence == (1, 2)


def test_quirk_7_an_ack_gets_nothing_from_1_4_5(make_bench: Any) -> None:
    bench = make_bench("milli-1.4.5")
    bench.connect()
    assert bench.frame(0x10, bytes.fromhex("60001234")) == b""
    assert bench.frame(0x11) == build_frame(0x21)


@pytest.mark.parametrize("first", [0x00, 0x80, 0xC0])
def test_quirk_8_another_coap_version_gets_silence_though_v_r_advances(bench: Any, first: int) -> None:
    bench.connect()
    assert bench.frame(0x10, bytes((first, 1, 0x12, 0x34))) == b""
    assert bench.frame(0x11) == build_frame(0x21)


def test_quirk_9_no_frmr_for_a_bad_n_r(bench: Any) -> None:
    bench.connect()
    for number in range(8):
        assert bench.frame(number << 5 | 0x11) == build_frame(0x01)


@pytest.mark.parametrize(("profile", "wins"), [("milli-1.4.8", 4), ("milli-1.4.5", 5)], ids=["oldest", "newest"])
def test_pending_slot(make_bench: Any, profile: str, wins: int) -> None:
    bench = make_bench(profile, period_s=10.0)
    assert bench.ask(codes.GET, "arduino/temp", "sens", observe=b"")[-3:] == b"\x00\x00\x03"
    bench.wait(21.0)  # two periods
    assert bench.pulses() == ([0.002] if profile == "milli-1.4.8" else [0.001, 0.001])
    notification = bench.fetch()
    assert notification[6:10] == bytes((0x63, 0, 0, wins))
    assert bench.fetch() == b""
    bench.wait(10.0)
    assert bench.fetch()[6:10] == bytes((0x63, 0, 0, wins + 1))  # the counter did not move for the skipped one


def test_the_driver_hears_of_the_link(make_bench: Any) -> None:
    bench = make_bench(quiet=False)
    board, heard = bench.board, []
    for control, info in (
        (0x93, b""),
        (0x93, b""),
        (0x53, b""),
        (0x93, b""),
        (0x10, bytes.fromhex("4901" + "00" * 11)),
    ):
        board.receive_data(build_frame(control, info), bench.now)
        bench.now += 0.4
        board.handle_timer(bench.now)
        board.data_to_send(bench.now)
        while (event := board.next_event()) is not None:
            heard.append(event)
    assert [type(event).__name__ for event in heard] == ["LinkUp", "LinkDown", "LinkUp", "LinkDown"]
    assert heard[1].reason is DownReason.RELEASED and heard[3].reason is DownReason.FRAME_REJECTED
