"""Subscription tree: matching, merging, share groups, pruning, cache."""

import random

import pytest

from broker.router import Subscription, SubscriptionTree
from meshwire.topics import TopicFilter

MATCHES = [
    # filter, topic, matches (MQTT 5.0 section 4.7.1 and 4.7.2)
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
    ("sport/#", "sport", True),
    ("#", "sport", True),
    ("#", "/", True),
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+", "/finance", False),
    ("+", "finance", True),
    ("+/a/#", "x/a", True),
    ("a/b", "a/b/c", False),
    ("a/b/c", "a/b", False),
    ("a//b", "a//b", True),
    ("a/+/b", "a//b", True),
    ("A", "a", False),
    ("#", "$SYS/monitor", False),
    ("+/monitor", "$SYS/monitor", False),
    ("$SYS/#", "$SYS/monitor/clients", True),
    ("$SYS/monitor/+", "$SYS/monitor/clients", True),
    ("a/#", "a/$SYS", True),
]


@pytest.mark.parametrize(("topic_filter", "topic", "matches"), MATCHES)
def test_matching(topic_filter: str, topic: str, matches: bool) -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    tree.add("c", Subscription(topic_filter))
    assert bool(tree.match(topic).targets) is matches
    assert TopicFilter.parse(topic_filter).matches(topic) is matches


def test_tree_agrees_with_the_filter_by_filter_rule() -> None:
    randomness = random.Random(7)
    levels = ["a", "b", "", "+", "$x"]
    filters = {
        "/".join(randomness.choices(levels, k=randomness.randint(1, 4))) + randomness.choice(["", "/#"])
        for _ in range(300)
    } - {""}
    tree: SubscriptionTree[str] = SubscriptionTree()
    for text in filters:
        tree.add(text, Subscription(text))
    for _ in range(500):
        topic = "/".join(randomness.choices(["a", "b", "", "$x", "c"], k=randomness.randint(1, 5))) or "a"
        found = {target.subscriber for target in tree.match(topic).targets}
        assert found == {text for text in filters if TopicFilter.parse(text).matches(topic)}, topic


def test_overlapping_subscriptions_of_a_client_are_one_delivery() -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    tree.add("c", Subscription("a/#", 0, True, False, 1))
    tree.add("c", Subscription("a/+", 2, False, True, 2))
    (target,) = tree.match("a/b").targets
    assert (target.qos, target.retain_as_published) == (2, True)
    assert sorted(target.identifiers) == [1, 2]


def test_own_messages_go_to_those_overlapping_subscriptions_that_take_them() -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    tree.add("c", Subscription("a/#", 2, True, True, 1))
    tree.add("c", Subscription("a/+", 0, False, False, 2))
    tree.add("d", Subscription("a/#", 1, True, False, 3))
    mixed, alone = sorted(tree.match("a/b").targets, key=lambda target: target.subscriber)
    assert mixed.no_local
    assert mixed.for_own is not None
    own = mixed.for_own
    assert (own.qos, own.no_local, own.retain_as_published, own.identifiers) == (0, False, False, (2,))
    assert (alone.no_local, alone.for_own) == (True, None)


def test_the_same_filter_replaces_and_is_told_apart() -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    assert tree.add("c", Subscription("a/b", 0))
    assert tree.match("a/b").targets[0].qos == 0
    assert not tree.add("c", Subscription("a/b", 2))
    assert tree.match("a/b").targets[0].qos == 2
    assert len(tree) == 1


def test_shared_subscriptions_are_groups_by_name_and_filter() -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    for client, text in (("1", "$share/g/a/#"), ("2", "$share/g/a/#"), ("3", "$share/h/a/#"), ("4", "$share/g/a/b")):
        tree.add(client, Subscription(text))
    tree.add("5", Subscription("a/b"))
    match = tree.match("a/b")
    members = sorted(sorted(target.subscriber for target in group.members) for group in match.groups)
    assert members == [["1", "2"], ["3"], ["4"]]
    assert [target.subscriber for target in match.targets] == ["5"]
    assert (len(tree), tree.shared_count) == (5, 4)
    assert tree.remove("1", Subscription("$share/g/a/#"))
    assert tree.remove("2", Subscription("$share/g/a/#"))
    assert tree.remove("5", Subscription("a/b"))
    assert (len(tree), tree.shared_count) == (2, 2)
    assert len(tree.match("a/b").groups) == 2


@pytest.mark.parametrize("text", ["a/b/c", "a/+/#", "#", "$share/g/a/b"])
def test_removal_prunes_and_forgets(text: str) -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    tree.add("c", Subscription(text))
    topic = "a/b/c" if "share" not in text else "a/b"
    assert tree.match(topic).targets or tree.match(topic).groups
    assert tree.remove("c", Subscription(text))
    assert not tree.remove("c", Subscription(text))
    match = tree.match(topic)
    assert not match.targets
    assert not match.groups
    assert tree._root.is_empty
    assert len(tree) == 0


def test_removal_leaves_what_others_need() -> None:
    tree: SubscriptionTree[str] = SubscriptionTree()
    tree.add("c", Subscription("a/b"))
    tree.add("d", Subscription("a/b/c"))
    tree.remove("c", Subscription("a/b"))
    assert not tree.remove("c", Subscription("x/y"))
    assert [target.subscriber for target in tree.match("a/b/c").targets] == ["d"]


def test_who_is_not_admitted_is_left_out_and_the_answer_is_asked_once() -> None:
    asked: list[tuple[str, str]] = []

    def admit(subscriber: str, topic: str) -> bool:
        asked.append((subscriber, topic))
        return subscriber == "good"

    tree: SubscriptionTree[str] = SubscriptionTree(admit)
    for client in ("good", "bad"):
        tree.add(client, Subscription("a/#"))
        tree.add(client, Subscription("$share/g/a/#"))
    for _ in range(3):
        match = tree.match("a/b")
        assert [target.subscriber for target in match.targets] == ["good"]
        assert [[target.subscriber for target in group.members] for group in match.groups] == [["good"]]
    assert len(asked) == 4
    tree.forget()
    tree.match("a/b")
    assert len(asked) == 8


def test_two_hundred_levels_and_many_branches_are_no_burden() -> None:
    tree: SubscriptionTree[int] = SubscriptionTree()
    deep = "/".join(["a"] * 200)
    tree.add(0, Subscription(deep))
    for number in range(1, 200):
        tree.add(number, Subscription("/".join(["+"] * number) + "/#"))
    assert len(tree.match(deep).targets) == 200
