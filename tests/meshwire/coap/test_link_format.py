"""Link format: examples of RFC 6690 section 5, what can't be read, round trips, filters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.coap.link_format import Link, matches, parse_links, write_links

RFC_6690 = (
    '</sensors>;ct=40;title="Sensor Index",</sensors/temp>;rt="temperature-c";if="sensor",'
    '</sensors/light>;rt="light-lux core.s";if="sensor",<http://www.example.com/sensors/t123>;'
    'anchor="/sensors/temp";rel="describedby",</t>;anchor="/sensors/temp";rel="alternate";obs'
)


def test_the_rfcs_example() -> None:
    links = parse_links(RFC_6690)
    assert [link.target for link in links] == [
        "/sensors",
        "/sensors/temp",
        "/sensors/light",
        "http://www.example.com/sensors/t123",
        "/t",
    ]
    assert links[0].attributes == (("ct", "40"), ("title", "Sensor Index"))
    assert links[4].attributes[-1] == ("obs", None)
    assert write_links(links).decode() == RFC_6690


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("rt=light-lux", ["/sensors/light"]),
        ("rt=core.s", ["/sensors/light"]),
        ("rt=light*", ["/sensors/light"]),
        ("if=sensor", ["/sensors/temp", "/sensors/light"]),
        ("href=/sensors/*", ["/sensors/temp", "/sensors/light"]),
        ("href=/sensors", ["/sensors"]),
        ("ct=40", ["/sensors"]),
        ("title=Sensor Index", ["/sensors"]),
        ("rt=nothing", []),
        ("unknown=1", []),
    ],
)
def test_filters(query: str, found: list[str]) -> None:
    assert [link.target for link in parse_links(RFC_6690) if matches(link, query)] == found


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("", []),
        ("rubbish", []),
        ("</a>;", ["/a"]),
        ("</a>,", ["/a"]),
        ("</a>,b", ["/a"]),
        ('</a>;t="x', ["/a"]),
        ("<", []),
    ],
)
def test_what_can_not_be_read_is_left_out(text: str, targets: list[str]) -> None:
    assert [link.target for link in parse_links(text)] == targets


NAMES = st.text("abcdefghijklmnop-*", min_size=1, max_size=6)
LINKS = st.builds(
    Link,
    st.text("/abc?&=:%", max_size=8),
    st.lists(st.tuples(NAMES, st.none() | st.text(max_size=8)), max_size=3).map(tuple),
)


@given(st.lists(LINKS, max_size=4))
def test_what_is_written_is_read_again(links: list[Link]) -> None:
    assert parse_links(write_links(links).decode()) == links


@given(st.text(max_size=40))
def test_nothing_makes_it_raise(text: str) -> None:
    parse_links(text)
