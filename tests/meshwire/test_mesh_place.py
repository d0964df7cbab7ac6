"""A NIC's place in the mesh on its way to the gateway and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.mesh_place import MeshPlace, parse_place, place_arguments


@given(
    st.none() | st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,14}", fullmatch=True),
    st.none() | st.integers(1, 255),
    st.none() | st.integers(-200, 0),
)
def test_what_is_told_is_read(parent: str | None, hops: int | None, rssi_dbm: int | None) -> None:
    place = MeshPlace(parent, hops, rssi_dbm)
    read = parse_place(("lt=60", *place_arguments(place)))
    assert (read or MeshPlace()) == place


@pytest.mark.parametrize(
    ("queries", "place"),
    [
        (("lt=60",), None),
        (("p=", "h=x", "s=1"), None),
        (("p=00:13:50:05:00:47:00:01", "h=2"), MeshPlace("0013500500470001", 2)),
        (("p=<script>", "h=0", "s=-71"), MeshPlace(None, None, -71)),
        (("p=ap-1", "h=256", "s=-201"), MeshPlace("ap-1")),
        (("p=ap-1", "h=٣"), MeshPlace("ap-1")),
        (("p", "h", "s"), None),
    ],
)
def test_what_can_not_be_read_is_not_said(queries: tuple[str, ...], place: MeshPlace | None) -> None:
    assert parse_place(queries) == place
