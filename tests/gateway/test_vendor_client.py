"""Every datagram of the vendor's client in dialect part D, replayed from one socket: the answers are what D.4 takes."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from fake_nic import FakeNic

from gateway.gateway import Gateway
from gateway.settings import ProxySettings
from meshwire.coap import ACK, CON, NON, RST, Message, codes, decode, encode, options
from meshwire.identity import TenantId

VECTORS = tomllib.loads((Path(__file__).parents[1] / "vectors" / "coap_gateway_clients.toml").read_text())["request"]
BY_NAME = {vector["name"]: vector for vector in VECTORS}
TYPES = {"ACK": ACK, "NON": NON}
DEVICE = [vector for vector in VECTORS if "seen" in vector]


def octets(name: str) -> bytes:
    return bytes.fromhex(BY_NAME[name]["hex"])


def check(answer: Message, vector: dict[str, Any], mtype: int | None = None, mid: int | None = None) -> None:
    assert answer.mtype == (TYPES[vector["type"]] if mtype is None else mtype)
    assert answer.mid == (int(vector["mid"], 16) if mid is None else mid)
    assert answer.token.hex() == vector["token"]
    assert codes.code_text(answer.code) == vector["code"]


def seen(request: Any) -> dict[str, Any]:
    what: dict[str, Any] = {"code": codes.code_text(int(request.code))}
    what["path"], what["query"] = list(request.opt.uri_path), list(request.opt.uri_query)
    if (block2 := request.opt.get_option(options.BLOCK2)) and block2[0] is not None:
        what["block2"] = block2[0].encode().hex()
    what["payload"] = request.payload.hex()
    assert request.opt.get_option(options.ENDPOINT_ID) == (), "option 124 stays with the gateway"
    return what


async def settled(client: Any) -> Message:
    """An answer, whether piggybacked or after an empty acknowledgement."""
    answer: Message = await client.receive()
    if answer.code == codes.EMPTY:
        answer = await client.receive()
        client.send(encode(Message(ACK, codes.EMPTY, answer.mid)))
    return answer


async def test_a_whole_visit_from_one_socket(nic: FakeNic, gateway: Gateway, connect: Any, token: str) -> None:
    client = connect()
    client.send(octets("session-by-address"))
    check(await client.receive(), BY_NAME["session-by-address"])
    client.send(octets("get-con"))
    assert (await client.receive()).code == codes.UNAUTHORIZED
    client.send(octets("session-by-name") + token.encode())
    check(await client.receive(), BY_NAME["session-by-name"])
    for vector in DEVICE:
        client.send(octets(vector["name"]))
        check(answer := await client.receive(), vector)
        assert seen(nic.requests[-1]) == vector["seen"]
        if vector["name"] != "observe":
            client.send(octets(vector["name"]))
            assert await client.receive() == answer, "the same datagram again is the same request"
    assert len(nic.requests) == len(DEVICE)
    # The end of the observation: a Reset, and the device is told.
    nic.notify(b"value", 4)
    notification = await client.receive()
    assert (notification.mtype, notification.token.hex()) == (CON, BY_NAME["observe"]["token"])
    client.send(bytes((0x70, 0)) + notification.mid.to_bytes(2, "big"))
    await nic.until(lambda: not nic.observers)
    client.send(octets("session-delete"))
    check(await client.receive(), BY_NAME["session-delete"])
    await client.silence(0.05)


async def test_the_caas_form(gateway: Gateway, connect: Any) -> None:
    gateway.registry.add_account("u", "p", TenantId("acme"), [])
    client = connect()
    client.send(octets("session-caas"))
    answer = await settled(client)
    assert (codes.code_text(answer.code), answer.token.hex()) == ("2.01", BY_NAME["session-caas"]["token"])


@pytest.mark.parametrize("proxy", [ProxySettings(empty_ack_s=0.15, timeout_s=60)], indirect=True)
@pytest.mark.parametrize("vector", DEVICE, ids=lambda vector: vector["name"])
async def test_a_slow_device(nic: FakeNic, connect: Any, token: str, vector: dict[str, Any]) -> None:
    """An empty ACK, then a separate confirmable answer; to what is not confirmable one answer with its message ID."""
    client = connect()
    await client.open_session(token)
    nic.may_answer.clear()
    client.send(octets(vector["name"]))
    if vector["type"] == "ACK":
        assert await client.receive() == Message(ACK, codes.EMPTY, int(vector["mid"], 16))
        client.send(octets(vector["name"]))
        assert await client.receive() == Message(ACK, codes.EMPTY, int(vector["mid"], 16)), "a repetition, acknowledged"
        nic.may_answer.set()
        answer = await client.receive()
        check(answer, vector, mtype=CON, mid=answer.mid)
        client.send(encode(Message(ACK, codes.EMPTY, answer.mid)))
    else:
        asyncio.get_running_loop().call_later(0.3, nic.may_answer.set)
        check(await client.receive(), vector)
    assert [seen(request) for request in nic.requests] == [vector["seen"]], "once"


async def test_first_answer_of_an_observation_may_be_an_empty_2_03(nic: FakeNic, connect: Any, token: str) -> None:
    client = connect()
    await client.open_session(token)
    nic.first = (codes.VALID, b"")
    client.send(octets("observe"))
    first = await client.receive()
    assert (first.mtype, first.code, first.payload, first.uint(options.OBSERVE)) == (ACK, codes.VALID, b"", 3)
    for number in (4, 5):
        nic.notify(b"value", number)
        notification = await client.receive()
        assert (notification.code, notification.uint(options.OBSERVE)) == (codes.CONTENT, number)
        client.send(bytes((0x60, 0)) + notification.mid.to_bytes(2, "big"))


async def test_a_large_answer_comes_in_the_blocks_that_the_client_asks_for(
    nic: FakeNic, connect: Any, token: str
) -> None:
    """Every GET has Block2 of 128 octets."""
    client = connect()
    await client.open_session(token)
    body = bytes(range(250)) * 2
    nic.answers["snsr/arduino/echo"] = aiocoap.Message(code=aiocoap.CONTENT, payload=body)
    client.send(octets("get-con"))
    first = await client.receive()
    assert (first.uint(options.BLOCK2), first.payload) == (0 << 4 | 8 | 3, body[:128])
    request = decode(octets("get-con"))
    got = first.payload
    for number in (1, 2, 3):
        pairs = tuple(
            (option, options.encode_uint(number << 4 | 3) if option == options.BLOCK2 else value)
            for option, value in request.options
        )
        client.send(encode(Message(CON, codes.GET, 0x7000 + number, b"b%d" % number, pairs)))
        got += (await client.receive()).payload
    assert got == body and len(nic.requests) == 1


async def test_reset_of_a_notification_that_is_not_confirmable(nic: FakeNic, connect: Any, token: str) -> None:
    client = connect()
    await client.open_session(token)
    observe = decode(octets("observe"))
    client.send(encode(Message(NON, observe.code, observe.mid, observe.token, observe.options)))
    first = await client.receive()
    assert (first.mtype, first.mid) == (NON, observe.mid)
    client.send(encode(Message(RST, codes.EMPTY, first.mid)))
    await nic.until(lambda: not nic.observers)
