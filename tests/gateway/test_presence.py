"""Presence: what is retained for a device that goes from one tenant to another, or goes."""

from __future__ import annotations

from gateway.addresses import Address
from gateway.mqtt import Login
from gateway.presence import Presence
from gateway.registry import Registry
from gateway.settings import PresenceSettings
from meshwire.identity import DeviceId, TenantId

MAC, ACME, OTHER = DeviceId("0000000000000001"), TenantId("acme"), TenantId("other")


def test_what_was_retained_goes_with_the_device() -> None:
    registry = Registry(None)
    registry.add_tenant(OTHER)
    registry.add_device(MAC, ACME)
    presence = Presence(registry, PresenceSettings(), Login("127.0.0.1", 1, "x", "u", "p", 15), lambda: 100.0)

    def changes() -> list[tuple[str, bytes]]:
        publications = presence.changes()
        assert all(publication.retain for publication in publications)
        return [(publication.topic, publication.payload) for publication in publications]

    assert changes() == [], "never heard of"
    registry.seen(MAC, Address("::1", 4849), 100.0)
    assert changes() == [(f"acme/presence/{MAC}", b"online")] and changes() == []
    registry.move_device(MAC, OTHER)
    assert changes() == [(f"other/presence/{MAC}", b"online"), (f"acme/presence/{MAC}", b"")] and changes() == []
    registry.remove_device(MAC)
    assert changes() == [(f"other/presence/{MAC}", b"")] and changes() == []
