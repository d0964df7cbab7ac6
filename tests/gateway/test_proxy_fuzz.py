"""The vendor client's datagrams, damaged and with odd options: nothing makes the gateway fail, and it still serves."""

from __future__ import annotations

import asyncio
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fake_nic import FakeNic

from gateway.gateway import Gateway
from gateway.statistics import Event
from meshwire.coap import ACK, CON, RST, Message, MessageError, codes, decode, encode, options

VECTORS = Path(__file__).parents[1] / "vectors" / "coap_gateway_clients.toml"
SEEDS = [bytes.fromhex(vector["hex"]) for vector in tomllib.loads(VECTORS.read_text())["request"] if "seen" in vector]
ODD = (1, 5, 9, 292, 2050, 2051, *(options.BLOCK1, options.BLOCK2, options.OBSERVE, options.HOP_LIMIT))
ODD = (*ODD, options.NO_RESPONSE, options.ETAG, options.ACCEPT, options.PROXY_SCHEME)
DATAGRAMS, BURST = 3000, 50


def damaged(rng: random.Random, octets: bytes) -> bytes:
    changed = bytearray(octets)
    changed[2:4] = rng.randbytes(2)
    for _ in range(rng.choice((0, 0, 1, 2, 5))):
        position = rng.randrange(len(changed))
        match rng.randrange(4):
            case 0:
                changed[position] = rng.randrange(256)
            case 1 if len(changed) > 1:
                del changed[position]
            case 2:
                changed.insert(position, rng.randrange(256))
            case _:
                del changed[position + 1 :]
    return bytes(changed)


def odd(rng: random.Random, octets: bytes) -> bytes:
    try:
        message = decode(octets)
        extra = [(rng.choice(ODD), rng.randbytes(rng.randrange(5))) for _ in range(rng.randrange(4))]
        code = rng.choice((*range(1, 8), message.code))
        changed = Message(message.mtype, code, message.mid, message.token, message.options, message.payload)
        return encode(changed.with_options(extra))
    except (MessageError, ValueError):
        return octets


@pytest.mark.filterwarnings("ignore:coroutine 'Context._render_to_pipe'")  # the fake device's, when it is shut down
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_makes_it_fail(
    nic: FakeNic, gateway: Gateway, client: Any, connect: Any, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    rng = random.Random(seed)
    for number in range(DATAGRAMS):
        octets = damaged(rng, rng.choice(SEEDS))
        client.send(odd(rng, octets) if rng.random() < 0.6 else octets)
        if number % BURST == 0:
            await asyncio.sleep(0)
            for answer in client.waiting():
                if answer.mtype == CON and rng.random() < 0.7:
                    client.send(encode(Message(rng.choice((ACK, RST)), codes.EMPTY, answer.mid)))
    await nic.until(lambda: client.waiting() == [])
    assert gateway.statistics.total(Event.MALFORMED, "internal") == 0
    assert "could not be" not in capsys.readouterr().out, "what goes wrong in a task or a handler is logged so"
    assert gateway.statistics.total(Event.PROXY, "2.05") > 0
    assert (await connect().request(codes.GET, path=".well-known/core")).code == codes.CONTENT
