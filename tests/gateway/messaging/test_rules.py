"""What may be assigned, configured and connected, as tables."""

from __future__ import annotations

import pytest

from gateway.messaging.publishing import dns_records
from gateway.messaging.rules import (
    MOST_LEVELS,
    Account,
    AccountTree,
    Endpoint,
    Instance,
    Option,
    Scheme,
    Standing,
    refuse_account,
    refuse_account_options,
    refuse_assignment,
    refuse_endpoint,
    refuse_instance,
    refuse_unassignment,
)

PLAIN, TLS, MUTUAL = Option.PLAIN, Option.TLS, Option.MUTUAL
INSTANCES = {
    "open": Instance("open"),
    "safe": Instance("safe", has_tls=True, options=frozenset({PLAIN, TLS})),
    "best": Instance("best", has_tls=True, has_mutual=True, options=frozenset({TLS, MUTUAL})),
}
TREE = AccountTree(
    [
        Account("root", None, instance="open"),
        Account("acme", "root", instance="safe", options=frozenset({TLS})),
        Account("acme-east", "acme"),
        Account("acme-east-1", "acme-east", options=frozenset({PLAIN, TLS})),
        Account("beta", "root", instance="best"),
        Account("beta-1", "beta"),
        Account("free", "root"),
        Account("free-1", "free"),
    ]
)


@pytest.mark.parametrize(
    ("id", "level", "instance", "options"),
    [
        ("root", 0, "open", {PLAIN}),
        ("acme", 1, "safe", {TLS}),
        ("acme-east", 2, "safe", {TLS}),
        ("acme-east-1", 3, "safe", {PLAIN, TLS}),
        ("beta", 1, "best", {TLS, MUTUAL}),
        ("beta-1", 2, "best", {TLS, MUTUAL}),
        ("free", 1, None, set()),
        ("free-1", 2, None, set()),
    ],
)
def test_where_an_account_stands(id: str, level: int, instance: str | None, options: set[Option]) -> None:
    assert TREE.level(id) == level
    assert TREE.standing(id, INSTANCES) == Standing(instance, frozenset(options))


def test_an_instance_that_offers_less_now_serves_with_what_is_left() -> None:
    less = {**INSTANCES, "safe": Instance("safe", has_tls=True, options=frozenset({PLAIN}))}
    assert TREE.standing("acme", less) == Standing("safe", frozenset())
    assert TREE.standing("acme-east-1", less) == Standing("safe", frozenset({PLAIN}))
    assert TREE.standing("beta", {}) == Standing("best", frozenset())


def test_the_order_of_a_tree_and_who_shares_an_assignment() -> None:
    assert [account.id for account in TREE.below("root")] == [
        "acme",
        "acme-east",
        "acme-east-1",
        "beta",
        "beta-1",
        "free",
        "free-1",
    ]
    assert TREE.served_with("acme") == ["acme", "acme-east", "acme-east-1"]
    assert TREE.served_with("root") == ["root"], "the children of the root account have assignments of their own"
    assert [account.id for account in TREE.path("acme-east")] == ["acme-east", "acme", "root"]


@pytest.mark.parametrize(
    ("id", "instance", "reason"),
    [
        ("free", "open", None),
        ("root", "safe", None),
        ("beta", "safe", None),
        ("acme", "safe", "is assigned to safe already"),
        ("acme", "nowhere", "no instance nowhere"),
        ("acme-east", "best", "inherits the assignment of acme"),
        ("free-1", "open", "inherits the assignment of free"),
        ("acme", "open", "want tls, which instance open does not offer"),
        ("acme", "best", "settings of acme-east-1 want plain"),
    ],
)
def test_assignment(id: str, instance: str, reason: str | None) -> None:
    _fits(refuse_assignment(TREE, id, instance, INSTANCES), reason)


@pytest.mark.parametrize(
    ("id", "reason"),
    [
        ("acme", None),
        ("root", None),
        ("acme-east", "inherits the assignment of acme"),
        ("free", "not assigned"),
        ("free-1", "inherits"),
    ],
)
def test_unassignment(id: str, reason: str | None) -> None:
    _fits(refuse_unassignment(TREE, id), reason)


@pytest.mark.parametrize(
    ("id", "options", "reason"),
    [
        ("acme", {PLAIN}, None),
        ("acme", {PLAIN, TLS}, None),
        ("acme", {MUTUAL}, "instance safe does not offer mutual; it offers plain, tls"),
        ("acme-east", {TLS, MUTUAL}, "does not offer mutual"),
        ("root", {TLS}, "instance open does not offer tls"),
        ("beta", {PLAIN}, "does not offer plain; it offers tls, mutual"),
        ("free", {PLAIN}, "not assigned to an instance; assign it first"),
        ("acme", set(), "at least one"),
    ],
)
def test_connection_settings_are_a_subset(id: str, options: set[Option], reason: str | None) -> None:
    _fits(refuse_account_options(TREE, id, frozenset(options), INSTANCES), reason)


@pytest.mark.parametrize(
    ("has_tls", "has_mutual", "options", "reason"),
    [
        (False, False, {PLAIN}, None),
        (True, False, {TLS}, None),
        (True, True, {PLAIN, TLS, MUTUAL}, None),
        (False, False, {PLAIN, TLS}, "tls needs TLS enabled and configured"),
        (True, False, {MUTUAL}, "mutual needs TLS"),
        (False, True, {TLS, MUTUAL}, "tls, mutual needs TLS"),
        (True, True, set(), "at least one"),
    ],
)
def test_secure_options_need_tls(has_tls: bool, has_mutual: bool, options: set[Option], reason: str | None) -> None:
    instance = Instance("x", has_tls=has_tls, has_mutual=has_mutual, options=frozenset(options))
    _fits(refuse_instance(instance), reason)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "x" * 65])
def test_an_instance_has_a_name(name: str) -> None:
    _fits(refuse_instance(Instance(name)), "instance name")


@pytest.mark.parametrize(
    ("id", "parent", "reason"),
    [
        ("new", "root", None),
        ("new", "acme-east-1", None),
        ("acme", "root", "exists"),
        ("root", "root", "exists"),
        ("new", "nobody", "no account nobody"),
    ],
)
def test_new_accounts(id: str, parent: str, reason: str | None) -> None:
    _fits(refuse_account(TREE, id, parent), reason)


def test_the_tree_has_a_bound() -> None:
    tree = AccountTree([Account("0", None), *(Account(str(n), str(n - 1)) for n in range(1, MOST_LEVELS + 1))])
    _fits(refuse_account(tree, "new", str(MOST_LEVELS - 1)), None)
    _fits(refuse_account(tree, "new", str(MOST_LEVELS)), "levels deep")


@pytest.mark.parametrize(
    ("scheme", "domain", "port", "secure", "reason"),
    [
        (Scheme.MQTT, "broker.example.net", 1883, False, None),
        (Scheme.MQTTS, "broker-env.domain.com", 8883, True, None),
        (Scheme.WSS, "localhost", 443, True, None),
        (Scheme.MQTTS, "x.net", 8883, False, "must be secure"),
        (Scheme.WS, "x.net", 80, True, "use wss"),
        (Scheme.MQTT, "x.net", 0, False, "port 0"),
        (Scheme.MQTT, "", 1883, False, "no domain name"),
        (Scheme.MQTT, "a..b", 1883, False, "no domain name"),
        (Scheme.MQTT, "x.net/path", 1883, False, "no domain name"),
        (Scheme.MQTT, "taken.net", 1883, False, "already"),
        (Scheme.MQTT, "taken.net", 1884, False, None),
    ],
)
def test_endpoints(scheme: Scheme, domain: str, port: int, secure: bool, reason: str | None) -> None:
    others = [Endpoint("1", "acme", Scheme.MQTT, "taken.net", 1883)]
    _fits(refuse_endpoint(Endpoint("2", "acme", scheme, domain, port, secure), others), reason)


def test_the_same_endpoint_for_another_account_or_itself_is_no_conflict() -> None:
    one = Endpoint("1", "acme", Scheme.MQTT, "taken.net", 1883)
    _fits(refuse_endpoint(Endpoint("2", "beta", Scheme.MQTT, "taken.net", 1883), [one]), None)
    _fits(refuse_endpoint(one, [one]), None)


@pytest.mark.parametrize(
    ("scheme", "address", "records"),
    [
        (
            Scheme.MQTTS,
            "10.1.2.3",
            ["b.x.net. 300 IN A 10.1.2.3", "_secure-mqtt._tcp.b.x.net. 300 IN SRV 0 0 8883 b.x.net."],
        ),
        (Scheme.MQTT, "fd00::1", ["b.x.net. 300 IN AAAA fd00::1", "_mqtt._tcp.b.x.net. 300 IN SRV 0 0 8883 b.x.net."]),
        (Scheme.WSS, "lb.x.net", ["b.x.net. 300 IN CNAME lb.x.net."]),
        (Scheme.WS, None, ["b.x.net. 300 IN A <address of the broker>"]),
    ],
)
def test_dns_records(scheme: Scheme, address: str | None, records: list[str]) -> None:
    assert dns_records(Endpoint("1", "acme", scheme, "b.x.net", 8883), address) == records
    assert dns_records(Endpoint("1", "acme", scheme, "10.0.0.1", 8883), address) == []


def _fits(reason: str | None, expected: str | None) -> None:
    assert reason is None if expected is None else reason is not None and expected in reason, reason
