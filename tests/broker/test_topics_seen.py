"""Which topics are in use, remembered within bounds."""

from broker.topics_seen import TopicsSeen


def names(seen: TopicsSeen, tenant: str) -> list[str]:
    return [each.topic for each in seen.of_tenant(tenant)]


def test_messages_are_counted_and_the_newest_topic_comes_first() -> None:
    seen = TopicsSeen()
    for number, topic in enumerate(("acme/read/a", "acme/read/b", "acme/read/a", "other/x")):
        seen.saw(topic, float(number))
    assert [(each.topic, each.messages, each.last_at) for each in seen.of_tenant("acme")] == [
        ("acme/read/a", 2, 2.0),
        ("acme/read/b", 1, 1.0),
    ]
    assert names(seen, "other") == ["other/x"] and names(seen, "nobody") == []


def test_a_tenant_with_too_many_topics_forgets_the_quiet_half_of_its_own_and_nobody_elses() -> None:
    seen = TopicsSeen(most_of_a_tenant=4)
    seen.saw("other/x", 0.0)
    for number in range(5):
        seen.saw(f"acme/{number}", float(number))
    assert names(seen, "acme") == ["acme/4", "acme/3", "acme/2"] and names(seen, "other") == ["other/x"]
    assert seen.forgotten == {"acme": 2} and len(seen) == 4


def test_all_together_are_bounded_and_the_tenant_with_most_gives_way() -> None:
    seen = TopicsSeen(most_of_a_tenant=10, most=6)
    seen.saw("other/x", 0.0)
    for number in range(100):
        seen.saw(f"acme/{number}", float(number))
        assert len(seen) <= 6
    assert names(seen, "other") == ["other/x"]
    for number in range(100):
        seen.saw(f"tenant-{number}/x", 200.0 + number)
        assert len(seen) <= 6


def test_a_topic_that_is_too_long_is_not_remembered() -> None:
    seen = TopicsSeen()
    seen.saw("acme/" + "x" * 2_000, 0.0)
    assert len(seen) == 0
