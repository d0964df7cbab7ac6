"""A gateway of an instance: devices of accounts that are not assigned to it are refused, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.gateway import Gateway
from gateway.messaging.rules import Instance
from gateway.messaging.service import MessagingService, closed_for
from gateway.registry import Registry
from meshwire.coap import codes, encode
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

ACME, OTHER = TenantId("acme"), TenantId("other")
FIRST, SECOND = DeviceId("0000000000000001"), DeviceId("0000000000000002")


def test_devices_of_closed_accounts_are_refused_and_stay_what_they_are(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.db", closed=closed_for("main"))
    service = MessagingService(registry, Site(tmp_path))
    for name in ("main", "away"):
        service.add_instance(Instance(name))
    registry.add_device(FIRST, ACME, tags=["roof"])
    registry.add_device(SECOND, OTHER)
    told: list[DeviceId] = []
    registry.watch(told.append)

    def refusal(mac: DeviceId) -> str:
        device = registry.device(mac)
        assert device is not None and device.enabled is not bool(device.refusal)
        return device.refusal

    registry.refresh()
    assert refusal(FIRST) == "account acme is not assigned to a messaging service instance"
    assert sorted(told) == [FIRST, SECOND]
    told.clear()
    service.assign("acme", "main")
    service.assign("other", "away")
    registry.refresh()
    assert refusal(FIRST) == "" and sorted(told) == [FIRST, SECOND]
    assert refusal(SECOND) == "account other is assigned to instance away, this is main"
    assert all(device.enabled and not device.refusal for device in registry.devices()), "stored as they were"
    record = registry.record(SECOND)
    assert record is not None and record.enabled
    changed = registry.set_device(SECOND, tags=["new"])
    assert changed.enabled and refusal(SECOND)
    registry.set_device(FIRST, enabled=False)
    device = registry.device(FIRST)
    assert device is not None and not device.enabled and not device.refusal
    worker = Registry(tmp_path / "registry.db", closed=closed_for("main"))
    device = worker.device(SECOND)
    assert device is not None and "away" in device.refusal, "another process sees the same"
    assert closed_for("") is None


async def test_a_nic_hears_the_reason_until_its_account_is_assigned(
    site: Site, settings_for: Any, running: Any, bubble_up: Any, connect_to: Any
) -> None:
    async with running(Gateway(settings_for(instance="main"), site)) as gateway:
        gateway.messaging.add_instance(Instance("main"))
        gateway.registry.refresh()
        client = connect_to(gateway)
        client.send(encode(bubble_up()))
        answer = await client.receive()
        assert answer.code == codes.FORBIDDEN
        assert answer.payload == b"gateway: account acme is not assigned to a messaging service instance"
        gateway.messaging.assign("acme", "main")
        gateway.registry.refresh()
        client.send(encode(bubble_up(observe=2)))
        assert (await client.receive()).code == codes.CHANGED
        assert gateway.status()["counters"]["refused"] == {"account-not-served": 1}  # type: ignore[index]
