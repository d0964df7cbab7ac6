"""TLS and mutual TLS towards Mosquitto and the project's own broker, from PEM and PKCS#12 keystores."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from broker.certificates import TrialAuthority
from broker.client_certificates import CertificateRule
from broker.server import Broker
from broker.settings import BrokerSettings, Durability, ListenerSettings
from gateway.aliases.catalogue import Kind
from gateway.aliases.errors import StoreFileError
from gateway.aliases.keystore import client_context, read_keystore, read_truststore
from gateway.aliases.records import KeystoreSettings, TruststoreSettings
from gateway.aliases.store import AliasStore
from gateway.aliases.trial import walk
from meshwire.identity import LoginKind, TenantId
from meshwire.site import Site

ALL = [{"topic": "acme/read/{mac}/{type}", "qos": 1}]
pytestmark = pytest.mark.server


def make_stores(store: AliasStore, authority: TrialAuthority) -> dict[str, str]:
    certificate, key = authority.client("gw", TenantId("acme"))
    both = authority.folder / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    store.add(TruststoreSettings(name="ca", file=str(authority.folder / "ca.crt")))
    store.add(KeystoreSettings(name="mine", file=str(both)))
    return {"truststore": "ca", "keystore": "mine", "key_alias": "gw"}


def mosquitto_tls(authority: TrialAuthority, *, mutual: bool, more: str = "") -> str:
    folder = authority.folder
    (folder / "server.key").chmod(0o644)
    lines = [f"cafile {folder / 'ca.crt'}", f"certfile {folder / 'server.crt'}", f"keyfile {folder / 'server.key'}"]
    lines += ["allow_anonymous true", f"require_certificate {str(mutual).lower()}", "user root", more]
    return "\n".join(lines)


async def test_one_way_tls_to_mosquitto(works: Any, mosquitto: Any, authority: TrialAuthority) -> None:
    await mosquitto.kill()
    mosquitto.configure(mosquitto_tls(authority, mutual=False))
    await mosquitto.start()
    make_stores(works.store, authority)
    works.add("plant", f"ssl://127.0.0.1:{mosquitto.port}", truststore="ca", publish=ALL)
    await works.connected("plant")


async def test_mutual_tls_to_mosquitto(
    works: Any, mosquitto: Any, authority: TrialAuthority, witness: Any, free_port: int
) -> None:
    await mosquitto.kill()
    plain = f"listener {free_port} 127.0.0.1\nallow_anonymous true"
    mosquitto.configure(mosquitto_tls(authority, mutual=True, more=plain))
    await mosquitto.start()
    seen = await witness(free_port, "acme/#")
    stores = make_stores(works.store, authority)
    works.add("plant", f"ssl://127.0.0.1:{mosquitto.port}", publish=ALL, **stores)
    works.add("bare", f"ssl://localhost:{mosquitto.port}", truststore="ca")
    await works.connected("plant")
    works.notify()
    assert (await seen.summary())[0] == "acme/read/001350050047dc9a/temp"
    assert works.state("bare")["state"] == "connecting"


@contextlib.asynccontextmanager
async def own_broker(site: Site, listener: ListenerSettings) -> AsyncIterator[int]:
    broker = Broker(BrokerSettings(listener=(listener,), durability=Durability.MEMORY), site=site)
    task = asyncio.create_task(broker.run())
    ready = asyncio.create_task(broker.ready.wait())
    await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
    try:
        yield broker.ports[0]
    finally:
        ready.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def listener(authority: TrialAuthority, **more: Any) -> ListenerSettings:
    folder = authority.folder
    files = {"certificate_file": folder / "server.crt", "key_file": folder / "server.key"}
    return ListenerSettings(**{"kind": "mqtts", "port": 0, **files, **more})


async def test_mutual_tls_to_our_broker(works: Any, authority: TrialAuthority, eventually: Any) -> None:
    rule = CertificateRule(roles=("COMMAND_CLIENT",))
    only = listener(
        authority,
        authentication=(LoginKind.CERTIFICATE,),
        client_ca_file=authority.folder / "ca.crt",
        certificate=rule,
    )
    stores = make_stores(works.store, authority)
    async with own_broker(works.store.site, only) as port:
        rules = [{"topic": "acme/cmd/{mac}/req/1"}]
        works.add("plant", f"ssl://localhost:{port}", publish=rules, **stores)
        await works.connected("plant")
        works.notify()
        await eventually(lambda: works.state("plant")["published"] == 1, lambda: str(works.state("plant")))


async def test_mutual_tls_over_websocket_to_our_broker(works: Any, authority: TrialAuthority) -> None:
    files = {"client_ca_file": authority.folder / "ca.crt", "authentication": (LoginKind.CERTIFICATE,)}
    stores = make_stores(works.store, authority)
    async with own_broker(works.store.site, listener(authority, kind="wss", **files)) as port:
        works.add("plant", f"wss://localhost:{port}/mqtt", **stores)
        await works.connected("plant")


@pytest.mark.parametrize("with_key", [False, True])
async def test_enable_client_cert_validation(works: Any, authority: TrialAuthority, with_key: bool) -> None:
    """CA25: with the switch a truststore alone is not enough, whatever way the client logs in."""
    files = {"client_ca_file": authority.folder / "ca.crt"}
    stores = make_stores(works.store, authority)
    given = stores if with_key else {"truststore": "ca"}
    login = {"username": "gateway", "password": works.store.site.secret("gateway-mqtt")}
    for switch in (False, True):
        settings = listener(authority, enable_client_cert_validation=switch, **files)
        async with own_broker(works.store.site, settings) as port:
            works.add(f"plant{switch}", f"ssl://127.0.0.1:{port}", enabled=False, **given, **login)
            alias = works.store.catalogue.alias(f"plant{switch}")
            steps = await asyncio.to_thread(lambda: list(walk(alias, works.store.catalogue, works.store.site, {})))  # noqa: B023
            assert steps[-1].code == ("MW-ALI-126" if switch and not with_key else ""), steps[-1]


def test_the_switch_needs_an_authority(authority: TrialAuthority) -> None:
    with pytest.raises(ValidationError, match="client_ca_file"):
        listener(authority, enable_client_cert_validation=True)


# --- keystores


@pytest.fixture
def java_keystore(tmp_path: Path) -> Path:
    """Two keys in one PKCS#12 file, as keytool makes it."""
    if shutil.which("keytool") is None:
        pytest.skip("keytool is not installed")
    file = tmp_path / "keys.p12"
    for name in ("first", "second"):
        command = ["keytool", "-genkeypair", "-alias", name, "-keyalg", "EC", "-groupname", "secp256r1"]
        command += ["-dname", f"CN=client {name},O=acme", "-keystore", str(file), "-storetype", "PKCS12"]
        subprocess.run([*command, "-storepass", "changeit"], check=True, capture_output=True)
    return file


def test_a_pkcs12_keystore_holds_several_keys(java_keystore: Path, store: AliasStore) -> None:
    entries = read_keystore(java_keystore, "changeit")
    assert list(entries) == ["first", "second"]
    assert entries["second"].certificate.subject.rfc4514_string() == "CN=client second,O=acme"
    for entry in entries.values():
        client_context([], with_system=True, entry=entry)
    with pytest.raises(StoreFileError, match="wrong password"):
        read_keystore(java_keystore, "other")
    with pytest.raises(StoreFileError, match="a password is needed"):
        read_keystore(java_keystore, "")


def test_keys_of_a_pkcs12_keystore_are_chosen_by_alias(java_keystore: Path, store: AliasStore, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("changeit\n")
    store.add(KeystoreSettings(name="java", file=str(java_keystore), password_file=str(tmp_path / "pw")))
    assert list(store.catalogue.key_entries("java", {})) == ["first", "second"]


@pytest.mark.parametrize("cipher", [[], ["-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"]])
def test_pkcs12_of_openssl_new_and_old(authority: TrialAuthority, tmp_path: Path, cipher: list[str]) -> None:
    certificate, key = authority.client("gw", TenantId("acme"))
    file = tmp_path / "one.p12"
    command = [
        "openssl",
        "pkcs12",
        "-export",
        "-in",
        certificate,
        "-inkey",
        key,
        "-certfile",
        authority.folder / "ca.crt",
    ]
    command += ["-name", "the key", "-out", file, "-passout", "pass:geheim", *cipher]
    subprocess.run(command, check=True, capture_output=True)
    entries = read_keystore(file, "geheim")
    assert list(entries) == ["the key"]
    assert len(read_truststore(file, "geheim")) == 2


def test_a_pem_keystore_holds_several_keys(authority: TrialAuthority, tmp_path: Path) -> None:
    parts = [path.read_bytes() for name in ("a", "b") for path in authority.client(name, TenantId("acme"))]
    file = tmp_path / "all.pem"
    file.write_bytes(b"".join(reversed(parts)))
    assert set(read_keystore(file, "")) == {"a", "b"}


@pytest.mark.parametrize("octets", [b"", b"nonsense", b"\x30\x80\x02\x01\x03\x00\x00", b"\x30\x05\x02\x01\x03\x30\x00"])
def test_a_file_that_is_none_is_told(octets: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(octets)
    for read in (read_keystore, read_truststore):
        with pytest.raises(StoreFileError):
            read(tmp_path / "file", "x")
    with pytest.raises(StoreFileError):
        read_truststore(tmp_path / "absent")


def test_every_cut_and_flip_of_a_pkcs12_file_is_told_or_read(java_keystore: Path, tmp_path: Path) -> None:
    octets = java_keystore.read_bytes()
    broken = tmp_path / "broken.p12"
    for at in range(0, len(octets), 97):
        for damaged in (octets[:at], octets[:at] + bytes((octets[at] ^ 0x81,)) + octets[at + 1 :]):
            broken.write_bytes(damaged)
            with contextlib.suppress(StoreFileError):
                read_keystore(broken, "changeit")


def test_kinds_have_names_of_their_own(store: AliasStore, authority: TrialAuthority) -> None:
    store.add(TruststoreSettings(name="mine", file=str(authority.folder / "ca.crt")))
    with pytest.raises(Exception, match="no keystore"):
        store.catalogue.find(Kind.KEYSTORE, "mine")
