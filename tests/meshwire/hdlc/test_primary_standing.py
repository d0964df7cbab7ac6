"""The primary on a standing link: turns, windows, recovery by asking, polling, making the link again."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from meshwire.hdlc.address import Address
from meshwire.hdlc.control import FrameKind, unnumbered
from meshwire.hdlc.errors import SduError, SendQueueFull
from meshwire.hdlc.frame import Frame, encode_frame
from meshwire.hdlc.parameters import LinkParameters, encode_parameters
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.primary_table import State
from meshwire.hdlc.profile import STANDARD, LinkProfile

PROFILE = replace(STANDARD, max_attempts=3)


def connecting(text: ModuleType, profile: LinkProfile = PROFILE) -> Any:
    """A desk whose primary was told to connect."""
    desk = text.Desk(PrimaryStation(profile))
    desk.station.connect(desk.now)
    return desk


def wide(text: ModuleType, window: int, info: int = 128, profile: LinkProfile = PROFILE) -> Any:
    """A connected primary at rest that may send ``window`` frames of ``info`` octets."""
    desk = connecting(text, profile)
    stated = encode_parameters(LinkParameters(info, info, window, window))
    ua = Frame(Address(1), Address(1), unnumbered(FrameKind.UA), stated)
    desk.station.receive_data(encode_frame(ua), desk.now)
    desk.hear("RR 0 P")
    desk.look()
    desk.told()
    return desk


def send(desk: Any, *sdus: str) -> None:
    for sdu in sdus:
        desk.station.send(sdu.encode(), desk.now)


class TestMakingTheLink:
    def test_snrm_offers_the_limits(self, text: ModuleType) -> None:
        desk = connecting(text)
        assert desk.look() == ["SNRM P +"]

    def test_the_first_thing_after_ua_is_a_poll(self, text: ModuleType) -> None:
        desk = connecting(text)
        desk.look()
        desk.hear("UA P")
        assert desk.look() == ["RR 0 P"]
        assert desk.told() == ["up"]
        assert desk.station.parameters == LinkParameters(128, 128, 1, 1)

    def test_snrm_is_repeated_then_the_attempt_ends_and_a_new_one_begins(self, text: ModuleType) -> None:
        desk = connecting(text, replace(PROFILE, quiet_time_s=0.25))
        send(desk, "a")
        waits = [desk.wait() for _ in range(5)]
        answer = PROFILE.line_time_s(34) + PROFILE.answer_timeout_s + PROFILE.answer_line_time_s(1)
        assert waits == pytest.approx([answer, 0.25, answer, 0.25, answer])
        assert desk.look() == ["SNRM P +"] * 3
        assert desk.told() == ["down no_answer unsent=1"]
        assert desk.station.state is State.RESTING
        assert desk.wait() == pytest.approx(PROFILE.retry_pause_s)
        assert desk.look() == ["SNRM P +"]
        assert (desk.station.counters.timeouts, desk.station.counters.retries) == (3, 2)

    def test_without_connect_an_attempt_for_an_sdu_is_made_once(self, text: ModuleType) -> None:
        desk = text.Desk(PrimaryStation(replace(PROFILE, max_attempts=1)))
        send(desk, "a")
        desk.wait()
        desk.wait()
        assert desk.told() == ["down no_answer unsent=1"]
        assert (desk.station.state, desk.station.next_deadline()) == (State.DISCONNECTED, None)

    def test_a_ua_that_comes_late_is_taken(self, text: ModuleType) -> None:
        desk = connecting(text, replace(PROFILE, quiet_time_s=0.25))
        desk.wait()
        desk.hear("UA P")
        assert desk.told() == ["up"]

    def test_a_second_ua_changes_nothing(self, text: ModuleType) -> None:
        desk = connecting(text)
        desk.hear("UA P", "UA P")
        assert desk.told() == ["up", "drop unexpected"]

    def test_a_parameter_field_that_cannot_be_read_states_the_defaults(self, text: ModuleType) -> None:
        desk = connecting(text)
        desk.hear("UA P rubbish")
        assert desk.told() == ["drop parameters", "up"]

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [("DM P", "peer_reset"), ("FRMR P", "frame_rejected"), ("RR 5 P", "frame_rejected")],
    )
    def test_a_link_that_breaks_is_made_again(self, answer: str, reason: str, text: ModuleType) -> None:
        desk = wide(text, 2)
        send(desk, "a", "b", "c")
        desk.look()
        desk.hear(answer)
        assert desk.told() == [f"down {reason} unsent=2,3 uncertain=1"]
        assert desk.station.queued == 0
        desk.wait()
        assert desk.look() == ["SNRM P +"]
        desk.hear("UA P")
        assert desk.told() == ["up"]


class TestTurns:
    def test_an_sdu_is_sent_at_once_and_acknowledged(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        send(desk, "a")
        assert desk.look() == ["I 0,0 P a"]
        desk.hear("RR 1 P")
        assert desk.look() == ["RR 0 P"], "after traffic the peer is asked at once"
        desk.hear("RR 1 P")
        assert desk.look() == []

    def test_what_is_queued_meanwhile_goes_as_a_window(self, text: ModuleType) -> None:
        desk = wide(text, 3)
        send(desk, "a", "b", "c", "d", "e")
        assert desk.look() == ["I 0,0 P a"]
        desk.hear("RR 1 P")
        assert desk.look() == ["I 1,0 b", "I 2,0 c", "I 3,0 P d"]
        desk.hear("I 0,2 x", "I 1,4 P y")
        assert desk.look() == ["I 4,2 P e"]
        assert desk.told() == ["got x", "got y"]

    def test_only_what_is_missing_is_sent_again(self, text: ModuleType) -> None:
        desk = wide(text, 3)
        send(desk, "a", "b", "c", "d")
        desk.hear("RR 1 P")
        desk.look()
        desk.hear("RR 2 P")
        assert desk.look() == ["I 2,0 c", "I 3,0 P d"]
        assert desk.station.counters.retransmissions == 2

    def test_a_gap_and_a_repetition_are_not_taken(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        desk.station.poll(desk.now)
        desk.hear("I 0,0 a", "I 2,0 c", "I 0,0 a", "I 1,0 P b")
        assert desk.told() == ["got a", "drop sequence", "drop sequence", "got b"]
        assert desk.look()[-1] == "RR 2 P"

    def test_long_sdus_travel_in_segments_both_ways(self, text: ModuleType) -> None:
        desk = wide(text, 7, info=4)
        send(desk, "abcdefghi")
        assert desk.look() == ["I 0,0 abcd…", "I 1,0 efgh…", "I 2,0 P i"]
        desk.hear("I 0,3 12…", "I 1,3 P 34")
        assert desk.told() == ["got 1234"]

    def test_an_sdu_without_its_end_is_not_delivered_after_the_link_was_made_again(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        desk.station.poll(desk.now)
        desk.hear("I 0,0 P 12…", "DM P")
        desk.wait()
        desk.hear("UA P", "I 0,0 P 34")
        assert desk.told() == ["down peer_reset", "up", "got 34"]

    def test_more_information_than_was_offered_breaks_the_link(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        desk.station.poll(desk.now)
        desk.hear("I 0,0 P " + "x" * 256)
        assert desk.told() == ["down frame_rejected"]

    def test_bounds(self, text: ModuleType) -> None:
        station = PrimaryStation(replace(PROFILE, max_queued_sdus=1, max_sdu_octets=10))
        with pytest.raises(SduError):
            station.send(bytes(11), 0.0)
        station.send(b"a", 0.0)
        with pytest.raises(SendQueueFull):
            station.send(b"b", 0.0)


class TestBusy:
    def test_a_busy_peer_is_asked_until_it_is_ready(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        send(desk, "a", "b")
        desk.hear("RNR 0 P")
        assert desk.look() == ["I 0,0 P a", "RR 0 P"]
        desk.hear("RNR 0 P")
        assert desk.look() == [], "no hurry now"
        desk.wait()
        assert desk.look() == ["RR 0 P"]
        desk.hear("RR 0 P")
        assert desk.look() == ["I 0,0 a", "I 1,0 P b"]

    def test_a_busy_owner_lets_the_peer_keep_its_frames(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        desk.station.set_busy(True, desk.now)
        send(desk, "mine")
        assert desk.look() == ["I 0,0 mine", "RNR 0 P"]
        desk.hear("I 0,1 P x")
        assert desk.told() == ["drop busy"]
        desk.hear("I 0,1 P x")
        desk.look()
        desk.wait()
        desk.station.set_busy(False, desk.now)
        desk.hear("I 0,1 P x")
        assert desk.told()[-1] == "got x"
        assert desk.look()[-1] == "RR 1 P"


class TestRecovery:
    def test_a_timeout_is_answered_by_asking_not_by_repeating(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        send(desk, "a")
        desk.look()
        desk.wait()
        desk.wait()
        assert desk.look() == ["RR 0 P"]

    @pytest.mark.parametrize(("nr", "sent"), [(0, ["I 0,0 P a"]), (1, ["RR 0 P"])])
    def test_the_answer_decides_what_is_sent_again(self, nr: int, sent: list[str], text: ModuleType) -> None:
        desk = wide(text, 7)
        send(desk, "a")
        desk.wait()
        desk.wait()
        desk.look()
        desk.hear(f"RR {nr} P")
        assert desk.look() == [], "a late answer to the first question may follow"
        assert desk.wait() == pytest.approx(PROFILE.settle_time_s)
        assert desk.look() == sent

    def test_late_answers_give_one_turn(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        send(desk, "a", "b")
        desk.wait()
        desk.wait()
        desk.look()
        desk.hear("I 0,1 P x")
        desk.now += PROFILE.settle_time_s / 2
        desk.hear("I 0,1 P x")
        assert desk.look() == []
        assert desk.wait() == pytest.approx(PROFILE.settle_time_s), "each octet begins the silence anew"
        assert desk.look() == ["I 1,1 P b"]
        assert desk.told() == ["got x", "drop sequence"]

    def test_after_as_many_attempts_as_allowed_the_link_is_given_up_and_made_again(self, text: ModuleType) -> None:
        desk = wide(text, 2)
        send(desk, "a", "b", "c", "d")
        desk.hear("RR 1 P")
        desk.look()
        for _ in range(5):
            desk.wait()
        assert desk.look() == ["RR 0 P"] * 2
        assert desk.told() == ["down no_answer unsent=4 uncertain=2,3"]
        desk.wait()
        assert desk.look() == ["SNRM P +"]
        assert desk.station.counters.resets == 1

    def test_an_answer_under_way_is_waited_for(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        desk.station.poll(desk.now)
        octets = text.octets("I 0,0 " + "x" * 100, "I 1,0 P y")
        for at in range(0, len(octets), 14):
            desk.now += PROFILE.octet_timeout_s * 0.9
            desk.station.handle_timer(desk.now)
            desk.station.receive_data(octets[at : at + 14], desk.now)
        assert desk.now - 100.0 > 2 * PROFILE.answer_timeout_s
        assert desk.station.counters.timeouts == 0
        assert desk.told() == ["got " + "x" * 100, "got y"]

    def test_noise_cannot_put_the_timeout_off_for_ever(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        desk.station.poll(desk.now)
        begin = desk.now
        while desk.station.counters.timeouts == 0:
            desk.now += 0.1
            desk.station.receive_data(b"\x00", desk.now)
            desk.station.handle_timer(desk.now)
            assert desk.now - begin < 10
        assert desk.now - begin < 2 * PROFILE.answer_timeout_s + 5 * PROFILE.answer_line_time_s(7)

    def test_the_timeout_allows_for_the_own_octets_and_for_a_window_of_the_peers(self, text: ModuleType) -> None:
        slow = replace(PROFILE, baud=300)
        desk = wide(text, 7, profile=slow)
        desk.now += 10.0
        send(desk, "x" * 100)
        expected_s = (100 + 11) * 10 / 300 + slow.answer_timeout_s + 7 * (255 + 19) * 10 / 300
        assert desk.wait() == pytest.approx(expected_s)

    def test_a_frame_behind_octets_that_look_like_one_is_found_when_the_line_is_silent(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        desk.station.poll(desk.now)
        desk.look()
        false_start = text.octets("I 0,0 " + "x" * 100)[:20]
        desk.station.receive_data(false_start + text.octets("I 0,0 P y"), desk.now)
        assert desk.told() == []
        desk.wait()
        assert desk.told() == ["drop truncated", "got y"]
        assert desk.look() == ["RR 1 P"]
        assert desk.station.counters.timeouts == 0


class TestPolling:
    def test_polls_get_slower_up_to_the_period(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        waits = []
        for _ in range(9):
            waits.append(round(desk.wait(), 3))
            desk.hear("RR 0 P")
        assert waits == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]

    def test_traffic_makes_them_fast_again(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        for _ in range(8):
            desk.wait()
            desk.hear("RR 0 P")
        desk.wait()
        desk.look()
        desk.hear("I 0,0 P x")
        assert desk.look() == ["RR 1 P"]
        desk.hear("RR 0 P")
        assert desk.wait() == pytest.approx(PROFILE.fast_poll_s)

    def test_the_owner_can_ask_at_any_time(self, text: ModuleType) -> None:
        desk = wide(text, 7)
        desk.station.poll(desk.now)
        assert desk.look() == ["RR 0 P"]
        desk.station.poll(desk.now)
        assert desk.look() == [], "one question at a time"
        desk.hear("RR 0 P")
        assert desk.look() == ["RR 0 P"], "a wish during a poll is not forgotten"

    def test_without_a_period_polling_ends_when_traffic_has(self, text: ModuleType) -> None:
        desk = wide(text, 7, profile=replace(PROFILE, poll_period_s=0))
        polls = 0
        while desk.station.next_deadline() is not None:
            desk.wait()
            desk.hear("RR 0 P")
            polls += 1
            assert polls < 20
        assert polls == 7
        send(desk, "a")
        assert desk.look()[-1] == "I 0,0 P a"

    def test_poll_makes_a_link(self, text: ModuleType) -> None:
        desk = text.Desk(PrimaryStation(PROFILE))
        desk.station.poll(desk.now)
        assert desk.look() == ["SNRM P +"]


class TestRelease:
    def test_disc_when_the_turn_is_back(self, text: ModuleType) -> None:
        desk = wide(text, 1)
        send(desk, "a", "b")
        desk.station.disconnect(desk.now)
        desk.look()
        desk.hear("RR 0 P")
        assert desk.look() == ["DISC P"]
        desk.hear("UA P")
        assert desk.told() == ["down released unsent=2 uncertain=1"]
        assert (desk.station.state, desk.station.next_deadline()) == (State.DISCONNECTED, None)

    def test_while_connecting(self, text: ModuleType) -> None:
        desk = connecting(text)
        desk.station.disconnect(desk.now)
        desk.look()
        desk.hear("UA P")
        assert desk.look() == ["DISC P"]
        desk.hear("UA P")
        assert desk.told() == ["up", "down released"]
        assert desk.station.next_deadline() is None

    def test_while_connecting_in_vain(self, text: ModuleType) -> None:
        desk = connecting(text, replace(PROFILE, max_attempts=1))
        desk.station.disconnect(desk.now)
        desk.wait()
        desk.wait()
        assert desk.told() == ["down no_answer"]
        assert (desk.station.state, desk.station.next_deadline()) == (State.DISCONNECTED, None)

    def test_while_resting_nothing_is_tried_again(self, text: ModuleType) -> None:
        desk = wide(text, 1)
        desk.hear("DM P")
        send(desk, "a")
        desk.station.disconnect(desk.now)
        assert desk.told() == ["down peer_reset", "down released unsent=1"]
        desk.wait()
        assert (desk.look(), desk.station.next_deadline()) == ([], None)

    def test_no_answer_to_disc_is_release_all_the_same(self, text: ModuleType) -> None:
        desk = wide(text, 1)
        desk.station.disconnect(desk.now)
        desk.wait()
        assert desk.told() == ["down released"]
        assert desk.station.counters.releases_unanswered == 1

    def test_connect_again(self, text: ModuleType) -> None:
        desk = wide(text, 1)
        desk.station.disconnect(desk.now)
        desk.hear("UA P")
        desk.look()
        desk.station.connect(desk.now)
        assert desk.look() == ["SNRM P +"]

    def test_connect_while_releasing_makes_the_link_again(self, text: ModuleType) -> None:
        desk = wide(text, 1)
        desk.station.disconnect(desk.now)
        desk.station.connect(desk.now)
        desk.look()
        desk.hear("UA P")
        assert desk.look() == ["SNRM P +"]


def test_pipe_lost_names_every_handle_and_waits_for_connect(text: ModuleType) -> None:
    desk = wide(text, 2)
    send(desk, "a", "b", "c", "d")
    desk.hear("RR 1 P")
    desk.station.pipe_lost(desk.now)
    assert desk.look() == []
    assert desk.told() == ["down pipe_lost unsent=4 uncertain=2,3"]
    assert (desk.station.state, desk.station.next_deadline()) == (State.DISCONNECTED, None)
    desk.station.connect(desk.now)
    assert desk.look() == ["SNRM P +"]


def test_timer_before_its_time_is_harmless(text: ModuleType) -> None:
    desk = wide(text, 7)
    desk.station.handle_timer(desk.now)
    assert desk.look() == []
    assert desk.station.state is State.READY


def test_addresses_of_several_octets() -> None:
    station = PrimaryStation(PROFILE, address=Address(17, 2), own_address=Address(16))
    station.connect(0.0)
    assert station.data_to_send(0.0)[3:6] == bytes.fromhex("00 23 21")
