"""Wireshark's own decoder sees in our captures what ours does; the Lua dissector shows every kind of frame."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hardware
from meshwire.capture.file import HDLC, open_capture
from meshwire.capture.pcapng import read_packets
from meshwire.capture.record import Side
from meshwire.capture.recorder import Recorder
from meshwire.coap.message import Message, decode
from meshwire.coap.options import OBSERVE
from meshwire.hdlc.address import Address
from meshwire.hdlc.control import CONTROL_FIELDS, ControlField, FrameKind
from meshwire.hdlc.deframer import Deframer
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.parameters import LinkParameters, encode_parameters

pytestmark = pytest.mark.server

Fields = Callable[..., list[list[str]]]
LUA = Path(hardware.__file__).parent / "wireshark" / "meshwire_hdlc.lua"


def our_decoding(path: Path) -> list[Message]:
    """The CoAP messages of the raw frames, by our own deframer and codec."""
    with path.open("rb") as stream:
        frames = [packet.octets for packet in read_packets(stream) if packet.interface.name == HDLC.name]
    found = [item for octets in frames for item in Deframer().feed(octets)]
    return [decode(item.info) for item in found if isinstance(item, Frame) and item.control.kind is FrameKind.I]


@pytest.mark.parametrize("name", ["milli_session", "standard_session"])
def test_plain_wireshark_sees_the_messages_that_we_see(
    name: str, request: pytest.FixtureRequest, tshark: Fields
) -> None:
    path: Path = request.getfixturevalue(name)
    assert_same_messages(path, tshark)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_plain_wireshark_sees_in_the_demo_what_we_see(tmp_path: Path, tshark: Fields) -> None:
    """Two boards of a demo, a standard one and a Milli one, each behind a tap."""
    files = {profile: tmp_path / f"{profile}.pcapng" for profile in ("standard", "milli-1.4.8")}
    replace = [
        f"--replace=001350050047000{number}=tap+sim://{profile}?sensor=temp&period=2&file={file}"
        for number, (profile, file) in enumerate(files.items(), 1)
    ]
    command = [str(Path(sys.executable).parent / "meshwire"), "demo", "--nics", "2", "--for", "18", "--json", *replace]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    demo = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert demo.returncode == 0, demo.stderr
    for file in files.values():
        assert_same_messages(file, tshark)


def assert_same_messages(path: Path, tshark: Fields) -> None:
    """Codes, identifiers, paths and observe numbers, by Wireshark without plug-in and by us."""
    rows = tshark(path, "coap.code", "coap.mid", "coap.token", "coap.opt.uri_path", "coap.opt.observe", where="coap")
    expected = [
        [
            str(message.code),
            str(message.mid),
            message.token.hex(),
            ",".join(message.path()),
            "" if message.uint(OBSERVE) is None else str(message.uint(OBSERVE)),
        ]
        for message in our_decoding(path)
    ]
    assert [_without_colons(row) for row in rows] == expected
    assert any(row[3] == "arduino,temp" for row in rows) and any(row[4] not in ("", "0") for row in rows)


def _without_colons(row: list[str]) -> list[str]:
    return [row[0], row[1], row[2].replace(":", ""), *row[3:]]


def test_wireshark_pairs_requests_with_answers(standard_session: Path, tshark: Fields) -> None:
    rows = tshark(standard_session, "coap.opt.uri_path_recon", where="coap.code == 69")
    assert ["/arduino/temp"] in rows, "an answer has no path of its own: Wireshark found its request"


def test_the_dissector_agrees_on_a_whole_session(milli_session: Path, tshark: Fields) -> None:
    kinds = tshark(milli_session, "meshwire_hdlc.kind", lua=LUA, where="meshwire_hdlc.control")
    assert {"SNRM", "UA", "I", "RR", "DISC"} <= {kind for (kind,) in kinds}
    assert tshark(milli_session, "frame.number", lua=LUA, where="meshwire_hdlc.hcs.good == 0") == []
    coap = tshark(milli_session, "coap.mid", lua=LUA, where='frame.interface_name == "hdlc" && coap')
    assert [int(mid) for (mid,) in coap] == [message.mid for message in our_decoding(milli_session)]


CONTROLS = (
    *(field for octet in (0x10, 0x76, 0xFE) for field in (CONTROL_FIELDS[octet],)),
    *(ControlField(kind, nr=5, poll_final=True) for kind in (FrameKind.RR, FrameKind.RNR, FrameKind.REJ)),
    *(
        ControlField(kind, poll_final=final)
        for kind in FrameKind
        if kind not in (FrameKind.I, FrameKind.RR, FrameKind.RNR, FrameKind.REJ, FrameKind.UNKNOWN)
        for final in (False, True)
    ),
    CONTROL_FIELDS[0xEF],
)


def record(path: Path, frames: list[bytes], sender: Side = Side.NIC) -> None:
    with open_capture(path) as capture:
        recorder = Recorder([capture])
        for number, octets in enumerate(frames):
            recorder.heard(sender, octets, 1_700_000_000_000_000_000 + number * 1_000_000_000)
        recorder.finish()


def test_every_kind_of_frame_is_shown(tmp_path: Path, tshark: Fields) -> None:
    frames = [Frame(Address(1), Address(1 + size, size), field) for size in (1, 2, 4) for field in CONTROLS]
    record(tmp_path / "all.pcapng", [encode_frame(frame) for frame in frames])
    shown = tshark(
        tmp_path / "all.pcapng",
        *(f"meshwire_hdlc.{name}" for name in ("kind", "ns", "nr", "pf", "source", "hcs.good", "sender")),
        lua=LUA,
    )
    assert shown == [_expected(frame) for frame in frames]


def _expected(frame: Frame) -> list[str]:
    control = frame.control
    numbered = control.kind in (FrameKind.I, FrameKind.RR, FrameKind.RNR, FrameKind.REJ)
    return [
        control.kind.value,
        str(control.ns) if control.kind is FrameKind.I else "",
        str(control.nr) if numbered else "",
        str(int(control.poll_final)),
        str(frame.source.value),
        "1",
        "NIC",
    ]


def test_parameters_segments_and_damage_are_shown(tmp_path: Path, tshark: Fields) -> None:
    station = Address(1)
    limits = encode_parameters(LinkParameters(200, 100, 3, 1))
    good = encode_frame(Frame(station, station, CONTROL_FIELDS[0x10], b"\x40\x01\x00\x07\xb1a"))
    bad_fcs = good[:-3] + bytes([good[-3] ^ 1]) + good[-2:]
    bad_hcs = good[:5] + bytes([good[5] ^ 4]) + good[6:]
    frames = [
        encode_frame(Frame(station, station, CONTROL_FIELDS[0x93], limits)),
        encode_frame(Frame(station, station, CONTROL_FIELDS[0x10], b"\x40\x01", segmented=True)),
        bad_fcs,
        bad_hcs,
        b"\x00\x55\xaa",
        good[:-4],
    ]
    record(tmp_path / "odd.pcapng", frames, Side.BOARD)
    path = tmp_path / "odd.pcapng"
    info = [text for (text,) in tshark(path, "_ws.col.Info", lua=LUA)]
    assert info[0].startswith("SNRM")
    assert "segment" in info[1]
    assert "FCS WRONG" in info[2]
    assert any("HCS WRONG" in text for text in info[3:])
    assert any("no opening flag" in text for text in info[3:])
    assert "broken off" in info[-1]
    assert tshark(path, "meshwire_hdlc.parameter", lua=LUA)[0] == ["200,100,3,1"]
    comments = [text for (text,) in tshark(path, "frame.comment")]
    assert "no frame: fcs" in comments and "no frame: hcs" in comments and "no frame: noise" in comments
    assert tshark(path, "frame.number", lua=LUA, where="_ws.lua.error") == []


def test_a_second_section_and_a_capture_still_running_are_read(tmp_path: Path, tshark: Fields) -> None:
    path = tmp_path / "two.pcapng"
    octets = encode_frame(Frame(Address(1), Address(1), CONTROL_FIELDS[0x93]))
    for _ in range(2):
        capture = open_capture(path, append=True)
        Recorder([capture]).heard(Side.NIC, octets, 1_700_000_000_000_000_000)
        assert len(tshark(path, "frame.number")) == len(list(read_packets(path.open("rb")))), "not closed yet"
    assert len(tshark(path, "frame.number")) == 2
