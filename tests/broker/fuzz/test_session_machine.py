"""Random walks of three clients through the protocol, with a model that knows what each of them has to get; and random
packets for the codec.

The normal run walks a little. Ten minutes of it: `python tests/broker/fuzz/test_session_machine.py 600` (seconds),
which also watches the memory of the process.
"""

import gc
import importlib.util
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from meshwire.mqtt import (
    Connect,
    MqttError,
    PacketError,
    PacketStream,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Side,
    encode,
)
from meshwire.topics import TopicFilter

V311, V5 = ProtocolVersion.V3_1_1, ProtocolVersion.V5
FILTERS = ("m/a", "m/+", "m/#", "#", "+/b", "m/a/b")
TOPICS = ("m/a", "m/b", "m/a/b", "n")
GROWTH_KB = 65_536


def _conformance() -> Any:
    sys.path.append(str(Path(__file__).parents[2] / "support"))  # as pytest does, for who starts this file itself
    path = Path(__file__).parents[1] / "conformance" / "conftest.py"
    spec = importlib.util.spec_from_file_location("conformance_tools_fuzz", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOLS = _conformance()
CLIENTS = st.integers(0, 2)
VERSIONS = st.sampled_from([V311, V5])
QOS = st.integers(0, 2)


@dataclass
class Model:
    """What one client has and has to get."""

    wire: Any = None
    version: ProtocolVersion = V5
    is_kept: bool = False
    filters: dict[str, int] = field(default_factory=dict)
    due: dict[int, int] = field(default_factory=dict)
    """Number of a message -> QoS at which it has to come."""
    order: dict[tuple[str, int], int] = field(default_factory=dict)
    """(topic, QoS) -> number of the last message that came for the first time."""
    open: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Packet identifier -> (number, QoS) of what was received and not acknowledged to the end."""
    released: set[int] = field(default_factory=set)
    """Identifiers for which we sent PUBREC."""

    def forget(self) -> None:
        self.filters, self.due, self.order, self.open, self.released = {}, {}, {}, {}, set()


class SessionMachine(RuleBasedStateMachine):
    """Steps of clients against one broker; a new prefix of client ids for each walk."""

    server: Any = None
    walks = 0
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        if SessionMachine.server is None:
            SessionMachine.server = start_server()
        SessionMachine.walks += 1
        self.walk = SessionMachine.walks
        self.number = 0
        self.models = [Model() for _ in range(3)]
        self.sender = self.connect_as(V5, "sender", clean=True, kept=False)
        self.ids = 0

    # --- plumbing ---------------------------------------------------------------------------------------------------

    def name(self, who: object) -> str:
        return f"walk{self.walk}-{who}"

    def topic(self, text: str) -> str:
        return f"w{self.walk}/{text}"

    def connect_as(self, version: ProtocolVersion, who: object, *, clean: bool, kept: bool) -> Any:
        wire = TOOLS.Wire(self.server.port, version)
        properties = Properties(session_expiry_interval=1_000 if kept else 0) if version is V5 else Properties()
        clean_start = clean if version is V5 else not kept
        wire.connack = wire.ask(Connect(self.name(who), version, clean_start, 0, None, "admin", b"secret", properties))
        assert wire.connack is not None and wire.connack.reason_code == 0
        return wire

    def teardown(self) -> None:
        for index, model in enumerate(self.models):
            if model.wire is None and model.is_kept:
                self.attach(index, V5, clean=False, kept=True)
            if model.wire is not None:
                self.finish(model)
                assert {number: qos for number, qos in model.due.items() if qos} == {}
                self.attach(index, V5, clean=True, kept=False)  # leaves nothing behind
                model.wire.close()
        self.sender.close()
        assert self.server.broker.statistics.endings["internal-error"] == 0

    def attach(self, index: int, version: ProtocolVersion, *, clean: bool, kept: bool) -> None:
        model = self.models[index]
        starts_clean = clean if version is V5 else not kept
        had_session = model.is_kept
        former = model.wire
        model.wire = self.connect_as(version, index, clean=clean, kept=kept)
        if former is not None:
            former.close()
        assert model.wire.connack.session_present is (had_session and not starts_clean)
        if not model.wire.connack.session_present:
            model.forget()
        model.version, model.is_kept = version, kept
        for number, qos in list(model.due.items()):
            if qos == 0:
                del model.due[number]

    def finish(self, model: Model) -> None:
        """Takes and acknowledges everything until nothing more comes."""
        while self.take(model):
            self.acknowledge(model, len(model.open))

    def take(self, model: Model) -> int:
        """Reads what came and checks it against the model; returns how many packets."""
        packets = model.wire.fenced()
        for packet in packets:
            if isinstance(packet, PubRel):
                assert packet.packet_id in model.released
                model.released.discard(packet.packet_id)
                model.open.pop(packet.packet_id, None)
                model.wire.send(PubComp(packet.packet_id))
                continue
            assert isinstance(packet, Publish)
            self.check(model, packet)
        return len(packets)

    def check(self, model: Model, packet: Publish) -> None:
        number = int(packet.payload)
        known = model.open.get(packet.packet_id) if packet.qos else None
        if packet.dup:
            assert known == (number, packet.qos)  # the same message under the same identifier
            assert packet.packet_id not in model.released  # never PUBLISH behind PUBREC
            return
        assert known is None, "an identifier in use was given to another message"
        assert model.due.pop(number, None) == packet.qos, f"message {number} was not due at QoS {packet.qos}"
        place = (packet.topic, packet.qos)
        assert model.order.get(place, 0) < number, "out of order"
        model.order[place] = number
        if packet.qos:
            model.open[packet.packet_id] = (number, packet.qos)

    def acknowledge(self, model: Model, count: int) -> None:
        for packet_id, (_, qos) in list(model.open.items())[:count]:
            if qos == 1:
                model.wire.send(PubAck(packet_id))
                del model.open[packet_id]
            elif packet_id not in model.released:
                model.wire.send(PubRec(packet_id))
                model.released.add(packet_id)

    # --- rules ------------------------------------------------------------------------------------------------------

    @rule(index=CLIENTS, version=VERSIONS, clean=st.booleans(), kept=st.booleans())
    def connects(self, index: int, version: ProtocolVersion, clean: bool, kept: bool) -> None:
        """Also while connected: a take-over."""
        model = self.models[index]
        if model.wire is not None:
            self.take(model)
        self.attach(index, version, clean=clean, kept=kept)

    @rule(index=CLIENTS, abruptly=st.booleans())
    def leaves(self, index: int, abruptly: bool) -> None:
        model = self.models[index]
        if model.wire is None:
            return
        self.take(model)
        if not abruptly:
            model.wire.octets(b"\xe0\x00")
            assert model.wire.until_closed() == []
        model.wire.close()
        self.server.noticed_leaving(self.name(index))
        model.wire = None
        if not model.is_kept:
            model.forget()

    @rule(index=CLIENTS, text=st.sampled_from(FILTERS), qos=QOS)
    def subscribes(self, index: int, text: str, qos: int) -> None:
        model = self.models[index]
        if model.wire is not None:
            self.take(model)
            assert model.wire.subscribe(self.topic(text), qos=qos) == (qos,)
            model.filters[text] = qos

    @rule(index=CLIENTS, text=st.sampled_from(FILTERS))
    def unsubscribes(self, index: int, text: str) -> None:
        model = self.models[index]
        if model.wire is not None:
            self.take(model)
            model.wire.unsubscribe(self.topic(text))
            model.filters.pop(text, None)

    @rule(text=st.sampled_from(TOPICS), qos=QOS, count=st.integers(1, 5))
    def publishes(self, text: str, qos: int, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.expect(text, qos)
            self.sender.publish(self.topic(text), b"%d" % self.number, qos)

    def expect(self, text: str, qos: int) -> None:
        for model in self.models:
            granted = [held for known, held in model.filters.items() if TopicFilter.parse(known).matches(text)]
            if granted and (model.wire is not None or (model.is_kept and min(qos, max(granted)))):
                model.due[self.number] = min(qos, max(granted))

    @rule(index=CLIENTS, count=st.integers(0, 10))
    def receives(self, index: int, count: int) -> None:
        model = self.models[index]
        if model.wire is not None:
            self.take(model)
            self.acknowledge(model, count)

    @rule(octets=st.binary(min_size=1, max_size=40), version=VERSIONS)
    def somebody_talks_nonsense(self, octets: bytes, version: ProtocolVersion) -> None:
        wire = self.connect_as(version, "fool", clean=True, kept=False)
        wire.octets(octets)
        wire.close()

    @rule(packet_id=st.integers(1, 65_535), kind=st.sampled_from([PubAck, PubRec, PubRel, PubComp]))
    def the_sender_acknowledges_what_nobody_sent(self, packet_id: int, kind: Any) -> None:
        self.sender.send(kind(packet_id))
        self.sender.fenced()

    @rule(seconds=st.floats(0, 50))
    def time_passes(self, seconds: float) -> None:
        self.server.skip(seconds)

    @invariant()
    def broker_serves(self) -> None:
        SessionMachine.steps += 1
        assert self.sender.fenced() == []


def start_server() -> Any:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    folder = tempfile.TemporaryDirectory()
    server = TOOLS.Server(Path(folder.name), TOOLS.Limits(max_session_expiry_s=100_000))
    server.folder = folder
    server.start()
    return server


def stop_server() -> None:
    if SessionMachine.server is not None:
        SessionMachine.server.stop()
        SessionMachine.server.folder.cleanup()
        SessionMachine.server = None
    structlog.reset_defaults()


WALK = settings(
    max_examples=25, stateful_step_count=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def test_walks_of_three_clients() -> None:
    try:
        run_state_machine_as_test(SessionMachine, settings=settings(WALK, derandomize=True))
    finally:
        stop_server()


def read_anything(octets: bytes, version: ProtocolVersion, side: Side, cut: int) -> None:
    """Random octets give packets or PacketError, and a packet that was read can be written and read again."""
    stream = PacketStream(side, version, max_packet_octets=1_000)
    try:
        for begin in range(0, len(octets), cut):
            stream.feed(octets[begin : begin + cut])
            for packet in stream.packets():
                again = PacketStream(side, stream.version)
                try:
                    again.feed(encode(packet, stream.version))
                except MqttError:
                    continue
                assert list(again.packets()) == [packet]
    except PacketError:
        pass


def read_much(examples: int, *, always_the_same: bool) -> None:
    packets = st.integers(1, 15).flatmap(lambda kind: st.binary(max_size=120).map(lambda body: framed(kind, body)))
    given_octets = given(st.binary(max_size=200) | packets, VERSIONS, st.sampled_from(list(Side)), st.integers(1, 7))
    how = settings(max_examples=examples, derandomize=always_the_same, deadline=None, database=None)
    how(given_octets(read_anything))()


def framed(kind: int, body: bytes) -> bytes:
    flags = 2 if kind in (6, 8, 10) else 0
    return bytes((kind << 4 | flags, len(body))) + body


def test_random_octets_for_the_codec() -> None:
    read_much(500, always_the_same=True)


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def fuzz(seconds: float) -> None:
    """Walks and reads until the time is over; raises at the first failure, or when the memory does not stay flat."""
    end, before = time.monotonic() + seconds, 0
    rounds = 0
    try:
        while time.monotonic() < end:
            run_state_machine_as_test(SessionMachine, settings=WALK)
            read_much(2_000, always_the_same=False)
            rounds += 1
            gc.collect()
            before = before or resident_kb()
            print(f"{rounds} rounds, {SessionMachine.walks} walks, {SessionMachine.steps} steps, {resident_kb()} KB")
        assert resident_kb() - before < GROWTH_KB, "memory grew"
    finally:
        stop_server()


if __name__ == "__main__":
    fuzz(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0)
