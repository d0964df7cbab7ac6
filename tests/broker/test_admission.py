"""The waiting room before CONNECT."""

from broker.admission import Admission


def test_the_oldest_of_the_same_address_gives_way() -> None:
    room: Admission[str] = Admission(2, 100)
    assert room.enter("10.0.0.1", "a") is None
    assert room.enter("10.0.0.1", "b") is None
    assert room.enter("10.0.0.2", "c") is None
    assert room.enter("10.0.0.1", "d") == "a"
    assert len(room) == 3


def test_when_the_house_is_full_the_fullest_address_loses_its_oldest() -> None:
    room: Admission[str] = Admission(10, 3)
    for name in "abc":
        room.enter("10.0.0.1", name)
    assert room.enter("10.0.0.2", "x") == "a"
    assert len(room) == 3


def test_leaving_is_harmless_twice_and_leaves_nothing() -> None:
    room: Admission[str] = Admission(2, 2)
    room.enter("10.0.0.1", "a")
    room.leave("10.0.0.1", "a")
    room.leave("10.0.0.1", "a")
    assert len(room) == 0
    assert not room._waiting
