"""The shell's language, the guard, completion, and frames as text: all without a line."""

from __future__ import annotations

import pytest

from hardware.shell.commands import (
    Cancel,
    Command,
    Hex,
    Observe,
    Raw,
    Request,
    Simple,
    TimeGet,
    TimeSet,
    Wait,
    Word,
    parse_line,
    request_message,
    script_commands,
)
from hardware.shell.completion import Completion, link_targets
from hardware.shell.errors import CommandError, Dangerous
from hardware.shell.guard import check_frame, check_message, check_sdu
from meshwire.coap import codes
from meshwire.coap.message import CON, Message
from meshwire.coap.options import OBSERVE
from meshwire.frame_text import coap_line, frame_line
from meshwire.hdlc.control import information
from meshwire.hdlc.deframer import Deframer
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.station import DEFAULT_ADDRESS


class TestLines:
    @pytest.mark.parametrize(
        ("line", "command"),
        [
            ("get /arduino/temp?sens", Request(codes.GET, "/arduino/temp?sens")),
            ("put /arduino/temp?cfg=C", Request(codes.PUT, "/arduino/temp?cfg=C")),
            ("put /sys/time 0x0608", Request(codes.PUT, "/sys/time", b"\x06\x08")),
            ("POST /x 'a b'", Request(codes.POST, "/x", b"a b")),
            ("delete /x", Request(codes.DELETE, "/x")),
            ("observe /arduino/temp?sens", Observe("/arduino/temp?sens")),
            ("cancel", Cancel(None)),
            ("time", TimeGet()),
            ("time set", TimeSet(None)),
            ("time set 1700000000", TimeSet(1_700_000_000)),
            ("raw 7e a0 07", Raw(b"\x7e\xa0\x07")),
            ("hex on", Hex(True)),
            ("wait 2.5 3", Wait(2.5, 3)),
            ("snrm", Simple(Word.SNRM)),
            ("exit", Simple(Word.QUIT)),
            ("", None),
            ("# nothing", None),
        ],
    )
    def test_a_line_is_one_command(self, line: str, command: Command | None) -> None:
        assert parse_line(line) == command

    @pytest.mark.parametrize(
        "line", ["fetch /x", "get", "get / x", "time set -1", "raw", "raw 7g", "hex", "wait", "wait -1", "get 'x"]
    )
    def test_what_is_no_command_is_said(self, line: str) -> None:
        with pytest.raises(CommandError):
            parse_line(line)

    def test_a_script_is_read_whole_and_names_its_bad_line(self) -> None:
        assert script_commands("get /\n-get /x\n") == (
            (Request(codes.GET, "/"), False),
            (Request(codes.GET, "/x"), True),
        )
        with pytest.raises(CommandError, match="line 2"):
            script_commands("get /\nfetch /\n")

    def test_a_target_becomes_path_and_query(self) -> None:
        message = request_message(Request(codes.GET, "/a/b?c=1&d"))
        assert message.path() == ("a", "b")
        assert message.query() == ("c=1", "d")


class TestGuard:
    @pytest.mark.parametrize("target", ["/sys/stats", "/sys/stats?x", "/arduino/echo?cfg", "/a?" + "q" * 128])
    def test_what_crashes_boards_is_held_back(self, target: str) -> None:
        with pytest.raises(Dangerous):
            check_message(request_message(Request(codes.GET, target)))

    @pytest.mark.parametrize("target", ["/", "/sys/stats?mod=coap", "/arduino/echo?sens", "/a?" + "q" * 127])
    def test_the_rest_passes(self, target: str) -> None:
        check_message(request_message(Request(codes.GET, target)))

    def test_a_wide_observe_is_held_back(self) -> None:
        with pytest.raises(Dangerous):
            check_message(Message(CON, codes.GET, 1, b"", ((OBSERVE, b"\0\0"),)))

    def test_octets_that_are_no_message_are_held_back(self) -> None:
        with pytest.raises(Dangerous, match="crash"):
            check_sdu(bytes.fromhex("49010001") + bytes(9))
        with pytest.raises(Dangerous):
            check_sdu(b"\x80")

    def test_raw_frames_are_looked_into(self) -> None:
        bad = Frame(DEFAULT_ADDRESS, DEFAULT_ADDRESS, information(0, 0, True), bytes.fromhex("49010001") + bytes(9))
        with pytest.raises(Dangerous):
            check_frame(encode_frame(bad))
        check_frame(bytes.fromhex("7ea0070303938c117e"))
        check_frame(b"\x7e\x00noise")


class TestCompletion:
    LINKS = '</sys>;if="sys";title="System";ct=42;rev=1;,</arduino>;if="arduino";title="Arduino Sensors";ct=42;,'

    def test_the_sensors_below_a_milli_folder_are_offered(self) -> None:
        assert "/arduino/temp?sens" in link_targets(self.LINKS)

    def test_a_standard_board_names_its_sensors(self) -> None:
        assert "/arduino/temp?sens" in link_targets('</arduino/temp>;rt="temp";if="sensor";ct="60";obs')

    def test_commands_then_targets_then_words(self) -> None:
        completion = Completion()
        completion.learn(["/arduino/temp?sens"])
        assert completion.offers("", "ob") == ["observe "]
        assert completion.offers("get ", "/ard") == ["/arduino/temp?sens"]
        assert completion.offers("hex ", "o") == ["on", "off"]
        assert completion.offers("get / ", "x") == []


class TestText:
    """The dialect's worked bytes (A.10) as lines."""

    @pytest.mark.parametrize(
        ("octets", "line"),
        [
            ("7ea0070303938c117e", "SNRM P/F"),
            ("7ea00703031fe85f7e", "DM P/F"),
            (
                "7ea020030373f02e818014050200ff060200ff0704000000010804000000013619 7e",
                "UA P/F info 255/255 octets, window 1/1",
            ),
            (
                "7ea02d030330e0d562451234aabbc13cffa2006474656d700172313730303030303030352c37322e35302c469b9b7e",
                'I ns=0 nr=1 P/F | ACK 2.05 1234 token=aabb cbor "1700000005,72.50,F"',
            ),
            (
                "7ea01d03031010b85003ffffb373797304736e73724665763d726274394b7e",
                "I ns=0 nr=0 P/F | NON PUT ffff /sys/snsr?ev=rbt",
            ),
        ],
    )
    def test_a_frame_is_one_line(self, octets: str, line: str) -> None:
        (frame,) = Deframer().feed(bytes.fromhex(octets))
        assert isinstance(frame, Frame)
        assert frame_line(frame) == line

    def test_what_is_no_message_says_why(self) -> None:
        assert coap_line(b"\x80\x01") == "no CoAP message (short): 80 01"
