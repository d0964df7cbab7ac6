"""What a CONNECT is judged by after its login, in which order, and that judging changes nothing."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.accounts import Protection
from broker.credentials import Refusal, RefusedLogin
from broker.engine import Engine, OpenRequest
from broker.handshake import GrantedConnect, RefusedConnect, judge_login
from broker.outlet import SessionKey
from broker.policy import permissions_of
from broker.settings import BrokerSettings
from broker.statistics import Statistics
from broker.surroundings import Surroundings
from broker.tenants import Plan
from meshwire.identity import LoginKind, Principal, TenantId
from meshwire.mqtt import Connect, Properties, ProtocolVersion, ReasonCode, Will

V5 = ProtocolVersion.V5
READER = Principal("p", TenantId("acme"), frozenset({"BUBBLE_UP_READ_CONSUMER"}), LoginKind.TOKEN)
GATEWAY = Principal("g", TenantId("acme"), frozenset({"GATEWAY"}), LoginKind.PASSWORD)
TOPIC = "acme/read/0013500500000001/temp"


def surroundings(*, plan: Plan | None = None, refusal: str | None = None) -> Surroundings:
    settings = BrokerSettings(plan={"acme": plan or Plan()})
    accounts = SimpleNamespace(refusal=lambda _principal, _protection: refusal)
    around = SimpleNamespace(
        settings=settings, engine=Engine(settings, Statistics()), accounts=accounts, permissions_of=permissions_of
    )
    return cast(Surroundings, around)


def connect(*, will: Will | None = None, **properties: int) -> Connect:
    return Connect("c", V5, True, 0, will, None, None, Properties(**properties))  # type: ignore[arg-type]


def judge(packet: Connect, login: Principal | RefusedLogin, around: Surroundings) -> Any:
    return judge_login(packet, login, Protection.TLS, around)


@pytest.mark.parametrize(
    ("packet", "login", "around", "reason", "cause"),
    [
        (connect(), RefusedLogin(Refusal.UNKNOWN_USER, "no such user"), {}, 0x86, "unknown-user"),
        (connect(), READER, {"refusal": "not here"}, 0x87, "account-not-served"),
        (connect(will=Will(TOPIC, b"x")), READER, {}, 0x87, "will-not-allowed"),
        (connect(will=Will("a/" * 200, b"x")), GATEWAY, {}, 0x90, "will-topic-too-deep"),
        (connect(will=Will(TOPIC, b"xyz")), GATEWAY, {"plan": Plan(max_payload_octets=2)}, 0x97, "will-above-plan"),
        (connect(maximum_packet_size=5), READER, {}, 0x95, "maximum-packet-size-too-small"),
        (connect(), READER, {"plan": Plan(max_connections=0)}, 0x97, "connections-above-plan"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_refusal(
    packet: Connect, login: Principal | RefusedLogin, around: dict[str, Any], reason: int, cause: str
) -> None:
    judged = judge(packet, login, surroundings(**around))
    assert isinstance(judged, RefusedConnect)
    assert (judged.reason, judged.cause) == (reason, cause)


def test_what_is_wrong_twice_is_refused_for_the_first_reason() -> None:
    around = surroundings(plan=Plan(max_connections=0), refusal="not here")
    packet = connect(will=Will(TOPIC, b"x"))
    assert judge(packet, READER, around).cause == "account-not-served"
    assert judge(packet, READER, surroundings(plan=Plan(max_connections=0))).cause == "will-not-allowed"


def test_why_a_login_failed_is_for_the_log_alone() -> None:
    judged = judge(connect(), RefusedLogin(Refusal.INVALID_TOKEN, "expired"), surroundings())
    assert (judged.reason, judged.detail, judged.words) == (ReasonCode.BAD_USER_NAME_OR_PASSWORD, "expired", "")


def test_what_is_granted() -> None:
    around = surroundings()
    key = SessionKey("acme", LoginKind.TOKEN, "c")
    assert judge(connect(), READER, around) == GrantedConnect(READER, permissions_of(READER), key)
    assert not around.engine.sessions, "nothing has changed"


def test_whoever_is_connected_already_is_not_one_more() -> None:
    around = surroundings(plan=Plan(max_connections=0))
    outlet = cast(Any, SimpleNamespace(version=V5))
    key = SessionKey("acme", LoginKind.TOKEN, "c")
    around.engine.open(OpenRequest(key, READER, permissions_of(READER), outlet, True, 0), 0.0)
    assert isinstance(judge(connect(), READER, around), GrantedConnect)
