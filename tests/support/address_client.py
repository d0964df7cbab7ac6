"""Clients of addresses in an engine with a made-up clock and no sockets."""

from dataclasses import dataclass, field
from itertools import count

from broker.addresses.address import Address
from broker.dialogue import Dialogue
from broker.engine import Engine, OpenRequest
from broker.outlet import SessionKey
from broker.policy import permissions_of
from broker.session import Session
from broker.settings import BrokerSettings
from broker.statistics import Drop, Statistics
from broker.tenants import Plan
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import (
    Packet,
    PacketStream,
    Properties,
    ProtocolVersion,
    PubAck,
    Publish,
    PubRec,
    Side,
    SubAck,
    Subscribe,
    TopicSubscription,
    Will,
    encode,
)

V5, V311 = ProtocolVersion.V5, ProtocolVersion.V3_1_1
ORDERS = "acme/address/orders"


@dataclass(eq=False)
class Client:
    """A connected client: its session, and an outlet that keeps what it was given."""

    engine: Engine
    client_id: str
    version: ProtocolVersion = V5
    receive_maximum: int = 100
    expiry_s: int = 0
    roles: tuple[str, ...] = ("ADDRESS_SENDER", "ADDRESS_RECEIVER")
    will: Will | None = None
    max_packet_octets: int = 1_000_000
    is_full: bool = False
    backlog_octets: int = 0
    octets: bytearray = field(default_factory=bytearray)
    inbox: list[Packet] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def write(self, data: bytes) -> None:
        self.octets += data

    def taken_over(self) -> None: ...

    def revoked(self) -> None: ...

    def connect(self, now: float = 0.0, *, clean: bool = True) -> "Client":
        kind = LoginKind.PASSWORD
        principal = Principal("p", TenantId("acme"), frozenset(self.roles), kind)
        key = SessionKey("acme", kind, self.client_id)
        request = OpenRequest(key, principal, permissions_of(principal), self, clean, self.expiry_s, self.will)
        opened = self.engine.open(request, now)
        assert opened is not None
        self.session: Session = opened[0]
        limits = self.engine.limits
        self.dialogue = Dialogue(self.engine, self.session, self, limits, self.engine.statistics, lambda _will: None)
        self.session.pump(now)
        return self

    def leave(self, now: float = 0.0) -> None:
        self.engine.close(self.session, self, with_will=True, now=now)

    def packets(self) -> list[Packet]:
        """What came since the last look."""
        stream = PacketStream(Side.CLIENT, self.version)
        stream.feed(bytes(self.octets))
        self.octets.clear()
        return list(stream.packets())

    def send(self, packet: Packet, now: float = 0.0) -> None:
        stream = PacketStream(Side.SERVER, self.version)
        stream.feed(encode(packet, self.version))
        self.dialogue.work(stream, now)

    def take(self, packet: Packet, now: float = 0.0) -> list[Packet]:
        self.send(packet, now)
        return self.packets()

    def subscribe(self, topic_filter: str = ORDERS, qos: int = 1, now: float = 0.0) -> int:
        self.send(Subscribe(1, (TopicSubscription(topic_filter, qos),)), now)
        first, *rest = self.packets()
        assert isinstance(first, SubAck)
        self.inbox += rest
        return first.reason_codes[0]

    def publish(
        self, payload: str, topic: str = ORDERS, qos: int = 1, now: float = 0.0, life: int | None = None
    ) -> list[Packet]:
        properties = Properties(message_expiry_interval=life)
        number = next(self.numbers) if qos else 0
        return self.take(Publish(topic, payload.encode(), qos, packet_id=number, properties=properties), now)

    def received(self, *, acknowledge: bool = True, reason: int = 0, now: float = 0.0) -> list[str]:
        """Payloads that came; acknowledging may bring more, which are there at the next call."""
        got = [item for item in (*self.inbox, *self.packets()) if isinstance(item, Publish)]
        self.inbox = []
        for item in got:
            if acknowledge and item.qos:
                self.send(PubAck(item.packet_id, reason), now)
        return [item.payload.decode() for item in got]


def engine_of(*addresses: dict[str, object], plan: Plan | None = None) -> Engine:
    engine = Engine(BrokerSettings(plan={"acme": plan or Plan()}), Statistics())
    set_addresses(engine, *addresses)
    return engine


def set_addresses(engine: Engine, *addresses: dict[str, object], now: float = 0.0) -> None:
    engine.addresses.apply([Address.model_validate({"tenant": "acme", **item}) for item in addresses], now)


def orders(kind: str, **bounds: object) -> dict[str, object]:
    return {"name": "orders", "type": kind, **bounds}


def reasons(packets: list[Packet]) -> list[int]:
    return [item.reason_code for item in packets if isinstance(item, PubAck | PubRec)]


def drops(engine: Engine, reason: Drop) -> int:
    return engine.statistics.drops[reason]
