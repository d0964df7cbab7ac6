"""Aliases at work against Mosquitto: rules, several at once, outages, will and announcements, transports."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.aliases.catalogue import Kind
from gateway.aliases.records import PublishRule
from gateway.aliases.store import AliasStore, build

pytestmark = pytest.mark.server

ALL = [{"topic": "out/{tenant}/{category}/{mac}/{type}", "qos": 1}]


async def test_an_enabled_alias_publishes_what_its_rules_select(works: Any, mosquitto: Any, witness: Any) -> None:
    seen = await witness(mosquitto.port, "#")
    rules = [
        {"tenant": "acme", "type": "te*", "topic": "plant/{path}/{type}", "qos": 2, "retained": True},
        {"category": "alert", "topic": "alarms/{tenant}/{mac}", "qos": 0},
    ]
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", publish=rules)
    await works.connected("plant")
    works.notify(tenant="other", kind="temp")
    works.notify(tenant="acme", kind="temp")
    works.notify(tenant="other", kind="alarm")
    got = {(topic, qos) for topic, _, qos, _ in [await seen.summary(), await seen.summary()]}
    assert got == {("plant/snsr/arduino/temp/temp", 2), ("alarms/other/001350050047dc9a", 0)}


async def test_a_type_of_both_branches_is_published_on_both(works: Any, mosquitto: Any, witness: Any) -> None:
    seen = await witness(mosquitto.port, "#")
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", publish=ALL)
    await works.connected("plant")
    works.notify(kind="twice")
    topics = {(await seen.summary())[0] for _ in range(2)}
    assert topics == {f"out/acme/{branch}/001350050047dc9a/twice" for branch in ("read", "alert")}


async def test_properties_say_where_a_message_is_from(works: Any, mosquitto: Any, witness: Any) -> None:
    seen = await witness(mosquitto.port, "#")
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", publish=ALL)
    await works.connected("plant")
    works.notify()
    message = await seen.next()
    assert message["content_type"] == "application/cbor"
    assert "device:001350050047dc9a" in message["properties"]


async def test_an_alias_that_is_down_stops_no_other_and_loses_nothing(
    works: Any, mosquitto: Any, witness: Any, free_port: int, eventually: Any
) -> None:
    seen = await witness(mosquitto.port, "#")
    works.add("down", f"tcp://127.0.0.1:{free_port}", publish=[{"topic": "down/{type}"}])
    works.add("up", f"tcp://127.0.0.1:{mosquitto.port}", publish=[{"topic": "up/{type}"}])
    await works.connected("up")
    for _ in range(20):
        works.notify()
    for _ in range(20):
        assert (await seen.summary())[0] == "up/temp"
    await eventually(lambda: works.state("up")["queue"]["depth"] == 0)
    assert works.state("down")["state"] == "connecting"
    assert works.state("down")["queue"]["depth"] == 20
    # The broker comes back: what waited goes out.
    works.store.change(Kind.ALIAS, "down", {"host": f"tcp://127.0.0.1:{mosquitto.port}"})
    works.service.wake()
    payloads = [(await seen.summary())[1] for _ in range(20)]
    assert len(set(payloads)) == 20
    await eventually(lambda: works.state("down")["queue"]["depth"] == 0)


async def test_what_waits_survives_the_end_of_the_process(
    store: AliasStore, works_on: Any, mosquitto: Any, witness: Any, free_port: int
) -> None:
    first = works_on(store)
    await first.start()
    first.add("plant", f"tcp://127.0.0.1:{free_port}", publish=ALL)
    await first.service.apply()
    for _ in range(5):
        first.notify()
    await first.stop()
    store.change(Kind.ALIAS, "plant", {"host": f"tcp://127.0.0.1:{mosquitto.port}"})
    seen = await witness(mosquitto.port, "#")
    second = works_on(AliasStore(store.site, environment={}))
    await second.start()
    assert len({(await seen.summary())[1] for _ in range(5)}) == 5


async def test_a_full_queue_counts_its_losses_and_the_bridge_goes_on(works: Any, free_port: int) -> None:
    works.add("down", f"tcp://127.0.0.1:{free_port}", publish=ALL, queue_max_octets=4096)
    await works.service.apply()
    for _ in range(100):
        works.notify()
    state = works.state("down")
    assert state["losses"]["queue-full"] == 100 - state["queue"]["depth"] > 0
    assert works.outbox.status(0).depth == 100


async def test_what_no_rule_wants_any_more_is_let_go(
    works: Any, mosquitto: Any, free_port: int, eventually: Any
) -> None:
    works.add("plant", f"tcp://127.0.0.1:{free_port}", publish=ALL)
    await works.service.apply()
    for _ in range(3):
        works.notify(tenant="acme")
    there = {"host": f"tcp://127.0.0.1:{mosquitto.port}", "publish": [{"tenant": "other"}]}
    works.store.change(Kind.ALIAS, "plant", there)
    await works.service.apply()
    await eventually(lambda: works.state("plant")["queue"]["depth"] == 0)


async def test_what_comes_while_an_alias_is_changed_is_not_missed(works: Any, mosquitto: Any, witness: Any) -> None:
    seen = await witness(mosquitto.port, "#")
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", publish=ALL)
    await works.connected("plant")
    works.store.change(Kind.ALIAS, "plant", {"keep_alive_s": 30})
    works.notify()
    works.service.wake()
    works.notify()
    assert {(await seen.summary())[1] for _ in range(2)}


async def test_disabling_takes_effect_and_removing_forgets_the_queue(
    works: Any, mosquitto: Any, eventually: Any
) -> None:
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", publish=ALL)
    await works.connected("plant")
    works.store.set_enabled(Kind.ALIAS, "plant", enabled=False)
    works.service.wake()
    await eventually(lambda: works.state("plant")["state"] == "disabled")
    works.notify()
    assert (works.store.queue_folder() / "plant").is_dir()
    works.store.remove(Kind.ALIAS, "plant")
    assert not (works.store.queue_folder() / "plant").exists()


async def test_an_alias_follows_its_package(works: Any, mosquitto: Any, eventually: Any) -> None:
    works.store.add(build(Kind.PACKAGE, {"name": "Plant"}))
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", package="Plant")
    await works.connected("plant")
    works.store.set_enabled(Kind.PACKAGE, "Plant", enabled=False)
    works.service.wake()
    await eventually(lambda: works.state("plant")["state"] == "package-disabled")
    works.store.set_enabled(Kind.PACKAGE, "Plant", enabled=True)
    works.service.wake()
    await works.connected("plant")


ANNOUNCED = {
    "will_enabled": True,
    "will_topic": "state/plant",
    "will_payload": "gone",
    "will_qos": 1,
    "on_connect_payload": "here",
    "on_disconnect_payload": "bye",
}


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_connect_and_disconnect_payloads_go_to_the_will_topic(
    works: Any, mosquitto: Any, witness: Any, qos: int
) -> None:
    seen = await witness(mosquitto.port, "state/#")
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", **ANNOUNCED | {"will_qos": qos})
    assert await seen.summary() == ("state/plant", "here", qos, 0)
    works.store.set_enabled(Kind.ALIAS, "plant", enabled=False)
    works.service.wake()
    assert await seen.summary() == ("state/plant", "bye", qos, 0)


async def test_the_will_is_published_when_the_connection_is_cut(works: Any, mosquitto: Any, witness: Any) -> None:
    seen = await witness(mosquitto.port, "state/#")
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", **ANNOUNCED | {"will_retained": True, "will_qos": 2})
    assert await seen.summary() == ("state/plant", "here", 2, 0)
    cut(works)
    assert await seen.summary() == ("state/plant", "gone", 2, 0)
    assert await seen.summary() == ("state/plant", "here", 2, 0)


async def test_a_retained_will_stays_for_later_subscribers(works: Any, mosquitto: Any, witness: Any) -> None:
    seen = await witness(mosquitto.port, "state/#")
    announced = ANNOUNCED | {"will_retained": True, "on_connect_payload": "", "on_disconnect_payload": ""}
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", **announced)
    await works.connected("plant")
    cut(works)
    assert await seen.summary() == ("state/plant", "gone", 1, 0)
    later = await witness(mosquitto.port, "state/#")
    # The marker came behind it.
    assert later.passed[0]["topic"] == "state/plant" and later.passed[0]["retain"] == 1


async def test_no_will_where_it_is_switched_off(works: Any, mosquitto: Any, witness: Any) -> None:
    seen = await witness(mosquitto.port, "state/#")
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", **ANNOUNCED | {"will_enabled": False})
    assert (await seen.summary())[1] == "here"
    cut(works)
    assert (await seen.summary())[1] == "here"


def cut(works: Any) -> None:
    """The connection ends without a word."""
    works.service._aliases["plant"].work.relay.connection._transport.abort()


async def test_user_and_password_are_given(works: Any, mosquitto: Any, tmp_path: Path) -> None:
    await mosquitto.kill()
    passwords = tmp_path / "passwords"
    passwords.touch()
    made = await asyncio.create_subprocess_exec("mosquitto_passwd", "-b", str(passwords), "gw", "s3cret")
    assert await made.wait() == 0
    mosquitto.configure(f"user root\nallow_anonymous false\npassword_file {passwords}")
    await mosquitto.start()
    works.add("plant", f"tcp://127.0.0.1:{mosquitto.port}", username="gw", password="s3cret")
    await works.connected("plant")


async def test_websocket(works: Any, mosquitto: Any, witness: Any, free_port: int) -> None:
    await mosquitto.kill()
    plain, allowed = free_port, "allow_anonymous true"
    mosquitto.configure(f"protocol websockets\n{allowed}\nlistener {plain} 127.0.0.1\n{allowed}")
    await mosquitto.start()
    seen = await witness(plain, "#")
    works.add("web", f"ws://127.0.0.1:{mosquitto.port}/mqtt", publish=ALL)
    await works.connected("web")
    for _ in range(50):
        works.notify()
    assert len({(await seen.summary())[1] for _ in range(50)}) == 50


def test_a_rule_that_names_nothing_takes_everything() -> None:
    assert PublishRule() == PublishRule(tenant="*", category="*", type="*")
