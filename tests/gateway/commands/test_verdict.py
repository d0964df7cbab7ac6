"""What an answer, or none, means for a command: at most once, unless it does no harm."""

from __future__ import annotations

import pytest
from command_parts import command, request

from gateway.commands.records import Mode, bare
from gateway.commands.verdict import Answered, Lost, Refused, Retry, hop_of, judge_answer, judge_failure
from gateway.device_failure import DeviceFailure, DeviceRefused, DeviceSilent, DeviceUnreachable
from meshwire.coap import codes, options

MAX_AGE_90 = ((options.MAX_AGE, options.encode_uint(90)),)
STORED, DIRECT = Mode.STORED, Mode.DIRECT


@pytest.mark.parametrize("code", [codes.CHANGED, codes.CONTENT, codes.BAD_REQUEST, codes.NOT_FOUND, 0xA0, 0xA1, 0xA5])
@pytest.mark.parametrize("mode", Mode)
def test_the_devices_own_answer_is_the_end(code: int, mode: Mode) -> None:
    answer = bare(code, (), b"x")
    assert judge_answer(command(mode=mode), answer) == Answered(answer)


@pytest.mark.parametrize(
    ("mode", "safe", "code", "expected"),
    [
        (STORED, False, codes.SERVICE_UNAVAILABLE, Retry("nic", "5.03 no link", 90.0)),
        (STORED, True, codes.SERVICE_UNAVAILABLE, Retry("nic", "5.03 no link", 90.0)),
        (DIRECT, False, codes.SERVICE_UNAVAILABLE, Refused("nic", "5.03 no link")),
        (STORED, False, codes.GATEWAY_TIMEOUT, Lost("nic", "5.04 no link")),
        (STORED, True, codes.GATEWAY_TIMEOUT, Retry("nic", "5.04 no link", 90.0)),
        (DIRECT, False, codes.GATEWAY_TIMEOUT, Lost("nic", "5.04 no link")),
        (DIRECT, True, codes.GATEWAY_TIMEOUT, Refused("nic", "5.04 no link")),
        (STORED, False, codes.BAD_GATEWAY, Lost("nic", "5.02 no link")),
        (STORED, True, codes.BAD_GATEWAY, Lost("nic", "5.02 no link")),
    ],
)
def test_a_hop_before_the_board_speaks(mode: Mode, safe: bool, code: int, expected: object) -> None:
    one = command(mode=mode, request=request(code=codes.GET) if safe else request())
    assert judge_answer(one, bare(code, MAX_AGE_90, b"nic 0013500500470001: no link")) == expected


@pytest.mark.parametrize(
    ("mode", "safe", "failure", "elapsed_s", "acknowledged", "expected"),
    [
        (STORED, False, DeviceRefused("Reset"), 0.1, False, Refused("nic", "Reset")),
        (STORED, False, DeviceSilent("so"), 20.0, False, Lost("mesh", "so")),
        (STORED, False, DeviceSilent("so"), 20.0, True, Lost("nic", "so")),
        (STORED, True, DeviceSilent("so"), 20.0, False, Retry("mesh", "so")),
        (DIRECT, True, DeviceSilent("so"), 20.0, False, Refused("mesh", "so")),
        (STORED, False, DeviceUnreachable("so"), 0.1, False, Lost("mesh", "so")),
        (STORED, True, DeviceUnreachable("so"), 0.1, False, Retry("mesh", "so")),
        (DIRECT, False, DeviceUnreachable("so"), 0.1, False, Refused("mesh", "so")),
        (DIRECT, False, DeviceUnreachable("so"), 2.5, False, Lost("mesh", "so")),
        (DIRECT, False, DeviceUnreachable("so"), 0.1, True, Lost("nic", "so")),
    ],
)
def test_no_answer_comes(
    mode: Mode, safe: bool, failure: DeviceFailure, elapsed_s: float, acknowledged: bool, expected: object
) -> None:
    one = command(mode=mode, request=request(code=codes.GET) if safe else request())
    assert judge_failure(one, failure, elapsed_s, acknowledged=acknowledged) == expected


def test_a_command_declared_idempotent_is_sent_again() -> None:
    assert judge_failure(command(idempotent=True), DeviceSilent("so"), 20.0, acknowledged=True) == Retry("nic", "so")


@pytest.mark.parametrize(
    ("payload", "hop", "reason"),
    [
        (b"nic 0013500500470001: link is down", "nic", "5.03 link is down"),
        (b"board: busy", "board", "5.03 busy"),
        (b"Mesh: no route", "mesh", "5.03 no route"),
        (b"error: 17", "nic", "5.03 error: 17"),
        (b"", "nic", "5.03"),
        (b": x", "nic", "5.03 : x"),
        (b"\xff\xfe", "nic", "5.03 \ufffd\ufffd"),
    ],
)
def test_which_hop_speaks(payload: bytes, hop: str, reason: str) -> None:
    assert hop_of(bare(codes.SERVICE_UNAVAILABLE, (), payload)) == (hop, reason)


def test_max_age_is_bounded() -> None:
    for seconds, expected in ((0, 1.0), (7, 7.0), (1 << 30, 3600.0)):
        pairs = ((options.MAX_AGE, options.encode_uint(seconds)),)
        verdict = judge_answer(command(), bare(codes.SERVICE_UNAVAILABLE, pairs, b""))
        assert isinstance(verdict, Retry) and verdict.after_s == expected
    verdict = judge_answer(command(), bare(codes.SERVICE_UNAVAILABLE, (), b""))
    assert isinstance(verdict, Retry) and verdict.after_s is None
