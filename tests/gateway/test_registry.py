"""The registry: devices and tenants, addresses, accounts, and what another process changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.addresses import Address, parse_endpoint
from gateway.credentials import Credentials
from gateway.errors import RegistryError
from gateway.registry import Registry, Sighting
from meshwire.identity import DeviceId, TenantId

ACME, OTHER = TenantId("acme"), TenantId("other")
FIRST, SECOND = DeviceId("0000000000000001"), DeviceId("0000000000000002")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


def test_devices_survive_and_are_listed_by_tenant_and_type(path: Path) -> None:
    registry = Registry(path)
    registry.add_device(SECOND, ACME, type="LNIC", domain="x.net")
    registry.add_device(FIRST, OTHER)
    registry.close()
    registry = Registry(path)
    assert registry.tenants() == [ACME, OTHER]
    assert [device.mac for device in registry.devices()] == [FIRST, SECOND]
    assert [device.mac for device in registry.devices(ACME)] == [SECOND]
    assert [device.mac for device in registry.devices(type="MILLI")] == [FIRST]
    device = registry.device(SECOND)
    assert device is not None and (device.type, device.domain, device.enabled) == ("LNIC", "x.net", True)
    registry.close()


def test_a_device_belongs_to_one_tenant() -> None:
    registry = Registry(None)
    created_s = registry.add_device(FIRST, ACME).created_s
    with pytest.raises(RegistryError) as caught:
        registry.add_device(FIRST, OTHER)
    assert "acme" not in str(caught.value)
    changed = registry.add_device(FIRST, ACME, enabled=False)
    assert (changed.enabled, changed.created_s) == (False, created_s)
    assert registry.remove_device(FIRST) and not registry.remove_device(FIRST)
    assert registry.device(FIRST) is None
    registry.add_device(FIRST, OTHER)


def test_another_process_s_changes_are_seen(path: Path) -> None:
    ours, theirs = Registry(path), Registry(path)
    theirs.add_device(FIRST, ACME)
    assert ours.device(FIRST) is not None, "a device that we do not know is looked up"
    theirs.add_device(FIRST, ACME, enabled=False)
    ours.refresh()
    device = ours.device(FIRST)
    assert device is not None and not device.enabled
    theirs.remove_device(FIRST)
    ours.refresh()
    assert ours.device(FIRST) is None


def test_addresses_are_kept_and_times_written_by_flush(path: Path) -> None:
    registry = Registry(path)
    registry.add_device(FIRST, ACME)
    registry.seen(FIRST, Address("fd00::1", 4849), 10.0)
    registry.save(registry.take_unsaved(moved_only=True))
    registry.seen(FIRST, Address("fd00::1", 4849), 20.0)
    registry.save(registry.take_unsaved(moved_only=True))
    assert Registry(path).sighting(FIRST) == Sighting(Address("fd00::1", 4849), 10.0)
    registry.flush()
    assert Registry(path).sighting(FIRST) == Sighting(Address("fd00::1", 4849), 20.0)
    registry.seen(FIRST, Address("fd00::2", 4849), 30.0)
    registry.save(registry.take_unsaved(moved_only=True))
    assert Registry(path).sighting(FIRST) == Sighting(Address("fd00::2", 4849), 30.0)


def test_watchers_hear_of_moves_and_early_registrations_only() -> None:
    registry = Registry(None)
    told: list[DeviceId] = []
    stop = registry.watch(told.append)
    here, there = Address("fd00::1", 4849), Address("fd00::2", 4849)
    table = [
        ("first", lambda: registry.registered(FIRST, here, 0.0, 60.0), 1),
        ("in turn", lambda: registry.registered(FIRST, here, 60.0, 60.0), 0),
        ("data", lambda: registry.seen(FIRST, here, 61.0), 0),
        ("a little early", lambda: registry.registered(FIRST, here, 115.0, 60.0), 0),
        ("started anew", lambda: registry.registered(FIRST, here, 130.0, 60.0), 1),
        ("moved", lambda: registry.registered(FIRST, there, 140.0, 60.0), 1),
        ("moved, seen by data", lambda: registry.seen(FIRST, here, 141.0), 1),
        ("no promise", lambda: registry.registered(SECOND, here, 0.0, None), 1),
        ("no promise, soon", lambda: registry.registered(SECOND, here, 1.0, None), 0),
    ]
    for name, happen, times in table:
        told.clear()
        happen()
        assert len(told) == times, name
    stop()
    registry.seen(FIRST, there, 200.0)
    assert told == []


async def test_clients_and_users_prove_who_they_are() -> None:
    registry = Registry(None)
    client = registry.add_client(ACME, ["B", "A"], scope="api admin")
    registry.add_account(client.id, "as a user", OTHER, [])
    credentials = Credentials(registry)
    account = await credentials.verify(client.id, client.secret, "client")
    assert account is not None
    assert (account.tenant, account.roles, account.scope) == (ACME, {"A", "B"}, "api admin")
    for name, secret, kind in [
        (client.id, client.secret, "user"),
        (client.id, client.secret + "x", "client"),
        (client.id, "", "client"),
        ("nobody", client.secret, "client"),
        (client.id, 2000 * "x", "client"),
    ]:
        assert await credentials.verify(name, secret, kind) is None
    user = await credentials.verify(client.id, "as a user", "user")
    assert user is not None and user.tenant == OTHER
    assert registry.accounts("client") == [client.id]
    assert registry.remove_account(client.id, "client") and not registry.remove_account(client.id, "client")
    assert await credentials.verify(client.id, client.secret, "client") is None


def test_no_secret_lies_in_the_file(path: Path) -> None:
    registry = Registry(path)
    client = registry.add_client(ACME, [])
    registry.add_account("user", "correct horse", ACME, [])
    registry.close()
    octets = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"$argon2id$" in octets
    assert client.secret.encode() not in octets and b"correct horse" not in octets


@pytest.mark.parametrize("spoil", ["text", "newer"])
def test_what_is_no_registry_is_refused(path: Path, spoil: str) -> None:
    if spoil == "text":
        path.write_text(1000 * "no database")
    else:
        database = sqlite3.connect(path)
        database.execute("PRAGMA user_version = 99")
        database.close()
    with pytest.raises(RegistryError, match="can't be opened"):
        Registry(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:8080", Address("localhost", 8080)),
        ("nothing", None),
        (":80", None),
        ("a:b", None),
        ("a:70000", None),
    ],
)
def test_endpoints(text: str, expected: Address | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="HOST:PORT"):
            parse_endpoint(text)
    else:
        assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("fe80::1%2", False), ("10.0.0.1", False), ("x", False)]
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Address(host, 1).is_loopback is loopback


def test_watchers_hear_of_devices_that_are_whose_they_were_no_longer(path: Path) -> None:
    ours, theirs = Registry(path), Registry(path)
    ours.add_tenant(OTHER)
    ours.add_device(FIRST, ACME)
    told: list[DeviceId] = []
    ours.watch(told.append)
    table = [
        ("tags", lambda: ours.set_device(FIRST, tags=["a"]), 0),
        ("disabled by us", lambda: ours.set_device(FIRST, enabled=False), 1),
        ("enabled by another process", lambda: theirs.set_device(FIRST, enabled=True), 1),
        ("moved", lambda: ours.move_device(FIRST, OTHER), 1),
        ("removed by another process", lambda: theirs.remove_device(FIRST), 1),
        ("added", lambda: ours.add_device(FIRST, ACME), 0),
        ("removed", lambda: ours.remove_device(FIRST), 1),
    ]
    for name, happen, times in table:
        told.clear()
        happen()
        ours.refresh()
        assert len(told) == times, name
