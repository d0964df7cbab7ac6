"""Commands on their way to devices that come and go, with a made-up clock: the laws hold over restarts, too."""

from __future__ import annotations

import asyncio
import collections
import random
import sqlite3
from typing import Any

import pytest
from command_parts import ACME, FOREIGN_MAC, MAC, OTHER, order, party, request

from gateway.commands.errors import CommandStoreError, NoSuchDevice, QueueFull
from gateway.commands.records import FINAL_STATES, Command, Mode, State, bare
from gateway.commands.store import Filter
from gateway.device_failure import DeviceFailure, DeviceRefused, DeviceSilent
from gateway.exchange import Response
from gateway.registry import Device
from meshwire.coap import Message, codes, options
from meshwire.identity import DeviceId

LATER = Response(codes.SERVICE_UNAVAILABLE, b"nic: no link", ((options.MAX_AGE, bytes([20])),))


async def submit(bench: Any, mac: DeviceId = MAC, **changes: Any) -> Command:
    result = await bench.service.desk.submit(order(**changes), mac, party(), "http")
    return result.command  # type: ignore[no-any-return]


async def story(bench: Any, command: Command) -> list[State]:
    return [event.kind for event in await bench.service.desk.events(command)]


async def last(bench: Any, command: Command) -> Any:
    return (await bench.service.desk.events(command))[-1]


async def test_a_stored_command_waits_for_its_device(bench: Any) -> None:
    one = await submit(bench)
    await bench.round()
    assert await story(bench, one) == [State.ACCEPTED, State.QUEUED]
    bench.clock.forward(30)
    bench.appear()
    await bench.round()
    assert await story(bench, one) == [State.ACCEPTED, State.QUEUED, State.SENT, State.DELIVERED, State.ANSWERED]
    event = await last(bench, one)
    assert event.answer == bare(codes.CHANGED, (), b"done")
    assert [message for message, _, _ in bench.devices.executed] == [one.request]


async def test_a_direct_command_is_rejected_at_once_when_its_device_is_away(bench: Any) -> None:
    result = await bench.service.desk.submit(order(mode=Mode.DIRECT, ttl_s=None), MAC, party(), "http")
    assert result.failure is not None and result.failure.reason == "device is not reachable"
    assert await story(bench, result.command) == [State.FAILED]
    bench.appear()
    await bench.round()
    assert bench.devices.executed == []


async def test_a_device_that_is_silent_too_long_counts_as_away(bench: Any) -> None:
    bench.appear()
    bench.clock.forward(181)
    direct = await submit(bench, mode=Mode.DIRECT, ttl_s=None)
    assert await story(bench, direct) == [State.FAILED]
    stored = await submit(bench)
    await bench.round()
    assert bench.devices.pings == 0 and await story(bench, stored) == [State.ACCEPTED, State.QUEUED]


async def test_commands_of_one_device_go_out_in_order(bench: Any) -> None:
    ones = [await submit(bench, request=request(query=f"n={n}")) for n in range(5)]
    bench.appear()
    await bench.round()
    assert [message for message, _, _ in bench.devices.executed] == [one.request for one in ones]
    # Somebody was asked once whether it is there; after that its answers said so.
    assert bench.devices.pings == 1


async def test_an_expired_command_never_leaves_and_does_not_stop_the_next(bench: Any) -> None:
    early, late = await submit(bench, ttl_s=5), await submit(bench, ttl_s=50, request=request("b"))
    bench.clock.forward(5)
    bench.appear()
    await bench.round()
    assert await story(bench, early) == [State.ACCEPTED, State.QUEUED, State.EXPIRED]
    assert (await last(bench, late)).kind is State.ANSWERED
    assert len(bench.devices.executed) == 1


async def test_a_device_that_only_seems_to_be_there_is_asked_before_something_is_sent(bench: Any) -> None:
    bench.appear()
    bench.vanish()
    one = await submit(bench)
    await bench.round()
    assert bench.devices.pings == 1
    assert await story(bench, one) == [State.ACCEPTED, State.QUEUED]
    # It is tried again after a pause, and at once when it is heard of.
    bench.clock.forward(1)
    await bench.round()
    assert bench.devices.pings == 1
    bench.clock.forward(1)
    bench.appear()
    await bench.round()
    assert (await last(bench, one)).kind is State.ANSWERED


@pytest.mark.parametrize("moves", [True, False])
async def test_a_device_whose_commands_have_all_expired_is_there_again_when_it_is_heard(
    bench: Any, moves: bool
) -> None:
    bench.appear()
    bench.vanish()
    await submit(bench, ttl_s=5)
    await bench.round()
    bench.clock.forward(6)
    await bench.round()
    bench.clock.forward(1)
    bench.appear()
    if moves:
        bench.registry.remove_device(MAC)
        bench.registry.add_device(MAC, ACME)
        bench.appear()
    await bench.round()
    direct = await submit(bench, mode=Mode.DIRECT, ttl_s=None)
    await bench.round()
    assert (await last(bench, direct)).kind is State.ANSWERED


async def test_pauses_grow_when_nobody_says_when(bench: Any) -> None:
    bench.appear()
    bench.vanish()
    one = await submit(bench, ttl_s=1000)
    tries = []
    for second in range(160):
        before = bench.devices.pings
        await bench.round()
        if bench.devices.pings > before:
            tries.append(second)
        bench.clock.forward(1)
    assert tries == [0, 10, 30, 70, 150]
    assert (await last(bench, one)).kind is State.QUEUED


async def test_5_03_is_waited_out_however_often_the_device_is_heard(bench: Any) -> None:
    bench.devices.behaviour = lambda message, address: LATER
    bench.appear()
    one = await submit(bench, ttl_s=100)
    await bench.round()
    assert await story(bench, one) == [State.ACCEPTED, State.QUEUED, State.SENT, State.DELIVERED, State.QUEUED]
    event = await last(bench, one)
    assert (event.hop, event.reason) == ("nic", "5.03 no link")
    bench.devices.behaviour = None
    for _ in range(19):
        bench.clock.forward(1)
        bench.appear()
        await bench.round()
        assert bench.devices.executed == []
    bench.clock.forward(1)
    await bench.round()
    assert (await last(bench, one)).kind is State.ANSWERED
    assert (await bench.service.store.find(one.key)).attempts == 2


async def test_what_may_have_been_executed_is_not_sent_again(bench: Any) -> None:
    bench.devices.behaviour = lambda message, address: DeviceSilent("not acknowledged")
    bench.appear()
    one, get = await submit(bench), await submit(bench, request=request(code=codes.GET))
    await bench.round()
    assert (await last(bench, one)).kind is State.UNKNOWN
    assert (await last(bench, get)).kind is State.QUEUED
    bench.devices.behaviour = None
    bench.clock.forward(15)
    bench.appear()
    await bench.round()
    assert (await last(bench, get)).kind is State.ANSWERED
    assert [message.code for message, _, _ in bench.devices.executed] == [codes.PUT, codes.GET, codes.GET]


async def test_a_reset_is_the_end(bench: Any) -> None:
    bench.devices.behaviour = lambda message, address: DeviceRefused("rejected by Reset")
    bench.appear()
    one = await submit(bench)
    await bench.round()
    event = await last(bench, one)
    assert (event.kind, event.hop) == (State.FAILED, "nic")


async def test_an_error_of_the_device_is_an_answer(bench: Any) -> None:
    bench.devices.behaviour = lambda message, address: Response(codes.NOT_FOUND, b"no such sensor")
    bench.appear()
    one = await submit(bench)
    await bench.round()
    event = await last(bench, one)
    assert event.kind is State.ANSWERED and event.answer.code == codes.NOT_FOUND


async def test_a_device_that_was_moved_to_another_tenant_gets_nothing(bench: Any) -> None:
    one, two = await submit(bench), await submit(bench, request=request("b"))
    bench.registry.remove_device(MAC)
    bench.registry.add_device(MAC, OTHER)
    bench.appear()
    await bench.round()
    for each in (one, two):
        event = await last(bench, each)
        assert (event.kind, event.reason) == (State.FAILED, "no such device")
    assert bench.devices.executed == []


async def test_nothing_leaves_that_is_not_on_disk(bench: Any) -> None:
    bench.appear()
    one = await submit(bench)
    inner = bench.service.store._commit

    def fail(batch: object) -> None:
        raise sqlite3.OperationalError("disk is full")

    bench.service.store._commit = fail
    await bench.round()
    assert bench.devices.executed == []
    with pytest.raises(CommandStoreError):
        await submit(bench)
    bench.service.store._commit = inner
    bench.clock.forward(11)
    await bench.round()
    assert (await last(bench, one)).kind is State.ANSWERED
    assert len(bench.devices.executed) == 1
    assert [each.key for each in await bench.service.store.select(Filter())] == [one.key]


async def test_a_group_that_can_not_be_stored_whole_is_not_taken(bench: Any) -> None:
    macs = [DeviceId(f"00135005{number:08x}") for number in range(0x3001, 0x3001 + 500)]
    bench.registry.add_devices([Device(mac, ACME) for mac in macs])
    store, commits = bench.service.store, 0
    inner = store._commit

    def fail_second(batch: Any) -> None:
        nonlocal commits
        commits += 1
        if commits == 2:
            raise sqlite3.OperationalError("disk is full")
        inner(batch)

    store._commit = fail_second
    with pytest.raises(CommandStoreError):
        await bench.service.desk.submit_group(order(), macs, "all", party(), "http")
    store._commit = inner
    assert len(bench.service.queue) == 0
    assert all(each.state is State.CANCELLED for each in await store.select(Filter()))
    group = await bench.service.desk.submit_group(order(), macs, "all", party(), "http")
    assert await bench.service.desk.progress(group) == {"queued": 500}


async def test_a_group_for_which_there_is_no_room_is_not_taken(make_bench: Any) -> None:
    bench = make_bench(max_waiting=3)
    await bench.start()
    macs = [DeviceId(f"00135005{number:08x}") for number in range(0x3001, 0x3004)]
    for mac in macs:
        bench.registry.add_device(mac, ACME)
    await submit(bench)
    with pytest.raises(QueueFull):
        await bench.service.desk.submit_group(order(), macs, "all", party(), "http")
    assert len(bench.service.queue) == 1
    group = await bench.service.desk.submit_group(order(), macs[:2], "two", party(), "http")
    assert await bench.service.desk.progress(group) == {"queued": 2}
    await bench.kill()


async def test_its_time_is_over_while_the_disk_writes(bench: Any) -> None:
    bench.appear()
    one = await submit(bench, ttl_s=5)
    inner = bench.service.store._commit

    def slow(batch: object) -> None:
        bench.clock.forward(10)
        inner(batch)

    bench.service.store._commit = slow
    await bench.round()
    bench.service.store._commit = inner
    assert (await last(bench, one)).kind is State.EXPIRED
    assert bench.devices.executed == []


async def test_a_fault_with_one_device_leaves_the_others_alone(bench: Any) -> None:
    second = DeviceId("001350050047dc9b")
    bench.registry.add_device(second, ACME)

    def behaviour(message: Message, address: Any) -> Response:
        if address == bench.address(MAC):
            raise RuntimeError("a fault")
        return Response(codes.CHANGED)

    bench.devices.behaviour = behaviour
    bench.appear()
    bench.appear(second)
    one, other = await submit(bench), await submit(bench, second)
    await bench.round()
    assert (await last(bench, one)).kind is State.UNKNOWN
    assert (await last(bench, other)).kind is State.ANSWERED


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
async def test_a_thousand_commands_to_devices_that_come_and_go_while_the_gateway_is_killed(
    make_bench: Any, seed: int
) -> None:
    """None executed after its time, none twice, every one has one final event, and each tells the truth."""
    dice = random.Random(seed)
    bench = make_bench()
    macs = [DeviceId(f"00135005{number:08x}") for number in range(0x1001, 0x1029)]
    bench.registry.add_devices([Device(mac, ACME) for mac in macs])
    await bench.start()
    turns = {"answer": 80, "later": 6, "silent": 4, "lost": 3, "hang": 2, "reset": 3, "error": 2}

    def behaviour(message: Message, address: Any) -> Response | DeviceFailure | None:
        match dice.choices(list(turns), list(turns.values()))[0]:
            case "later":
                return LATER
            case "silent":
                return DeviceSilent("not acknowledged")
            case "lost":
                return Response(codes.GATEWAY_TIMEOUT, b"nic: outcome unknown")
            case "hang":
                return None
            case "reset":
                return DeviceRefused("rejected by Reset")
            case "error":
                return Response(codes.BAD_REQUEST, b"no")
            case _:
                return Response(codes.CHANGED, b"done")

    bench.devices.behaviour = behaviour
    commands: list[Command] = []
    there = dict.fromkeys(macs, False)
    kills = 0
    for second in range(260):
        for mac in macs:
            if dice.random() < 0.03:
                there[mac] = not there[mac]
                bench.vanish(mac)
            if there[mac] and dice.random() < 0.2:
                bench.appear(mac)
        for _ in range(5 if len(commands) < 1000 else 0):
            path = dice.choice(["a", "b", "c"])
            ask = request(path, payload=f"c{len(commands)}".encode())
            ttl_s = dice.choice([1, 3, 10, 30, 100])
            commands.append(
                await submit(bench, dice.choice(macs), request=ask, ttl_s=ttl_s, replace=dice.random() < 0.1)
            )
        bench.service.delivery.round()
        if dice.random() < 0.08 and second < 250:
            # At any moment of what the round has begun.
            for _ in range(dice.randrange(40)):
                await asyncio.sleep(0)
            await bench.kill()
            bench.devices.hanging = 0
            kills += 1
            await bench.start()
        else:
            await bench.calm()
        bench.clock.forward(1)
    # What hangs is heard of never: the last kill ends it.
    await bench.kill()
    bench.devices.hanging = 0
    bench.clock.forward(200)
    await bench.start()
    await bench.round()

    executed: dict[str, list[float]] = collections.defaultdict(list)
    for message, _, at_s in bench.devices.executed:
        executed[message.payload.decode()].append(at_s)
    ends: dict[State, int] = collections.Counter()
    assert len(commands) == 1000 and kills >= 10
    for command in commands:
        name = command.request.payload.decode()
        events = await bench.service.store.events(command.key)
        finals = [event for event in events if event.kind in FINAL_STATES]
        assert len(finals) == 1 and finals[0] == events[-1], (name, events)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        end = finals[0].kind
        ends[end] += 1
        times = executed[name]
        assert len(times) <= 1, f"{name} was executed {len(times)} times: {events}"
        assert all(at_s < command.expires_s for at_s in times), name
        match end:
            case State.ANSWERED:
                assert len(times) == 1, name
            case State.EXPIRED | State.CANCELLED | State.FAILED:
                assert times == [], (name, events)
            case _:
                assert end is State.UNKNOWN
    # All kinds of ends were met, and the commands that met a device mostly found it.
    assert ends.keys() == FINAL_STATES, ends
    assert ends[State.ANSWERED] > 300 and ends[State.UNKNOWN] < 250, ends
    assert len(bench.service.queue) == 0
    await bench.kill()


async def test_nobody_elses_device(bench: Any) -> None:
    for mac in (FOREIGN_MAC, DeviceId("0000000000000001"), None):
        with pytest.raises(NoSuchDevice):
            await bench.service.desk.submit(order(), mac, party(), "http")


async def test_who_commanded_what_stands_in_the_audit_log_once(bench: Any) -> None:
    bench.appear()
    made = await submit(bench)
    await bench.round()
    (entry,) = bench.registry.audit.entries(action="command.")
    assert (entry.subject, entry.tenant) == (MAC.value, "acme")
    assert entry.detail["id"] == made.key.id and entry.detail["via"] == "http" and entry.detail["path"]
