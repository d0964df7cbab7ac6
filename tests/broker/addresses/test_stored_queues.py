"""What queues hold, in the store and back: one life of a broker after the other on one file."""

from pathlib import Path

import pytest

from broker.addresses.address import Address
from broker.addresses.competing import CompetingAddress
from broker.delivery import Answer
from broker.engine import Engine, OpenRequest
from broker.journal import Journal
from broker.message import Message
from broker.outlet import SessionKey
from broker.policy import permissions_of
from broker.recovery import recover
from broker.session import Session
from broker.settings import BrokerSettings, Durability
from broker.statistics import Drop, Statistics
from broker.store import Store
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import Properties, ProtocolVersion, TopicSubscription

ADMIN = Principal("admin", TenantId("ssni"), frozenset({"ADMIN"}), LoginKind.PASSWORD)
TOPIC = "acme/address/orders"
QUEUE = Address.model_validate({"tenant": "acme", "name": "orders", "type": "queue", "max_deliveries": 3})


class Outlet:
    version = ProtocolVersion.V5
    max_packet_octets = 1_000_000
    receive_maximum = 2
    is_full = False
    backlog_octets = 0

    def write(self, data: bytes) -> None: ...

    def taken_over(self) -> None: ...

    def revoked(self) -> None: ...


class Life:
    """One life of a broker; the next one finds what was committed."""

    def __init__(self, path: Path, *addresses: Address, now: float = 0.0, offset: float = 1_000.0) -> None:
        self.store, self.now = Store(path, Durability.OS), now
        self.journal = Journal(lambda: offset, *self.store.highest_numbers())
        self.engine = Engine(BrokerSettings(), Statistics(), self.journal)
        self.engine.addresses.apply(addresses, now)
        recover(self.engine, self.store, self.journal, permissions_of=permissions_of, now=now, offset=offset)

    def publish(self, *payloads: bytes, **more: object) -> None:
        for payload in payloads:
            self.engine.offer(Message(TOPIC, payload, 1, **more), None, self.now)  # type: ignore[arg-type]

    def receiver(self, *, expiry_s: int = 0) -> tuple[Session, Outlet]:
        outlet = Outlet()
        key = SessionKey("ssni", LoginKind.PASSWORD, "r")
        opened = self.engine.open(OpenRequest(key, ADMIN, permissions_of(ADMIN), outlet, False, expiry_s), self.now)
        assert opened is not None
        self.engine.subscriptions.subscribe(opened[0], [TopicSubscription(TOPIC, 1)], 0)
        opened[0].pump(self.now)
        return opened[0], outlet

    def commit(self) -> None:
        self.store.apply(self.journal.take())

    @property
    def queue(self) -> CompetingAddress:
        found = self.engine.addresses.of("acme", "orders")
        assert isinstance(found, CompetingAddress)
        return found

    def held(self) -> list[tuple[bytes, int]]:
        return [(entry.message.payload, entry.attempts) for entry in self.queue.entries()]

    def rows(self) -> tuple[int, int]:
        return len(list(self.store.queued())), len(list(self.store.messages()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def test_a_queue_comes_back_with_order_attempts_and_lives(path: Path) -> None:
    life = Life(path, QUEUE)
    properties = Properties(user_properties=(("a", "b"),), message_expiry_interval=50)
    life.publish(b"1", b"2", b"3")
    life.publish(b"4", properties=properties, expires_at=50.0)
    life.commit()
    session, outlet = life.receiver()
    life.engine.close(session, outlet, with_will=False, now=0.0)
    assert life.held() == [(b"1", 1), (b"2", 1), (b"3", 0), (b"4", 0)]
    life.commit()
    life.store.close()
    again = Life(path, QUEUE, now=5.0, offset=1_015.0)  # 20 seconds later, on another loop clock
    assert again.held() == [(b"1", 1), (b"2", 1), (b"3", 0), (b"4", 0)]
    last = list(again.queue.entries())[-1].message
    assert last.properties.user_properties == (("a", "b"),)
    assert last.expires_at == pytest.approx(35.0)
    assert again.engine.tenants.of("acme").queued_messages == 4
    again.publish(b"5")
    again.engine.tick(35.0)
    assert [payload for payload, _ in again.held()] == [b"1", b"2", b"3", b"5"]
    again.commit()
    assert again.rows() == (4, 4)
    again.store.close()


def test_only_what_is_acknowledged_leaves_the_store(path: Path) -> None:
    life = Life(path, QUEUE)
    life.publish(b"1", b"2", b"3")
    life.commit()
    session, _ = life.receiver(expiry_s=60)
    life.commit()
    assert (life.rows(), len(list(life.store.deliveries()))) == ((3, 3), 0), "handed out is not gone, and stored once"
    session.acknowledge(1, Answer.PUBACK, 0.0)
    life.commit()
    assert life.rows() == (2, 2)
    life.store.close()
    again = Life(path, QUEUE)
    assert [payload for payload, _ in again.held()] == [b"2", b"3"]
    restored = next(iter(again.engine.sessions.values()))
    assert list(restored.subscriptions) == [TOPIC]
    assert again.queue.subscribers()[0][0] is restored, "the receiver's subscription competes again"
    again.store.close()


def test_what_comes_and_goes_between_two_commits_is_never_written(path: Path) -> None:
    life = Life(path, QUEUE)
    session, _ = life.receiver()
    life.publish(b"1")
    session.acknowledge(1, Answer.PUBACK, 0.0)
    batch = life.journal.take()
    assert (batch.queued, batch.messages, batch.dequeued) == ((), (), ())
    life.store.close()


def test_a_queue_that_is_gone_takes_its_messages_along(path: Path) -> None:
    life = Life(path, QUEUE)
    life.publish(b"1", b"2")
    life.commit()
    life.store.close()
    without = Life(path)
    assert without.engine.statistics.drops[Drop.ADDRESS_REMOVED] == 2
    without.commit()
    assert without.rows() == (0, 0)
    without.store.close()
