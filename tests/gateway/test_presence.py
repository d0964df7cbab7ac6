"""Presence: online by registration and data, offline by silence, events, removed and moved devices."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.addresses import Address
from gateway.mqtt import Login, Publication
from gateway.presence import OFFLINE, ONLINE, Presence
from gateway.registry import Registry
from gateway.settings import PresenceSettings
from meshwire.identity import DeviceId, TenantId

MAC = DeviceId("001350050047dc9a")
ACME, OTHER = TenantId("acme"), TenantId("other")
TOPIC, EVENT = f"acme/presence/{MAC}", f"acme/event/{MAC}"
HOME = Address("::1", 4849)


class Bench:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.registry = Registry(None)
        self.registry.add_tenant(ACME)
        self.registry.add_tenant(OTHER)
        self.registry.add_device(MAC, ACME)
        settings = PresenceSettings(interval_s=60, missed=3)
        self.presence = Presence(self.registry, settings, Login("h", 1, "c", "u", "p"), lambda: self.now_s)

    def told(self) -> dict[str, Any]:
        return {one.topic: _read(one) for one in self.presence.changes()}


def _read(publication: Publication) -> Any:
    if publication.content_type == "application/json":
        assert not publication.retain
        return json.loads(publication.payload)
    assert publication.retain
    return publication.payload


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_device_that_was_never_heard_of_has_no_presence(bench: Bench) -> None:
    assert bench.told() == {}


def test_online_by_registration_and_offline_by_silence(bench: Bench) -> None:
    bench.registry.registered(MAC, HOME, bench.now_s, None)
    assert bench.told() == {TOPIC: ONLINE, EVENT: {"event": "online", "time": bench.now_s, "lastSeen": bench.now_s}}
    bench.now_s += 180
    assert bench.told() == {}
    bench.now_s += 1
    assert bench.told() == {
        TOPIC: OFFLINE,
        EVENT: {"event": "offline", "time": 1_000_181.0, "lastSeen": 1_000_000.0},
    }
    bench.registry.seen(MAC, HOME, bench.now_s)
    assert bench.told()[TOPIC] == ONLINE


def test_the_interval_that_a_device_promises_counts(bench: Bench) -> None:
    bench.registry.registered(MAC, HOME, bench.now_s, 10.0)
    bench.told()
    bench.now_s += 31
    assert bench.told()[TOPIC] == OFFLINE


def test_after_a_reconnect_states_are_told_again_and_events_are_not(bench: Bench) -> None:
    bench.registry.seen(MAC, HOME, bench.now_s)
    bench.told()
    bench.presence.tell_again()
    assert bench.told() == {TOPIC: ONLINE}


def test_what_a_removed_device_has_left_is_taken_away(bench: Bench) -> None:
    bench.registry.seen(MAC, HOME, bench.now_s)
    bench.told()
    bench.registry.remove_device(MAC)
    bench.presence.tell_again()
    assert bench.told() == {TOPIC: b""}


def test_a_moved_device_is_not_shown_to_its_former_tenant(bench: Bench) -> None:
    bench.registry.seen(MAC, HOME, bench.now_s)
    bench.told()
    bench.registry.move_device(MAC, OTHER)
    bench.registry.seen(MAC, HOME, bench.now_s)
    told = bench.told()
    assert told[TOPIC] == b"" and told[f"other/presence/{MAC}"] == ONLINE


def test_news_of_registrations_need_no_look_at_all_devices(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [DeviceId(f"{0x135005F2000000 + number:016x}") for number in range(120)]
    for mac in many:
        bench.presence.registered(bench.registry.add_device(mac, ACME))
        bench.registry.registered(mac, HOME, bench.now_s, None)
    monkeypatch.setattr(bench.registry, "devices", lambda: pytest.fail("looked at all devices"))
    told: list[str] = []
    turns = 0
    while batch := bench.presence.news():
        told += [one.topic for one in batch if one.retain]
        turns += 1
    assert sorted(told) == sorted(f"acme/presence/{mac}" for mac in many), "each once"
    assert turns == 3, "not all in one turn of the loop"
