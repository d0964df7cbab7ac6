"""The primary with a session per exchange against the Milli board's habits (dialect A.7 to A.9), answer by answer."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.primary_table import State
from meshwire.hdlc.profile import MILLI, LinkProfile

VECTORS = tomllib.loads((Path(__file__).parents[2] / "vectors" / "hdlc_milli.toml").read_text())["frame"]
HEX = {vector["meaning"]: vector["hex"] for vector in VECTORS}
QUIET = replace(MILLI, poll_period_s=0)
LINE = 9 * 10 / MILLI.baud
"""Line time of a frame without information."""


def desk_of(text: ModuleType, profile: LinkProfile = QUIET) -> Any:
    return text.Desk(PrimaryStation(profile))


def exchange(desk: Any, *answers: str) -> list[str]:
    """Answer each frame of the primary 0.45 s after it; return what was sent and not looked at before."""
    sent = desk.look()
    assert len(sent) <= 1, "one frame per turn"
    for answer in answers:
        desk.now += 0.45
        desk.hear(answer)
        frames = desk.look()
        assert len(frames) <= 1, "one frame per turn"
        sent += frames
    return sent


class TestTranscripts:
    """Dialect A.10, octet for octet."""

    def run(self, station: PrimaryStation, *script: tuple[str, str]) -> None:
        for question, answer in script:
            assert station.data_to_send(0.0).hex(" ") == HEX[question]
            station.receive_data(bytes.fromhex(HEX[answer]), 0.0)
        assert station.data_to_send(0.0) == b""

    def test_boot(self) -> None:
        station = PrimaryStation(QUIET)
        station.poll(0.0)
        self.run(
            station,
            ("SNRM, no parameters", "UA to SNRM, 255/255/1/1"),
            ("RR N(R)=0", "reboot message, N(S)=0: NON PUT /sys/snsr?ev=rbt"),
            ("DISC", "UA to DISC"),
        )

    def test_get(self, text: ModuleType) -> None:
        station = PrimaryStation(QUIET)
        station.send(bytes.fromhex(HEX["CON GET /arduino/temp?sens, MID 1234, token aabb"])[8:-3], 0.0)
        self.run(
            station,
            ("SNRM, no parameters", "UA to SNRM, 255/255/1/1"),
            ("CON GET /arduino/temp?sens, MID 1234, token aabb", "its answer, 2.05 with a CBOR record"),
            ("DISC", "UA to DISC"),
        )

    def test_observe(self) -> None:
        station = PrimaryStation(QUIET)
        station.send(bytes.fromhex(HEX["observe registration, CON, MID 0100, token c0de"])[8:-3], 0.0)
        self.run(
            station,
            ("SNRM, no parameters", "UA to SNRM, 255/255/1/1"),
            ("observe registration, CON, MID 0100, token c0de", "its answer, 2.03 with Observe"),
            ("DISC", "UA to DISC"),
        )
        station.poll(0.0)
        self.run(
            station,
            ("SNRM, no parameters", "UA to SNRM, 255/255/1/1"),
            ("RR N(R)=0", "notification, NON 2.05 with Max-Age 90"),
            ("DISC", "UA to DISC"),
        )


class TestRequest:
    def test_snrm_i_disc(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"get", desk.now)
        assert exchange(desk, "UA P +", "I 0,1 P content", "UA P") == ["SNRM P", "I 0,0 P get", "DISC P"]
        assert desk.told() == ["up", "got content", "down released"]
        assert (desk.station.state, desk.station.next_deadline()) == (State.DISCONNECTED, None)

    @pytest.mark.parametrize("answer", ["I 0,1 P", "RR 1 P", "RR 0 P"])
    def test_an_answer_without_information_carries_no_sdu(self, answer: str, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"ack", desk.now)
        assert exchange(desk, "UA P +", answer, "UA P")[-1] == "DISC P"
        assert desk.told() == ["up", "down released"]

    @pytest.mark.parametrize("numbers", ["0,1", "3,1", "0,0", "7,6", "1,2"])
    def test_numbers_of_the_board_are_not_judged(self, numbers: str, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"get", desk.now)
        exchange(desk, "UA P +", f"I {numbers} P content", "UA P")
        assert desk.told() == ["up", "got content", "down released"]

    def test_an_answer_without_f_ends_the_turn_too(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"get", desk.now)
        assert exchange(desk, "UA P +", "I 0,1 content", "UA P")[-1] == "DISC P"

    def test_each_sdu_has_its_own_session(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"1", desk.now)
        desk.station.send(b"2", desk.now)
        sent = exchange(desk, "UA P +", "I 0,1 P a", "UA P", "UA P +", "I 0,1 P b", "UA P")
        assert sent == ["SNRM P", "I 0,0 P 1", "DISC P", "SNRM P", "I 0,0 P 2", "DISC P"]
        assert desk.told() == ["up", "got a", "down released", "up", "got b", "down released"]

    def test_an_i_frame_is_never_repeated(self, text: ModuleType) -> None:
        """The board would execute it again (dialect A.8, quirk 2)."""
        desk = desk_of(text)
        desk.station.send(b"put", desk.now)
        desk.station.send(b"later", desk.now)
        exchange(desk, "UA P +")
        assert desk.wait() >= 1.0
        assert desk.told() == ["up", "down no_answer unsent=2 uncertain=1"]
        assert desk.look() == [], "no DISC either: it would destroy a message that waits in the board"
        desk.wait()
        assert (desk.look(), desk.station.state) == ([], State.DISCONNECTED)

    def test_dm_means_that_the_board_did_not_execute_it(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"put", desk.now)
        desk.station.send(b"later", desk.now)
        exchange(desk, "UA P +", "DM P")
        assert desk.told() == ["up", "down peer_reset unsent=1,2"]

    def test_after_a_failure_the_line_is_quiet_before_the_next_session(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"put", desk.now)
        exchange(desk, "UA P +")
        desk.wait()
        desk.station.send(b"next", desk.now)
        assert desk.look() == []
        assert desk.wait() > 0.4
        assert desk.look() == ["SNRM P"]

    def test_an_answer_that_comes_after_the_verdict_is_dropped(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"put", desk.now)
        exchange(desk, "UA P +")
        desk.wait()
        desk.told()
        desk.hear("I 0,1 P late")
        assert desk.told() == ["drop unexpected"]

    def test_an_answer_may_begin_late(self, text: ModuleType) -> None:
        """450 ms, and up to 250 ms more while the board reads its sensor (dialect A.7)."""
        desk = desk_of(text)
        desk.station.send(b"get", desk.now)
        exchange(desk, "UA P +")
        desk.now += 0.75
        desk.station.handle_timer(desk.now)
        desk.hear("I 0,1 P content")
        assert "got content" in desk.told()

    def test_an_sdu_longer_than_this_board_takes_is_named(self, text: ModuleType) -> None:
        """Firmware 1.2.4 takes 128 octets (dialect A.5)."""
        desk = desk_of(text)
        desk.station.send(b"x" * 129, desk.now)
        desk.station.send(b"short", desk.now)
        sent = exchange(desk, "UA P", "UA P", "UA P", "I 0,1 P a", "UA P")
        assert sent == ["SNRM P", "DISC P", "SNRM P", "I 0,0 P short", "DISC P"]
        assert desk.told() == ["up", "down sdu_too_long unsent=1", "up", "got a", "down released"]


class TestPoll:
    def test_snrm_rr_disc(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.poll(desk.now)
        assert exchange(desk, "UA P +", "I 0,0 P note", "UA P") == ["SNRM P", "RR 0 P", "DISC P"]
        assert desk.told() == ["up", "got note", "down released"]

    def test_nothing_to_fetch(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.poll(desk.now)
        assert exchange(desk, "UA P +", "RR 0 P", "UA P") == ["SNRM P", "RR 0 P", "DISC P"]
        assert desk.told() == ["up", "down released"]

    def test_never_again_after_a_message(self, text: ModuleType) -> None:
        """The board would send the same one on every RR until DISC (dialect A.8, quirk 5)."""
        desk = desk_of(text)
        desk.station.poll(desk.now)
        exchange(desk, "UA P +")
        desk.station.poll(desk.now)  # the wake line again
        sent = exchange(desk, "I 0,0 P note", "UA P", "UA P +", "RR 0 P", "UA P")
        assert sent == ["DISC P", "SNRM P", "RR 0 P", "DISC P"]

    def test_a_wake_pulse_while_nothing_was_fetched_is_heeded_before_disc(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.poll(desk.now)
        exchange(desk, "UA P +")
        desk.station.poll(desk.now)
        assert exchange(desk, "RR 0 P", "I 0,0 P note", "UA P") == ["RR 0 P", "DISC P"]

    def test_rr_is_repeated_after_silence_only(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.poll(desk.now)
        exchange(desk, "UA P +")
        assert desk.wait() >= 1.0
        assert desk.wait() > 0.4
        assert exchange(desk, "I 0,0 P note", "UA P") == ["RR 0 P", "DISC P"]
        assert desk.told() == ["up", "got note", "down released"]

    def test_given_up_in_the_end(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.poll(desk.now)
        exchange(desk, "UA P +")
        for _ in range(2 * MILLI.max_attempts - 1):
            desk.wait()
        assert desk.look() == ["RR 0 P"] * (MILLI.max_attempts - 1)
        assert desk.told() == ["up", "down no_answer"]

    def test_a_request_and_a_poll_share_a_session(self, text: ModuleType) -> None:
        """DISC would destroy the message for which the wake line was pulled (dialect A.8)."""
        desk = desk_of(text)
        desk.station.send(b"get", desk.now)
        exchange(desk, "UA P +")
        desk.station.poll(desk.now)
        sent = exchange(desk, "I 0,1 P content", "I 1,1 P note", "UA P")
        assert sent == ["RR 1 P", "DISC P"]
        assert desk.told() == ["up", "got content", "got note", "down released"]

    def test_a_profile_may_ask_in_every_session(self, text: ModuleType) -> None:
        desk = desk_of(text, replace(QUIET, fetch_before_release=True))
        desk.station.send(b"get", desk.now)
        sent = exchange(desk, "UA P +", "I 0,1 P content", "RR 1 P", "UA P")
        assert sent == ["SNRM P", "I 0,0 P get", "RR 1 P", "DISC P"]

    def test_connect_asks_at_once_and_then_once_per_period(self, text: ModuleType) -> None:
        desk = desk_of(text, replace(MILLI, poll_period_s=7.0))
        desk.station.connect(desk.now)
        for _ in range(3):
            assert exchange(desk, "UA P +", "RR 0 P", "UA P") == ["SNRM P", "RR 0 P", "DISC P"]
            assert desk.wait() == pytest.approx(7.0)

    def test_the_period_goes_on_after_a_failure(self, text: ModuleType) -> None:
        desk = desk_of(text, replace(MILLI, poll_period_s=7.0, max_attempts=1))
        desk.station.connect(desk.now)
        desk.wait()
        assert desk.told() == ["down no_answer"]
        desk.wait()
        desk.look()
        assert desk.wait() == pytest.approx(7.0)
        assert desk.look() == ["SNRM P"]

    def test_disconnect_ends_the_period(self, text: ModuleType) -> None:
        desk = desk_of(text, replace(MILLI, poll_period_s=7.0))
        desk.station.connect(desk.now)
        exchange(desk, "UA P +", "RR 0 P", "UA P")
        desk.station.disconnect(desk.now)
        assert desk.station.next_deadline() is None


class TestOpening:
    def test_a_board_that_is_booting_is_asked_with_quiet_times_between(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"get", desk.now)
        gaps = []
        for _ in range(2 * MILLI.max_attempts - 1):
            gaps.append(desk.wait())
        assert desk.look() == ["SNRM P"] * MILLI.max_attempts
        assert all(gap > 0.4 for gap in gaps)
        assert gaps[0] == pytest.approx(LINE + MILLI.answer_timeout_s + MILLI.answer_line_time_s(1))
        assert desk.told() == ["down no_answer unsent=1"]

    def test_sixteen_seconds_of_boot_are_met_by_later_attempts(self, text: ModuleType) -> None:
        """Dialect A.1: the sketch may wait 16 s for a USB monitor before it serves its UART."""
        desk = desk_of(text, replace(MILLI, poll_period_s=2.0))
        begin = desk.now
        desk.station.connect(desk.now)
        while desk.now - begin < 16.0:
            desk.wait()
        while not (sent := desk.look())[-1:]:
            desk.wait()
        assert sent[-1] == "SNRM P"
        while desk.station.state is not State.CONNECTING:
            desk.wait()
        desk.look()
        desk.hear("UA P +")
        assert exchange(desk, "I 0,0 P rebooted", "UA P") == ["RR 0 P", "DISC P"]
        assert desk.now - begin < 25.0

    def test_dm_to_snrm_is_a_refusal(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"get", desk.now)
        desk.hear("DM P")
        assert desk.told() == ["down refused unsent=1"]


class TestRelease:
    def test_no_answer_to_disc_is_release_all_the_same_but_quiet_follows(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"1", desk.now)
        desk.station.send(b"2", desk.now)
        exchange(desk, "UA P +", "I 0,1 P a")
        desk.wait()
        assert desk.told() == ["up", "got a", "down released"]
        assert desk.station.counters.releases_unanswered == 1
        assert desk.look() == []
        assert desk.wait() > 0.4
        assert desk.look() == ["SNRM P"]

    def test_dm_to_disc_is_release(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.poll(desk.now)
        exchange(desk, "UA P +", "RR 0 P", "DM P")
        assert desk.told() == ["up", "down released"]

    def test_disconnect_lets_the_request_on_the_line_finish(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"1", desk.now)
        desk.station.send(b"2", desk.now)
        exchange(desk, "UA P +")
        desk.station.disconnect(desk.now)
        assert exchange(desk, "I 0,1 P a", "UA P") == ["DISC P"]
        assert desk.told() == ["up", "got a", "down released unsent=2"]

    def test_disconnect_while_connecting_begins_no_request(self, text: ModuleType) -> None:
        desk = desk_of(text)
        desk.station.send(b"1", desk.now)
        desk.station.disconnect(desk.now)
        assert exchange(desk, "UA P +", "UA P") == ["SNRM P", "DISC P"]
        assert desk.told() == ["up", "down released unsent=1"]


def test_pipe_lost_tells_executed_perhaps_from_surely_not(text: ModuleType) -> None:
    desk = desk_of(text)
    desk.station.send(b"1", desk.now)
    desk.station.send(b"2", desk.now)
    exchange(desk, "UA P +")
    desk.station.pipe_lost(desk.now)
    assert desk.told() == ["up", "down pipe_lost unsent=2 uncertain=1"]


def test_one_frame_a_turn_even_when_everything_is_wanted_at_once(text: ModuleType) -> None:
    desk = desk_of(text)
    for n in range(5):
        desk.station.send(bytes((65 + n,)), desk.now)
        desk.station.poll(desk.now)
    for _ in range(5):
        exchange(desk, "UA P +", "I 0,1 P a")
        if desk.station.state is State.FETCHING:
            exchange(desk, "RR 0 P")
        exchange(desk, "UA P")
    assert desk.station.queued == 0 and desk.look() == []
