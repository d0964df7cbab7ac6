"""Where a NIC hangs in the mesh, as it tells the gateway with its registration: `POST /register/{mac}?p=&h=&s=`.

    p=  parent: the MAC of the NIC it sends through, or the name of an access point
    h=  hops to the access point, 1 for a NIC that hears it directly
    s=  how strongly it hears its parent, dBm

All three are elective, and so is each: a gateway that does not know them registers the NIC all the same, and one that
can't read them takes them as not said. No message is sent for their sake. This file spells them for both sides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshwire.identity import DeviceId, IdentityError

__all__ = ["MOST_HOPS", "NODE_NAME", "MeshPlace", "parse_place", "place_arguments"]

MOST_HOPS: Final = 255
NODE_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}"
_NUMBER: Final = re.compile(r"-?[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class MeshPlace:
    """What is known of a place; None: not said."""

    parent: str | None = None
    """A MAC in canonical spelling, or an access point's name."""
    hops: int | None = None
    rssi_dbm: int | None = None


def place_arguments(place: MeshPlace) -> tuple[str, ...]:
    """The query arguments of a registration."""
    told = (("p", place.parent), ("h", place.hops), ("s", place.rssi_dbm))
    return tuple(f"{name}={value}" for name, value in told if value is not None)


def parse_place(queries: Sequence[str]) -> MeshPlace | None:
    """Read them back; None when nothing of it is said."""
    arguments = dict(query.split("=", 1) for query in queries if "=" in query)
    place = MeshPlace(
        _node(arguments.get("p", "")),
        _number(arguments.get("h", ""), 1, MOST_HOPS),
        _number(arguments.get("s", ""), -200, 0),
    )
    return None if place == MeshPlace() else place


def _node(text: str) -> str | None:
    if re.fullmatch(NODE_NAME, text) is None:
        return None
    try:
        return DeviceId.parse(text).value
    except IdentityError:
        return text


def _number(text: str, least: int, most: int) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) and least <= int(text) <= most else None
