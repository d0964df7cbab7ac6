"""Sessions by a made-up clock."""

from __future__ import annotations

import pytest

from gateway.addresses import Address
from gateway.sessions import Sessions
from gateway.statistics import Event, Statistics
from meshwire.identity import LoginKind, Principal, TenantId


def party(expires_at: float | None = None) -> Principal:
    return Principal("p", TenantId("acme"), frozenset(), LoginKind.TOKEN, expires_at)


def source(port: int) -> Address:
    return Address("fd00::7", port)


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(lifetime_s=14_400.0, max_per_account=3, statistics=Statistics())


@pytest.mark.parametrize(("token_ends", "ends"), [(None, 14_400.0), (3_600.0, 3_600.0), (99_999.0, 14_400.0)])
def test_ends_with_its_lifetime_or_its_token(sessions: Sessions, token_ends: float | None, ends: float) -> None:
    opened = sessions.open(source(1), "acme", party(token_ends), 0.0)
    assert sessions.get(source(1), ends - 1) is opened
    assert sessions.get(source(1), ends) is None
    assert not opened.is_open and len(sessions) == 0


def test_is_bound_to_address_and_port(sessions: Sessions) -> None:
    sessions.open(source(1), "acme", party(), 0.0)
    assert sessions.get(source(2), 1.0) is None
    assert sessions.get(Address("fd00::8", 1), 1.0) is None


def test_a_further_one_of_the_account_ends_the_oldest(sessions: Sessions) -> None:
    first = sessions.open(source(1), "acme", party(), 0.0)
    for port in (2, 3):
        sessions.open(source(port), "acme", party(), 0.0)
    sessions.open(source(9), "other", party(), 0.0)
    assert first.is_open
    sessions.open(source(4), "acme", party(), 0.0)
    assert not first.is_open
    assert [sessions.get(source(port), 1.0) is not None for port in (1, 2, 3, 4, 9)] == [False, True, True, True, True]


def test_opening_again_replaces_and_does_not_count_twice(sessions: Sessions) -> None:
    first = sessions.open(source(1), "acme", party(), 0.0)
    for _ in range(5):
        latest = sessions.open(source(1), "acme", party(), 0.0)
    assert not first.is_open and sessions.get(source(1), 1.0) is latest and len(sessions) == 1


def test_listeners_are_told_of_the_end_once() -> None:
    statistics = Statistics()
    sessions = Sessions(lifetime_s=100.0, max_per_account=3, statistics=statistics)
    told: list[str] = []
    for port, name in ((1, "closed"), (2, "expired")):
        sessions.open(source(port), "acme", party(), float(port)).on_end.append(lambda name=name: told.append(name))
    assert sessions.close(source(1), 5.0) and not sessions.close(source(1), 5.0)
    sessions.expire(101.9)
    assert told == ["closed"]
    sessions.expire(102.0)
    sessions.expire(103.0)
    assert told == ["closed", "expired"]
    assert statistics.by_reason(Event.SESSION) == {"opened": 2, "closed": 1, "expired": 1}
