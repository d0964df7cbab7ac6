"""A whole NIC between a simulated board and a UDP gateway, on a clock that jumps."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.notification import decode_reading

PROFILES = ("milli-1.4.8", "milli-1.4.5", "standard")


@pytest.mark.parametrize("profile", PROFILES)
def test_readings_reach_the_gateway(profile: str, tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site(profile, tmp_path) as s:
            readings = await s.readings(4)
            assert s.gateway.registrations[0] == ("127.0.0.1", s.nic.coap_address[1])
            assert [r.path for r in readings] == ["snsr/arduino/temp"] * 4
            assert len({r.key for r in readings}) == 4
            assert readings[1].observe < readings[2].observe < readings[3].observe
            reading = decode_reading("temp", readings[-1].payload)
            assert reading is not None
            # Time came first: a Milli board's clock stands in 1999 until it is set.
            assert float(reading.text.split(",")[0]) > 1_760_000_000

    run(scenario())


@pytest.mark.parametrize("profile", PROFILES)
def test_requests_below_snsr_are_the_boards(profile: str, tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site(profile, tmp_path, observe=()) as s:
            answer = await s.ask(codes.GET, "/snsr/arduino/temp?sens")
            assert int(answer.code) == codes.CONTENT
            assert decode_reading("temp", answer.payload) is not None
            assert b"oard" in (await s.ask(codes.GET, "/snsr")).payload or profile.startswith("milli")
            assert int((await s.ask(codes.GET, "/snsr/")).code) == codes.CONTENT
            assert int((await s.ask(codes.GET, "/snsr/arduino/nothing")).code) == codes.NOT_FOUND
            assert int((await s.ask(codes.PUT, "/snsr/arduino/temp?cfg=C")).code) == codes.CHANGED
            celsius = await s.ask(codes.GET, "/snsr/arduino/temp?sens")
            assert celsius.payload.endswith(b",C")
            assert len(await _rows(s)) == 0

    run(scenario())


@pytest.mark.parametrize("profile", ["milli-1.4.8", "standard"])
def test_client_observes_while_the_nic_does(profile: str, tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site(profile, tmp_path) as s:
            await s.readings(1)
            notes = await _observe(s, "/snsr/arduino/temp?sens", 4)
            numbers = [note.opt.observe for note in notes]
            assert numbers == sorted(set(numbers))
            assert all(int(note.code) == codes.CONTENT and note.payload for note in notes)
            assert s.board.observers() == 1
            bubbled = {r.payload for r in s.gateway.notifications}
            assert {note.payload for note in notes[1:-1]} <= bubbled

    run(scenario())


@pytest.mark.parametrize("profile", ["milli-1.4.8", "standard"])
def test_last_client_of_an_unconfigured_resource_ends_it(
    profile: str, tmp_path: Path, run: Any, site: Any, wait_until: Any
) -> None:
    async def scenario() -> None:
        async with site(profile, tmp_path, observe=()) as s:
            request = _start(s, "/snsr/arduino/temp?sens")
            first = await request.response
            assert int(first.code) == codes.CONTENT and first.payload
            await wait_until(lambda: s.board.observers() == 1)
            assert s.gateway.notifications == []
            request.observation.cancel()
            # The client answers the next notification with RST; then nobody is left.
            await wait_until(lambda: s.board.observers() == 0, 60)
            assert s.nic.relations.ended["reset"] == 1
            await wait_until(lambda: not s.nic.manager.table.all())

    run(scenario())


def test_observe_numbers_to_clients_grow_over_a_board_reset(
    tmp_path: Path, run: Any, site: Any, wait_until: Any
) -> None:
    async def scenario() -> None:
        async with site("milli-1.4.8", tmp_path) as s:
            await s.readings(1)
            numbers: list[int] = []
            request = _start(s, "/snsr/arduino/temp?sens")
            numbers.append((await request.response).opt.observe)
            watching = asyncio.create_task(_collect(request, lambda message: numbers.append(message.opt.observe)))
            await wait_until(lambda: len(numbers) >= 3)
            await s.restart_board()
            seen = len(numbers)
            await wait_until(lambda: len(numbers) >= seen + 2)
            assert numbers == sorted(set(numbers))
            watching.cancel()

    run(scenario())


@pytest.mark.parametrize("profile", PROFILES)
def test_board_reset_is_recovered_with_a_new_epoch(profile: str, tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site(profile, tmp_path) as s:
            before = (await s.readings(2))[-1]
            await s.restart_board()
            count = len(s.gateway.notifications)
            started = asyncio.get_running_loop().time()
            after = (await s.readings(count + 2))[-1]
            assert asyncio.get_running_loop().time() - started < 20
            assert after.epoch > before.epoch
            row = (await _rows(s))[0]
            assert row["state"] == "active"
            assert row["last_loss"] in ("board-reboot", "link-lost")

    run(scenario())


def test_unplugged_port_is_503_and_recovers(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            await s.readings(2)
            await s.line.unplug()
            answer = await s.ask(codes.GET, "/snsr/arduino/temp?sens")
            assert int(answer.code) == codes.SERVICE_UNAVAILABLE
            assert answer.opt.max_age == 5
            assert answer.payload.startswith(b"nic 001350050047dd92: ")
            report = json.loads((await s.ask(codes.GET, "/sys/link")).payload)
            assert report["state"] == "opening"
            assert "no such port" in report["last_error"] or "hung up" in report["last_error"]
            s.line.unplugged = False
            count = len(s.gateway.notifications)
            await s.readings(count + 2, 20)

    run(scenario())


@pytest.mark.parametrize("profile", ["milli-1.4.8", "standard"])
def test_nic_restart_keeps_token_and_grows_epoch(
    profile: str, tmp_path: Path, run: Any, site: Any, stop_task: Any
) -> None:
    async def first() -> tuple[set[str], int]:
        async with site(profile, tmp_path) as s:
            readings = await s.readings(3)
            return {r.key for r in readings}, readings[-1].epoch

    async def second() -> tuple[set[str], int, int]:
        async with site(profile, tmp_path) as s:
            readings = await s.readings(3)
            row = (await _rows(s))[0]
            return {r.key for r in readings}, readings[0].epoch, row["notifications"]

    keys, epoch = run(first())
    token = json.loads((tmp_path / "observations.json").read_text())["observations"][0]["token"]
    new_keys, new_epoch, notifications = run(second())
    assert json.loads((tmp_path / "observations.json").read_text())["observations"][0]["token"] == token
    assert new_epoch > epoch
    assert not keys & new_keys
    assert notifications >= 6


def test_new_epoch_is_on_disk_before_anything_of_it_leaves(
    tmp_path: Path, run: Any, site: Any, wait_until: Any
) -> None:
    async def scenario() -> None:
        async with site("milli-1.4.8", tmp_path) as s:
            for _ in range(2):
                epoch = s.nic.manager.table.all()[0].epoch
                await wait_until(lambda before=epoch: s.nic.manager.table.all()[0].epoch > before)
                record = json.loads((tmp_path / "observations.json").read_text())["observations"][0]
                assert record["epoch"] == s.nic.manager.table.all()[0].epoch
                await s.restart_board()

    run(scenario())


def test_nothing_is_lost_while_the_gateway_is_away(tmp_path: Path, run: Any, site: Any, stop_task: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            await s.readings(2)
            port = s.gateway.port
            s.gateway.close()
            await asyncio.sleep(300)
            queued = len(s.nic.queue)
            assert queued >= 55
            await s.gateway.open(port)
            back_at = asyncio.get_running_loop().time()
            count = len(s.gateway.notifications)
            await s.readings(count + queued, 20)
            assert s.gateway.arrivals_s[count] - back_at < 15
            numbers = [r.observe for r in s.gateway.notifications]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            assert len(s.gateway.registrations) >= 2

    run(scenario())


def test_gateway_that_swallows_everything_gets_all_in_the_end(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path) as s:
            await s.readings(2)
            s.gateway.silent = True
            await asyncio.sleep(100)
            s.gateway.silent = False
            back_at = asyncio.get_running_loop().time()
            count = len(s.gateway.notifications)
            await s.readings(count + 20, 20)
            assert s.gateway.arrivals_s[count] - back_at < 15

    run(scenario())


def test_queue_survives_a_nic_restart(tmp_path: Path, run: Any, site: Any) -> None:
    async def away() -> list[int]:
        async with site("standard", tmp_path) as s:
            await s.readings(1)
            s.gateway.silent = True
            await asyncio.sleep(60)
            return [item.observe for _, item in s.nic.queue._items]

    async def back() -> list[int]:
        async with site("standard", tmp_path) as s:
            readings = await s.readings(12)
            return [r.observe for r in readings]

    kept = run(away())
    assert len(kept) >= 10
    assert run(back())[: len(kept)] == kept


@pytest.mark.parametrize(
    ("profile", "method", "answers", "code", "words"),
    [
        # A Milli board that does not answer SNRM has surely not got the request …
        ("milli-1.4.8", codes.PUT, 0, codes.SERVICE_UNAVAILABLE, b"no link to the board"),
        ("milli-1.4.8", codes.GET, 0, codes.SERVICE_UNAVAILABLE, b"no link to the board"),
        # … one that answered SNRM and then fell silent may have executed it.
        ("milli-1.4.8", codes.PUT, 1, codes.GATEWAY_TIMEOUT, b"outcome unknown: the board may have executed PUT"),
        ("milli-1.4.8", codes.GET, 1, codes.SERVICE_UNAVAILABLE, b"no link to the board"),
        # On a standing link the request goes out at once.
        ("standard", codes.PUT, 0, codes.GATEWAY_TIMEOUT, b"outcome unknown: the board may have executed PUT"),
        ("standard", codes.GET, 0, codes.SERVICE_UNAVAILABLE, b"no link to the board"),
    ],
)
def test_board_that_fell_silent(
    profile: str, method: int, answers: int, code: int, words: bytes, tmp_path: Path, run: Any, site: Any
) -> None:
    async def scenario() -> None:
        async with site(profile, tmp_path, observe=()) as s:
            assert int((await s.ask(codes.GET, "/snsr/arduino/temp?sens")).code) == codes.CONTENT
            await asyncio.sleep(3)
            s.line.answers_left = answers
            answer = await s.ask(
                method, "/snsr/arduino/temp?cfg=C" if method == codes.PUT else "/snsr/arduino/temp?sens"
            )
            assert int(answer.code) == code
            assert answer.payload.startswith(b"nic 001350050047dd92: ") and words in answer.payload
            s.line.answers_left = None
            await asyncio.sleep(10)
            after = await s.ask(codes.GET, "/snsr/arduino/temp?sens")
            assert int(after.code) == codes.CONTENT
            unit = b"C" if code == codes.GATEWAY_TIMEOUT else b"F"
            assert after.payload.endswith(b"," + unit), "unknown was executed; 5.03 was surely not"

    run(scenario())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/snsr/sys/stats", codes.BAD_REQUEST),
        ("/snsr/sys/stats?", codes.BAD_REQUEST),
        ("/snsr/arduino/echo?cfg", codes.BAD_REQUEST),
        ("/snsr/arduino/temp?" + "q" * 128, codes.BAD_REQUEST),
        ("/snsr/" + "/".join(["p" * 60] * 4), codes.REQUEST_ENTITY_TOO_LARGE),
    ],
)
def test_what_crashes_a_board_is_refused(path: str, code: int, tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("milli-1.4.8", tmp_path, observe=()) as s:
            answer = await s.ask(codes.GET, path)
            assert int(answer.code) == code
            assert answer.payload.startswith(b"nic ")
            assert int((await s.ask(codes.GET, "/snsr/arduino/temp?sens")).code) == codes.CONTENT
            assert s.board.resets == []

    run(scenario())


def test_delivery_coap_registers_but_does_not_bubble_up(tmp_path: Path, run: Any, site: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with site("standard", tmp_path, delivery="coap") as s:
            await wait_until(lambda: s.board.observers() == 1)
            notes = await _observe(s, "/snsr/arduino/temp?sens", 3)
            assert len(notes) == 3
            assert s.gateway.notifications == []

    run(scenario())


def test_cancel_and_renew_by_coap(tmp_path: Path, run: Any, site: Any, wait_until: Any) -> None:
    async def scenario() -> None:
        async with site("milli-1.4.8", tmp_path) as s:
            await s.readings(1)
            assert int((await s.ask(codes.DELETE, "/sys/observe")).code) == codes.BAD_REQUEST
            assert int((await s.ask(codes.DELETE, "/sys/observe?path=snsr/x/y")).code) == codes.NOT_FOUND
            assert int((await s.ask(codes.DELETE, "/sys/observe?path=snsr/arduino/temp")).code) == codes.DELETED
            await wait_until(lambda: s.board.observers() == 0)
            assert (await _rows(s))[0]["state"] == "cancelled"
            count = len(s.gateway.notifications)
            await asyncio.sleep(120)
            assert len(s.gateway.notifications) <= count + 1
            assert int((await s.ask(codes.POST, "/sys/observe?path=snsr/arduino/temp")).code) == codes.CHANGED
            await s.readings(count + 3)

    run(scenario())


def test_resource_that_is_no_observable_is_asked_again_now_and_then(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("milli-1.4.8", tmp_path, observe=("snsr/arduino/temp", "snsr/arduino/co2")) as s:
            await s.readings(3)
            rows = {row["path"]: row for row in await _rows(s)}
            assert rows["snsr/arduino/co2"]["state"] == "refused"
            assert rows["snsr/arduino/co2"]["last_detail"] == "the board answered 4.04"
            assert rows["snsr/arduino/temp"]["state"] == "active"

    run(scenario())


def test_slow_reporters_are_left_alone(tmp_path: Path, run: Any, site: Any) -> None:
    """A Milli board that reports every 5 minutes starts its period anew with each registration (dialect B.5)."""

    async def scenario() -> None:
        async with site("milli-1.4.8", tmp_path, sensors=("temp@300",)) as s:
            await s.readings(3, 7200)
            registrations = (await _rows(s))[0]["registrations"]
            await s.readings(9, 7200)
            assert (await _rows(s))[0]["registrations"] <= registrations + 1

    run(scenario())


def test_sixteen_clients_at_once(tmp_path: Path, run: Any, site: Any) -> None:
    async def scenario() -> None:
        async with site("milli-1.4.8", tmp_path, observe=()) as s:
            await s.ask(codes.GET, "/snsr/arduino/temp?sens")
            answers = await asyncio.gather(
                *(asyncio.create_task(_from_a_new_client(s, "/snsr/arduino/temp?sens")) for _ in range(24))
            )
            seen = sorted(int(answer.code) for answer in answers)
            assert seen.count(codes.CONTENT) >= 16
            assert set(seen) <= {codes.CONTENT, codes.SERVICE_UNAVAILABLE}

    run(scenario())


async def _from_a_new_client(s: Any, path: str) -> Any:
    import aiocoap

    client = await aiocoap.Context.create_client_context(transports=["udp6"])
    try:
        async with asyncio.timeout(300):
            return await client.request(s.message(codes.GET, path), handle_blockwise=False).response
    finally:
        await client.shutdown()


async def _rows(s: Any) -> list[dict[str, Any]]:
    answer = await s.ask(codes.GET, "/sys/observe")
    rows: list[dict[str, Any]] = json.loads(answer.payload)
    return rows


def _start(s: Any, path: str) -> Any:
    return s.client.request(s.message(codes.GET, path, observe=0), handle_blockwise=False)


async def _collect(request: Any, take: Callable[[Any], None]) -> None:
    async for message in request.observation:
        take(message)


async def _observe(s: Any, path: str, count: int) -> list[Any]:
    """The first `count` representations that a client gets."""
    request = _start(s, path)
    notes: list[Any] = [await request.response]
    watching = asyncio.create_task(_collect(request, notes.append))
    async with asyncio.timeout(60):
        while len(notes) < count:  # noqa: ASYNC110 - aiocoap fills it by callback
            await asyncio.sleep(0.02)
    watching.cancel()
    return notes[:count]


@pytest.mark.parametrize(("profile", "seed"), [("milli-1.4.8", 1), ("milli-1.4.5", 2), ("standard", 3)])
def test_hours_of_trouble(profile: str, seed: int, tmp_path: Path, run: Any, site: Any, wait_until: Any) -> None:
    """Board resets, pulled plugs, silent boards and an absent gateway in random order: data flows again each time."""

    async def scenario() -> None:
        chance = random.Random(seed)
        async with site(profile, tmp_path, sensors=("temp@10",)) as s:
            port = s.gateway.port
            for _ in range(12):
                match chance.randrange(4):
                    case 0:
                        await s.restart_board()
                    case 1:
                        await s.line.unplug()
                        await asyncio.sleep(chance.uniform(0, 60))
                        s.line.unplugged = False
                    case 2:
                        s.line.answers_left = chance.randrange(4)
                        await asyncio.sleep(chance.uniform(0, 60))
                        s.line.answers_left = None
                    case _:
                        s.gateway.close()
                        await asyncio.sleep(chance.uniform(0, 120))
                        await s.gateway.open(port)
                await asyncio.sleep(chance.uniform(0, 200))
                await s.readings(len(s.gateway.notifications) + 2, 240)
            keys = [(r.epoch, r.observe) for r in s.gateway.notifications]
            assert keys == sorted(set(keys)), "in order, nothing twice"
            assert s.nic.queue.counters.overflowed == 0
            assert s.board.resets == []
            await wait_until(lambda: s.nic.rows()[0].state == "active", 30)
            assert s.nic.rows()[0].registrations < 200

    run(scenario())
