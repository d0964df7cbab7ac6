"""The mesh by itself: who hears whom, what a hop costs, who finds which new way, and what is lost for which reason."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from meshwire.identity import DeviceId
from nic_sim.errors import NicError
from nic_sim.mesh.agenda import Agenda
from nic_sim.mesh.ledger import Ledger
from nic_sim.mesh.mesh import Lost, Mesh
from nic_sim.mesh.picture import latency_picture, topology_picture
from nic_sim.mesh.radio import Transmitter, energy_mah
from nic_sim.mesh.scenario import Event, Expectations, Group, Radio, Scenario, load_scenario, shipped_scenarios
from nic_sim.mesh.topology import Topology, place_nodes
from nic_sim.mesh.verdict import judge

CALM = {"range_m": 100, "scan_s": 4, "beacon_s": 1e9}


def scenario(**more: Any) -> Scenario:
    values: dict[str, Any] = {
        "schema_version": 1,
        "name": "test",
        "description": "",
        "duration_s": "1h",
        "access_point": [{"x": 0, "y": 50, "prefix": "fd00:0:0:1::"}],
        "nics": {"count": 4, "layout": "line", "width_m": 240, "height_m": 100},
        "radio": CALM,
    }
    return Scenario.model_validate(values | more)


class World:
    """A mesh, and everything that it tells."""

    def __init__(self, wanted: Scenario, seed: int = 1) -> None:
        self.agenda = Agenda()
        self.up: list[tuple[float, bytes, bytes]] = []
        self.down: list[tuple[int, bytes]] = []
        self.moves: list[int] = []
        self.events: Counter[str] = Counter()
        macs = [DeviceId(f"{number + 1:016x}") for number in range(wanted.nics.count)]
        self.mesh = Mesh(wanted, macs, self.agenda, self, seed)

    def arrived_up(self, octets: bytes, address: bytes) -> None:
        self.up.append((self.agenda.now, octets, address))

    def arrived_down(self, nic: int, octets: bytes) -> None:
        self.down.append((nic, octets))

    def moved(self, nic: int, address: bytes) -> None:
        self.moves.append(nic)

    def told(self, what: str, **details: object) -> None:
        self.events[what] += 1

    def send_until_it_arrives(self, nic: int) -> None:
        """As a NIC that repeats what is not acknowledged."""
        before = len(self.up)
        for _ in range(50):
            self.mesh.send_up(nic, b"reading")
            self.agenda.run_until(self.agenda.now + 4.0)
            if len(self.up) > before:
                return
        raise AssertionError(f"nothing arrived: {self.mesh.lost}")


# --- time and ground --------------------------------------------------------------------------------------------------


def test_things_happen_in_the_order_of_times_and_of_asking() -> None:
    agenda, seen = Agenda(), []
    agenda.at(2.0, seen.append, "b")
    agenda.at(1.0, seen.append, "a")
    agenda.at(2.0, seen.append, "c")
    agenda.at(2.0, lambda: agenda.at(0.5, seen.append, "d, which is late"))
    agenda.run_until(1.9)
    assert seen == ["a"] and agenda.now == 1.9 and agenda.next_at() == 2.0
    agenda.run_until(3.0)
    assert seen == ["a", "b", "c", "d, which is late"] and agenda.now == 3.0 and agenda.next_at() is None


def test_in_the_first_tree_nobody_has_a_better_parent_and_all_ways_are_whole() -> None:
    wanted = load_scenario("district")
    places = place_nodes(wanted, random.Random(3))
    topology = Topology(places, 4, [False] * 4, wanted.radio.range_m)
    for node in range(4, len(places)):
        way = topology.way_down(node)
        assert way[-1] == node and topology.parent[way[0]] == topology.root(node) < 4
        assert topology.best_parent(node) == topology.parent[node]
        assert node in topology.children[topology.parent[node]]


def test_a_wan_router_hears_less_far() -> None:
    places = [(0.0, 0.0), (80.0, 0.0)]
    pole, shop = (Topology(places, 1, [wide], 100).link_up[1] for wide in (False, True))
    assert pole is not None and shop is not None and shop.delivery < pole.delivery / 2


# --- radio ------------------------------------------------------------------------------------------------------------


def test_frames_follow_each_other_and_take_their_time_on_the_air() -> None:
    transmitter = Transmitter(Radio(bit_rate=10_000, overhead_octets=25, turnaround_s=0.0, duty=1.0))
    first = transmitter.send(100, 1.0, 5.0, random.Random(1))
    second = transmitter.send(100, 1.0, 5.0, random.Random(1))
    assert (first.begin_s, first.end_s, first.tries, first.arrived) == (5.0, 5.1, 1, True)
    assert second.begin_s == pytest.approx(5.1) and transmitter.air_s == pytest.approx(0.2)
    lost = transmitter.send(100, 0.0, 6.0, random.Random(1))
    assert not lost.arrived and lost.tries == 4


def test_the_duty_bound_holds_over_any_long_time() -> None:
    radio = Radio(bit_rate=10_000, overhead_octets=25, turnaround_s=0.0, duty=0.1, duty_window_s=10.0)
    transmitter, end_s = Transmitter(radio), 0.0
    for _ in range(1000):
        end_s = transmitter.send(100, 1.0, 0.0, random.Random(1)).end_s
    assert transmitter.air_s == pytest.approx(100.0)
    assert 0.095 * end_s <= transmitter.air_s <= 0.1 * end_s + 0.1 * 10.0 + 1e-6, (
        "a window's worth stands in the bucket"
    )


def test_traffic_empties_the_battery_and_distance_weakens_the_signal() -> None:
    assert energy_mah(3600, 3600) == pytest.approx(120.02)
    world = World(scenario())
    assert world.mesh.battery(0).percent == 100.0
    world.mesh.send_up(0, b"x" * 200)
    world.agenda.run_until(10)
    busy, quiet = world.mesh._transmitters[1], world.mesh._transmitters[4]
    assert busy.air_s > 0 == quiet.air_s
    busy.air_s = 19_000 * 3600 / 120 / 2
    assert 49 < world.mesh.battery(0).percent < 50.1 and world.mesh.battery(0).millivolts < 3300
    near = World(scenario(nics={"count": 1, "layout": "line", "width_m": 20, "height_m": 100})).mesh.signal(0)
    far = world.mesh.signal(0)
    assert near.rssi_dbm > far.rssi_dbm and near.link_quality > far.link_quality > 0


# --- datagrams --------------------------------------------------------------------------------------------------------


def test_a_datagram_goes_up_and_down_hop_by_hop() -> None:
    world = World(scenario())
    assert [world.mesh.topology.hops(node) for node in range(1, 5)] == [1, 2, 3, 4]
    world.mesh.send_up(3, b"up")
    world.agenda.run_until(5.0)
    ((at, octets, address),) = world.up
    assert octets == b"up" and address.hex() == "fd00000000000001" + "0200000000000004" and 0.04 < at < 1.0
    world.mesh.send_down(b"down", address)
    world.agenda.run_until(10.0)
    assert world.down == [(3, b"down")] and world.mesh.hops_taken == {4: 1}


def test_what_does_not_arrive_is_counted_by_reason() -> None:
    world = World(scenario(radio=CALM | {"queue": 2}))
    mesh = world.mesh
    for _ in range(5):
        mesh.send_up(3, b"x")
    assert mesh.lost == {Lost.QUEUE_FULL: 3}
    mesh.send_down(b"x", bytes(16))
    assert mesh.lost[Lost.ADDRESS_GONE] == 1
    mesh.is_cut_off = True
    world.agenda.run_until(5.0)
    mesh.send_down(b"x", mesh.address(0))
    world.agenda.run_until(10.0)
    assert mesh.lost[Lost.OUTAGE] == 3 and not world.up and not world.down
    mesh.is_cut_off, mesh.more_loss = False, 1.0
    mesh.send_up(0, b"x")
    world.agenda.run_until(20.0)
    assert mesh.lost[Lost.RADIO] == 1


# --- healing ----------------------------------------------------------------------------------------------------------


def test_children_of_a_dead_relay_find_another_way_by_themselves() -> None:
    world = World(scenario(nics={"count": 30, "layout": "grid", "width_m": 300, "height_m": 200}))
    topology = world.mesh.topology
    relay = max(topology.relays(), key=lambda node: len(list(topology.subtree(node))))
    below = [node - 1 for node in topology.subtree(relay) if node != relay]
    assert below
    world.mesh.switch_off(relay)
    for nic in below:
        world.send_until_it_arrives(nic)
        assert relay not in topology.way_down(nic + 1)
    assert world.events["parent-lost"] > 0 and world.mesh.lost[Lost.NODE_OFF] > 0
    assert not world.moves, "the same access point: the same addresses"


def test_who_comes_under_another_access_point_has_a_new_address_and_only_that() -> None:
    points = [{"x": 0, "y": 50, "prefix": "fd00:0:0:1::"}, {"x": 240, "y": 50, "prefix": "fd00:0:0:2::"}]
    world = World(scenario(access_point=points, nics={"count": 3, "layout": "line", "width_m": 180, "height_m": 100}))
    topology = world.mesh.topology
    first = [nic for nic in range(3) if topology.root(nic + 2) == 0]
    assert first
    former = {nic: world.mesh.address(nic) for nic in first}
    world.mesh.switch_off(0)
    for nic in first:
        world.send_until_it_arrives(nic)
    assert set(world.moves) == set(first)
    for nic in first:
        assert world.mesh.address(nic)[:8].hex() == "fd00000000000002"
        assert world.mesh.address(nic)[8:] == former[nic][8:], "the EUI-64 stays"
        world.mesh.send_down(b"x", former[nic])
    assert world.mesh.lost[Lost.ADDRESS_GONE] == len(first)


def test_no_way_leads_in_a_circle_whatever_dies_and_returns() -> None:
    wanted = scenario(nics={"count": 60, "layout": "random", "width_m": 300, "height_m": 300}, radio={"range_m": 90})
    world, chance = World(wanted), random.Random(5)
    topology = world.mesh.topology
    for _ in range(200):
        node = chance.randrange(1, 61)
        (world.mesh.switch_off if topology.is_on[node] else world.mesh.switch_on)(node)
        for nic in range(60):
            if topology.is_on[nic + 1]:
                world.mesh.send_up(nic, b"x")
        world.agenda.run_until(world.agenda.now + 10.0)
        for start in range(1, 61):
            seen, at = set(), start
            while at > 0:
                assert at not in seen, "a circle"
                seen.add(at)
                at = topology.parent[at]
    for node in range(1, 61):
        if not topology.is_on[node]:
            world.mesh.switch_on(node)
    for nic in range(60):
        world.send_until_it_arrives(nic)
    assert all(transmitter.waiting == 0 for transmitter in world.mesh._transmitters)


def test_a_better_way_is_taken_after_a_while() -> None:
    world = World(scenario(radio=CALM | {"beacon_s": 100}))
    topology = world.mesh.topology
    topology.attach(3, 1)
    topology.attach(2, 3)  # a detour that nobody would choose
    world.agenda.run_until(300.0)
    assert topology.parent[2] == 1


# --- scenarios --------------------------------------------------------------------------------------------------------


def test_the_shipped_scenarios_fit_and_are_called_by_their_names() -> None:
    assert set(shipped_scenarios()) == {"single-board", "street-block", "district", "storm", "firmware-reboot-wave"}
    for name in shipped_scenarios():
        assert load_scenario(name).name == name
    assert load_scenario("street-block").nics.count == 50 and load_scenario("district").nics.count == 1000


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("schema_version = 2", "schema_version"),
        ("nonsense = 1", "nonsense"),
        ("[nics]\ncount = 0", "nics.count"),
        ("[[event]]\ndo = 'explode'", "event.0.do"),
        ("[[event]]\ndo = 'kill'\nto = 'moon'", "event.0.to"),
        ("[[event]]\ndo = 'kill'\nto = 'nic'", "names no number"),
        ("[[event]]\ndo = 'outage'", "for_s"),
        ("[[access_point]]\nx = 0\ny = 0\nprefix = 'fd00::1'", "prefix"),
        ("= 1", "no TOML"),
    ],
)
def test_a_scenario_that_does_not_fit_says_where(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(NicError) as caught:
        load_scenario(str(path))
    assert caught.value.code == "MW-NIC-041" and str(path) in str(caught.value) and place in str(caught.value)


def test_an_unknown_scenario_is_told() -> None:
    with pytest.raises(NicError) as caught:
        load_scenario("no-such-thing")
    assert caught.value.code == "MW-NIC-040"


@pytest.mark.parametrize(
    ("to", "target"),
    [
        ("relays:0.33", (Group.RELAYS, 0.33)),
        ("nics:20", (Group.NICS, 20.0)),
        ("nics:all", (Group.NICS, None)),
        ("access-point:1", (Group.ACCESS_POINT, 1.0)),
    ],
)
def test_whom_an_event_concerns(to: str, target: tuple[Group, float | None]) -> None:
    assert Event.model_validate({"do": "kill", "to": to}).target == target


def test_times_are_numbers_or_texts_with_a_unit() -> None:
    assert scenario(duration_s="1.5h").duration_s == 5400
    for wrong in ("1 fortnight", -1):
        with pytest.raises(ValidationError):
            scenario(duration_s=wrong)


# --- ledger and verdict -----------------------------------------------------------------------------------------------


def test_each_reading_is_stored_once_or_lost_once_or_open() -> None:
    ledger = Ledger()
    for number in range(4):
        ledger.make(("m", 1, number), float(number))
    ledger.store(("m", 1, 0), 2.5)
    ledger.store(("m", 1, 0), 3.0)
    ledger.lose(("m", 1, 0), "too late to be lost")
    ledger.lose(("m", 1, 1), "queue-full")
    ledger.store(("x", 1, 9), 4.0)
    ledger.close({("m", 1, 2)})
    assert (ledger.made, ledger.stored, ledger.repeated) == (4, 1, 1)
    assert ledger.lost == {"queue-full": 1, "waiting-at-nic": 1} and list(ledger.open) == [("m", 1, 3)]
    assert list(ledger.latencies_s) == [2.5]


def test_a_verdict_names_what_is_broken_with_its_figure() -> None:
    ledger = Ledger(made=100, stored=98, repeated=1, ordered=3)
    ledger.lost["queue-full"] = 1
    ledger.open["m", 1, 1] = 0.0
    ledger.commands.update(answered=1, expired=1)
    ledger.latencies_s.extend([1.0] * 97 + [9.0])
    expected = Expectations(all_readings_arrive=True, p99_latency_s=5, min_delivered=0.99)
    findings = {finding.what: finding for finding in judge(expected, ledger)}
    assert not any(finding.holds for finding in findings.values())
    assert findings["all readings arrive"].evidence == "98 of 100"
    assert findings["p99 < 5 s"].evidence == "9.00 s"
    assert findings["every command has a final event"].evidence == "2 of 3: 1 answered, 1 expired"
    assert all(finding.holds for finding in judge(expected, Ledger()))


def test_pictures_show_everybody() -> None:
    topology = World(scenario()).mesh.topology
    topology.is_on[2] = False
    topology.detach(4)
    picture = topology_picture(topology)
    assert picture.count("<circle") == 5 and picture.count("<line") == 3 and picture.count('class="x"') == 2
    assert "2 hops" in latency_picture({1: [1.0, 2.0], 2: [3.0], 3: []})
