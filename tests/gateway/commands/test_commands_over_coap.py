"""Commands through the gateway's CoAP side to a device on real UDP: what leaves when, and what the client hears."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from command_parts import ACME, MAC, OTHER, party
from patience import PATIENCE_S
from udp_nic import Manner, UdpNic, closing

from gateway.addresses import Address
from gateway.commands.records import State
from gateway.gateway import Gateway
from gateway.settings import ProxySettings
from meshwire.coap import NON, Message, codes, encode, options
from meshwire.identity import Role
from meshwire.site import Site
from meshwire.tokens import VerifyingKeys

HOST = f"SSN{MAC}.SG.YEL01.SSN.SSNSGS.NET"


@pytest.fixture
async def nic(gateway: Gateway) -> AsyncIterator[UdpNic]:
    nic = UdpNic()
    await nic.open()
    with closing(nic):
        yield nic


def appear(gateway: Gateway, nic: UdpNic) -> None:
    gateway.registry.registered(MAC, Address("127.0.0.1", nic.port), time.time(), 60.0)


@pytest.fixture
def token(site: Site) -> str:
    return site.signing_keys().issue(ACME, [Role.COMMAND_CLIENT], now=time.time())


@pytest.fixture
async def client(connect: Any, token: str) -> Any:
    client = connect()
    await client.open_session(token)
    return client


def proxy_uri(query: str, path: str = "snsr/arduino/temp") -> tuple[int, bytes]:
    return (options.PROXY_URI, f"coap://{HOST}:4849/{path}?{query}".encode())


async def shown(client: Any, answer: Message) -> Any:
    """GET the command at the place that the gateway named."""
    path = "/".join(value.decode() for value in answer.option_values(options.LOCATION_PATH))
    got = await client.answer_to(codes.GET, path=path)
    assert got.code == codes.CONTENT, str(got)
    return json.loads(got.payload)


async def end_of(gateway: Gateway, id: str) -> Any:
    desk = gateway._commands.desk  # type: ignore[union-attr]
    command = await desk.find(MAC, id, party())
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in desk.follow(command)]


@pytest.mark.parametrize("code", [codes.PUT, codes.POST, codes.GET, codes.DELETE])
async def test_a_stored_command_is_taken_kept_and_delivered(
    gateway: Gateway, nic: UdpNic, client: Any, code: int, site: Site, token: str
) -> None:
    content_format = (options.CONTENT_FORMAT, bytes([60]))
    answer = await client.answer_to(code, content_format, proxy_uri("cfg=C&mode=stored&ttl=60"), payload=b"x")
    assert answer.code == codes.CREATED
    document = json.loads(answer.payload)
    assert document["state"] == "queued" and 55 < document["expires"] - time.time() < 61
    assert (await shown(client, answer))["position"] == 0
    assert nic.datagrams == []
    appear(gateway, nic)
    events = await end_of(gateway, document["id"])
    assert [event.kind for event in events][2:] == [State.SENT, State.DELIVERED, State.ANSWERED]
    got = nic.executed[0][0]
    assert (got.code, got.path(), got.query(), got.payload) == (code, ("snsr", "arduino", "temp"), ("cfg=C",), b"x")
    assert got.option(options.CONTENT_FORMAT) == bytes([60])
    after = await shown(client, answer)
    assert after["state"] == "answered" and after["result"]["payload"] == "did it"
    assert after["by"].pop("principal") == VerifyingKeys.load(site.jwks_path).verify(token, now=time.time()).name
    assert after["by"] == {"via": "coap", "tenant": "acme"}


async def test_a_request_that_its_client_repeats_is_one_command(gateway: Gateway, client: Any) -> None:
    message = Message(0, codes.PUT, 0x777, b"tk", (proxy_uri("mode=stored&ttl=60"),))
    answers = []
    for _ in range(3):
        client.send(encode(message))
        answers.append(await client.receive())
    assert len({encode(answer) for answer in answers}) == 1
    assert len(gateway._commands.queue) == 1  # type: ignore[union-attr]


async def test_replacing_is_answered_by_2_04(gateway: Gateway, client: Any) -> None:
    first = await client.answer_to(codes.PUT, proxy_uri("cfg=C&mode=stored&ttl=60&replace"))
    second = await client.answer_to(codes.PUT, proxy_uri("cfg=F&mode=stored&ttl=60&replace"))
    assert (first.code, second.code) == (codes.CREATED, codes.CHANGED)
    assert (await shown(client, first))["state"] == "cancelled"
    assert (await shown(client, second))["state"] == "queued"


async def test_cancelling(gateway: Gateway, client: Any) -> None:
    answer = await client.answer_to(codes.PUT, proxy_uri("mode=stored&ttl=60"))
    path = "/".join(value.decode() for value in answer.option_values(options.LOCATION_PATH))
    assert (await client.answer_to(codes.DELETE, path=path)).code == codes.DELETED
    assert (await client.answer_to(codes.DELETE, path=path)).code == codes.CONFLICT
    assert (await client.answer_to(codes.PUT, path=path)).code == codes.METHOD_NOT_ALLOWED
    for wrong in (f"commands/{MAC}/nothing", f"commands/{MAC}", "commands/xyz/1", "commands/0000000000000001/1"):
        assert (await client.answer_to(codes.GET, path=wrong)).code == codes.NOT_FOUND


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("mode=stored", codes.BAD_REQUEST, b"ttl"),
        ("mode=stored&ttl=0", codes.BAD_REQUEST, b"ttl"),
        ("mode=stored&ttl=soon", codes.BAD_REQUEST, b"ttl"),
        ("mode=stored&ttl=1&ttl=2", codes.BAD_REQUEST, b"twice"),
        ("mode=stored&ttl=99999999", codes.BAD_REQUEST, b"ttl"),
        ("mode=stored&ttl=5&replace=so", codes.BAD_REQUEST, b"replace"),
    ],
)
async def test_what_can_not_be_taken(gateway: Gateway, client: Any, query: str, code: int, words: bytes) -> None:
    answer = await client.answer_to(codes.PUT, proxy_uri(query))
    assert answer.code == code and words in answer.payload
    assert len(gateway._commands.queue) == 0  # type: ignore[union-attr]


async def test_observations_are_no_commands(client: Any) -> None:
    answer = await client.answer_to(codes.GET, (options.OBSERVE, b""), proxy_uri("mode=stored&ttl=5"))
    assert answer.code == codes.BAD_REQUEST


async def test_who_may(gateway: Gateway, nic: UdpNic, connect: Any, site: Site) -> None:
    keys = site.signing_keys()
    appear(gateway, nic)
    stranger, reader, nobody = connect(), connect(), connect()
    await stranger.open_session(keys.issue(OTHER, [Role.COMMAND_CLIENT], now=time.time()))
    await reader.open_session(keys.issue(ACME, [Role.BUBBLE_UP_READ_CONSUMER], now=time.time()))
    ask = proxy_uri("mode=stored&ttl=5")
    assert (await nobody.answer_to(codes.PUT, ask)).code == codes.UNAUTHORIZED
    assert (await nobody.answer_to(codes.GET, path=f"commands/{MAC}/x")).code == codes.UNAUTHORIZED
    assert (await reader.answer_to(codes.PUT, ask)).code == codes.FORBIDDEN
    foreign = await stranger.answer_to(codes.PUT, ask)
    missing = b"coap://SSN0000000000000001.x:4849/a?mode=stored&ttl=5"
    unknown = await stranger.answer_to(codes.PUT, (options.PROXY_URI, missing))
    assert foreign.code == codes.NOT_FOUND
    assert (foreign.options, foreign.payload) == (unknown.options, unknown.payload)
    assert nic.datagrams == []


async def test_a_direct_command_is_answered_by_the_device(gateway: Gateway, nic: UdpNic, client: Any) -> None:
    absent = await client.answer_to(codes.PUT, proxy_uri("cfg=C&mode=direct"))
    assert absent.code == codes.SERVICE_UNAVAILABLE and b"not reachable" in absent.payload
    appear(gateway, nic)
    for manner in (Manner.ANSWER, Manner.SEPARATE):
        nic.manner = manner
        answer = await client.answer_to(codes.PUT, proxy_uri("cfg=C&mode=direct&ttl=5"))
        assert (answer.code, answer.payload) == (codes.CHANGED, b"did it")
    assert [message.query() for message in nic.requests()] == [("cfg=C",)] * 2
    nic.manner = Manner.LATER
    answer = await client.answer_to(codes.PUT, proxy_uri("mode=direct"))
    assert (answer.code, answer.payload) == (codes.SERVICE_UNAVAILABLE, b"nic: 5.03 no link")


async def test_a_mode_that_is_not_ours_passes_to_the_device(gateway: Gateway, nic: UdpNic, client: Any) -> None:
    appear(gateway, nic)
    assert (await client.answer_to(codes.PUT, proxy_uri("mode=eco&ttl=5"))).payload == b"did it"
    assert nic.requests()[0].query() == ("mode=eco", "ttl=5")


async def test_a_non_confirmable_command_is_answered_by_a_non(gateway: Gateway, client: Any) -> None:
    answer = await client.request(codes.PUT, proxy_uri("mode=stored&ttl=60"), mtype=NON)
    assert (answer.mtype, answer.code) == (NON, codes.CREATED)


# --- what leaves when


async def test_nothing_leaves_after_its_time_not_even_a_repetition(gateway: Gateway, nic: UdpNic, client: Any) -> None:
    """An unacknowledged request is repeated after 2 to 3 s: here its time is over before."""
    nic.manner = Manner.DEAF
    appear(gateway, nic)
    ends = [State.EXPIRED]
    while ends[-1] is State.EXPIRED and len(ends) < 20:  # a busy machine may take longer to send it than it lives
        answer = await client.answer_to(codes.PUT, proxy_uri("mode=stored&ttl=0.5"))
        ends.append((await end_of(gateway, json.loads(answer.payload)["id"]))[-1].kind)
    assert ends[-1] is State.UNKNOWN
    # The next one goes out, though the first was never acknowledged, and the first is heard no more.
    nic.manner = Manner.ANSWER
    second = await client.answer_to(codes.PUT, proxy_uri("second&mode=stored&ttl=20"))
    assert (await end_of(gateway, json.loads(second.payload)["id"]))[-1].kind is State.ANSWERED
    await asyncio.sleep(3.2)  # The repetition that must not come is a timer of aiocoap's.
    assert [message.query() for message in nic.requests()] == [(), ("second",)]


@pytest.mark.parametrize("proxy", [ProxySettings(timeout_s=2)], indirect=True)
async def test_a_command_is_delivered_when_the_device_has_acknowledged_it(
    gateway: Gateway, nic: UdpNic, client: Any
) -> None:
    nic.manner = Manner.ACKNOWLEDGE
    appear(gateway, nic)
    answer = await client.answer_to(codes.PUT, proxy_uri("mode=stored&ttl=60"))
    events = await end_of(gateway, json.loads(answer.payload)["id"])
    assert [event.kind for event in events][2:] == [State.SENT, State.DELIVERED, State.UNKNOWN]
    assert (events[-1].hop, events[-2].at_s < events[-1].at_s) == ("nic", True)
    assert len(nic.executed) == 1


async def test_a_ping_that_nobody_answers_keeps_the_command(gateway: Gateway, nic: UdpNic, client: Any) -> None:
    nic.manner = Manner.GONE
    appear(gateway, nic)
    answer = await client.answer_to(codes.PUT, proxy_uri("mode=stored&ttl=60"))
    await nic.until(1, "datagrams")
    assert (await shown(client, answer))["state"] == "queued"
    # A new address ends the wait for the old one.
    nic.close()
    moved = UdpNic()
    await moved.open()
    with closing(moved):
        appear(gateway, moved)
        await asyncio.sleep(0)
        gateway.registry.seen(MAC, Address("127.0.0.1", moved.port), time.time())
        events = await end_of(gateway, json.loads(answer.payload)["id"])
        assert events[-1].kind is State.ANSWERED and len(moved.executed) == 1
    assert nic.requests() == []


async def test_5_03_is_tried_again_after_max_age(gateway: Gateway, nic: UdpNic, client: Any) -> None:
    nic.manner = Manner.LATER
    appear(gateway, nic)
    answer = await client.answer_to(codes.PUT, proxy_uri("mode=stored&ttl=60"))
    await nic.until(2, "datagrams")
    nic.manner = Manner.ANSWER
    events = await end_of(gateway, json.loads(answer.payload)["id"])
    assert [event.kind for event in events].count(State.SENT) == 2 and events[-1].kind is State.ANSWERED
    times = [at_s for message, at_s in nic.datagrams if message.code != codes.EMPTY]
    assert times[1] - times[0] >= 1.0


async def test_restarted_between_order_and_return(
    tmp_path: Path, settings_for: Any, running: Any, connect: Any
) -> None:
    """What was accepted outlives the gateway; what was under way is never sent again."""
    site = Site(tmp_path / "another")
    token = site.signing_keys().issue(ACME, [Role.COMMAND_CLIENT], now=time.time())
    nic = UdpNic(manner=Manner.ACKNOWLEDGE)
    await nic.open()
    with closing(nic):
        async with running(Gateway(settings_for(), site)) as first:
            appear(first, nic)
            client = connect(port=first.coap_port)
            await client.open_session(token)
            sent = json.loads((await client.answer_to(codes.PUT, proxy_uri("a&mode=stored&ttl=60"))).payload)["id"]
            waits = json.loads((await client.answer_to(codes.PUT, proxy_uri("b&mode=stored&ttl=60"))).payload)["id"]
            await nic.until(1)
        nic.manner = Manner.ANSWER
        async with running(Gateway(settings_for(), site)) as second:
            assert (await end_of(second, sent))[-1].kind is State.UNKNOWN
            appear(second, nic)
            assert (await end_of(second, waits))[-1].kind is State.ANSWERED
    assert [message.query() for message, _ in nic.executed] == [("a",), ("b",)]
