"""Requests as RabbitMQ 3.10.8 sent them, octet for octet, and requests that it might be made to send."""

from typing import Any

import pytest

from broker.adapters.takeover import ENDER
from broker.authority.http import Request
from broker.authority.rabbitmq import RabbitHooks, topic_of_routing_key
from broker.authority.settings import RabbitSettings

USER = b"username=alice&password=a&vhost=%2F&client_id=cap-1"
VHOST = b"username=alice&vhost=%2F&ip=127.0.0.1&tags=&client_id=cap-1"
QUEUE = (
    b"username=alice&vhost=%2F&resource=queue&name=mqtt-subscription-cap-1qos1&permission=configure&tags="
    b"&client_id=cap-1"
)
EXCHANGE = b"username=alice&vhost=%2F&resource=exchange&name=amq.topic&permission=read&tags=&client_id=cap-1"
SUBSCRIBE = (
    b"username=alice&vhost=%2F&resource=topic&name=amq.topic&permission=read&tags=&routing_key=acme.cmd.%2A.res.%2A"
    b"&variable_map.client_id=cap-1&variable_map.username=alice&variable_map.vhost=%2F"
)
PUBLISH = (
    b"username=alice&vhost=%2F&resource=topic&name=amq.topic&permission=write&tags="
    b"&routing_key=acme.cmd.0013500500666666.req.x"
    b"&variable_map.client_id=cap-1&variable_map.username=alice&variable_map.vhost=%2F"
)


@pytest.fixture
async def hooks(bench: Any) -> RabbitHooks:
    """With alice logged in as `cap-1`."""
    hooks = RabbitHooks(bench.admissions, RabbitSettings())
    assert (await hooks.answer("user", Request("POST", "/", {}, USER))).body == b"allow"
    return hooks


async def ask(hooks: RabbitHooks, question: str, body: bytes) -> bytes:
    response = await hooks.answer(question, Request("POST", "/", {}, body))
    assert (response.status, response.content_type) == (200, "text/plain")
    return response.body


@pytest.mark.parametrize(
    ("question", "body"),
    [("vhost", VHOST), ("resource", QUEUE), ("resource", EXCHANGE), ("topic", SUBSCRIBE), ("topic", PUBLISH)],
)
async def test_what_a_session_needs_is_allowed(hooks: RabbitHooks, question: str, body: bytes) -> None:
    assert await ask(hooks, question, body) == b"allow"


async def test_the_fields_may_come_by_get(hooks: RabbitHooks) -> None:
    request = Request("GET", f"/hooks/rabbitmq/topic?{PUBLISH.decode()}")
    assert (await hooks.answer("topic", request)).body == b"allow"


@pytest.mark.parametrize(
    ("question", "body"),
    [
        ("vhost", VHOST.replace(b"vhost=%2F", b"vhost=other")),
        ("vhost", VHOST.replace(b"cap-1", b"cap-2")),
        ("vhost", VHOST.replace(b"alice", b"gateway")),
        ("resource", QUEUE.replace(b"subscription-cap-1", b"subscription-cap-2")),
        ("resource", QUEUE.replace(b"qos1", b"qos2")),
        ("resource", QUEUE.replace(b"client_id=cap-1", b"")),
        ("resource", EXCHANGE.replace(b"amq.topic", b"amq.fanout")),
        ("resource", EXCHANGE.replace(b"=read", b"=configure")),
        ("resource", EXCHANGE.replace(b"resource=exchange", b"resource=topic")),
        ("topic", SUBSCRIBE.replace(b"acme.", b"globex.")),
        ("topic", SUBSCRIBE.replace(b"acme.cmd.%2A.res.%2A", b"%23")),
        ("topic", SUBSCRIBE.replace(b"acme.cmd.%2A.res.%2A", b"acme.cmd.%2A.res.%23")),
        ("topic", SUBSCRIBE.replace(b"acme.cmd.%2A.res.%2A", b"%24share.g.acme.read.%23")),
        ("topic", SUBSCRIBE.replace(b"acme.cmd.%2A.res.%2A", b"acme.%23.read")),
        ("topic", PUBLISH.replace(b"acme.", b"globex.")),
        ("topic", PUBLISH.replace(b".req.x", b".req.%2A")),
        ("topic", PUBLISH.replace(b".req.x", b".req.%23")),
        ("topic", PUBLISH.replace(b".req.x", b".req.x%2B")),
        ("topic", PUBLISH.replace(b"acme.cmd.0013500500666666.req.x", b"%24SYS.broker")),
        ("topic", PUBLISH.replace(b"client_id=cap-1", b"client_id=cap-2")),
        ("topic", PUBLISH.replace(b"name=amq.topic", b"name=amq.direct")),
        ("topic", PUBLISH.replace(b"=write", b"=configure")),
        ("topic", b""),
        ("user", USER.replace(b"password=a", b"password=b")),
        ("user", b"username=&password=a&vhost=%2F"),
        ("user", b"username=alice&password=b&vhost=%2F"),
        ("user", b"username=alice&password=token:acme:BUBBLE_UP_READ_CONSUMER:2000&vhost=%2F"),
        ("other", USER),
    ],
)
async def test_all_else_is_denied(hooks: RabbitHooks, question: str, body: bytes) -> None:
    assert await ask(hooks, question, body) == b"deny"


AMQP_QUEUE = b"username=alice&vhost=%2F&resource=queue&name=acme.read.%23&permission=read&tags="
AMQP_PUBLISH = PUBLISH.replace(b"&variable_map.client_id=cap-1", b"")


async def test_a_user_over_amqp_has_the_same_rights(hooks: RabbitHooks) -> None:
    """Requests as the AMQP 1.0 plug-in makes them: there is no client id."""
    assert await ask(hooks, "resource", AMQP_QUEUE) == b"deny", "alice is logged in over MQTT alone"
    assert await ask(hooks, "user", b"username=alice&vhost=%2F") == b"deny"
    assert await ask(hooks, "user", b"username=alice&password=a&vhost=%2F") == b"allow"
    assert await ask(hooks, "user", b"username=alice&vhost=%2F") == b"allow", "the session of the same connection"
    assert await ask(hooks, "user", b"username=alice&password=&vhost=%2F") == b"deny"
    assert await ask(hooks, "vhost", b"username=alice&vhost=%2F&ip=127.0.0.1&tags=") == b"allow"
    assert await ask(hooks, "resource", AMQP_QUEUE) == b"allow"
    assert await ask(hooks, "topic", AMQP_PUBLISH) == b"allow"
    own = AMQP_QUEUE.replace(b"acme.read.%23", b"amq.gen-c3VHeuMkMvdjj5s6qeGweg")
    for permission in (b"configure", b"write", b"read"):
        assert await ask(hooks, "resource", own.replace(b"=read", b"=" + permission)) == b"allow"


@pytest.mark.parametrize(
    ("question", "body"),
    [
        ("resource", AMQP_QUEUE.replace(b"acme.", b"globex.")),
        ("resource", AMQP_QUEUE.replace(b"acme.read.%23", b"%23")),
        ("resource", AMQP_QUEUE.replace(b"acme.read.%23", b"mqtt-subscription-cap-1qos1")),
        ("resource", AMQP_QUEUE.replace(b"=read", b"=configure")),
        ("resource", AMQP_QUEUE.replace(b"=read", b"=write")),
        ("topic", AMQP_PUBLISH.replace(b"acme.", b"globex.")),
        ("vhost", b"username=bob&vhost=%2F&ip=127.0.0.1&tags="),
    ],
)
async def test_what_is_denied_over_amqp(hooks: RabbitHooks, question: str, body: bytes) -> None:
    assert await ask(hooks, "user", b"username=alice&password=a&vhost=%2F") == b"allow"
    assert await ask(hooks, question, body) == b"deny"


@pytest.mark.parametrize("body", [b"username=alice&username=gateway", b"username=%ff", b"&".join([b"a=b"] * 100)])
async def test_a_form_that_may_be_read_two_ways_is_a_fault(hooks: RabbitHooks, body: bytes) -> None:
    with pytest.raises(ValueError):
        await hooks.answer("user", Request("POST", "/", {}, body))


async def test_the_sessions_ender_may_touch_queues_and_no_topic(hooks: RabbitHooks) -> None:
    name = ENDER.encode()
    assert await ask(hooks, "user", USER.replace(b"alice", name).replace(b"=a&", b"=ender-secret&")) == b"allow"
    assert await ask(hooks, "resource", QUEUE.replace(b"alice", name)) == b"allow"
    assert await ask(hooks, "topic", PUBLISH.replace(b"alice", name)) == b"deny"
    assert await ask(hooks, "topic", SUBSCRIBE.replace(b"alice", name)) == b"deny"


@pytest.mark.parametrize(
    ("key", "topic"), [("a.b.c", "a/b/c"), ("a.*.#", "a/+/#"), ("$SYS.x", "$SYS/x"), ("a..b", "a//b"), ("", "")]
)
def test_a_routing_key_is_read_back_as_a_topic(key: str, topic: str) -> None:
    assert topic_of_routing_key(key) == topic
