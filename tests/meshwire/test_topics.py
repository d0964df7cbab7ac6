import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire import topics
from meshwire.identity import DeviceId, TenantId
from meshwire.topics import TopicError, TopicFilter

ACME = TenantId("acme")
MAC = DeviceId("001350050047dd92")


@pytest.mark.parametrize(
    ("filter_text", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("+", "a", True),
        ("+/+", "/a", True),
        ("+", "/a", False),
        ("/+", "/a", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a/b", "A/b", False),
    ],
)
def test_matching_by_mqtt_section_4_7(filter_text: str, topic: str, expected: bool) -> None:
    assert TopicFilter.parse(filter_text).matches(topic) is expected


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("acme/read/#", "acme/read/+/temp", True),
        ("acme/read/#", "acme/read/#", True),
        ("acme/read/#", "acme/read", True),
        ("acme/read/#", "acme/+/x", False),
        ("acme/read/#", "+/read/#", False),
        ("acme/read/#", "#", False),
        ("acme/read/#", "acme/#", False),
        ("a/+", "a/#", False),
        ("a/+", "a/+", True),
        ("a/+", "a/b", True),
        ("a/b", "a/+", False),
        ("+/read/#", "b/read/x", True),
        ("+/read/#", "$SYS/read/x", False),
        ("#", "$SYS/#", False),
        ("$SYS/#", "$SYS/a", True),
    ],
)
def test_covering_is_not_matching(wide: str, narrow: str, expected: bool) -> None:
    assert TopicFilter.parse(wide).covers(TopicFilter.parse(narrow)) is expected


levels = st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), min_size=1, max_size=4)
filters = st.builds(lambda parts, rest: "/".join([*parts, *rest]), levels, st.sampled_from([[], ["#"]])).filter(bool)
names = st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=5).map("/".join).filter(bool)


@given(filters, filters, names)
def test_what_a_covered_filter_selects_the_covering_one_selects_too(wide: str, narrow: str, topic: str) -> None:
    if TopicFilter.parse(wide).covers(TopicFilter.parse(narrow)) and TopicFilter.parse(narrow).matches(topic):
        assert TopicFilter.parse(wide).matches(topic)


@pytest.mark.parametrize("text", ["", "a/#/b", "a#", "a/b+", "+a", "a\0b", "\ud800", "a" * 65536, "/" * 200])
def test_a_bad_filter_is_refused(text: str) -> None:
    with pytest.raises(TopicError):
        TopicFilter.parse(text)


@pytest.mark.parametrize("text", ["", "a/+", "#", "a\0b", "a" * 65536])
def test_a_bad_topic_name_is_refused(text: str) -> None:
    with pytest.raises(TopicError):
        topics.validate_topic(text)


@pytest.mark.parametrize(
    ("topic", "branch", "rest"),
    [
        (topics.read_topic(ACME, MAC, "temp"), topics.Branch.READ, ("temp",)),
        (topics.alert_topic(ACME, MAC, "ncmth1"), topics.Branch.ALERT, ("ncmth1",)),
        (topics.presence_topic(ACME, MAC), topics.Branch.PRESENCE, ()),
        (topics.event_topic(ACME, MAC), topics.Branch.EVENT, ()),
        (topics.command_request_topic(ACME, MAC, "7"), topics.Branch.COMMAND, ("req", "7")),
        (topics.command_response_topic(ACME, MAC, "7"), topics.Branch.COMMAND, ("res", "7")),
    ],
)
def test_what_is_built_is_read_back(topic: str, branch: topics.Branch, rest: tuple[str, ...]) -> None:
    topics.validate_topic(topic)
    assert topics.parse_topic(topic) == topics.ParsedTopic(ACME, branch, MAC, rest)


@pytest.mark.parametrize("topic", ["a", "acme/read", "acme/read/xyz/temp", f"acme/other/{MAC}/t", f"a.b/read/{MAC}/t"])
def test_a_foreign_topic_is_none(topic: str) -> None:
    assert topics.parse_topic(topic) is None


@pytest.mark.parametrize("hostile", ["a/b", "+", "#", "a\0", "x" * 500, "", "ä"])
def test_a_hostile_device_type_stays_in_its_level(hostile: str) -> None:
    topic = topics.read_topic(ACME, MAC, hostile)
    topics.validate_topic(topic)
    assert topics.parse_topic(topic) is not None
