"""A test for each field of an alias (rows CA01 to CA26 of the feature list; the rest are named in the table).

| Row | Test |
| --- | --- |
| CA01 name | test_a_name_is_unique, test_there_may_be_many |
| CA02 description | test_a_description_is_kept |
| CA03 package | test_publishing.py: test_an_alias_follows_its_package; test_transfer.py |
| CA04 host | test_a_host_is_a_url_with_protocol_domain_and_port, test_ssl_needs_an_ssl_url |
| CA05 client id | test_a_client_id_is_generated_and_stays, test_a_client_id_may_be_given |
| CA06 clean session | test_triggers.py: test_missed_messages_…, test_a_clean_session_… |
| CA07 time-out | test_times_have_their_defaults, test_the_connection_time_out_ends_a_wait |
| CA08 keep alive | test_times_have_their_defaults, test_connect_says_what_the_fields_say |
| CA09–CA13 will | test_connect_says_what_the_fields_say; test_publishing.py: test_the_will_…, test_no_will_… |
| CA14, CA15 | test_publishing.py: test_connect_and_disconnect_payloads_go_to_the_will_topic |
| CA16, CA17 | test_publishing.py: test_user_and_password_are_given; test_a_password_is_never_shown |
| CA18–CA21 | test_tls_fields_fit_together; test_tls.py |
| CA22 | test_each_field_that_does_not_fit_is_named |
| CA23 | test_saved_is_not_enabled |
| CA24 | test_publishing.py, test_triggers.py |
| CA25 | test_tls.py: test_enable_client_cert_validation |
| CA26 | test_trial.py |
"""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from broker.certificates import TrialAuthority
from gateway.aliases.catalogue import Kind
from gateway.aliases.errors import AliasError, InvalidAlias
from gateway.aliases.host import parse_host
from gateway.aliases.publisher import AliasConnection, Health, Relay
from gateway.aliases.records import AliasSettings, KeystoreSettings, TruststoreSettings
from gateway.aliases.route import Route, client_id_of, login_of, route_of
from gateway.aliases.store import AliasStore, build
from gateway.mqtt import ConnectFailure, MqttVersion
from gateway.mqtt_session import PublishSession
from meshwire.identity import TenantId
from meshwire.mqtt import Will
from meshwire.site import Site

URL = "tcp://broker.example:1883"


def alias(**fields: Any) -> AliasSettings:
    made = build(Kind.ALIAS, {"name": "plant", "host": URL, **fields})
    assert isinstance(made, AliasSettings)
    return made


def problems(store: AliasStore, **fields: Any) -> dict[str, str]:
    return {each.field: each.message for each in store.check(alias(**fields))}


def test_a_name_is_unique(store: AliasStore) -> None:
    store.add(alias())
    with pytest.raises(InvalidAlias) as failure:
        store.add(alias(host="tcp://other:1"))
    assert [(each.field, each.message) for each in failure.value.problems] == [("name", "is taken; names are unique")]


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "x" * 65])
def test_a_name_has_a_form(name: str) -> None:
    with pytest.raises(InvalidAlias) as failure:
        alias(name=name)
    assert failure.value.problems[0].field == "name"


def test_there_may_be_many(store: AliasStore) -> None:
    for number in range(20):
        store.add(alias(name=f"a{number}"))
    assert len(AliasStore(store.site, environment={}).catalogue.aliases) == 20


def test_a_description_is_kept(store: AliasStore) -> None:
    store.add(alias(description="north hall — 2nd floor"))
    assert AliasStore(store.site).catalogue.alias("plant").description == "north hall — 2nd floor"


def test_a_package_has_to_be_there(store: AliasStore) -> None:
    assert problems(store, package="Plant") == {
        "package": "there is no package Plant: add it first, or leave it at WmRoot"
    }
    assert problems(store) == {} and alias().package == "WmRoot"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("broker:1883", "has to begin with tcp://"),
        ("mqtt://broker:1883", "has to begin with tcp://"),
        ("tcp://broker", "names no port"),
        ("tcp://:1883", "names no host"),
        ("tcp://broker:99999", "is no URL"),
        ("tcp://broker:0", "names no port"),
        ("tcp://user:pw@broker:1883", "do not belong into the URL"),
        ("tcp://broker:1883/path", "only ws:// and wss:// take one"),
    ],
)
def test_a_host_is_a_url_with_protocol_domain_and_port(store: AliasStore, text: str, reason: str) -> None:
    assert reason in problems(store, host=text)["host"]


def test_hosts_that_hold() -> None:
    assert str(parse_host("tcp://[::1]:1883")) == "tcp://[::1]:1883"
    assert parse_host("ssl://Broker.example:8883").is_tls
    assert str(parse_host("ws://b:80")) == "ws://b:80/mqtt"
    assert parse_host("wss://b:443/a/b?x=1").path == "/a/b?x=1"


def test_ssl_needs_an_ssl_url(store: AliasStore) -> None:
    assert "ssl://" in problems(store, use_ssl=True)["host"]
    assert "use_ssl" in problems(store, use_ssl=False, host="ssl://b:8883")


def test_a_client_id_is_generated_and_stays(store: AliasStore, tmp_path: Path) -> None:
    first = client_id_of(alias(), store.site)
    assert len(first) == 23 and first == client_id_of(alias(description="changed"), store.site)
    assert first != client_id_of(alias(name="other"), store.site)
    assert first != client_id_of(alias(), Site(tmp_path / "elsewhere"))


def test_a_client_id_may_be_given(store: AliasStore) -> None:
    assert client_id_of(alias(client_id="my-gateway"), store.site) == "my-gateway"
    assert "client_id" in problems(store, client_id="a\0b")


def test_times_have_their_defaults(store: AliasStore) -> None:
    assert (alias().connect_timeout_s, alias().keep_alive_s) == (30, 60)
    assert route_of(alias(), store.catalogue, {}).connect_timeout_s == 30
    assert route_of(alias(connect_timeout_s=0), store.catalogue, {}).connect_timeout_s is None
    for field, value in (("connect_timeout_s", -1), ("keep_alive_s", 65_536), ("keep_alive_s", -1)):
        with pytest.raises(InvalidAlias) as failure:
            alias(**{field: value})
        assert failure.value.problems[0].field == field


def connection(store: AliasStore, settings: AliasSettings, route: Route | None = None) -> AliasConnection:
    return AliasConnection(
        settings,
        route or route_of(settings, store.catalogue, {}),
        login_of(settings, store.site, {}),
        MqttVersion.V5,
        PublishSession(),
        resume=False,
        health=Health(),
        relay=Relay(),
    )


async def test_the_connection_time_out_ends_a_wait(store: AliasStore, works: Any) -> None:
    class Silent(Route):
        async def open(self, make: Any) -> None:
            await asyncio.get_running_loop().create_future()

    silent = Silent(parse_host(URL), None, 0.01)
    with pytest.raises(ConnectFailure, match="timed out"):
        async with connection(store, alias(), silent):
            pass


async def test_connect_says_what_the_fields_say(store: AliasStore) -> None:
    will = {"will_topic": "state/plant", "will_payload": "gone", "will_qos": 2, "will_retained": True}
    packet = connection(store, alias(keep_alive_s=0, username="gw", will_enabled=True, **will)).connect_packet()
    assert packet.will == Will("state/plant", b"gone", 2, True)
    assert (packet.keep_alive, packet.username, packet.password) == (0, "gw", None)
    packet = connection(store, alias(will_enabled=False, **will)).connect_packet()
    assert packet.will is None and packet.username is None and packet.keep_alive == 60


@pytest.mark.parametrize("field", ["will_enabled", "on_connect_payload", "on_disconnect_payload"])
def test_a_will_topic_is_needed(store: AliasStore, field: str) -> None:
    value: object = True if field == "will_enabled" else "x"
    assert field in problems(store, **{field: value})["will_topic"]
    assert "wildcard" in problems(store, will_topic="a/#", **{field: value})["will_topic"]
    assert problems(store, will_topic="need/not/exist", **{field: value}) == {}


def test_will_qos_is_0_1_or_2() -> None:
    with pytest.raises(InvalidAlias) as failure:
        alias(will_qos=3)
    assert failure.value.problems[0].field == "will_qos"


def test_a_password_is_never_shown(store: AliasStore, tmp_path: Path) -> None:
    store.add(alias(username="gw", password="s3cret"))
    saved = store.catalogue.alias("plant")
    assert "s3cret" not in (store.site.state_dir / "gateway" / "aliases.json").read_text()
    assert "s3cret" not in repr(saved) + saved.model_dump_json()
    assert login_of(saved, store.site, {}).password == "s3cret"
    file = Path(saved.password_file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    store.change(Kind.ALIAS, "plant", {"keep_alive_s": 5})
    assert login_of(store.catalogue.alias("plant"), store.site, {}).password == "s3cret"
    store.remove(Kind.ALIAS, "plant")
    assert not file.exists()


def test_a_password_may_be_a_reference(store: AliasStore, tmp_path: Path) -> None:
    assert "BROKER_PW is not set" in problems(store, username="gw", password="${BROKER_PW}")["password"]
    assert "can't be read" in problems(store, username="gw", password_file=str(tmp_path / "none"))["password_file"]
    with_it = AliasStore(store.site, environment={"BROKER_PW": "s3cret"})
    with_it.add(alias(username="gw", password="${BROKER_PW}"))
    assert "${BROKER_PW}" in (store.site.state_dir / "gateway" / "aliases.json").read_text()
    assert login_of(with_it.catalogue.alias("plant"), store.site, with_it.environment).password == "s3cret"
    (tmp_path / "pw").write_text("other\n")
    changed = with_it.change(Kind.ALIAS, "plant", {"password": "", "password_file": str(tmp_path / "pw")})
    assert isinstance(changed, AliasSettings) and login_of(changed, store.site, {}).password == "other"


def test_a_password_needs_a_user_name(store: AliasStore) -> None:
    assert "username" in problems(store, password="x")


@pytest.fixture
def stores(store: AliasStore, authority: TrialAuthority) -> AliasStore:
    certificate, key = authority.client("gw", TenantId("acme"))
    both = authority.folder / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    store.add(TruststoreSettings(name="ca", file=str(authority.folder / "ca.crt")))
    store.add(KeystoreSettings(name="mine", file=str(both)))
    return store


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"truststore"}),
        ({"truststore": "ca"}, set()),
        ({"truststore": "none"}, {"truststore"}),
        ({"truststore": "ca", "keystore": "mine"}, {"key_alias"}),
        ({"truststore": "ca", "keystore": "mine", "key_alias": "other"}, {"key_alias"}),
        ({"truststore": "ca", "key_alias": "gw"}, {"keystore"}),
        ({"truststore": "ca", "keystore": "none", "key_alias": "gw"}, {"keystore"}),
        ({"truststore": "ca", "keystore": "mine", "key_alias": "gw"}, set()),
    ],
)
def test_tls_fields_fit_together(stores: AliasStore, fields: dict[str, str], expected: set[str]) -> None:
    assert problems(stores, host="ssl://b:8883", **fields).keys() == expected


def test_tls_fields_have_no_use_without_tls(stores: AliasStore) -> None:
    found = problems(stores, truststore="ca", keystore="mine", key_alias="gw")
    assert found.keys() == {"truststore", "keystore", "key_alias"}


def test_each_field_that_does_not_fit_is_named(store: AliasStore) -> None:
    with pytest.raises(InvalidAlias) as failure:
        store.add(
            alias(
                package="None",
                host="ftp://x",
                will_enabled=True,
                password="x",
                truststore="ca",
                publish=[{"topic": "a/{city}"}, {"tenant": "a/b", "topic": "a/#"}],
            )
        )
    fields = [each.field for each in failure.value.problems]
    assert fields == ["package", "host", "will_topic", "username", "truststore", "publish.0.topic", "publish.1.tenant",
                      "publish.1.topic"]  # fmt: skip
    assert not store.catalogue.aliases


def test_saved_is_not_enabled(store: AliasStore) -> None:
    store.add(alias())
    assert not store.catalogue.is_on(store.catalogue.alias("plant"))
    store.set_enabled(Kind.ALIAS, "plant", enabled=True)
    assert store.catalogue.is_on(AliasStore(store.site).catalogue.alias("plant"))
    store.set_enabled(Kind.ALIAS, "plant", enabled=False)
    assert not store.catalogue.is_on(store.catalogue.alias("plant"))


def test_enabling_asks_that_every_field_fits(stores: AliasStore, authority: TrialAuthority) -> None:
    stores.add(alias(host="ssl://b:8883", truststore="ca"))
    (authority.folder / "ca.crt").write_text("no certificate")
    with pytest.raises(InvalidAlias) as failure:
        stores.set_enabled(Kind.ALIAS, "plant", enabled=True)
    assert [each.field for each in failure.value.problems] == ["truststore"]


def test_what_the_configuration_declares_is_changed_there(site: Site) -> None:
    store = AliasStore(site, [alias()], environment={})
    for change in (
        lambda: store.set_enabled(Kind.ALIAS, "plant", enabled=True),
        lambda: store.remove(Kind.ALIAS, "plant"),
        lambda: store.replace(alias()),
    ):
        with pytest.raises(AliasError) as failure:
            change()
        assert failure.value.code == "MW-ALI-003"
    with pytest.raises(InvalidAlias):
        AliasStore(site, [alias(), alias()], environment={})


def test_what_is_in_use_is_not_removed(stores: AliasStore) -> None:
    stores.add(alias(host="ssl://b:8883", truststore="ca"))
    with pytest.raises(AliasError, match="alias plant") as failure:
        stores.remove(Kind.TRUSTSTORE, "ca")
    assert failure.value.code == "MW-ALI-004"
    stores.remove(Kind.KEYSTORE, "mine")
    assert stores.catalogue.keystores == {}


def test_a_store_of_another_process_is_noticed(store: AliasStore) -> None:
    other = AliasStore(store.site)
    store.add(alias())
    assert other.refresh() and "plant" in other.catalogue.aliases
    assert not other.refresh()


def test_a_damaged_store_is_told(store: AliasStore) -> None:
    (store.site.state_dir / "gateway" / "aliases.json").write_text("{")
    with pytest.raises(AliasError) as failure:
        AliasStore(store.site)
    assert failure.value.code == "MW-ALI-006"
    (store.site.state_dir / "gateway" / "aliases.json").write_text(json.dumps({"version": 9}))
    with pytest.raises(AliasError):
        AliasStore(store.site)
