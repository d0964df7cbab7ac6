"""What the registry does with its database, on SQLite and on PostgreSQL alike: changes, other processes, the audit log,
observations, templates; and old schemas."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from postgresql import PASSWORD, PostgresServer, programs
from sqlalchemy import text

from gateway.addresses import Address, nic_of
from gateway.errors import RegistryError
from gateway.messaging.rules import Instance, Option, Scheme, Standing
from gateway.messaging.service import MessagingService
from gateway.registry import Database, Device, Registry, Sighting
from gateway.registry.audit import AuditLog
from gateway.registry.epochs import new_epoch
from gateway.registry.importing import import_devices
from gateway.registry.observations import PAGE_OCTETS, Observation, Observations
from gateway.registry.schema import SCHEMA_VERSION
from gateway.registry.templates import Templates
from gateway.registry.transfer import read_csv, write_csv
from meshwire.identity import DeviceId, TenantId
from meshwire.site import Site

ACME, OTHER = TenantId("acme"), TenantId("other")
FIRST, SECOND = DeviceId("0000000000000001"), DeviceId("0000000000000002")

Open = Callable[[], Database]


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    if programs() is None:
        pytest.skip("postgresql is not installed")
    server = PostgresServer()
    server.wait()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same database again, as another process would."""
    opened: list[Database] = []
    if request.param == "sqlite":
        url, password = f"sqlite:///{tmp_path / 'registry.db'}", None
    else:
        server: PostgresServer = request.getfixturevalue("server")
        url, password = server.database(), PASSWORD

    def open_database() -> Database:
        opened.append(Database(url, password))
        return opened[-1]

    yield open_database
    for database in opened:
        database.close()


@pytest.fixture
def registry(another: Open) -> Registry:
    return Registry(another())


def test_everything_survives(registry: Registry, another: Open) -> None:
    registry.add_tenant(OTHER, title="The others")
    registry.add_device(FIRST, ACME, type="LNIC", domain="SG.NET", tags=["b", "a", "b"])
    client = registry.add_client(ACME, ["B", "A"], scope="api admin")
    registry.seen(FIRST, Address("fd00::1", 4849), 10.5)
    registry.flush()
    again = Registry(another())
    assert [(tenant.id, tenant.title) for tenant in again.tenant_records()] == [(ACME, ""), (OTHER, "The others")]
    device = again.device(FIRST)
    assert device is not None and device == registry.device(FIRST)
    assert (device.type, device.domain, device.tags, device.enabled) == ("LNIC", "SG.NET", ("a", "b"), True)
    assert again.sighting(FIRST) == Sighting(Address("fd00::1", 4849), 10.5)
    account = again.account(client.id, "client")
    assert account is not None and (account.tenant, account.roles, account.scope) == (ACME, {"A", "B"}, "api admin")


def test_only_what_is_given_changes(registry: Registry) -> None:
    registry.add_device(FIRST, ACME, type="LNIC", tags=["roof"])
    registry.set_device(FIRST, enabled=False)
    device = registry.set_device(FIRST, domain="x.net")
    assert (device.type, device.tags, device.enabled, device.domain) == ("LNIC", ("roof",), False, "x.net")
    assert registry.devices(tag="roof") == [device] and registry.devices(tag="cellar") == []
    with pytest.raises(RegistryError, match="no such device"):
        registry.set_device(SECOND, enabled=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tags": ["two words"]}, "a tag"),
        ({"tags": [f"t{n}" for n in range(33)]}, "too many tags"),
        ({"type": "a/b"}, "device type"),
        ({"type": ""}, "device type"),
        ({"domain": "a..b"}, "domain"),
    ],
)
def test_what_can_not_be_stored_is_refused(registry: Registry, changes: dict[str, object], words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        registry.add_device(FIRST, ACME, **changes)  # type: ignore[arg-type]
    assert registry.device(FIRST) is None and registry.tenants() == []


def test_a_move_is_explicit_and_both_tenants_read_of_it(registry: Registry, another: Open) -> None:
    registry.add_device(FIRST, ACME, tags=["roof"])
    for tenant, words in ((OTHER, "no such tenant"), (ACME, "acme's")):
        with pytest.raises(RegistryError, match=words):
            registry.move_device(FIRST, tenant)
    registry.add_tenant(OTHER)
    moved = registry.move_device(FIRST, OTHER, by="ann")
    assert (moved.tenant, moved.tags) == (OTHER, ("roof",)) and registry.devices(ACME) == []
    log = AuditLog(registry.database)
    newest = log.entries(tenant="acme", subject=FIRST.value)[0]
    assert (newest.action, newest.by) == ("device.move-out", "ann")
    assert [e.action for e in log.entries(tenant="other", subject=FIRST.value)] == ["device.move-in"]
    (whole,) = log.entries(action="device.move")
    assert (whole.tenant, whole.detail) == ("", {"former": "acme", "tenant": "other"})
    assert "other" not in str(log.entries(tenant="acme")), "a tenant does not learn where its device went"
    assert Registry(another()).device(FIRST) == moved


def test_other_processes_changes_come_in_whatever_they_are(registry: Registry, another: Open) -> None:
    theirs = Registry(another())
    theirs.add_devices([Device(FIRST, ACME), Device(SECOND, ACME)])
    registry.refresh()
    assert [device.mac for device in registry.devices()] == [FIRST, SECOND]
    theirs.set_device(FIRST, enabled=False)
    theirs.remove_device(SECOND)
    registry.refresh()
    assert [(device.mac, device.enabled) for device in registry.devices()] == [(FIRST, False)]
    theirs.add_device(SECOND, OTHER)
    theirs.remove_device(FIRST)
    theirs.add_device(FIRST, OTHER)
    registry.refresh()
    assert [(device.mac, device.tenant) for device in registry.devices()] == [(FIRST, OTHER), (SECOND, OTHER)]
    assert registry.read_changes() is None, "nothing new: nothing is read"


def test_an_older_reading_does_not_undo_our_own_change(registry: Registry, another: Open) -> None:
    theirs = Registry(another())
    theirs.add_device(FIRST, ACME)
    read = registry.read_changes()
    assert read is not None
    registry.set_device(FIRST, enabled=False)
    registry.show_changes(read)
    device = registry.device(FIRST)
    assert device is not None and not device.enabled
    read = registry.read_changes()
    registry.remove_device(FIRST)
    assert read is not None
    registry.show_changes(read)
    assert registry.devices() == []


def test_changes_that_were_read_before_others_were_shown_take_nothing_back(registry: Registry, another: Open) -> None:
    """A thread reads; meanwhile an unknown MAC makes the registry look for itself."""
    Registry(another()).add_device(FIRST, ACME)
    read = registry.read_changes()
    assert read is not None
    registry.set_device(FIRST, type="NEW")
    registry.refresh()
    registry.show_changes(read)
    device = registry.device(FIRST)
    assert device is not None and device.type == "NEW"


def test_a_key_is_seen_by_other_processes_and_given_once(registry: Registry, another: Open) -> None:
    registry.add_device(FIRST, ACME)
    registry.seen(FIRST, Address("fd00::1", 4849), 10.5)
    registry.flush()
    theirs = Registry(another(), protects=True)
    registry.set_key(FIRST, "sealed")
    with pytest.raises(RegistryError, match="has a key already"):
        registry.set_key(FIRST, "other")
    theirs.refresh()
    device, sighting = theirs.device(FIRST), theirs.sighting(FIRST)
    assert device is not None and device.sealed_key == "sealed" and "sealed" not in repr(device)
    assert sighting is not None and nic_of(sighting.address) == FIRST
    again = Registry(another(), protects=True).sighting(FIRST)
    assert again is not None and nic_of(again.address) == FIRST
    registry.set_key(FIRST, "other", renew=True)
    registry.set_key(FIRST, "")
    theirs.refresh()
    sighting = theirs.sighting(FIRST)
    assert sighting is not None and sighting.address == Address("fd00::1", 4849)


def test_an_epoch_is_taken_once_by_whoever_asks(registry: Registry, another: Open) -> None:
    theirs = Registry(another())
    epochs = [new_epoch(one.database) for one in (registry, theirs, registry, theirs)]
    assert epochs == sorted(set(epochs))


def test_threads_change_at_the_same_time(registry: Registry, another: Open) -> None:
    def change(number: int) -> None:
        for turn in range(10):
            registry.add_device(DeviceId(f"{number:08x}{turn:08x}"), ACME)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.devices()) == 40
    assert Registry(another()).devices() == registry.devices()


def test_a_tenant_goes_when_it_has_nothing(registry: Registry) -> None:
    registry.add_device(FIRST, ACME)
    with pytest.raises(RegistryError, match="has devices"):
        registry.remove_tenant(ACME)
    registry.remove_device(FIRST)
    client = registry.add_client(ACME, [])
    with pytest.raises(RegistryError, match="clients"):
        registry.remove_tenant(ACME)
    registry.remove_account(client.id, "client")
    assert registry.remove_tenant(ACME) and not registry.remove_tenant(ACME)
    with pytest.raises(RegistryError, match="no such tenant"):
        registry.set_tenant(ACME, title="x")


def test_a_tenant_has_a_bound_of_devices(registry: Registry, another: Open) -> None:
    registry.add_device(FIRST, ACME)
    registry.add_device(SECOND, OTHER)
    registry.set_tenant(ACME, max_devices=1)
    with pytest.raises(RegistryError, match="acme has 1, and may have 1"):
        registry.add_device(DeviceId("3" * 16), ACME)
    with pytest.raises(RegistryError, match="no room"):
        registry.move_device(SECOND, ACME)
    registry.add_device(FIRST, ACME, tags=["changed"])
    registry.set_tenant(ACME, title="Acme")
    assert registry.tenant_records()[0].max_devices == 1, "what is not named stays"
    registry.set_tenant(ACME, max_devices=None)
    small = Registry(another(), max_devices=2)
    with pytest.raises(RegistryError, match="may have 2"):
        small.add_devices([Device(DeviceId(f"{n:016x}"), ACME) for n in range(3, 5)])
    small.add_device(DeviceId("3" * 16), ACME)
    registry.set_tenant(ACME, max_devices=0)
    with pytest.raises(RegistryError, match="may have 0"):
        small.add_device(DeviceId("4" * 16), ACME)


def test_a_failed_change_leaves_nothing_behind(registry: Registry, another: Open) -> None:
    registry.add_device(SECOND, OTHER)
    with pytest.raises(RegistryError, match="taken"):
        registry.add_devices([Device(FIRST, ACME), Device(SECOND, ACME)])
    assert [device.mac for device in registry.devices()] == [SECOND]
    again = Registry(another())
    assert [device.mac for device in again.devices()] == [SECOND] and again.tenants() == [OTHER]
    assert [entry.action for entry in AuditLog(again.database).entries(action="device.")] == ["device.add"]


def test_ten_thousand_devices_at_once(registry: Registry, another: Open) -> None:
    lines = "".join(f"{number:016x},acme,MILLI,,roof east,true\n" for number in range(1, 10_001))
    table = read_csv("mac,tenant,type,domain,tags,enabled\n" + lines)
    assert table.bad == []
    done = import_devices(registry, table)
    assert (done.added, done.changed, done.refused) == (10_000, 0, [])
    again = Registry(another())
    assert len(again.devices(ACME, tag="east")) == 10_000
    assert write_csv(again.devices()).splitlines()[1:] == lines.replace("roof east", "east roof").splitlines()
    done = import_devices(registry, table, try_only=True)
    assert (done.added, done.changed) == (0, 10_000)


def test_the_log_says_who_did_what(registry: Registry) -> None:
    log = AuditLog(registry.database)
    registry.add_device(FIRST, ACME, by="ann")
    registry.set_device(FIRST, enabled=False, by="ben")
    registry.add_client(ACME, ["A"], by="ann")
    log.commanded("acme-1", FIRST, ACME, 3, path="/snsr/arduino/temp")
    log.commanded("acme-1", FIRST, ACME, 69)
    assert len(AuditLog(registry.database).entries()) == 4, "a note waits"
    assert len(log.entries()) == 5, "until this process is asked"
    log.save()
    actions = [(entry.by, entry.action) for entry in log.entries()]
    assert actions == [
        ("acme-1", "command.put"),
        ("ann", "client.add"),
        ("ben", "device.set"),
        ("ann", "device.add"),
        ("ann", "tenant.add"),
    ]
    assert [entry.action for entry in log.entries(action="device.")] == ["device.set", "device.add"]
    newest, *_ = log.entries(limit=1)
    assert newest.detail == {"path": "/snsr/arduino/temp"}
    assert [entry.action for entry in log.entries(before=newest.id, limit=1)] == ["client.add"]
    assert log.forget(newest.at_s + 1) == 5 and log.entries() == []


def test_observations_are_paged_filtered_and_stay_with_their_tenant(registry: Registry) -> None:
    store = Observations(registry.database)
    for mac, at_s, tags in [(FIRST, 10.0, ("a",)), (SECOND, 20.0, ("a", "b")), (FIRST, 30.0, ())]:
        store.add(ACME, [Observation(mac, at_s, tags, {"n": at_s, "text": "é\x00"})])
    store.add(OTHER, [Observation(FIRST, 40.0, ("a",), {"n": 40.0})])

    def numbers(**arguments: object) -> list[str]:
        page = store.page(ACME, **arguments)  # type: ignore[arg-type]
        return [body[5:9] for body in page.bodies]

    assert numbers() == ["10.0", "20.0", "30.0"]
    assert numbers(mac=FIRST) == ["10.0", "30.0"]
    assert numbers(from_s=20.0, to_s=30.0) == ["20.0"]
    assert (
        numbers(tags=["a"]) == ["10.0", "20.0"] and numbers(tags=["b", "a"]) == ["20.0"] and numbers(tags=["%"]) == []
    )
    page = store.page(ACME, limit=2)
    assert len(page.bodies) == 2 and page.after is not None
    assert numbers(after=page.after) == ["30.0"] and store.page(ACME, after=page.after).after is None
    assert store.page(ACME, limit=3).after is None


def test_a_page_ends_at_a_megabyte(registry: Registry) -> None:
    store = Observations(registry.database)
    store.add(ACME, [Observation(FIRST, 0.0, (), {"n": n, "x": "x" * (PAGE_OCTETS // 3)}) for n in range(5)])
    pages, after = [], 0
    while after is not None:
        page = store.page(ACME, after=after)
        pages.append(len(page.bodies))
        after = page.after  # type: ignore[assignment]
    assert pages == [2, 2, 1]


def test_the_oldest_observations_go(registry: Registry) -> None:
    store = Observations(registry.database, most=5)
    for number in range(3):
        store.add(ACME, [Observation(FIRST, float(number), (), {"n": number})])
        store.add(OTHER, [Observation(FIRST, float(number), (), {"n": number})])
    store.add(ACME, [Observation(FIRST, float(number), (), {"n": number}) for number in range(3, 1003)])
    assert store.page(ACME).bodies == [f'{{"n":{number}}}' for number in range(998, 1003)]
    assert len(store.page(OTHER).bodies) == 3


def test_templates(registry: Registry) -> None:
    store = Templates(registry.database)
    made = store.put(ACME, None, {"deviceType": "X"})
    store.put(ACME, "mine", {"deviceType": "Y"})
    assert store.put(ACME, "mine", {"deviceType": "Z"}) == {"id": "mine", "deviceType": "Z"}
    assert sorted(template["deviceType"] for template in store.all(ACME)) == ["X", "Z"]
    assert made["id"] and store.all(OTHER) == []
    with pytest.raises(RegistryError):
        store.put(ACME, "a/b", {})


def test_the_messaging_service_is_stored_beside_it(registry: Registry, another: Open, tmp_path: Path) -> None:
    service = MessagingService(registry, Site(tmp_path))
    service.add_instance(Instance("main", "mosquitto", has_tls=True, options=frozenset(Option) - {Option.MUTUAL}))
    service.add_account(ACME)
    service.add_account(OTHER, parent="acme")
    service.assign("acme", "main")
    service.set_options("acme", frozenset({Option.TLS}))
    endpoint = service.add_endpoint("acme", Scheme.MQTTS, "b.example.net", 8883, secure=True)
    picture = MessagingService(Registry(another()), Site(tmp_path)).picture()
    assert picture.tree.standing("other", picture.instances) == Standing("main", frozenset({Option.TLS}))
    assert picture.endpoints_of("other") == [endpoint]
    service.remove_endpoint(endpoint.id)
    with pytest.raises(RegistryError, match="accounts below it"):
        registry.remove_tenant(ACME)
    assert registry.remove_tenant(OTHER) and registry.remove_tenant(ACME)


# --- schemas

_SCHEMA_1 = """
CREATE TABLE tenants (id TEXT PRIMARY KEY, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE devices (
    mac TEXT PRIMARY KEY, tenant TEXT NOT NULL REFERENCES tenants(id), type TEXT NOT NULL, domain TEXT NOT NULL,
    enabled INTEGER NOT NULL, created REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX devices_by_tenant ON devices(tenant);
CREATE TABLE addresses (
    mac TEXT PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL, seen_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE accounts (
    name TEXT NOT NULL, kind TEXT NOT NULL, hash TEXT NOT NULL, tenant TEXT NOT NULL REFERENCES tenants(id),
    roles TEXT NOT NULL, scope TEXT NOT NULL, created REAL NOT NULL,
    PRIMARY KEY (name, kind)) WITHOUT ROWID;
INSERT INTO tenants VALUES ('acme', 1.5);
INSERT INTO devices VALUES ('0000000000000001', 'acme', 'LNIC', 'x.net', 0, 2.5);
INSERT INTO addresses VALUES ('0000000000000001', 'fd00::1', 4849, 3.5);
INSERT INTO accounts VALUES ('acme-1', 'client', 'hash', 'acme', 'A B', 'api', 4.5);
PRAGMA user_version = 1;
"""


def test_the_first_release_s_file_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    old = sqlite3.connect(path)
    old.executescript(_SCHEMA_1)
    old.close()
    for _ in range(2):
        registry = Registry(path)
        assert registry.devices() == [Device(FIRST, ACME, "LNIC", "x.net", False, 2.5)]
        assert registry.sighting(FIRST) == Sighting(Address("fd00::1", 4849), 3.5)
        account = registry.account("acme-1", "client")
        assert account is not None and account.roles == {"A", "B"}
        registry.set_device(FIRST, tags=["new"])
        registry.set_device(FIRST, tags=[])
        registry.close()
    # Both ways lead to the same columns.
    fresh = Registry(tmp_path / "fresh.db")
    for table in ("tenants", "devices", "addresses", "accounts", "audit", "registry_state"):
        names = []
        for database in (registry.database, fresh.database):
            with database.reading() as connection:
                names.append(sorted(row[1] for row in connection.execute(text(f"PRAGMA table_info({table})"))))
        assert names[0] == names[1], table
    marked = sqlite3.connect(path).execute("PRAGMA user_version").fetchone()
    assert marked == (SCHEMA_VERSION,), "an old release refuses it"


def test_instances_of_a_release_before_are_taken_over(another: Open, tmp_path: Path) -> None:
    database = another()
    MessagingService(Registry(database), Site(tmp_path)).add_instance(Instance("main", "mosquitto"))
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE instances DROP COLUMN has_plain"))
        connection.execute(text("UPDATE registry_state SET schema_version = 5"))
    assert MessagingService(Registry(another()), Site(tmp_path)).picture().instance("main").possible == {Option.PLAIN}


def test_what_was_just_noted_is_read(another: Open) -> None:
    log = AuditLog(another())
    log.note("ada", "token.issue", "console-1", "acme", role="ADMIN")
    (entry,) = log.entries(tenant="acme")
    assert (entry.by, entry.action, entry.subject) == ("ada", "token.issue", "console-1")
    assert entry.detail == {"role": "ADMIN"}
    log.save()
    assert len(log.entries()) == 1, "written once"


def test_the_log_is_read_though_nothing_can_be_written(another: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    database = another()
    log = AuditLog(database)
    log.note("ada", "connection.kick", "meter-7")
    log.save()
    log.note("ada", "connection.kick", "meter-8")
    with monkeypatch.context() as patch:
        patch.setattr(database, "writing", _refuse)
        assert [entry.subject for entry in log.entries()] == ["meter-7"]
    assert [entry.subject for entry in log.entries()] == ["meter-8", "meter-7"], "kept meanwhile"


def _refuse() -> NoReturn:
    raise RegistryError("the registry can't be written", evidence="disk full", fix="make room")


def test_a_newer_release_s_database_is_refused(another: Open) -> None:
    database = another()
    with database.writing() as connection:
        connection.execute(text("UPDATE registry_state SET schema_version = 99"))
    with pytest.raises(RegistryError, match="schema version 99"):
        another()


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "no url", "postgresql://registry@127.0.0.1:1/site", "sqlite:////nowhere/at/all.db"]
)
def test_what_can_not_be_opened_says_why_and_keeps_the_password(url: str) -> None:
    with pytest.raises(RegistryError, match="can't be opened") as caught:
        Database(url, "secret-word")
    assert "secret-word" not in str(caught.value)
