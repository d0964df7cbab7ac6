"""The secondary beyond its table: negotiation, windows, busy conditions, faults, queueing."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from meshwire.hdlc.address import Address
from meshwire.hdlc.control import FrameKind as Kind
from meshwire.hdlc.control import unnumbered
from meshwire.hdlc.deframer import Deframer
from meshwire.hdlc.errors import DiscardReason, SduError, SendQueueFull
from meshwire.hdlc.events import LinkUp
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.parameters import LinkParameters, decode_parameters, encode_parameters
from meshwire.hdlc.profile import STANDARD
from meshwire.hdlc.secondary import SecondaryStation
from meshwire.hdlc.secondary_table import State

ONE = Address(1)


def opened(text: ModuleType, proposal: LinkParameters = STANDARD.parameters()) -> Any:
    """A desk with a station in OPENED that agreed with ``proposal``."""
    desk = text.Desk(SecondaryStation(STANDARD))
    snrm = Frame(ONE, ONE, unnumbered(Kind.SNRM), encode_parameters(proposal))
    desk.station.receive_data(encode_frame(snrm), desk.now)
    return desk


class TestOpening:
    def test_limits_are_negotiated_down_and_stated_in_ua(self, text: ModuleType) -> None:
        desk = opened(text, LinkParameters(100, 64, 7, 2))
        ua = Deframer().feed(desk.station.data_to_send(desk.now))[0]
        assert isinstance(ua, Frame)
        assert decode_parameters(ua.info) == LinkParameters(64, 100, 2, 7)
        event = desk.station.next_event()
        assert event == LinkUp(LinkParameters(64, 100, 2, 7)) and desk.station.parameters == event.parameters

    def test_a_primary_that_proposes_nothing_gets_the_defaults(self, text: ModuleType) -> None:
        desk = text.Desk(SecondaryStation(STANDARD))
        desk.hear("SNRM P")
        assert desk.station.parameters == LinkParameters(128, 128, 1, 1)

    def test_a_field_that_cannot_be_read_gets_the_defaults_and_is_counted(self, text: ModuleType) -> None:
        desk = text.Desk(SecondaryStation(STANDARD))
        desk.hear("SNRM P rubbish")
        assert desk.look() == ["UA P +"]
        assert desk.told() == ["drop parameters", "up"]
        assert desk.station.parameters == LinkParameters(128, 128, 1, 1)

    def test_a_repeated_snrm_loses_nothing(self, text: ModuleType) -> None:
        """Law 4: the primary did not hear the first UA."""
        desk = opened(text)
        desk.station.send(b"kept", desk.now)
        desk.hear("SNRM P", "RR 0 P")
        assert desk.look()[-1] == "I 0,0 P kept"
        assert desk.told() == ["up"]

    def test_a_later_snrm_names_what_was_lost(self, text: ModuleType) -> None:
        desk = opened(text)
        for sdu in (b"1", b"2"):
            desk.station.send(sdu, desk.now)
        desk.hear("RR 0 P", "RR 1 P")
        desk.station.send(b"3", desk.now)
        desk.hear("SNRM P")
        assert desk.told() == ["up", "down peer_reset unsent=3 uncertain=2", "up"]
        assert desk.station.queued == 0


class TestSending:
    def test_a_window_of_frames_the_last_with_f(self, text: ModuleType) -> None:
        desk = opened(text, LinkParameters(128, 128, 3, 3))
        for sdu in (b"a", b"b", b"c", b"d"):
            desk.station.send(sdu, desk.now)
        desk.look()
        desk.hear("RR 0 P")
        assert desk.look() == ["I 0,0 a", "I 1,0 b", "I 2,0 P c"]
        desk.hear("RR 3 P")
        assert desk.look() == ["I 3,0 P d"]
        desk.hear("RR 4 P")
        assert desk.look() == ["RR 0 P"]

    def test_what_was_not_acknowledged_is_sent_again(self, text: ModuleType) -> None:
        desk = opened(text)
        for sdu in (b"a", b"b", b"c"):
            desk.station.send(sdu, desk.now)
        desk.look()
        desk.hear("RR 0 P", "RR 1 P")
        assert desk.look() == ["I 0,0 a", "I 1,0 b", "I 2,0 P c", "I 1,0 b", "I 2,0 P c"]
        assert desk.station.counters.retransmissions == 2

    def test_a_long_sdu_travels_in_segments(self, text: ModuleType) -> None:
        desk = opened(text, LinkParameters(4, 4, 7, 7))
        desk.station.send(b"abcdefghi", desk.now)
        desk.look()
        desk.hear("RR 0 P")
        assert desk.look() == ["I 0,0 abcd…", "I 1,0 efgh…", "I 2,0 P i"]

    def test_what_is_queued_before_there_is_a_link_waits_for_it(self, text: ModuleType) -> None:
        station = SecondaryStation(STANDARD)
        desk = text.Desk(station)
        assert not station.wants_attention
        station.send(b"early", desk.now)
        assert station.wants_attention
        desk.hear("SNRM P", "RR 0 P")
        assert desk.look()[-1] == "I 0,0 P early"
        assert not station.wants_attention

    def test_release_keeps_what_was_not_begun(self, text: ModuleType) -> None:
        """A primary that makes a session per exchange fetches one SDU in each."""
        desk = text.Desk(SecondaryStation(STANDARD))
        for sdu in (b"1", b"2"):
            desk.station.send(sdu, desk.now)
        for _ in range(2):
            desk.hear("SNRM P", "RR 0 P", "RR 1", "DISC P")
        assert [line for line in desk.look() if line.startswith("I")] == ["I 0,0 P 1", "I 0,0 P 2"]
        assert [line for line in desk.told() if "down" in line] == ["down released"] * 2

    def test_while_the_primary_is_busy_nothing_is_sent(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.station.send(b"a", desk.now)
        desk.look()
        desk.hear("RNR 0 P")
        assert desk.look() == ["RR 0 P"]
        desk.hear("RR 0 P")
        assert desk.look() == ["I 0,0 P a"]

    def test_bounds(self, text: ModuleType) -> None:
        station = SecondaryStation(replace(STANDARD, max_queued_sdus=1, max_sdu_octets=10))
        with pytest.raises(SduError):
            station.send(b"", 0.0)
        with pytest.raises(SduError):
            station.send(bytes(11), 0.0)
        station.send(b"a", 0.0)
        with pytest.raises(SendQueueFull):
            station.send(b"b", 0.0)


class TestReceiving:
    def test_a_gap_and_a_repetition_are_not_taken(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.hear("I 0,0 a", "I 2,0 c", "I 0,0 a", "I 1,0 P b")
        assert desk.told() == ["up", "got a", "drop sequence", "drop sequence", "got b"]
        assert desk.look()[-1] == "RR 2 P"

    def test_segments_are_put_together(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.hear("I 0,0 ab…", "I 1,0 cd…", "I 2,0 P ef")
        assert desk.told() == ["up", "got abcdef"]

    def test_an_empty_i_frame_counts_and_carries_nothing(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.hear("I 0,0 P")
        assert desk.told() == ["up"]
        assert desk.look()[-1] == "RR 1 P"

    def test_while_busy_it_says_rnr_and_takes_nothing(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.station.set_busy(True, desk.now)
        desk.station.send(b"mine", desk.now)
        desk.look()
        desk.hear("I 0,0 P a")
        assert desk.look() == ["I 0,0 mine", "RNR 0 P"]
        desk.station.set_busy(False, desk.now)
        desk.hear("I 0,1 P a")
        assert desk.look() == ["RR 1 P"]
        assert desk.told() == ["up", "drop busy", "got a"]

    def test_frames_for_others_are_counted_only(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.look()
        for frame in (
            Frame(Address(2), ONE, unnumbered(Kind.DISC)),
            Frame(ONE, Address(2), unnumbered(Kind.DISC)),
            Frame(Address(1, 2), ONE, unnumbered(Kind.DISC)),
        ):
            desk.station.receive_data(encode_frame(frame), desk.now)
        assert desk.look() == []
        assert desk.station.counters.discarded == {DiscardReason.OTHER_STATION: 3}

    def test_silence_inside_a_frame_drops_its_beginning(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.look()
        desk.station.receive_data(text.octets("I 0,0 P abcdef")[:-3], desk.now)
        desk.now += STANDARD.octet_timeout_s + 0.01
        desk.hear("RR 0 P")
        assert desk.look() == ["RR 0 P"]
        assert desk.told() == ["up", "drop truncated"]


class TestFaults:
    @pytest.mark.parametrize(
        ("frame", "info", "why"),
        [
            ("REJ 0 P", "19 00 01", "W: known and refused"),
            ("SABM P", "3f 00 01", "W: known and refused"),
            ("ff P", "ff 00 01", "W: undefined"),
            ("UA P", "73 00 01", "W: a response as a command"),
            ("RR 0 P info", "11 00 03", "X: information where none is permitted"),
            ("I 0,0 P " + "x" * 256, "10 00 04", "Y: longer than was offered"),
            ("I 0,1 P x", "30 00 08", "Z: N(R) of a frame that was never sent"),
        ],
    )
    def test_frmr_says_why(self, frame: str, info: str, why: str, text: ModuleType) -> None:
        desk = opened(text)
        desk.look()
        desk.hear(frame)
        assert desk.look() == [f"FRMR P {info}"]
        assert desk.told() == ["up", "down frame_rejected"]
        assert desk.station.state is State.REJECTING

    def test_frmr_quotes_the_numbers_and_is_repeated_until_the_link_is_made_again(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.station.send(b"mine", desk.now)
        desk.hear("I 0,0 P a", "SABM")
        desk.look()
        desk.hear("RR 0 P", "I 1,1 P b", "SABM P")
        assert desk.look() == ["FRMR P 2f 22 01"] * 3
        desk.hear("SNRM P")
        assert desk.look() == ["UA P +"]

    def test_an_sdu_that_grows_beyond_the_limit_is_rejected(self, text: ModuleType) -> None:
        desk = text.Desk(SecondaryStation(replace(STANDARD, max_sdu_octets=5)))
        desk.hear("SNRM P", "I 0,0 abc…", "I 1,0 P def")
        assert desk.look()[-1].startswith("FRMR")


class TestInactivity:
    def test_a_link_on_which_nothing_is_heard_is_left(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.station.send(b"a", desk.now)
        desk.told()
        assert desk.wait() == STANDARD.inactivity_timeout_s
        assert desk.told() == ["down no_answer unsent=1"]
        assert desk.station.next_deadline() is None
        desk.look()
        desk.hear("RR 0 P")
        assert desk.look() == ["DM P"]

    def test_every_frame_puts_it_off(self, text: ModuleType) -> None:
        desk = opened(text)
        desk.now += 100
        desk.hear("RR 0 P")
        desk.station.handle_timer(desk.now + 100)
        assert desk.station.state is State.NORMAL

    def test_zero_means_never(self, text: ModuleType) -> None:
        desk = text.Desk(SecondaryStation(replace(STANDARD, inactivity_timeout_s=0)))
        desk.hear("SNRM P")
        assert desk.station.next_deadline() is None


def test_pipe_lost_forgets_octets_and_names_handles(text: ModuleType) -> None:
    desk = opened(text)
    for sdu in (b"1", b"2"):
        desk.station.send(sdu, desk.now)
    desk.hear("RR 0 P")
    desk.station.send(b"3", desk.now)
    desk.station.pipe_lost(desk.now)
    assert desk.look() == []
    assert desk.told() == ["up", "down pipe_lost unsent=3 uncertain=1,2"]
    assert desk.station.state is State.DISCONNECTED


def test_counters(text: ModuleType) -> None:
    desk = opened(text)
    desk.station.send(b"mine", desk.now)
    desk.hear("I 0,0 P yours")
    counters = desk.station.counters
    assert (counters.frames_in, counters.frames_out, counters.sdus_in, counters.sdus_out) == (2, 2, 1, 1)
    assert counters.octets_out == len(desk.station.data_to_send(desk.now))
    assert (counters.link_ups, counters.resets) == (1, 0)
