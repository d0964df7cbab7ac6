"""`alias test` (CA26): each step fails in each way that it can, and the cause is named."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from patience import PATIENCE_S

from broker.certificates import TrialAuthority
from gateway.aliases import trial
from gateway.aliases.catalogue import Kind
from gateway.aliases.errors import CATALOGUE
from gateway.aliases.records import AliasSettings, KeystoreSettings, TruststoreSettings
from gateway.aliases.store import AliasStore, build
from gateway.aliases.trial import Step, walk
from meshwire.identity import TenantId
from meshwire.mqtt import ConnAck, Disconnect, PacketStream, Properties, ProtocolVersion, Side, encode

V5, V311 = ProtocolVersion.V5, ProtocolVersion.V3_1_1
Talk = Callable[[socket.socket], None]


def steps_of(store: AliasStore, host: str, **fields: Any) -> list[Step]:
    fields.setdefault("connect_timeout_s", 5)
    alias = build(Kind.ALIAS, {"name": "plant", "host": host, **fields})
    assert isinstance(alias, AliasSettings)
    return list(walk(alias, store.catalogue, store.site, store.environment))


def last(store: AliasStore, host: str, **fields: Any) -> tuple[str, str]:
    """(step, code) where the walk ended; every failure has evidence, a cause and advice."""
    step = steps_of(store, host, **fields)[-1]
    if step.code:
        assert step.cause and step.fix and step.evidence and step.code in CATALOGUE, step
    return step.name, step.code


@contextlib.contextmanager
def serving(talk: Talk, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that does `talk` with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), sock:
                if context is None:
                    talk(sock)
                else:
                    with context.wrap_socket(sock, server_side=True) as secured:
                        talk(secured)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_S)


def answering(code: int, version: ProtocolVersion = V5, properties: Properties | None = None) -> Talk:
    """Reads CONNECT and answers with a reason code; what comes after it has to be DISCONNECT."""

    def talk(sock: socket.socket) -> None:
        stream = PacketStream(Side.SERVER)
        while True:
            octets = sock.recv(4096)
            if not octets:
                return
            stream.feed(octets)
            for packet in stream.packets():
                if isinstance(packet, Disconnect):
                    return
                answer = ConnAck(False, code, properties) if properties else ConnAck(False, code)
                sock.sendall(encode(answer, version))

    return talk


def test_a_broker_that_answers(store: AliasStore) -> None:
    with serving(answering(0, properties=Properties(receive_maximum=7, maximum_qos=1))) as port:
        steps = steps_of(store, f"tcp://127.0.0.1:{port}", username="gw")
    assert [step.name for step in steps] == ["fields", "dns", "tcp", "connect", "connack"]
    assert all(step.is_ok for step in steps)
    assert steps[-1].evidence == "MQTT 5, receive maximum 7, maximum QoS 1"
    assert "-test, user gw" in steps[3].evidence


def test_fields_come_first(store: AliasStore) -> None:
    assert last(store, "ssl://broker:8883") == ("fields", "MW-ALI-001")


def test_a_name_that_is_not_known(store: AliasStore) -> None:
    assert last(store, "tcp://nobody.invalid:1883") == ("dns", "MW-ALI-101")
    assert last(store, f"tcp://{'x' * 64}.invalid:1883") == ("dns", "MW-ALI-101")


def test_a_name_server_that_is_away(store: AliasStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(trial.socket, "getaddrinfo", away)
    assert last(store, "tcp://broker.example:1883") == ("dns", "MW-ALI-102")


def test_nobody_listens(store: AliasStore, free_port: int) -> None:
    assert last(store, f"tcp://127.0.0.1:{free_port}") == ("tcp", "MW-ALI-111")


@pytest.mark.parametrize(
    ("error", "code"),
    [(TimeoutError("timed out"), "MW-ALI-112"), (OSError(101, "Network is unreachable"), "MW-ALI-113")],
)
def test_the_address_can_not_be_reached(
    store: AliasStore, monkeypatch: pytest.MonkeyPatch, error: OSError, code: str
) -> None:
    class Nowhere(socket.socket):
        def connect(self, where: Any) -> None:
            raise error

    monkeypatch.setattr(trial.socket, "socket", Nowhere)
    assert last(store, "tcp://127.0.0.1:1883") == ("tcp", code)


# --- TLS


@pytest.fixture
def trusting(store: AliasStore, authority: TrialAuthority) -> AliasStore:
    store.add(TruststoreSettings(name="ca", file=str(authority.folder / "ca.crt")))
    return store


def server_context(authority: TrialAuthority, file: str = "server") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.folder / f"{file}.crt", authority.folder / f"{file}.key")
    return context


def test_tls_that_holds(trusting: AliasStore, authority: TrialAuthority) -> None:
    with serving(answering(0), server_context(authority)) as port:
        steps = steps_of(trusting, f"ssl://127.0.0.1:{port}", truststore="ca")
    assert [step.name for step in steps] == ["fields", "dns", "tcp", "tls", "connect", "connack"] and steps[-1].is_ok
    assert "TLSv1.3" in steps[3].evidence and "127.0.0.1" in steps[3].evidence


def test_a_certificate_of_another_authority(trusting: AliasStore, tmp_path: Path) -> None:
    other = TrialAuthority.in_folder(tmp_path / "other")
    other.server(("127.0.0.1",))
    with serving(answering(0), server_context(other)) as port:
        steps = steps_of(trusting, f"ssl://127.0.0.1:{port}", truststore="ca")
    assert (steps[-1].name, steps[-1].code) == ("tls", "MW-ALI-122")
    assert "issued by CN=meshwire trial authority" in steps[-1].evidence


def test_a_certificate_for_another_host(trusting: AliasStore, authority: TrialAuthority) -> None:
    authority.server(("broker.example",), file="other")
    with serving(answering(0), server_context(authority, "other")) as port:
        steps = steps_of(trusting, f"ssl://127.0.0.1:{port}", truststore="ca")
    assert (steps[-1].name, steps[-1].code) == ("tls", "MW-ALI-125")
    assert "for broker.example" in steps[-1].evidence


@pytest.mark.parametrize(("begin", "end", "code"), [(-20, -10, "MW-ALI-123"), (10, 20, "MW-ALI-124")])
def test_a_certificate_out_of_its_time(
    trusting: AliasStore, authority: TrialAuthority, begin: int, end: int, code: str
) -> None:
    ca = x509.load_pem_x509_certificate((authority.folder / "ca.crt").read_bytes())
    ca_key = serialization.load_pem_private_key((authority.folder / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begin))
        .not_valid_after(now + datetime.timedelta(days=end))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    (authority.folder / "old.crt").write_bytes(made.public_bytes(form))
    (authority.folder / "old.key").write_bytes(
        key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with serving(answering(0), server_context(authority, "old")) as port:
        assert last(trusting, f"ssl://localhost:{port}", truststore="ca") == ("tls", code)


def test_a_port_without_tls(trusting: AliasStore) -> None:
    def hello(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(b"220 mail ready\r\n")

    for talk in (hello, lambda sock: sock.close()):
        with serving(talk) as port:
            assert last(trusting, f"ssl://127.0.0.1:{port}", truststore="ca") == ("tls", "MW-ALI-121")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_demanded(
    trusting: AliasStore, authority: TrialAuthority, version: ssl.TLSVersion
) -> None:
    context = server_context(authority)
    context.maximum_version = version
    context.load_verify_locations(authority.folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    with serving(answering(0), context) as port:
        assert last(trusting, f"ssl://127.0.0.1:{port}", truststore="ca")[1] == "MW-ALI-126"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_client_certificate_is_not_accepted(
    trusting: AliasStore, authority: TrialAuthority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    other = TrialAuthority.in_folder(tmp_path / "other")
    certificate, key = other.client("stranger", TenantId("acme"))
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    trusting.add(KeystoreSettings(name="mine", file=str(both)))
    context = server_context(authority)
    context.maximum_version = version
    context.load_verify_locations(authority.folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    keys = {"truststore": "ca", "keystore": "mine", "key_alias": "stranger"}
    with serving(answering(0), context) as port:
        assert last(trusting, f"ssl://127.0.0.1:{port}", **keys)[1] == "MW-ALI-127"


# --- MQTT


@pytest.mark.parametrize(
    ("version", "reason", "code"),
    [
        (V5, 0x86, "MW-ALI-151"),
        (V5, 0x87, "MW-ALI-152"),
        (V5, 0x8A, "MW-ALI-152"),
        (V5, 0x85, "MW-ALI-153"),
        (V5, 0x88, "MW-ALI-154"),
        (V5, 0x97, "MW-ALI-154"),
        (V5, 0x9C, "MW-ALI-155"),
        (V311, 4, "MW-ALI-151"),
        (V311, 5, "MW-ALI-152"),
        (V311, 2, "MW-ALI-153"),
        (V311, 3, "MW-ALI-154"),
    ],
)
def test_the_broker_refuses(store: AliasStore, version: ProtocolVersion, reason: int, code: str) -> None:
    with serving(answering(reason, version)) as port:
        steps = steps_of(store, f"tcp://127.0.0.1:{port}")
    assert (steps[-1].name, steps[-1].code) == ("connack", code)
    assert f"{reason:#04x}" in steps[-1].evidence


def test_an_old_broker_is_asked_again_in_its_version(store: AliasStore) -> None:
    versions: list[int] = []

    def old(sock: socket.socket) -> None:
        stream = PacketStream(Side.SERVER)
        stream.feed(sock.recv(4096))
        packet = next(stream.packets())
        versions.append(packet.version)  # type: ignore[union-attr]
        sock.sendall(encode(ConnAck(False, 0 if stream.version is V311 else 1), V311))
        sock.recv(4096)

    with serving(old) as port:
        assert last(store, f"tcp://127.0.0.1:{port}") == ("connack", "")
    assert versions == [5, 4]


def test_a_server_that_hangs_up_or_says_nothing(store: AliasStore) -> None:
    with serving(lambda sock: None) as port:
        assert last(store, f"tcp://127.0.0.1:{port}") == ("connack", "MW-ALI-141")
    done = threading.Event()

    def silent(sock: socket.socket) -> None:
        done.wait(PATIENCE_S)

    with serving(silent) as port:
        assert last(store, f"tcp://127.0.0.1:{port}", connect_timeout_s=1) == ("connack", "MW-ALI-141")
        done.set()


def test_a_server_that_is_no_broker(store: AliasStore) -> None:
    def web(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with serving(web) as port:
        steps = steps_of(store, f"tcp://127.0.0.1:{port}")
        assert (steps[-1].name, steps[-1].code) == ("connack", "MW-ALI-142")
        assert "HTTP/1.1" in steps[-1].evidence
        assert last(store, f"ws://127.0.0.1:{port}/mqtt") == ("websocket", "MW-ALI-131")


@pytest.mark.server
async def test_a_walk_throws_no_running_connection_out(works: Any, mosquitto: Any) -> None:
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}")
    await works.connected("plant")
    alias = works.store.catalogue.alias("plant")
    steps = await asyncio.to_thread(lambda: list(walk(alias, works.store.catalogue, works.store.site, {})))
    assert steps[-1].is_ok
    state = works.state("plant")
    assert (state["state"], state["connects"]) == ("connected", 1)
