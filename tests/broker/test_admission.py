"""The waiting room before CONNECT."""

from broker.admission import Admission


def test_the_oldest_of_the_same_address_gives_way() -> None:
    room: Admission[str] = Admission(2, 100, 10)
    assert room.enter("10.0.0.1", "a") is None
    assert room.enter("10.0.0.1", "b") is None
    assert room.enter("10.0.0.2", "c") is None
    assert room.enter("10.0.0.1", "d") == "a"
    assert len(room) == 3


def test_when_the_house_is_full_the_fullest_address_loses_its_oldest() -> None:
    room: Admission[str] = Admission(10, 3, 10)
    for name in "abc":
        room.enter("10.0.0.1", name)
    assert room.enter("10.0.0.2", "x") == "a"
    assert len(room) == 3


def test_leaving_is_harmless_twice_and_leaves_nothing() -> None:
    room: Admission[str] = Admission(2, 2, 10)
    room.enter("10.0.0.1", "a")
    room.leave("10.0.0.1", "a")
    room.leave("10.0.0.1", "a")
    assert len(room) == 0
    assert not room._waiting


def test_who_holds_most_gives_way_when_all_hold_too_much() -> None:
    room: Admission[str] = Admission(10, 10, 100)
    for number, name in enumerate("abc"):
        room.enter(f"10.0.0.{number}", name)
        assert room.hold(f"10.0.0.{number}", name, 30 + number) is None
    room.enter("10.0.0.1", "d")
    assert room.hold("10.0.0.1", "d", 7) is None
    assert room.hold("10.0.0.1", "d", 8) == "c"
    assert room.hold("10.0.0.2", "c", 90) is None, "it is no more among them"
    assert room.hold("10.0.0.1", "d", 37) is None
    assert room.hold("10.0.0.1", "d", 40) == "d"


def test_what_was_held_is_free_when_its_connection_leaves() -> None:
    room: Admission[str] = Admission(10, 10, 100)
    for name in "abc":
        room.enter("10.0.0.1", name)
        assert room.hold("10.0.0.1", name, 90) is None
        room.leave("10.0.0.1", name)
