"""Sessions, wills, retained and shared subscriptions of the engine, with a made-up clock and no sockets."""

from dataclasses import dataclass, field

import pytest

from broker.engine import NEVER_EXPIRES, Engine, OpenRequest
from broker.message import Message
from broker.outlet import Outlet, SessionKey
from broker.policy import Permissions, permissions_of
from broker.session import Session
from broker.settings import BrokerSettings, Limits
from broker.statistics import Drop, Statistics
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import (
    PacketStream,
    Properties,
    ProtocolVersion,
    Publish,
    Side,
    TopicSubscription,
    Will,
)


@dataclass(eq=False)
class Client:
    """An outlet that keeps what it was given."""

    version: ProtocolVersion = ProtocolVersion.V5
    max_packet_octets: int = 1_000_000
    receive_maximum: int = 100
    is_full: bool = False
    backlog_octets: int = 0
    is_taken_over: bool = False
    octets: bytearray = field(default_factory=bytearray)

    def write(self, data: bytes) -> None:
        self.octets += data

    def taken_over(self) -> None:
        self.is_taken_over = True

    def payloads(self) -> list[bytes]:
        stream = PacketStream(Side.CLIENT, self.version)
        stream.feed(bytes(self.octets))
        self.octets.clear()
        return [packet.payload for packet in stream.packets() if isinstance(packet, Publish)]


def engine_of(**limits: int) -> Engine:
    return Engine(BrokerSettings(limits=Limits(**limits)), Statistics())  # type: ignore[arg-type]


def rights(*roles: str, tenant: str = "acme", kind: LoginKind = LoginKind.PASSWORD) -> tuple[Principal, Permissions]:
    principal = Principal("p", TenantId(tenant), frozenset(roles), kind)
    return principal, permissions_of(principal)


def join(
    engine: Engine,
    client_id: str = "c",
    *,
    now: float = 0.0,
    clean: bool = True,
    expiry_s: int = 0,
    will: Will | None = None,
    roles: tuple[str, ...] = ("ADMIN",),
    tenant: str = "acme",
    kind: LoginKind = LoginKind.PASSWORD,
) -> tuple[Session, Client, bool]:
    client = Client()
    principal, permissions = rights(*roles, tenant=tenant, kind=kind)
    key = SessionKey(tenant, kind, client_id)
    outlet: Outlet = client
    opened = engine.open(OpenRequest(key, principal, permissions, outlet, clean, expiry_s, will), now)
    assert opened is not None
    return opened[0], client, opened[1]


def subscribe(engine: Engine, session: Session, *filters: str, qos: int = 1, **options: bool) -> tuple[int, ...]:
    wanted = [TopicSubscription(text, qos, **options) for text in filters]
    result = engine.subscriptions.subscribe(session, wanted, 0)
    engine.send_retained(session, result.retained_for, 0.0)
    return result.codes


def say(engine: Engine, topic: str, payload: bytes = b"x", *, retain: bool = False, publisher: object = None) -> int:
    return engine.publish(Message(topic, payload, 1, retain, publisher=publisher), 0.0)


def test_a_session_without_expiry_ends_with_its_connection() -> None:
    engine = engine_of()
    session, client, present = join(engine)
    assert not present
    subscribe(engine, session, "a/#")
    engine.close(session, client, with_will=False, now=1.0)
    assert not engine.sessions
    assert len(engine.subscriptions.tree) == 0
    assert say(engine, "a/b") == 0
    assert engine.statistics.drops[Drop.NO_SUBSCRIBER] == 1


def test_a_session_with_expiry_waits_and_then_ends() -> None:
    engine = engine_of()
    session, client, _ = join(engine, expiry_s=60)
    subscribe(engine, session, "a/#")
    engine.close(session, client, with_will=False, now=0.0)
    assert say(engine, "a/b", b"1") == 1
    engine.tick(59.9)
    _, client, present = join(engine, now=59.9, clean=False, expiry_s=60)
    assert present
    engine.sessions[session.key].pump(60.0)
    assert client.payloads() == [b"1"]
    engine.tick(10_000.0)
    assert engine.sessions, "a connected session does not expire"
    engine.close(session, client, with_will=False, now=10_000.0)
    engine.tick(10_060.0)
    assert not engine.sessions
    assert engine.statistics.sessions_expired == 1
    assert len(engine.subscriptions.tree) == 0


def test_expiry_is_capped_and_never_means_never_only_when_allowed() -> None:
    engine = engine_of(max_session_expiry_s=100)
    session, _, _ = join(engine, expiry_s=NEVER_EXPIRES)
    assert session.expiry_s == 100
    engine = engine_of(max_session_expiry_s=NEVER_EXPIRES)
    session, client, _ = join(engine, expiry_s=NEVER_EXPIRES)
    engine.close(session, client, with_will=False, now=0.0)
    engine.tick(1e12)
    assert engine.sessions


def test_clean_start_forgets_the_former_session() -> None:
    engine = engine_of()
    session, client, _ = join(engine, expiry_s=60)
    subscribe(engine, session, "a/#")
    engine.close(session, client, with_will=False, now=0.0)
    fresh, _, present = join(engine, clean=True)
    assert not present
    assert fresh is not session
    assert say(engine, "a/b") == 0


def test_take_over_ends_the_former_connection_only() -> None:
    engine = engine_of()
    session, first, _ = join(engine, expiry_s=60)
    subscribe(engine, session, "a/#")
    same, second, present = join(engine, clean=False, expiry_s=60)
    assert same is session
    assert present
    assert first.is_taken_over
    engine.close(session, first, with_will=True, now=0.0)
    say(engine, "a/b", b"still here")
    assert second.payloads() == [b"still here"]
    assert first.payloads() == []


@pytest.mark.parametrize(
    "other",
    [{"tenant": "other"}, {"kind": LoginKind.TOKEN}],
    ids=["another tenant", "a token instead of a password"],
)
def test_the_same_client_id_elsewhere_is_another_session(other: dict[str, object]) -> None:
    engine = engine_of()
    _, client, _ = join(engine, expiry_s=60)
    _, _, present = join(engine, clean=False, **other)  # type: ignore[arg-type]
    assert not present
    assert not client.is_taken_over
    assert len(engine.sessions) == 2


def test_who_resumes_with_fewer_rights_loses_what_they_do_not_cover() -> None:
    engine = engine_of()
    roles = ("BUBBLE_UP_READ_CONSUMER", "BUBBLE_UP_ALERT_CONSUMER")
    session, client, _ = join(engine, expiry_s=60, roles=roles)
    subscribe(engine, session, "acme/read/#", "acme/alert/#")
    engine.close(session, client, with_will=False, now=0.0)
    say(engine, "acme/read/x", b"read")
    say(engine, "acme/alert/x", b"alert")
    session, client, present = join(engine, clean=False, expiry_s=60, roles=roles[:1])
    session.pump(0.0)
    assert present
    assert client.payloads() == [b"read"]
    assert list(session.subscriptions) == ["acme/read/#"]
    assert engine.statistics.drops[Drop.RECEIVE_REFUSED] == 1


def test_delivery_asks_again_even_when_a_subscription_is_there() -> None:
    engine = engine_of()
    session, client, _ = join(engine)
    subscribe(engine, session, "acme/read/#")
    say(engine, "acme/read/x", b"1")
    session.permissions = rights("BUBBLE_UP_ALERT_CONSUMER")[1]
    engine.subscriptions.tree.forget()
    say(engine, "acme/read/x", b"2")
    assert client.payloads() == [b"1"]


def test_sessions_are_bounded() -> None:
    engine = engine_of(max_sessions=1)
    join(engine, "a")
    principal, permissions = rights()
    request = OpenRequest(SessionKey("acme", LoginKind.PASSWORD, "b"), principal, permissions, Client(), True, 0)
    assert engine.open(request, 0.0) is None
    join(engine, "a", clean=False)


# --- wills -----------------------------------------------------------------------------------------------------------


def listener(engine: Engine) -> Client:
    session, client, _ = join(engine, "listener")
    subscribe(engine, session, "#")
    return client


def delayed(seconds: int) -> Will:
    return Will("w", b"gone", 1, False, Properties(will_delay_interval=seconds))


def test_a_will_goes_out_unless_the_client_said_good_bye() -> None:
    for with_will, expected in ((True, [b"gone"]), (False, [])):
        engine = engine_of()
        ear = listener(engine)
        session, client, _ = join(engine, will=Will("w", b"gone", 1))
        engine.close(session, client, with_will=with_will, now=0.0)
        assert ear.payloads() == expected


def test_a_delayed_will_waits_and_a_return_cancels_it() -> None:
    engine = engine_of()
    ear = listener(engine)
    session, client, _ = join(engine, expiry_s=60, will=delayed(10))
    engine.close(session, client, with_will=True, now=0.0)
    engine.tick(9.0)
    assert ear.payloads() == []
    session, client, _ = join(engine, clean=False, expiry_s=60, now=9.0)
    engine.tick(11.0)
    assert ear.payloads() == []
    session.will = delayed(10)
    engine.close(session, client, with_will=True, now=20.0)
    engine.tick(30.0)
    engine.tick(31.0)
    assert ear.payloads() == [b"gone"]


def test_a_delayed_will_goes_out_at_the_latest_when_the_session_ends() -> None:
    engine = engine_of()
    ear = listener(engine)
    session, client, _ = join(engine, expiry_s=5, will=delayed(1_000))
    engine.close(session, client, with_will=True, now=0.0)
    engine.tick(5.0)
    assert ear.payloads() == [b"gone"]
    session, client, _ = join(engine, expiry_s=0, will=delayed(1_000))
    engine.close(session, client, with_will=True, now=6.0)
    assert ear.payloads() == [b"gone"]


@pytest.mark.parametrize(
    ("clean", "delay", "expected"),
    [(False, 0, [b"gone"]), (False, 10, []), (True, 0, [b"gone"]), (True, 10, [b"gone"])],
)
def test_take_over_and_the_will(clean: bool, delay: int, expected: list[bytes]) -> None:
    """MQTT 5.0 section 3.1.3.2.2: it goes out unless the session lives on and the will has a delay."""
    engine = engine_of()
    ear = listener(engine)
    join(engine, expiry_s=60, will=delayed(delay))
    join(engine, clean=clean, expiry_s=60)
    assert ear.payloads() == expected
    engine.tick(100.0)
    assert ear.payloads() == []


def test_a_will_that_is_not_allowed_any_more_is_dropped() -> None:
    engine = engine_of()
    ear = listener(engine)
    session, client, _ = join(engine, will=Will("w", b"gone"))
    session.permissions = rights("BUBBLE_UP_READ_CONSUMER")[1]
    engine.close(session, client, with_will=True, now=0.0)
    assert ear.payloads() == []
    assert engine.statistics.drops == {Drop.PUBLISH_REFUSED: 1}


# --- retained, shared, options ----------------------------------------------------------------------------------------


def test_retained_messages_by_handling_and_by_being_new() -> None:
    engine = engine_of()
    say(engine, "a/b", b"kept", retain=True)
    session, client, _ = join(engine)
    for handling, expected in ((2, []), (1, []), (0, [b"kept"])):
        result = engine.subscriptions.subscribe(session, [TopicSubscription("a/+", 1, False, False, handling)], 0)
        engine.send_retained(session, result.retained_for, 0.0)
        assert client.payloads() == expected
    result = engine.subscriptions.subscribe(session, [TopicSubscription("a/#", 1, False, False, 1)], 0)
    engine.send_retained(session, result.retained_for, 0.0)
    assert client.payloads() == [b"kept"], "send if new"
    subscribe(engine, session, "$share/g/a/b")
    assert client.payloads() == [], "a shared subscription gets none"


def test_retained_messages_obey_the_policy_and_expire() -> None:
    engine = engine_of()
    engine.publish(Message("acme/read/x", b"short", 1, True, expires_at=10.0), 0.0)
    session, client, _ = join(engine, roles=("BUBBLE_UP_READ_CONSUMER",))
    result = engine.subscriptions.subscribe(session, [TopicSubscription("acme/read/#", 1)], 0)
    engine.send_retained(session, result.retained_for, 10.0)
    assert client.payloads() == []
    assert len(engine.retained) == 0


@pytest.mark.parametrize("as_published", [False, True])
def test_the_retain_flag_stays_only_where_asked(as_published: bool) -> None:
    engine = engine_of()
    session, client, _ = join(engine)
    subscribe(engine, session, "a", qos=0, retain_as_published=as_published)
    engine.publish(Message("a", b"x", 0, True), 0.0)
    stream = PacketStream(Side.CLIENT, client.version)
    stream.feed(bytes(client.octets))
    assert [packet.retain for packet in stream.packets() if isinstance(packet, Publish)] == [as_published]


def test_no_local_keeps_ones_own_messages_away() -> None:
    engine = engine_of()
    session, client, _ = join(engine)
    subscribe(engine, session, "a", no_local=True)
    assert say(engine, "a", publisher=session) == 0
    assert say(engine, "a", publisher=None) == 1
    assert client.payloads() == [b"x"]


def test_shared_subscriptions_deal_out_over_all_their_topics() -> None:
    engine = engine_of()
    clients = []
    for name in "123":
        session, client, _ = join(engine, name)
        subscribe(engine, session, "$share/g/a/#")
        clients.append(client)
    other, _, _ = join(engine, "other")
    for number in range(9):
        engine.publish(Message(f"a/{number}", b"%d" % number, 1), 0.0)
        subscribe(engine, other, f"+/{number}/x")  # forgets which topics were matched before
    assert [client.payloads() for client in clients] == [
        [b"0", b"3", b"6"],
        [b"1", b"4", b"7"],
        [b"2", b"5", b"8"],
    ]


def test_shared_subscriptions_deal_out_in_turn_and_skip_the_absent() -> None:
    engine = engine_of()
    clients = []
    for number in range(3):
        session, client, _ = join(engine, f"c{number}", expiry_s=60)
        subscribe(engine, session, "$share/g/a/#")
        clients.append((session, client))
    for number in range(9):
        assert say(engine, "a/b", b"%d" % number) == 1
    dealt = [client.payloads() for _, client in clients]
    assert [len(payloads) for payloads in dealt] == [3, 3, 3]
    engine.close(*clients[0], with_will=False, now=0.0)
    for number in range(4):
        say(engine, "a/b", b"%d" % number)
    assert sum(len(client.payloads()) for _, client in clients[1:]) == 4
    for session, client in clients[1:]:
        engine.close(session, client, with_will=False, now=0.0)
    assert say(engine, "a/b", b"kept") == 1
    assert sum(len(session.queue) for session, _ in clients) == 1


def test_full_retained_store_is_counted() -> None:
    engine = engine_of(max_retained_messages=1)
    say(engine, "a", retain=True)
    say(engine, "b", retain=True)
    assert engine.statistics.drops[Drop.RETAINED_FULL] == 1


def test_a_login_leaves_what_is_known_of_topics() -> None:
    """A thousand clients that come at once must not make each topic be looked up a thousand times."""
    engine = engine_of()
    session, _, _ = join(engine, "reader")
    engine.subscriptions.subscribe(session, (TopicSubscription("acme/read/#"),), 0)
    known = engine.subscriptions.tree.match("acme/read/1")
    join(engine, "another")
    assert engine.subscriptions.tree.match("acme/read/1") is known
    engine.revise(session, rights()[1])
    assert not engine.subscriptions.tree.match("acme/read/1").targets
