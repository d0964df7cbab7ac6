"""AMQP 1.0 beside MQTT on the same addresses: Debian's RabbitMQ behind our authority, and Apache's Proton as client."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from patience import PATIENCE_S

from broker.adapters.connection import BrokerAddress
from broker.adapters.rabbitmq.addresses import address_definitions, routing_key
from broker.adapters.rabbitmq.nodes import PrivateCluster, free_ports, server_program
from broker.adapters.rabbitmq.tls import TlsFiles
from broker.addresses.address import Address
from broker.addresses.traffic import Login, Place, receive, send
from broker.attack.embedded import CHEAP
from broker.attack.external import running_authority
from broker.authority.service import Authority
from broker.authority.settings import AuthoritySettings
from broker.certificates import TrialAuthority
from broker.credentials import UsersFile
from broker.errors import BrokerNotReachable
from broker.settings import BrokerSettings
from meshwire.identity import TenantId
from meshwire.mqtt import ProtocolVersion
from meshwire.site import Site

PASSWORD = "only-for-this-run"
READING = "acme/read/001350050047dd92/temp"
SHORT_S = 3.0
"""For what is refused: Proton tries again until its time is over."""


def address(name: str, kind: str, **fields: object) -> Address:
    return Address.model_validate({"tenant": "acme", "name": name, "type": kind, **fields})


ADDRESSES = (
    address("orders", "queue", max_ttl_s=60, dead_letter="dead"),
    address("dead", "queue"),
    address("news", "topic"),
    address("calc", "anycast"),
    address("all", "multicast"),
    address("telemetry", "queue", filter="read/#"),
)


def test_the_definitions_of_addresses() -> None:
    assert address_definitions(()) == {}
    made = json.loads(json.dumps(address_definitions(ADDRESSES)))
    queues = {item["name"]: item["arguments"] for item in made["queues"]}
    assert list(queues) == ["acme.address.orders", "acme.address.dead", "acme.address.calc", "acme.read.#"]
    assert queues["acme.address.orders"] == {
        "x-max-length": 50_000,
        "x-max-length-bytes": 67_108_864,
        "x-overflow": "drop-head",
        "x-message-ttl": 60_000,
        "x-dead-letter-exchange": "amq.topic",
        "x-dead-letter-routing-key": "acme.address.dead",
    }
    assert queues["acme.address.calc"] == {"x-message-ttl": 0}
    assert {(item["routing_key"], item["destination"]) for item in made["bindings"]} == {(n, n) for n in queues}
    replicated = address_definitions(ADDRESSES[:1], replicated=True)["queues"]
    assert replicated[0]["arguments"]["x-queue-type"] == "quorum"  # type: ignore[index]


@asynccontextmanager
async def running(folder: Path, tls: TlsFiles | None = None) -> AsyncIterator[PrivateCluster]:
    site = Site(folder / "site")
    users = UsersFile(site.path("broker", "users.json"), CHEAP)
    both = ("ADDRESS_SENDER", "ADDRESS_RECEIVER", "BUBBLE_UP_READ_CONSUMER")
    users.add("acme", PASSWORD, tenant=TenantId("acme"), roles=both)
    users.add("globex", PASSWORD, tenant=TenantId("globex"), roles=both)
    users.add("gateway", PASSWORD, roles=("GATEWAY",))
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/{site.secret('broker-authority')}"
    cluster = PrivateCluster(folder / "rabbitmq", url, amqp=True, addresses=ADDRESSES, tls=tls)
    async with running_authority(Authority(AuthoritySettings(port=port), BrokerSettings(), site=site)):
        try:
            await asyncio.to_thread(cluster.start)
            yield cluster
        finally:
            await asyncio.to_thread(cluster.stop)


def mqtt(cluster: PrivateCluster, user: str = "acme") -> Place:
    broker = BrokerAddress("127.0.0.1", cluster.nodes[0].mqtt_port)
    return Place(broker, Login(user, PASSWORD), ProtocolVersion.V3_1_1)


async def publish(place: Place, topic: str, *payloads: bytes) -> None:
    assert len([n async for n in send(place, topic, payloads, timeout_s=PATIENCE_S)]) == len(payloads)


async def collect(
    place: Place, topic: str, count: int, on_ready: Callable[[], None], timeout_s: float = PATIENCE_S
) -> list[bytes]:
    got = receive(place, topic, count, timeout_s=timeout_s, on_ready=on_ready)
    return [bytes(item.payload) async for item in got]


class Amqp:
    """One connection of Proton; its calls block, so they run in a thread."""

    def __init__(self, port: int, user: str = "acme", timeout_s: float = PATIENCE_S, tls: "Tls | None" = None) -> None:
        from proton.utils import BlockingConnection

        self.senders: dict[str, Any] = {}
        # Proton looks for the host among the certificate's names, not among its addresses.
        place = f"127.0.0.1:{port}" if tls is None else f"localhost:{port}"
        self.connection: Any = BlockingConnection(
            f"{'amqp' if tls is None else 'amqps'}://{user}:{PASSWORD}@{place}",
            timeout=timeout_s,
            allowed_mechs="PLAIN",
            ssl_domain=tls.domain() if tls is not None else None,
        )

    def send(self, where: Address, *payloads: bytes) -> int:
        """How many the broker has accepted."""
        from proton import Disposition, Message

        target = f"/topic/{routing_key(where.topic_filter)}"
        sender = self.senders.get(target) or self.connection.create_sender(target)
        self.senders[target] = sender
        states = [sender.send(Message(body=payload, inferred=True)).remote_state for payload in payloads]
        return states.count(Disposition.ACCEPTED)

    def receiver(self, where: Address, credit: int = 1) -> Any:
        """Of a queue under its name; of everything else by its topic."""
        kind = "/amq/queue" if where.type.is_competing else "/topic"
        return self.connection.create_receiver(f"{kind}/{routing_key(where.topic_filter)}", credit=credit)

    @staticmethod
    def take(receiver: Any, count: int) -> list[bytes]:
        got = []
        for _ in range(count):
            message = receiver.receive(timeout=PATIENCE_S)
            got.append(bytes(message.body))  # a view of the message's own memory
            receiver.accept()
        return got


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom a client trusts, and what it shows."""

    ca: Path
    pair: tuple[Path, Path] | None = None

    def context(self) -> ssl.SSLContext:
        """For MQTT."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if self.pair is not None:
            context.load_cert_chain(*self.pair)
        return context

    def domain(self) -> Any:
        """For Proton."""
        from proton import SSLDomain

        domain = SSLDomain(SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(str(self.ca))
        domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
        if self.pair is not None:
            domain.set_credentials(str(self.pair[0]), str(self.pair[1]), "")
        return domain


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(240)
@pytest.mark.skipif(server_program() is None, reason="rabbitmq-server is not installed")
async def test_mqtt_and_amqp_meet_at_the_same_addresses(tmp_path: Path) -> None:
    """One boot, many looks: a node takes ten seconds to come up."""
    pytest.importorskip("proton", reason="python-qpid-proton is not installed (pip install meshwire[amqp])")
    orders, _dead, news, calc, multicast, telemetry = ADDRESSES
    async with running(tmp_path) as cluster:
        port = cluster.nodes[0].amqp_port
        assert port is not None
        first, second = await asyncio.to_thread(Amqp, port), await asyncio.to_thread(Amqp, port)

        # A reading over MQTT, octet for octet, to AMQP 1.0; stored until somebody comes.
        await publish(mqtt(cluster, "gateway"), READING, b"\xa1\x00\xff", b"21")
        reader = await asyncio.to_thread(first.receiver, telemetry)
        assert await asyncio.to_thread(first.take, reader, 2) == [b"\xa1\x00\xff", b"21"]

        # And the other way round.
        ready = asyncio.Event()
        got = asyncio.create_task(collect(mqtt(cluster), news.topic_filter, 2, ready.set))
        await ready.wait()
        accepted = await asyncio.to_thread(first.send, news, b"\x00raw", b"news")
        assert (await got, accepted) == ([b"\x00raw", b"news"], 2)

        # Competing receivers share a queue, whoever sends.
        one, two = await asyncio.to_thread(first.receiver, orders), await asyncio.to_thread(second.receiver, orders)
        await publish(mqtt(cluster), orders.topic_filter, *(b"%d" % n for n in range(6)))
        halves = await asyncio.gather(asyncio.to_thread(first.take, one, 3), asyncio.to_thread(second.take, two, 3))
        assert sorted(halves[0] + halves[1]) == [b"%d" % n for n in range(6)]

        # Anycast: nothing is kept while no receiver is there; then one of them has it.
        await publish(mqtt(cluster), calc.topic_filter, b"early")
        service = await asyncio.to_thread(second.receiver, calc)
        await publish(mqtt(cluster), calc.topic_filter, b"now")
        assert await asyncio.to_thread(second.take, service, 1) == [b"now"]

        # Multicast: all that listen, on either protocol.
        listeners = [await asyncio.to_thread(client.receiver, multicast) for client in (first, second)]
        ready.clear()
        got = asyncio.create_task(collect(mqtt(cluster), multicast.topic_filter, 1, ready.set))
        await ready.wait()
        await asyncio.to_thread(first.send, multicast, b"hear")
        assert [await asyncio.to_thread(first.take, item, 1) for item in listeners] == [[b"hear"], [b"hear"]]
        assert await got == [b"hear"]

        # The tenants stay apart: the authority judges AMQP 1.0 as it judges MQTT. RabbitMQ ends the session.
        from proton import ProtonException

        ready.clear()
        got = asyncio.create_task(collect(mqtt(cluster), news.topic_filter, 1, ready.set, 2 * PATIENCE_S))
        await ready.wait()
        tries: tuple[Callable[[Amqp], Any], ...] = (
            lambda own: own.receiver(orders),
            lambda own: own.receiver(news),
            lambda own: own.send(news, b"foreign"),
        )
        for attach in tries:
            foreign = await asyncio.to_thread(Amqp, port, "globex", SHORT_S)
            with pytest.raises(ProtonException):
                await asyncio.to_thread(attach, foreign)
        with pytest.raises(ProtonException):
            await asyncio.to_thread(Amqp, port, "nobody", SHORT_S)
        await asyncio.to_thread(first.send, news, b"own")
        assert await got == [b"own"]


BODIES = [b"%d" % number for number in range(1, 11)]
ROADS = [
    # sender, address, receiver; MQTT has no part in competing for a queue there: 3.10 has no $share
    *((sender, name, "amqp") for sender in ("mqtt", "amqp") for name in ("orders", "calc")),
    *((s, name, r) for s in ("mqtt", "amqp") for name in ("news", "all") for r in ("mqtt", "amqp")),
]


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(240)
@pytest.mark.skipif(server_program() is None, reason="rabbitmq-server is not installed")
async def test_ten_messages_through_each_type_by_every_way(tmp_path: Path) -> None:
    """In their order, octet for octet, and ten only; AMQP 1.0 senders are told that each was accepted."""
    pytest.importorskip("proton", reason="python-qpid-proton is not installed (pip install meshwire[amqp])")
    by_name = {each.name: each for each in ADDRESSES}
    async with running(tmp_path) as cluster:
        port = cluster.nodes[0].amqp_port
        assert port is not None
        for sender, name, receiver in ROADS:
            where, way = by_name[name], f"{sender} -> {name} -> {receiver}"
            if receiver == "amqp":
                there = await asyncio.to_thread(Amqp, port)
                source = await asyncio.to_thread(there.receiver, where, 10)
                taking = asyncio.create_task(asyncio.to_thread(there.take, source, 10))
            else:
                ready = asyncio.Event()
                taking = asyncio.create_task(collect(mqtt(cluster), where.topic_filter, 10, ready.set))
                await ready.wait()
            if sender == "amqp":
                here = await asyncio.to_thread(Amqp, port)
                assert await asyncio.to_thread(here.send, where, *BODIES) == 10, way
                await asyncio.to_thread(here.connection.close)
            else:
                await publish(mqtt(cluster), where.topic_filter, *BODIES)
            assert await taking == BODIES, way
            if receiver == "amqp":
                await asyncio.to_thread(there.connection.close)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(240)
@pytest.mark.skipif(server_program() is None, reason="rabbitmq-server is not installed")
@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual"])
async def test_a_reading_goes_from_mqtts_to_amqps(tmp_path: Path, mutual: bool) -> None:
    """And who has the wrong authority, or shows a certificate of it, or none where one is demanded, stays outside."""
    pytest.importorskip("proton", reason="python-qpid-proton is not installed (pip install meshwire[amqp])")
    from proton import ProtonException

    own, foreign = (TrialAuthority.in_folder(tmp_path / name) for name in ("own", "foreign"))
    ca, wrong_ca = own.folder / "ca.crt", foreign.folder / "ca.crt"
    pair, wrong_pair = (each.client("any", TenantId("acme")) for each in (own, foreign))
    files = TlsFiles.read(*own.server(("localhost", "127.0.0.1")), ca if mutual else None)
    telemetry = ADDRESSES[-1]
    async with running(tmp_path, files) as cluster:
        tls = cluster.nodes[0].tls
        assert tls is not None
        ports = tls.ports

        def mqtts(way: Tls, user: str) -> Place:
            broker = BrokerAddress("127.0.0.1", ports.mqtts, way.context())
            return Place(broker, Login(user, PASSWORD), ProtocolVersion.V3_1_1)

        good = Tls(ca, pair if mutual else None)
        await publish(mqtts(good, "gateway"), READING, b"\xa1\x00\xff", b"21")
        there = await asyncio.to_thread(Amqp, ports.amqps, tls=good)
        reader = await asyncio.to_thread(there.receiver, telemetry)
        assert await asyncio.to_thread(there.take, reader, 2) == [b"\xa1\x00\xff", b"21"]

        # The two scripts of the reference card: ten messages through an address, both ends by amqps.
        calc = ADDRESSES[3]
        source = await asyncio.to_thread(there.receiver, calc, 10)
        taking = asyncio.create_task(asyncio.to_thread(there.take, source, 10))
        here = await asyncio.to_thread(Amqp, ports.amqps, tls=good)
        assert await asyncio.to_thread(here.send, calc, *BODIES) == 10
        assert await taking == BODIES

        strangers = [Tls(wrong_ca, good.pair), *([Tls(ca), Tls(ca, wrong_pair)] if mutual else [])]
        for way in strangers:
            with pytest.raises(ProtonException):
                await asyncio.to_thread(Amqp, ports.amqps, timeout_s=SHORT_S, tls=way)
            with pytest.raises(BrokerNotReachable):
                await publish(mqtts(way, "gateway"), READING, b"foreign")
        with pytest.raises(ProtonException):  # the certificate is no login
            await asyncio.to_thread(Amqp, ports.amqps, "nobody", SHORT_S, good)

        # MQTT over WebSocket has TLS, too, but where certificates are demanded: it could not demand one.
        if mutual:
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", ports.wss)
        else:
            login = {"username": "acme", "password": PASSWORD, "protocol": aiomqtt.ProtocolVersion.V311}
            wss = {"transport": "websockets", "websocket_path": "/ws", "tls_context": good.context()}
            async with aiomqtt.Client("localhost", ports.wss, **login, **wss) as client:
                await client.subscribe(ADDRESSES[2].topic_filter, qos=1)
                await publish(mqtts(good, "acme"), ADDRESSES[2].topic_filter, b"news")
                async with asyncio.timeout(PATIENCE_S):
                    message = await anext(client.messages)
            assert message.payload == b"news"
