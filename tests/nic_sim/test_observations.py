"""The observe manager's decisions, on a made-up clock."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from nic_sim.observation import TRANSITIONS, Delivery, Input, LossReason, Observation, State, Verdict
from nic_sim.observations import ObservationTable, Register, SetTime, Unregister

TEMP = ("snsr/arduino/temp", "sens")
ECHO = ("snsr/arduino/echo", "sens")


def table(**options: Any) -> ObservationTable:
    values: dict[str, Any] = {"time_sync_s": 3600.0, "board_wide_sequence": True, "chance": random.Random(1)}
    return ObservationTable(**(values | options))


def with_items(*keys: tuple[str, str], configured: bool = True, **options: Any) -> tuple[Any, ...]:
    made = table(**options)
    items = [
        made.add(Observation(path, query, made.new_token(), Delivery.MQTT, configured=configured))
        for path, query in keys
    ]
    return (made, *items)


def established(*keys: tuple[str, str], at: float = 0.0, **options: Any) -> tuple[Any, ...]:
    made, *items = with_items(*keys, **options)
    made.board_reached()
    made.time_set(at)
    for sequence, item in enumerate(items, 3):
        made.registered(item, at, sequence, None)
    return (made, *items)


def test_every_state_has_every_input() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, Input))


def test_laws_of_the_transitions() -> None:
    for (state, what), after in TRANSITIONS.items():
        if what is Input.NOTIFIED:
            assert after is state, "a notification is no registration"
        if what is Input.CANCEL:
            assert after is State.CANCELLED
        if state is State.CANCELLED and what is not Input.RENEW:
            assert after is State.CANCELLED, "only a person brings it back"
        if after is State.ACTIVE:
            assert what in (Input.REGISTERED, Input.NOTIFIED, Input.ENDED) or state is State.ACTIVE


def test_nothing_is_done_before_the_board_is_reached() -> None:
    made, _ = with_items(TEMP)
    assert made.next_action(0.0) is None
    assert made.board_reached() is True
    assert made.board_reached() is False
    assert made.next_action(0.0) == SetTime()


def test_time_first_then_observes_in_order() -> None:
    made, temp, echo = with_items(TEMP, ECHO)
    made.board_reached()
    assert made.next_action(0.0) == SetTime()
    made.time_failed(0.0)
    assert made.next_action(0.5) is None, "not observed while the clock is wrong"
    assert made.next_deadline() == 1.0
    assert made.next_action(1.0) == SetTime()
    made.time_set(1.0)
    assert made.next_action(1.0) == Register(temp)
    made.registered(temp, 1.1, 3, None)
    assert made.next_action(1.1) == Register(echo)
    made.registered(echo, 1.2, 4, None)
    assert made.next_action(1.2) is None


def test_without_time_sync_observes_come_at_once() -> None:
    made, temp = with_items(TEMP, time_sync_s=0.0)
    made.board_reached()
    assert made.next_action(0.0) == Register(temp)


def test_clock_is_set_hourly_but_holds_up_nothing() -> None:
    made, temp = established(TEMP, at=0.0)
    made.notified(temp.token, 3599.0, 9, 90.0, success=True)
    assert made.next_action(3599.0) is None
    made.renew(temp, 3600.0)
    assert made.next_action(3600.0) == Register(temp)
    made.registered(temp, 3600.0, 10, None)
    assert made.next_action(3600.0) == SetTime()


@pytest.mark.parametrize("max_age_s", [None, 90.0, 600.0])
def test_expiry_waits_for_max_age_and_5_to_15_seconds_more(max_age_s: float | None) -> None:
    waits = set()
    for seed in range(50):
        made, temp = established(TEMP, chance=random.Random(seed))
        made.notified(temp.token, 10.0, 9, max_age_s, success=True)
        wait_s = temp.due_s - 10.0 - (60.0 if max_age_s is None else max_age_s)
        assert 5.0 <= wait_s <= 15.0
        waits.add(round(wait_s, 3))
        assert made.next_action(temp.due_s - 0.001) is None
        assert temp.state is State.ACTIVE
        assert made.next_action(temp.due_s) == Register(temp)
        assert temp.last_loss is LossReason.EXPIRED
    assert len(waits) > 40


def test_board_that_reports_rarely_is_registered_less_and_less_often() -> None:
    made, temp = established(TEMP, time_sync_s=0.0)
    waits = []
    now, sequence = 0.0, 3
    for _ in range(8):
        waits.append(temp.due_s - now)
        now = temp.due_s
        assert made.next_action(now) == Register(temp)
        sequence += 1
        made.registered(temp, now, sequence, None)
    assert all(later >= 1.5 * sooner for sooner, later in itertools.pairwise(waits[:6]))
    assert max(waits) <= 3600 + 15
    # … until it reports: then its own pace counts.
    made.notified(temp.token, now + 300.0, sequence + 1, 90.0, success=True)
    made.notified(temp.token, now + 600.0, sequence + 2, 90.0, success=True)
    assert 450 + 5 <= temp.due_s - (now + 600.0) <= 450 + 15


def test_freshness_duplicates_and_the_128_second_rule() -> None:
    made, temp = established(TEMP, at=0.0)
    say = [
        (1.0, 4, Verdict.FRESH),
        (2.0, 4, Verdict.DUPLICATE),
        (3.0, 3, Verdict.STALE),
        (4.0, 0x800003, Verdict.FRESH),
        (5.0, 0x800004, Verdict.FRESH),
        (6.0, 0xFFFFFF, Verdict.FRESH),
        (7.0, 2, Verdict.FRESH),
        (8.0, 0xFFFFFF, Verdict.STALE),
        (7.0 + 128.0, 2, Verdict.DUPLICATE),
        (7.0 + 128.1, 2, Verdict.FRESH),
        (140.0, 1, Verdict.STALE),
    ]
    for now, sequence, verdict in say:
        assert made.notified(temp.token, now, sequence, None, success=True) == (verdict, temp)
    assert (temp.notifications, temp.duplicates, temp.stale) == (6, 2, 3)
    assert made.notified(b"none", 141.0, 5, None, success=True) == (Verdict.UNKNOWN, None)


@pytest.mark.parametrize(
    ("sequence", "success", "reason"),
    [(5, False, LossReason.ERROR_NOTIFICATION), (None, True, LossReason.NO_OBSERVE_OPTION)],
)
def test_notification_that_ends_the_registration(sequence: int | None, success: bool, reason: LossReason) -> None:
    made, temp = established(TEMP)
    assert made.notified(temp.token, 1.0, sequence, None, success=success) == (Verdict.ENDED, temp)
    assert (temp.state, temp.last_loss) == (State.WAITING, reason)
    assert 6.0 <= temp.due_s <= 16.0
    assert made.next_action(temp.due_s) == Register(temp)


def test_reboot_loses_everything_and_begins_with_the_clock() -> None:
    made, temp, echo = established(TEMP, ECHO)
    epochs = temp.epoch, echo.epoch
    made.board_rebooted(5.0)
    assert (temp.state, echo.state) == (State.WAITING, State.WAITING)
    assert temp.last_loss is LossReason.REBOOT and temp.losses == {LossReason.REBOOT: 1}
    assert made.next_action(5.0) == SetTime()
    made.time_set(5.0)
    assert made.next_action(5.0) == Register(temp)
    made.registered(temp, 5.0, 3, None)
    made.registered(echo, 5.0, 4, None)
    assert (temp.epoch, echo.epoch) == (epochs[0] + 1, epochs[1] + 1)
    # The board's numbers begin anew; the first notification after that is fresh although 4 was seen before.
    assert made.notified(temp.token, 6.0, 5, None, success=True)[0] is Verdict.FRESH


def test_link_loss_waits_for_the_link() -> None:
    made, temp = established(TEMP)
    assert made.board_lost(1.0, "no_answer") is True
    assert made.board_lost(1.1, "no_answer") is False
    assert (temp.state, temp.last_loss, temp.last_detail) == (State.WAITING, LossReason.LINK_LOST, "no_answer")
    assert made.next_action(100.0) is None
    made.board_reached()
    assert made.next_action(100.0) == SetTime()


def test_refused_is_asked_again_after_a_minute() -> None:
    made, temp = with_items(TEMP, time_sync_s=0.0)
    made.board_reached()
    made.refused(temp, 0.0, LossReason.ERROR_RESPONSE, "4.04")
    assert temp.state is State.REFUSED
    assert made.next_action(59.0) is None
    assert made.next_action(60.0) == Register(temp)
    made.registered(temp, 60.0, 3, None)
    assert temp.state is State.ACTIVE


def test_no_answer_backs_off_to_half_a_minute() -> None:
    made, temp = with_items(TEMP, time_sync_s=0.0)
    made.board_reached()
    now, waits = 0.0, []
    for _ in range(8):
        assert made.next_action(now) == Register(temp)
        made.registration_failed(temp, now, "no answer")
        waits.append(temp.due_s - now)
        now = temp.due_s
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert temp.losses[LossReason.NO_ANSWER] == 8


def test_cancel_takes_the_registration_back_and_renew_brings_it_again() -> None:
    made, temp = established(TEMP)
    made.cancel(temp, 1.0)
    assert made.next_action(1.0) == Unregister(temp)
    made.unregistered(temp)
    assert made.next_action(1e6) == SetTime()
    made.time_set(1e6)
    assert made.next_action(1e6) is None
    assert made.all() == [temp]
    made.renew(temp, 1e6)
    assert made.next_action(1e6) == Register(temp)


def test_unconfigured_goes_when_its_end_was_told_or_the_board_forgot_it() -> None:
    made, temp, echo = established(TEMP, ECHO, configured=False)
    made.cancel(temp, 1.0)
    assert made.next_action(1.0) == Unregister(temp)
    made.unregistered(temp)
    assert made.find(TEMP) is None and made.notified(temp.token, 1.0, 9, None, success=True)[0] is Verdict.UNKNOWN
    made.cancel(echo, 1.0)
    made.board_rebooted(2.0)
    assert made.all() == []


def test_number_that_went_back_betrays_a_reset_that_was_not_told() -> None:
    made, temp, echo = established(TEMP, ECHO, time_sync_s=3600.0)
    made.notified(temp.token, 20.0, 40, None, success=True)
    made.notified(echo.token, 30.0, 41, None, success=True)
    now = temp.due_s
    assert made.next_action(now) == Register(temp)
    made.registered(temp, now, 3, None)
    assert temp.state is State.ACTIVE and echo.state is State.WAITING
    assert echo.last_loss is LossReason.UNNOTICED_REBOOT
    assert made.next_action(now) == SetTime()


def test_number_that_went_on_betrays_nothing() -> None:
    made, temp, echo = established(TEMP, ECHO)
    made.notified(echo.token, 30.0, 41, None, success=True)
    made.next_action(temp.due_s)
    made.registered(temp, temp.due_s, 42, None)
    assert echo.state is State.ACTIVE


def test_reading_that_waited_in_the_slot_is_news_after_a_registration_without_representation() -> None:
    made, temp = established(TEMP, at=0.0)
    made.notified(temp.token, 10.0, 7, None, success=True)
    made.board_lost(11.0, "no_answer")
    made.registered(temp, 20.0, 9, None)
    assert made.notified(temp.token, 21.0, 7, None, success=True)[0] is Verdict.DUPLICATE
    assert made.notified(temp.token, 21.0, 8, None, success=True)[0] is Verdict.FRESH
    # With a representation it is the other way round: 8 is older than what the registration brought.
    made.registered(temp, 30.0, 12, None, represented=True)
    assert made.notified(temp.token, 31.0, 11, None, success=True)[0] is Verdict.STALE
    assert temp.notifications == 3


def test_notification_before_the_first_registration_teaches_no_pace() -> None:
    made, temp = with_items(TEMP)
    made.notified(temp.token, 100_000.0, 7, None, success=True)
    made.registered(temp, 100_001.0, 8, None)
    assert temp.due_s <= 100_001.0 + 60 + 15


def test_add_twice_keeps_the_first() -> None:
    made, temp = with_items(TEMP, configured=False)
    again = made.add(Observation(*TEMP, made.new_token(), Delivery.BOTH))
    assert again is temp and temp.configured and temp.delivery is Delivery.BOTH


def test_row_shows_what_ob07_asks_for() -> None:
    made, temp = established(TEMP, at=10.0)
    made.notified(temp.token, 20.0, 9, 90.0, success=True)
    (row,) = made.rows(25.0)
    assert (row.state, row.age_s, row.last_sequence, row.notifications) == (State.ACTIVE, 15.0, 9, 1)
    assert row.last_notification_age_s == 5.0
    assert row.next_refresh_s is not None and 90 <= row.next_refresh_s <= 100
    made.cancel(temp, 25.0)
    assert made.rows(25.0)[0].next_refresh_s is None


def test_random_histories_keep_the_laws() -> None:
    """Whatever happens: epochs only grow, tokens stay, and a configured Observation never disappears."""
    for seed in range(200):
        chance = random.Random(seed)
        made, temp, echo = with_items(TEMP, ECHO, chance=random.Random(seed))
        tokens, now = (temp.token, echo.token), 0.0
        epochs = {id(temp): 0, id(echo): 0}
        for _ in range(100):
            now += chance.choice([0.0, 0.5, 30.0, 200.0])
            item = chance.choice([temp, echo])
            match chance.randrange(9):
                case 0:
                    made.board_reached()
                case 1:
                    made.board_lost(now, "x")
                case 2:
                    made.board_rebooted(now)
                case 3:
                    made.notified(item.token, now, chance.randrange(1 << 24), 90.0, success=chance.random() < 0.9)
                case 4:
                    made.cancel(item, now)
                case 5:
                    made.renew(item, now)
                case _:
                    _carry_out(made, now, chance)
            deadline = made.next_deadline()
            assert made.next_action(now) is not None or not made.reached or deadline is None or deadline > now
            for each in (temp, echo):
                assert each.epoch >= epochs[id(each)]
                epochs[id(each)] = each.epoch
        assert made.all() == [temp, echo] and (temp.token, echo.token) == tokens


def _carry_out(made: ObservationTable, now: float, chance: random.Random) -> None:
    match made.next_action(now):
        case SetTime():
            made.time_set(now) if chance.random() < 0.7 else made.time_failed(now)
        case Register(item):
            match chance.randrange(3):
                case 0:
                    made.registered(item, now, chance.randrange(1 << 24), None)
                case 1:
                    made.refused(item, now, LossReason.ERROR_RESPONSE, "")
                case _:
                    made.registration_failed(item, now, "")
        case Unregister(item):
            made.unregistered(item)
        case None:
            pass
