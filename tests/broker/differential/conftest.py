"""Three brokers to say the same things to: ours, Debian's Mosquitto, and ejabberd's mod_mqtt, each on a free port; and
a World through which a script speaks and writes down what it observes.
"""

import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_port
from patience import PATIENCE_S

from meshwire.mqtt import (
    ConnAck,
    Connect,
    Disconnect,
    MqttError,
    Packet,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    TopicSubscription,
    UnsubAck,
    Will,
)

HERE = Path(__file__).parent
EJABBERD_BINARIES = "/usr/lib/*/ejabberd-*/ebin/mod_mqtt.beam"
START_S = PATIENCE_S
V5 = ProtocolVersion.V5


def _conformance() -> Any:
    """The client and the in-process broker of the conformance tests."""
    spec = importlib.util.spec_from_file_location("conformance_tools", HERE.parent / "conformance" / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOLS = _conformance()


class Engine:
    """A broker to compare.

    Args:
        settle_s: how long it may take until everyone has what was acknowledged.
        wait: lets so many seconds pass, as the engine sees it.
    """

    def __init__(
        self,
        name: str,
        port: int,
        user: str | None = None,
        password: bytes | None = None,
        settle_s: float = 0.0,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.port = port
        self.user = user
        self.password = password
        self.settle_s = settle_s
        self.wait = wait
        self.observations: dict[str, list[str]] = {}


@contextmanager
def _process(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | environment
    )
    try:
        _until_open(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_open(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    pytest.fail("the peer broker did not start")


@contextmanager
def _ours() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as folder:
        server = TOOLS.Server(Path(folder), TOOLS.Limits())
        server.start()
        yield Engine("ours", server.port, "admin", b"secret", wait=server.skip)
        server.stop()


@contextmanager
def _mosquitto(more: str = "", user: str | None = None, password: bytes | None = None) -> Iterator[Engine]:
    path = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if path is None:
        pytest.skip("mosquitto is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "mosquitto.conf")
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n{more}")
        with _process([path, "-c", str(config)], port, {}):
            yield Engine("mosquitto", port, user, password)


@pytest.fixture(scope="session")
def ours() -> Iterator[Engine]:
    with _ours() as engine:
        yield engine


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[Engine]:
    with _mosquitto() as engine:
        yield engine


@pytest.fixture
def fresh_worlds() -> "Iterator[tuple[World, World]]":
    """Ours and Mosquitto's, whose counters have seen nothing; names and logins are the same in both, to the octet."""
    with _ours() as ours, _mosquitto("sys_interval 1\n", ours.user, ours.password) as mosquitto:
        worlds = World(ours), World(mosquitto)
        for world in worlds:
            world.prefix = "w"
        yield worlds
        for world in worlds:
            world.end()


@pytest.fixture(scope="session")
def ejabberd() -> Iterator[Engine]:
    """Without Erlang's distribution, so that neither a cookie nor epmd is needed."""
    binaries = sorted(Path("/").glob(EJABBERD_BINARIES.lstrip("/")))
    if not binaries or shutil.which("erl") is None:
        pytest.skip("ejabberd is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "ejabberd.yml")
        config.write_text((HERE / "ejabberd.yml").read_text().replace("PORT", str(port)))
        command = ["erl", "+S", "1:1", "-noinput", "-mnesia", "dir", f'"{folder}/mnesia"']
        command += ["-pa", str(binaries[-1].parent), "-s", "ejabberd"]
        environment = {"EJABBERD_CONFIG_PATH": str(config), "EJABBERD_LOG_PATH": f"{folder}/log", "HOME": folder}
        with _process(command, port, environment):
            yield Engine("ejabberd", port, "tester@localhost", b"any", settle_s=0.03)


class Stopped(Exception):
    """An engine does not go on with a script; this too is an observation."""


class World:
    """What a script sees: clients of one engine, and a list of what was observed. Names are made the same everywhere;
    topics and client ids get a prefix of the script's own.
    """

    _numbers = itertools.count(1)

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seen: list[str] = []
        self.prefix = f"w{next(self._numbers)}"
        self._wires: list[Any] = []

    # --- speaking -----------------------------------------------------------------------------------------------------

    def dial(self, version: ProtocolVersion = V5) -> Any:
        wire = TOOLS.Wire(self.engine.port, version)
        self._wires.append(wire)
        return wire

    def hello(
        self,
        version: ProtocolVersion,
        client_id: str = "c",
        clean: bool = True,
        keep_alive: int = 0,
        will: Will | None = None,
        properties: Properties | None = None,
    ) -> Connect:
        """A CONNECT as this engine wants it."""
        name = f"{self.prefix}{client_id}" if client_id else ""
        user, password = self.engine.user, self.engine.password
        return Connect(name, version, clean, keep_alive, will, user, password, properties or Properties())

    def join(self, version: ProtocolVersion = V5, client_id: str = "c", **rest: Any) -> Any:
        """A connected client; its CONNACK is `wire.connack`."""
        wire = self.dial(version)
        answer = wire.ask(self.hello(version, client_id, **rest))
        if not isinstance(answer, ConnAck) or answer.reason_code:
            raise Stopped(f"not connected: {self.words(answer)}")
        wire.connack = answer
        return wire

    def topic(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def subscribe(
        self, wire: Any, *names: str, qos: int = 2, properties: Properties | None = None, **options: Any
    ) -> None:
        """Subscribes and writes down the codes."""
        filters = [name if name.startswith(("$", "#", "+")) else self.topic(name) for name in names]
        items = tuple(TopicSubscription(text, qos, **options) for text in filters)
        wire.send(Subscribe(next(wire._ids), items, properties or Properties()))
        self.note("suback", self._until(wire, SubAck))

    def publish(self, wire: Any, name: str, payload: bytes = b"x", qos: int = 1, **rest: Any) -> None:
        """One message with its whole handshake; nothing is written down."""
        packet_id = next(wire._ids) if qos else 0
        wire.send(Publish(self.topic(name), payload, qos, packet_id=packet_id, **rest))
        if qos == 1:
            self._until(wire, PubAck)
        elif qos == 2 and self._until(wire, PubRec).reason_code < 0x80:
            wire.send(PubRel(packet_id))
            self._until(wire, PubComp)
        elif qos == 0:
            wire.send(TOOLS.PingReq())
            self._until(wire, TOOLS.PingResp)

    def _until(self, wire: Any, kind: type) -> Any:
        """The next packet of a kind; others stay to be read."""
        aside: list[Packet] = []
        while not isinstance(packet := wire.next(), kind):
            if packet is None:
                raise Stopped(f"closed instead of {kind.__name__}")
            aside.append(packet)
        wire._ready = aside + wire._ready
        return packet

    # --- observing ----------------------------------------------------------------------------------------------------

    def note(self, what: str, *details: object) -> None:
        self.seen.append(" ".join([what, *(self.words(item) for item in details)]))

    def words(self, item: object) -> str:
        """A packet as a line that does not depend on identifiers, names or sizes an engine may choose."""
        match item:
            case ConnAck():
                return f"CONNACK {item.reason_code:#x} present={int(item.session_present)}"
            case Publish():
                topic = item.topic.removeprefix(f"{self.prefix}/")
                flags = ("retain " if item.retain else "") + ("dup " if item.dup else "")
                return f"PUBLISH {topic} {item.payload[:20]!r} qos{item.qos} {flags}".strip()
            case SubAck() | UnsubAck():
                return f"{type(item).__name__.upper()} {[hex(code) for code in item.reason_codes]}"
            case Disconnect() | PubAck() | PubRec() | PubRel() | PubComp():
                return f"{type(item).__name__.upper()} {item.reason_code:#x}"
            case None:
                return "closed"
            case TOOLS.PingResp():
                return "PINGRESP"
        return str(item)

    def settle(self, seconds: float = 0.0) -> None:
        """Lets the engine come to rest, or lets time pass."""
        if seconds:
            self.engine.wait(seconds)
        elif self.engine.settle_s:
            time.sleep(self.engine.settle_s)

    def drain(self, wire: Any) -> list[Packet]:
        """Everything that comes, acknowledged until nothing more does."""
        got: list[Packet] = []
        while True:
            self.settle()
            more = wire.fenced()
            for packet in more:
                self._acknowledge(wire, packet)
            got += more
            if not any(isinstance(packet, Publish) and packet.qos for packet in more):
                return got

    def received(self, wire: Any, what: str = "received", *, ordered: bool = True) -> list[Packet]:
        """The same, written down message by message."""
        got = self.drain(wire)
        lines = [self.words(packet) for packet in got] or ["nothing"]
        for line in lines if ordered else sorted(lines):
            self.note(what, line)
        return got

    @staticmethod
    def _acknowledge(wire: Any, packet: Packet) -> None:
        match packet:
            case Publish(qos=1):
                wire.send(PubAck(packet.packet_id))
            case Publish(qos=2):
                wire.send(PubRec(packet.packet_id))
                assert isinstance(wire.next(), PubRel)
                wire.send(PubComp(packet.packet_id))

    def outcome(self, wire: Any, what: str) -> None:
        """Whether the connection stands (with what came) or ended (with what was said)."""
        self.settle()
        try:
            wire.send(TOOLS.PingReq())
            said: list[str] = []
            while True:
                packet = wire.next()
                if isinstance(packet, TOOLS.PingResp):
                    self.note(what, *said, "stands")
                    return
                said.append(self.words(packet))
                if packet is None:
                    self.note(what, *said)
                    return
        except (OSError, MqttError) as error:
            self.note(what, "closed" if isinstance(error, ConnectionError) else type(error).__name__)

    def leave(self, wire: Any) -> None:
        """Breaks the connection off and lets the engine notice."""
        wire.leave()
        self.settle()

    def end(self) -> None:
        for wire in self._wires:
            wire.close()


@pytest.fixture
def observe() -> Callable[[Engine, Callable[[World], None]], list[str]]:
    """Runs a script against an engine, once in a session; what it saw."""

    def run(engine: Engine, script: Callable[[World], None]) -> list[str]:
        known = engine.observations.get(script.__name__)
        if known is not None:
            return known
        world = World(engine)
        try:
            script(world)
        except Stopped as why:
            world.note(str(why))
        finally:
            world.end()
        engine.observations[script.__name__] = world.seen
        return world.seen

    return run
