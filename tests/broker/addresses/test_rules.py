"""The rules of addresses as tables: types, bounds, lives, overlaps, whose turn it is, what senders are told."""

import pytest
from pydantic import ValidationError

from broker.addresses.address import Address, AddressType, clamp_ttl, intersect
from broker.addresses.choice import choose
from broker.addresses.outcome import ANSWERS, Outcome
from meshwire.mqtt import ReasonCode

TYPES = [
    # type, stored, competing
    (AddressType.QUEUE, True, True),
    (AddressType.TOPIC, True, False),
    (AddressType.ANYCAST, False, True),
    (AddressType.MULTICAST, False, False),
]


@pytest.mark.parametrize(("kind", "stored", "competing"), TYPES)
def test_the_four_types(kind: AddressType, stored: bool, competing: bool) -> None:
    assert (kind.is_stored, kind.is_competing) == (stored, competing)


LIVES = [
    # asked, least, most, granted (seconds)
    (None, None, None, None),
    (None, 5, None, None),
    (None, None, 60, 60),
    (10, None, None, 10),
    (10, 20, None, 20),
    (10, None, 60, 10),
    (100, 5, 60, 60),
    (1, 5, 60, 5),
    (0, None, None, 0),
    (30, 30, 30, 30),
]


@pytest.mark.parametrize(("asked", "least", "most", "granted"), LIVES)
def test_a_life_is_clamped(asked: float | None, least: float | None, most: float | None, granted: float | None) -> None:
    assert clamp_ttl(asked, least, most) == granted


OVERLAPS = [
    ("a/b", "a/b", True),
    ("a/b", "a/c", False),
    ("a/+", "a/b", True),
    ("a/#", "a/b/c", True),
    ("a/#", "a", True),
    ("a/b", "a", False),
    ("a/+", "+/b", True),
    ("a/+/c", "a/b/d", False),
    ("a/b/#", "a/+", True),
    ("a/b/#", "a/c/#", False),
    ("#", "a", True),
]


@pytest.mark.parametrize(("one", "other", "both"), OVERLAPS)
def test_filters_that_share_a_topic(one: str, other: str, both: bool) -> None:
    assert intersect(one, other) is both
    assert intersect(other, one) is both


TURNS = [
    # loads, turn, chosen
    ([], 0, None),
    ([None, None], 3, None),
    ([0, 0, 0], 0, 0),
    ([0, 0, 0], 1, 1),
    ([0, 0, 0], 5, 2),
    ([5, 2, 7], 0, 1),
    ([None, 2, 2], 0, 1),
    ([2, None, 2], 1, 2),
    ([1, 0, 0], 3, 1),
]


@pytest.mark.parametrize(("loads", "turn", "chosen"), TURNS)
def test_whose_turn_it_is(loads: list[int | None], turn: int, chosen: int | None) -> None:
    assert choose(loads, turn) == chosen


def test_every_outcome_has_its_answer() -> None:
    assert set(ANSWERS) == set(Outcome)
    for outcome, (reason, words, in_v3) in ANSWERS.items():
        succeeded = outcome in (Outcome.STORED, Outcome.TAKEN)
        assert (reason is ReasonCode.SUCCESS) is succeeded is in_v3 is not bool(words)


WRONG = [
    {"name": ""},
    {"name": "a+"},
    {"name": " a"},
    {"tenant": "a/b"},
    {"tenant": "a.b"},
    {"filter": "read/#/x"},
    {"min_ttl_s": 10, "max_ttl_s": 5},
    {"max_ttl_s": 0},
    {"dead_letter": "orders"},
    {"max_waiting": 5},
    {"type": "anycast", "max_messages": 5},
    {"type": "topic", "dead_letter": "x"},
    {"type": "multicast", "max_deliveries": 2},
    {"type": "stream"},
    {"colour": "red"},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_what_an_address_may_not_be(change: dict[str, object]) -> None:
    fields = {"tenant": "acme", "name": "orders", "type": "queue"}
    Address.model_validate(fields)
    with pytest.raises(ValidationError):
        Address.model_validate(fields | change)


def test_where_an_address_is() -> None:
    plain = Address(tenant="acme", name="orders", type=AddressType.QUEUE)
    assert (plain.topic_filter, plain.topic) == ("acme/address/orders", "acme/address/orders")
    wide = Address(tenant="acme", name="telemetry", type=AddressType.ANYCAST, filter="read/#")
    assert (wide.topic_filter, wide.topic) == ("acme/read/#", None)
