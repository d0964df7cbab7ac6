"""Journal, store, recovery and the order "commit, then send": without sockets, with a made-up clock."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from patience import PATIENCE_S

from broker.delivery import Answer
from broker.engine import Engine, OpenRequest
from broker.errors import StoreError
from broker.journal import Batch, Journal
from broker.message import Message
from broker.outlet import SessionKey
from broker.policy import BUILT_IN_ROLES, Permissions, permissions_of
from broker.recovery import recover
from broker.session import Session
from broker.settings import BrokerSettings, Durability
from broker.statistics import Statistics
from broker.store import Store
from broker.turn import Turn
from broker.writer import Writer
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import NO_PROPERTIES, Properties, ProtocolVersion, TopicSubscription, Will

ADMIN = Principal("admin", TenantId("ssni"), frozenset({"ADMIN"}), LoginKind.PASSWORD, scopes=frozenset({"api"}))
OFFSET = 1_700_000_000.0


class Outlet:
    version = ProtocolVersion.V5
    max_packet_octets = 1_000_000
    receive_maximum = 100
    is_full = False
    backlog_octets = 0

    def __init__(self) -> None:
        self.octets = b""

    def write(self, data: bytes) -> None:
        self.octets += data

    def taken_over(self) -> None: ...


class Life:
    """One life of a broker on a store; the next one finds what was committed."""

    def __init__(self, path: Path, now: float = 0.0, offset: float = OFFSET) -> None:
        self.store = Store(path, Durability.OS)
        self.journal = Journal(lambda: offset, *self.store.highest_numbers())
        self.engine = Engine(BrokerSettings(), Statistics(), self.journal)
        recover(self.engine, self.store, self.journal, permissions_of=permissions_of, now=now, offset=offset)
        self.now = now

    def commit(self) -> Batch:
        batch = self.journal.take()
        self.store.apply(batch)
        return batch

    def open(
        self, client_id: str = "c", *, expiry_s: int = 1_000, will: Will | None = None, clean: bool = False
    ) -> tuple[Session, Outlet, bool]:
        key, outlet = SessionKey("ssni", LoginKind.PASSWORD, client_id), Outlet()
        request = OpenRequest(key, ADMIN, permissions_of(ADMIN), outlet, clean, expiry_s, will)
        opened = self.engine.open(request, self.now)
        assert opened is not None
        return opened[0], outlet, opened[1]

    def subscribe(self, session: Session, *filters: str, identifier: int = 0) -> None:
        self.engine.subscriptions.subscribe(
            session, [TopicSubscription(text, 2, True, True) for text in filters], identifier
        )

    def publish(self, topic: str, payload: bytes = b"x", qos: int = 1, **more: object) -> None:
        self.engine.publish(Message(topic, payload, qos, **more), self.now)  # type: ignore[arg-type]

    def close(self, session: Session, outlet: Outlet, *, with_will: bool = True) -> None:
        self.engine.close(session, outlet, with_will=with_will, now=self.now)

    def count(self, table: str) -> int:
        return len(list(getattr(self.store, table)()))

    def next(self, now: float = 0.0, offset: float = OFFSET) -> "Life":
        """The broker is gone without a word and starts again."""
        self.store.close()
        return Life(self.store.path, now, offset)


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path / "store.sqlite")


# --- what comes back ------------------------------------------------------------------------------------------------


def test_a_session_comes_back_as_it_was(life: Life) -> None:
    properties = Properties(content_type="a/b", user_properties=(("k", "v"), ("k", "w")), message_expiry_interval=60)
    session, outlet, present = life.open()
    assert not present
    life.subscribe(session, "a/#", "$share/g/b/+", "gone", identifier=7)
    life.engine.subscriptions.unsubscribe(session, ["gone"])
    life.publish("a/flight", b"1", 2, properties=properties, expires_at=60.0)
    life.publish("a/released", b"2", 2)
    session.acknowledge(2, Answer.PUBREC, 0.0)
    life.close(session, outlet, with_will=False)
    life.publish("a/queued", b"3", 1, retain=True)
    session.open_incoming(77)
    life.commit()
    again = life.next(now=5.0, offset=OFFSET + 15.0)  # 20 seconds later, on another loop clock
    (restored,) = again.engine.sessions.values()
    assert (restored.key, restored.principal, restored.expiry_s) == (session.key, ADMIN, 1_000)
    assert restored.subscriptions == session.subscriptions
    assert restored.incoming == {77}
    assert restored.expires_at == pytest.approx(985.0)
    first, second, third = restored.deliveries()
    assert [(item.packet_id, item.step) for item in (first, second, third)] == [
        (item.packet_id, item.step) for item in session.deliveries()
    ]
    assert first.message.properties == properties
    assert first.message.expires_at == pytest.approx(45.0)
    assert (third.retain, third.identifiers, third.message.payload) == (True, (7,), b"3")
    assert {target.subscriber for target in again.engine.subscriptions.tree.match("a/x").targets} == {restored}


def test_wills_wait_on_and_those_of_cut_connections_go_out(life: Life) -> None:
    watcher, _, _ = life.open("watcher")
    life.subscribe(watcher, "will/#")
    delayed = Will("will/delayed", b"d", 1, False, Properties(will_delay_interval=30))
    session, outlet, _ = life.open("waits", will=delayed)
    life.close(session, outlet)
    life.open("cut", will=Will("will/cut", b"c", 1, True))
    life.open("cut-delayed", will=Will("will/later", b"l", 1, False, Properties(will_delay_interval=30)))
    life.commit()
    again = life.next(now=0.0, offset=OFFSET + 20.0)
    waiting = again.engine.sessions[watcher.key]
    assert [item.message.topic for item in waiting.queue] == ["will/cut"]
    assert [message.topic for message in again.engine.retained.matching(["#"])] == ["will/cut"]
    again.engine.tick(11.0)
    assert [item.message.topic for item in waiting.queue] == ["will/cut", "will/delayed"]
    again.engine.tick(31.0)
    assert [item.message.topic for item in waiting.queue][2:] == ["will/later"]


def test_sessions_that_end_with_their_connection_leave_nothing(life: Life) -> None:
    session, _, _ = life.open(expiry_s=0, clean=True)
    life.subscribe(session, "a")
    life.publish("a")
    session.open_incoming(1)
    assert not life.journal.has_changes
    assert session.journal is None


def test_an_ended_session_is_gone_with_its_messages(life: Life) -> None:
    session, outlet, _ = life.open(expiry_s=10)
    life.subscribe(session, "a")
    life.close(session, outlet)
    life.publish("a")
    session.open_incoming(5)
    life.commit()
    life.engine.tick(10.0)
    life.commit()
    assert [life.count(t) for t in ("sessions", "subscriptions", "messages", "deliveries", "incoming")] == [0] * 5


def test_what_expired_while_the_broker_was_away_ends_at_its_start(life: Life) -> None:
    session, outlet, _ = life.open(expiry_s=10)
    life.close(session, outlet)
    life.commit()
    assert not life.next(now=0.0, offset=OFFSET + 11.0).engine.sessions


def test_rights_lost_meanwhile_are_lost(tmp_path: Path) -> None:
    life = Life(tmp_path / "s.sqlite")
    session, outlet, _ = life.open()
    life.subscribe(session, "a", "b")
    life.close(session, outlet)
    life.publish("a")
    life.publish("b")
    life.commit()
    life.store.close()
    store = Store(tmp_path / "s.sqlite", Durability.OS)
    journal = Journal(lambda: OFFSET, *store.highest_numbers())
    engine = Engine(BrokerSettings(), Statistics(), journal)

    def less(_principal: Principal) -> Permissions:
        return permissions_of(ADMIN, {"ADMIN": type(BUILT_IN_ROLES["ADMIN"])(subscribe=("b",))})

    recover(engine, store, journal, permissions_of=less, now=0.0, offset=OFFSET)
    (restored,) = engine.sessions.values()
    assert set(restored.subscriptions) == {"b"}
    assert [item.message.topic for item in restored.queue] == ["b"]
    store.apply(journal.take())
    assert len(list(store.messages())) == 1


def test_retained_messages_come_back_and_cleared_ones_do_not(life: Life) -> None:
    life.publish("r/a", b"1", 0, retain=True)
    life.publish("r/b", b"2", 1, retain=True)
    life.publish("r/b", b"", 1, retain=True)
    life.engine.publish_own("$SYS/broker/uptime", "1", 0.0)
    life.commit()
    again = life.next()
    assert [(m.topic, m.payload, m.qos) for m in again.engine.retained.matching(["#"])] == [("r/a", b"1", 0)]
    assert not again.engine.retained.matching(["$SYS", "#"])


def test_the_log_of_retained_messages_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = 500_000
    monkeypatch.setattr("broker.store.CHECKPOINT_OCTETS", bound)
    store = Store(tmp_path / "store.sqlite", Durability.OS)
    with closing(store):
        for number in range(1_000):
            topic = f"{number * 7_919 % 211}/state"
            store.apply(Batch(retained=((topic, bytes(1_000), 0, None, None),)))
            store.tidy()
        assert (tmp_path / "store.sqlite-wal").stat().st_size < 3 * bound


# --- the journal ----------------------------------------------------------------------------------------------------


def test_a_message_is_stored_once_however_many_wait_for_it(life: Life) -> None:
    for number in range(5):
        session, outlet, _ = life.open(f"c{number}")
        life.subscribe(session, "a")
        life.close(session, outlet)
    life.publish("a")
    life.commit()
    assert (life.count("messages"), life.count("deliveries")) == (1, 5)
    sessions = list(life.next().engine.sessions.values())
    assert len({id(item.message) for session in sessions for item in session.queue}) == 1


def test_what_comes_and_goes_between_two_commits_is_never_written(life: Life) -> None:
    session, _, _ = life.open()
    life.subscribe(session, "a")
    life.commit()
    life.publish("a")
    session.acknowledge(1, Answer.PUBACK, 0.0)
    session.open_incoming(9)
    session.close_incoming(9)
    batch = life.commit()
    assert (batch.messages, batch.deliveries, batch.finished_deliveries, batch.released_messages) == ((), (), (), ())
    assert batch.incoming == ()


def test_acknowledgements_wait_for_company_but_not_for_ever(life: Life) -> None:
    session, _, _ = life.open()
    life.subscribe(session, "a")
    life.publish("a")
    assert life.journal.is_urgent
    life.commit()
    session.acknowledge(1, Answer.PUBACK, 0.0)
    assert (life.journal.is_urgent, life.journal.has_changes) == (False, True)
    batch = life.commit()
    assert (len(batch.finished_deliveries), len(batch.released_messages)) == (1, 1)
    assert (life.count("messages"), life.count("deliveries")) == (0, 0)


def test_identifiers_at_qos_2_are_stored_before_the_client_sees_them(life: Life) -> None:
    session, outlet, _ = life.open()
    life.subscribe(session, "a")
    life.close(session, outlet)
    for qos in (1, 2):
        life.publish("a", b"%d" % qos, qos)
        life.commit()
        _, again, _ = life.open()
        life.commit()
        session.pump(0.0)
        assert life.journal.is_urgent is (qos == 2)
        life.close(session, again)
        life.commit()


def test_numbers_go_on_after_a_restart(life: Life) -> None:
    session, outlet, _ = life.open()
    life.subscribe(session, "a")
    life.close(session, outlet)
    for number in range(300):
        life.publish("a", b"%d" % number)
    life.commit()
    again = life.next()
    for number in range(300, 310):
        again.publish("a", b"%d" % number)
    again.commit()
    (restored,) = again.next().engine.sessions.values()
    assert [item.message.payload for item in restored.queue] == [b"%d" % number for number in range(310)]


# --- what is wrong with a file --------------------------------------------------------------------------------------


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


def code_of(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        Life(path)
    return caught.value.code


def test_each_fault_of_the_file_has_its_code(life: Life, tmp_path: Path) -> None:
    assert code_of(life.store.path) == "MW-BRK-009", "one broker at a time"
    life.open()
    life.commit()
    life.store.close()
    change(life.store.path, "PRAGMA user_version = 99")
    assert code_of(life.store.path) == "MW-BRK-008"
    change(life.store.path, "PRAGMA user_version = 1")
    change(life.store.path, "UPDATE session SET principal = 'nonsense'")
    assert code_of(life.store.path) == "MW-BRK-010"
    foreign = tmp_path / "foreign.sqlite"
    change(foreign, "CREATE TABLE mine (a)")
    assert code_of(foreign) == "MW-BRK-007"
    noise = tmp_path / "noise.sqlite"
    noise.write_bytes(b"no database at all" * 1_000)
    assert code_of(noise) == "MW-BRK-010"
    assert code_of(tmp_path / "absent" / "store.sqlite") == "MW-BRK-006"


def test_the_file_is_for_its_owner_alone(life: Life) -> None:
    assert life.store.path.stat().st_mode & 0o077 == 0


# --- commit, then send ----------------------------------------------------------------------------------------------


class Slow:
    """A writer that commits when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[bool], None]] = []

    def submit(self, batch: Batch, done: Callable[[bool], None]) -> None:
        self.jobs.append(done)


class Sender:
    """A connection's output as the turn sees it."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._collected: list[str] = []
        self._sealed: list[str] = []
        self.sent: list[str] = []

    def write(self, text: str) -> None:
        if not self._collected:
            self._turn.add(self)
        self._collected.append(text)

    def seal(self) -> None:
        self._sealed, self._collected = self._collected, []

    def release(self) -> None:
        self.sent += self._sealed
        self._sealed = []

    def flush(self) -> None:
        self.sent += self._collected
        self._collected = []


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_nothing_leaves_before_its_commit_and_order_is_kept(life: Life) -> None:
    writer = Slow()
    turn = Turn(asyncio.get_running_loop(), life.journal, writer)
    one, other = Sender(turn), Sender(turn)
    one.write("nothing durable")
    await turns()
    assert (one.sent, writer.jobs) == (["nothing durable"], [])
    session, _, _ = life.open()
    one.write("a")
    other.write("b")
    await turns()
    life.subscribe(session, "x")
    one.write("c")
    await turns()
    assert (one.sent[1:], other.sent, len(writer.jobs)) == ([], [], 1)
    writer.jobs[0](True)
    assert (one.sent[1:], other.sent) == (["a"], ["b"])
    assert len(writer.jobs) == 2, "what came meanwhile goes in one commit"
    other.write("d")
    await turns()
    assert other.sent == ["b"]
    writer.jobs[1](True)
    assert (one.sent[1:], other.sent) == (["a", "c"], ["b", "d"])


async def test_changes_nobody_waits_for_hold_nothing_up(life: Life) -> None:
    session, _, _ = life.open()
    life.subscribe(session, "a")
    life.publish("a")
    life.commit()
    writer = Slow()
    turn = Turn(asyncio.get_running_loop(), life.journal, writer)
    one = Sender(turn)
    session.acknowledge(1, Answer.PUBACK, 0.0)
    one.write("pong")
    await turns()
    assert (one.sent, writer.jobs) == (["pong"], [])
    drained = asyncio.create_task(turn.drain())
    await turns()
    assert len(writer.jobs) == 1
    writer.jobs[0](True)
    await drained


async def test_a_store_that_fails_is_reported_and_nothing_leaves(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_batch: Batch) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("broker.writer.PAUSE_S", 0.0)
    monkeypatch.setattr(life.store, "apply", full)
    loop = asyncio.get_running_loop()
    writer = Writer(life.store, loop)
    writer.start()
    turn = Turn(loop, life.journal, writer)
    one = Sender(turn)
    life.open()
    one.write("CONNACK")
    with pytest.raises(StoreError) as caught:
        await asyncio.wait_for(writer.watch(), PATIENCE_S)
    assert caught.value.code == "MW-BRK-006"
    await turn.drain()
    writer.close()
    assert one.sent == []


def test_messages_without_properties_need_no_room_for_them(life: Life) -> None:
    session, _, _ = life.open()
    life.subscribe(session, "a")
    life.publish("a")
    life.commit()
    assert [row[4] for row in life.store.messages()] == [None]
    (restored,) = life.next().engine.sessions.values()
    assert next(restored.deliveries()).message.properties is NO_PROPERTIES


def test_a_store_of_the_former_schema_is_taken_on(life: Life) -> None:
    """Schema 1 had no queues."""
    life.open()
    life.commit()
    life.store.close()
    change(life.store.path, "DROP TABLE queued")
    change(life.store.path, "PRAGMA user_version = 1")
    later = Life(life.store.path)
    assert list(later.store.queued()) == []
    later.store.close()
