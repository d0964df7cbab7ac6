"""Retained messages: newest by topic, cleared by an empty payload, found by filter, bounded."""

import random

import pytest

from broker.message import Message
from broker.retained import RetainedMessages
from meshwire.topics import TopicFilter


def store_of(*topics: str) -> RetainedMessages:
    store = RetainedMessages(1_000, 100_000)
    for topic in topics:
        assert store.store(Message(topic, b"x", retain=True))
    return store


def found(store: RetainedMessages, text: str) -> set[str]:
    return {message.topic for message in store.matching(text.split("/"))}


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("a", {"a"}),
        ("a/#", {"a", "a/b", "a/b/c"}),
        ("a/+", {"a/b"}),
        ("+/b", {"a/b"}),
        ("#", {"a", "a/b", "a/b/c", "/x"}),
        ("+", {"a"}),
        ("+/x", {"/x"}),
        ("$SYS/#", {"$SYS/b"}),
        ("$SYS/+", {"$SYS/b"}),
        ("a/b/c/#", {"a/b/c"}),
        ("nothing/#", set()),
    ],
)
def test_found_by_filter(text: str, topics: set[str]) -> None:
    assert found(store_of("a", "a/b", "a/b/c", "/x", "$SYS/b"), text) == topics


def test_agrees_with_the_filter_rule() -> None:
    randomness = random.Random(3)
    topics = {"/".join(randomness.choices(["a", "b", "", "$x"], k=randomness.randint(1, 4))) or "a" for _ in range(80)}
    store = store_of(*topics)
    for _ in range(300):
        levels = randomness.choices(["a", "b", "", "+", "$x"], k=randomness.randint(1, 4))
        text = "/".join(levels) + randomness.choice(["", "/#"]) or "#"
        assert found(store, text) == {topic for topic in topics if TopicFilter.parse(text).matches(topic)}, text


def test_the_newest_message_stays_and_an_empty_one_clears() -> None:
    store = store_of("a/b", "a/b/c")
    assert store.store(Message("a/b", b"new", retain=True))
    assert [message.payload for message in store.matching(["a", "b"])] == [b"new"]
    assert len(store) == 2
    assert store.store(Message("a/b", b"", retain=True))
    assert found(store, "#") == {"a/b/c"}
    store.clear("a/b/c")
    store.clear("a/b/c")
    store.clear("never/was")
    assert (len(store), store.octets) == (0, 0)
    assert not store._root.children


def test_bounds_hold_and_a_known_topic_may_still_change() -> None:
    store = RetainedMessages(2, 1_000)
    assert store.store(Message("a", b"1"))
    assert store.store(Message("b", b"1"))
    assert not store.store(Message("c", b"1"))
    assert store.store(Message("a", b"22"))
    assert not store.store(Message("a", b"x" * 1_000))
    assert [message.payload for message in store.matching(["a"])] == [b"22"]
    assert store.octets == 5
