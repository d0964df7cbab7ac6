"""A NIC with an OSCORE key, aiocoap being the gateway: what goes up, what comes down, restarts, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap import oscore
from aiocoap.message import Direction
from aiocoap_oscore import ask, context_of

from meshwire.coap import ACK, codes
from meshwire.identity import DeviceId
from meshwire.notification import parse_uplink
from meshwire.oscore import NicKey
from nic_sim.errors import NicError
from nic_sim.oscore_state import RESERVED_AT_ONCE, NumberFile, open_context

MAC = DeviceId("001350050047dd92")


class ForeignGateway:
    """Takes the place of the test site's plain gateway on its socket; aiocoap opens and protects."""

    def __init__(self, gateway: Any, state: Any) -> None:
        self.gateway = gateway
        self.state = state
        self.plain = 0
        self.challenges = 0
        self.refusal: Callable[[Any], Any] | None = None
        """Answers in plain in the place of taking anything."""
        gateway.datagram_received = self.datagram_received

    def datagram_received(self, data: bytes, address: Any) -> None:
        request: Any = aiocoap.Message.decode(data)
        if not request.code.is_request():
            return
        if request.opt.oscore is None:
            self.plain += 1
            return
        request.direction = Direction.INCOMING
        answer = self._answer(request, address) if self.refusal is None else self.refusal(request)
        answer.mtype, answer.mid, answer.token = ACK, request.mid, request.token
        self.gateway.transport.sendto(answer.encode(), address)

    def _answer(self, request: Any, address: Any) -> Any:
        try:
            inner, identifiers = self.state.unprotect(request)
        except oscore.ReplayErrorWithEcho as challenge:
            self.challenges += 1
            return challenge.to_message()
        if inner.opt.uri_path[0] == "register":
            self.gateway.registrations.append(address)
        else:
            self.gateway.notifications.append(
                parse_uplink(inner.opt.uri_path, inner.opt.uri_query, int(inner.opt.content_format), inner.payload)
            )
        return self.state.protect(aiocoap.Message(code=aiocoap.CHANGED), identifiers)[0]


@pytest.fixture
def key(tmp_path: Path) -> NicKey:
    made = NicKey.generate(MAC)
    made.save(tmp_path / "key.json")
    return made


def gateway_state(tmp_path: Path, key: NicKey) -> Any:
    return context_of(tmp_path / "gateway", key, as_gateway=True)


def test_readings_go_up_and_requests_come_down_under_the_key(tmp_path: Path, key: NicKey, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path / "state", oscore_key_file=tmp_path / "key.json") as s:
            foreign = ForeignGateway(s.gateway, gateway_state(tmp_path, key))
            readings = await s.readings(3)
            assert [reading.path for reading in readings] == ["snsr/arduino/temp"] * 3
            assert s.gateway.registrations and foreign.plain == 0
            answer = await ask(s.client, foreign.state, s.message(codes.GET, "/snsr/arduino/temp?sens"))
            assert (answer.code, bool(answer.payload)) == (aiocoap.CONTENT, True)
            put = await ask(s.client, foreign.state, s.message(codes.PUT, "/snsr/arduino/temp?cfg=C"))
            assert put.code == aiocoap.CHANGED
            report = json.loads((await ask(s.client, foreign.state, s.message(codes.GET, "/sys/uplink"))).payload)
            assert report["protected"] is True and report["reachable"] is True
            plain = await s.ask(codes.GET, "/snsr/arduino/temp?sens")
            assert (plain.code, plain.payload) == (aiocoap.UNAUTHORIZED, f"nic {MAC}: OSCORE is required".encode())
            assert s.nic.coap_counters["oscore-unprotected"] == 1
            foreign.state._destroy()

    (tmp_path / "state").mkdir()
    run(scenario())


def test_an_observation_of_a_foreign_gateway(tmp_path: Path, key: NicKey, run: Any, site: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path / "state", oscore_key_file=tmp_path / "key.json") as s:
            foreign = ForeignGateway(s.gateway, gateway_state(tmp_path, key))
            await s.readings(1)
            state = foreign.state
            await ask(s.client, state, s.message(codes.GET, "/sys/time"))  # the NIC knows that we are there
            request = s.message(codes.GET, "/snsr/arduino/temp?sens", observe=0)
            protected, identifiers = state.protect(request.copy(remote=None))
            protected.remote = request.remote
            pending = s.client.request(protected, handle_blockwise=False)
            payloads, numbers = [], []

            def open_one(answer: Any) -> None:
                inner, _ = state.unprotect(answer, identifiers)
                payloads.append(inner.payload)
                numbers.append(inner.opt.observe)

            open_one(await pending.response)
            async for answer in pending.observation:
                open_one(answer)
                if len(payloads) == 4:
                    break
            assert all(payloads) and numbers == sorted(set(numbers)), "each has a sequence number of its own"
            assert len(s.nic.relations) == 1
            pending.observation.cancel()
            await wait_until(lambda: len(s.nic.relations) == 0)
            state._destroy()

    (tmp_path / "state").mkdir()
    run(scenario())


def test_restarts_use_no_number_twice_and_lose_nothing(tmp_path: Path, key: NicKey, run: Any, site: Any) -> None:
    state = tmp_path / "state"
    state.mkdir()

    async def once(challenges: int) -> int:
        async with site("standard", state, oscore_key_file=tmp_path / "key.json") as s:
            foreign = ForeignGateway(s.gateway, gateway_state(tmp_path, key))
            if challenges:  # as after a power failure
                foreign.state.recipient_replay_window._index = None
            await s.readings(2)
            assert foreign.challenges == challenges
            foreign.state._destroy()
            reserved: int = json.loads((state / "oscore.json").read_text())["reserved"]
            return reserved

    reserved = [run(once(challenges)) for challenges in (0, 0, 1)]
    assert reserved == [RESERVED_AT_ONCE, 2 * RESERVED_AT_ONCE, 3 * RESERVED_AT_ONCE]


@pytest.mark.parametrize("code", [aiocoap.UNAUTHORIZED, aiocoap.BAD_REQUEST, aiocoap.CHANGED, aiocoap.NOT_FOUND])
def test_an_answer_in_plain_never_costs_a_reading(
    code: Any, tmp_path: Path, key: NicKey, run: Any, site: Any, wait_until: Any
) -> None:
    """Anybody can send one: neither "taken" nor "never" is believed, the reading is kept."""

    async def scenario() -> None:
        async with site("standard", tmp_path / "state", oscore_key_file=tmp_path / "key.json") as s:
            foreign = ForeignGateway(s.gateway, gateway_state(tmp_path, key))
            foreign.refusal = lambda request: aiocoap.Message(code=code, payload=b"words")
            await wait_until(lambda: s.nic.uplink_report()["counters"]["posts"] >= 3 and len(s.nic.queue) >= 2, 300)
            report = s.nic.uplink_report()
            if code in (aiocoap.UNAUTHORIZED, aiocoap.BAD_REQUEST):
                assert report["last_failure"] == "4.01 words" and report["counters"]["refused"]
            else:
                assert "unprotected" in str(report["last_failure"]) and report["counters"]["unanswered"]
            assert report["counters"]["taken"] == 0
            waiting = len(s.nic.queue)
            foreign.refusal = None
            readings = await s.readings(waiting, 300)
            assert len({reading.key for reading in readings}) >= waiting
            foreign.state._destroy()

    (tmp_path / "state").mkdir()
    run(scenario())


def test_a_key_that_can_not_be_used_ends_the_start(tmp_path: Path, key: NicKey) -> None:
    with pytest.raises(NicError, match="No such file") as raised:
        open_context(tmp_path / "none", MAC, tmp_path)
    assert raised.value.code == "MW-NIC-005"
    with pytest.raises(NicError, match="another NIC's"):
        open_context(tmp_path / "key.json", DeviceId("0013500500470001"), tmp_path)
    (tmp_path / "oscore.json").write_text("{")
    with pytest.raises(NicError, match="gives the key away"):
        open_context(tmp_path / "key.json", MAC, tmp_path)


def test_another_key_counts_from_the_beginning(tmp_path: Path, key: NicKey) -> None:
    path = tmp_path / "oscore.json"
    assert [NumberFile(path, key).reserve(10) for _ in range(3)] == [0, 10, 20]
    assert NumberFile(path, NicKey.generate(MAC)).reserve(10) == 0
