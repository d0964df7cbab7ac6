"""The parameter group of SNRM and UA, and what two sides agree on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.hdlc.errors import ParameterError
from meshwire.hdlc.parameters import (
    DEFAULT_PARAMETERS,
    LinkParameters,
    decode_parameters,
    encode_parameters,
    negotiate,
)

BOARD_UA = "81 80 14 05 02 00 ff 06 02 00 ff 07 04 00 00 00 01 08 04 00 00 00 01"
PARAMETERS = st.builds(LinkParameters, st.integers(1, 2038), st.integers(1, 2038), st.integers(1, 7), st.integers(1, 7))


@pytest.mark.parametrize(
    ("field", "parameters", "meaning"),
    [
        (BOARD_UA, LinkParameters(255, 255, 1, 1), "every UA of 1.4.5 and 1.4.8 (dialect A.5)"),
        (BOARD_UA.replace("00 ff", "00 80"), LinkParameters(128, 128, 1, 1), "UA of 1.2.4 (dialect A.5)"),
        (
            "81 80 14 05 02 00 40 06 02 00 40 07 04 00 00 00 07 08 04 00 00 00 01",
            LinkParameters(64, 64, 7, 1),
            "illustration in the firmware's source (dialect A.5)",
        ),
    ],
)
def test_vendor_coding_both_ways(field: str, parameters: LinkParameters, meaning: str) -> None:
    assert decode_parameters(bytes.fromhex(field)) == parameters
    assert encode_parameters(parameters) == bytes.fromhex(field)


@pytest.mark.parametrize(
    ("field", "parameters", "meaning"),
    [
        ("", DEFAULT_PARAMETERS, "no field states the defaults"),
        ("81 80 00", DEFAULT_PARAMETERS, "an empty group too"),
        ("81 80 06 05 01 40 07 01 03", LinkParameters(64, 128, 3, 1), "absent ones have their default"),
        ("81 80 0c 05 01 ff 06 01 fe 07 01 02 08 01 03", LinkParameters(255, 254, 2, 3), "values of one octet"),
        ("81 80 0a 05 03 00 01 00 06 03 00 02 00", LinkParameters(256, 512, 1, 1), "three octets"),
        ("81 80 0c 05 04 00 00 04 00 06 04 00 00 00 0a", LinkParameters(1024, 10, 1, 1), "four octets"),
        ("81 80 0c 05 04 ff ff ff ff 07 04 00 00 00 09", LinkParameters(2038, 128, 7, 1), "above what can be counted"),
        ("81 80 06 63 01 00 08 01 02", LinkParameters(128, 128, 1, 2), "an unknown parameter is passed over"),
        ("81 80 03 07 01 05 f0 01 00", LinkParameters(128, 128, 5, 1), "so is a group of the user's after it"),
    ],
)
def test_fields_that_others_may_send(field: str, parameters: LinkParameters, meaning: str) -> None:
    assert decode_parameters(bytes.fromhex(field)) == parameters


@pytest.mark.parametrize(
    "field",
    [
        "81",
        "81 80",
        "82 80 00",
        "81 81 00",
        "81 80 05 05 02 00 ff",
        "81 80 01 05",
        "81 80 02 05 00",
        "81 80 07 05 05 00 00 00 00 01",
        "81 80 03 05 02 00",
        "81 80 03 07 01 00",
        "81 80 04 06 02 00 00",
    ],
)
def test_fields_that_cannot_be_read(field: str) -> None:
    with pytest.raises(ParameterError):
        decode_parameters(bytes.fromhex(field))


@pytest.mark.parametrize("limits", [(0, 1, 1, 1), (1, 2039, 1, 1), (1, 1, 0, 1), (1, 1, 1, 8)])
def test_limits_outside_the_standard_are_refused(limits: tuple[int, int, int, int]) -> None:
    with pytest.raises(ParameterError):
        LinkParameters(*limits)


def test_what_one_sends_is_bounded_by_what_the_other_takes() -> None:
    own = LinkParameters(max_info_transmit=200, max_info_receive=100, window_transmit=7, window_receive=2)
    peer = LinkParameters(max_info_transmit=90, max_info_receive=150, window_transmit=3, window_receive=5)
    assert negotiate(own, peer) == LinkParameters(150, 90, 5, 2)


@given(PARAMETERS, PARAMETERS)
def test_both_sides_come_to_the_same(primary: LinkParameters, secondary: LinkParameters) -> None:
    """The secondary answers with what it worked out; the primary works it out again from the answer."""
    there = negotiate(secondary, decode_parameters(encode_parameters(primary)))
    here = negotiate(primary, decode_parameters(encode_parameters(there)))
    assert (here.max_info_transmit, here.window_transmit) == (there.max_info_receive, there.window_receive)
    assert (here.max_info_receive, here.window_receive) == (there.max_info_transmit, there.window_transmit)


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: b"\x81\x80" + bytes((len(data),)) + data))
def test_any_octets_give_limits_or_the_one_error(field: bytes) -> None:
    try:
        decode_parameters(field)
    except ParameterError:
        pass
