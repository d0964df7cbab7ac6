"""One broker for each module, in a thread with a loop whose clock can be moved; and a client that writes and reads
packets with plain blocking sockets, so that a test reads as the exchange it is.

Absence is proved by order: what is answered to a PINGREQ came after everything sent before it, so no test waits for
nothing to happen.
"""

import asyncio
import itertools
import logging
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from argon2 import PasswordHasher
from patience import PATIENCE_S

from broker.credentials import UsersFile
from broker.server import Broker
from broker.settings import BrokerSettings, Limits, ListenerSettings
from meshwire.mqtt import (
    ConnAck,
    Connect,
    Packet,
    PacketStream,
    PingReq,
    PingResp,
    Properties,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Side,
    SubAck,
    Subscribe,
    TopicSubscription,
    UnsubAck,
    Unsubscribe,
    Will,
    encode,
)
from meshwire.site import Site

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
V5 = ProtocolVersion.V5
_numbers = itertools.count(1)


class MovableLoop(asyncio.SelectorEventLoop):
    """A loop that believes in any time it is told."""

    skipped_s = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_s


class Server:
    """A broker in its own thread. ADMIN is user `admin`; `reader` may read `ssni/read/#` and publish nothing."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.loop = MovableLoop()
        site = Site(folder)
        site.signing_keys()
        users = UsersFile(site.path("broker", "users.json"), CHEAP)
        users.add("admin", "secret", roles=("ADMIN",))
        users.add("reader", "secret", roles=("BUBBLE_UP_READ_CONSUMER",))
        settings = BrokerSettings(listener=(ListenerSettings(port=0),), limits=limits)
        self.broker = Broker(settings, site=site, hasher=CHEAP)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self._task = self.loop.create_task(self.broker.run())
        try:
            self.loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.broker.ready.wait(), self.loop).result(PATIENCE_S)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    @property
    def port(self) -> int:
        return self.broker.ports[0]

    def skip(self, seconds: float) -> None:
        """Moves the broker's clock and lets everything happen that is due then."""

        async def turn() -> None:
            self.loop.skipped_s += seconds
            for _turn in range(6):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(turn(), self.loop).result(PATIENCE_S)

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that the broker does by itself."""

        async def wait() -> None:
            while not condition():  # noqa: ASYNC110  (a condition of the broker, which sets no event)
                await asyncio.sleep(0.001)

        asyncio.run_coroutine_threadsafe(asyncio.wait_for(wait(), PATIENCE_S), self.loop).result(2 * PATIENCE_S)

    def noticed_leaving(self, client_id: str) -> None:
        """Waits until the client's connection is gone."""

        def is_away() -> bool:
            return all(
                session.outlet is None
                for key, session in self.broker.engine.sessions.items()
                if key.client_id == client_id
            )

        self.until(is_away)


class Wire:
    """One connection: sends packets or octets, gives packets. A test that waits in vain fails after PATIENCE_S."""

    def __init__(self, port: int, version: ProtocolVersion) -> None:
        self.version = version
        self.client_id = ""
        self.connack: ConnAck | None = None
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = PacketStream(Side.CLIENT, version)
        self._ready: list[Packet] = []
        self._ids = itertools.count(1)
        self.octets_read = b""

    def octets(self, data: bytes | str) -> None:
        """Sends octets, given as such or in hex."""
        self._socket.sendall(bytes.fromhex(data) if isinstance(data, str) else data)

    def send(self, *packets: Packet) -> None:
        self.octets(b"".join(encode(packet, self.version) for packet in packets))

    def next(self) -> Packet | None:
        """The next packet; None when the broker closed."""
        while not self._ready:
            try:
                data = self._socket.recv(65_536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self.octets_read += data
            self._stream.feed(data)
            self._ready.extend(self._stream.packets())
        return self._ready.pop(0)

    def ask(self, packet: Packet) -> Packet | None:
        self.send(packet)
        return self.next()

    def fenced(self) -> list[Packet]:
        """Everything the broker sent up to now."""
        self.send(PingReq())
        found: list[Packet] = []
        while (packet := self.next()) != PingResp():
            assert packet is not None, f"closed after {found}"
            found.append(packet)
        return found

    def until_closed(self) -> list[Packet]:
        """Everything the broker still sends; it has to close."""
        found: list[Packet] = []
        while (packet := self.next()) is not None:
            found.append(packet)
        return found

    def is_refused(self) -> bool:
        """Whether the connection ends, with nothing but a DISCONNECT that names a failure in MQTT 5."""
        said = self.until_closed()
        if self.version is V5 and self.connack is not None:
            return [type(packet).__name__ for packet in said] == ["Disconnect"] and said[0].reason_code >= 0x80  # type: ignore[union-attr]
        return not said

    def close(self) -> None:
        """Leaves without DISCONNECT."""
        self._socket.close()

    def leave(self) -> None:
        """The same, and waits until the broker has noticed: it ends its side, too."""
        with suppress(ConnectionError):
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(65_536):
                pass
        self._socket.close()

    # --- whole exchanges ----------------------------------------------------------------------------------------------

    def subscribe(
        self, *filters: str, qos: int = 2, properties: Properties | None = None, **options: object
    ) -> tuple[int, ...]:
        """The reason codes of one SUBSCRIBE; retained messages stay to be read."""
        items = tuple(TopicSubscription(text, qos, **options) for text in filters)  # type: ignore[arg-type]
        packet_id = next(self._ids)
        answer = self.ask(Subscribe(packet_id, items, properties or Properties()))
        assert isinstance(answer, SubAck) and answer.packet_id == packet_id
        return answer.reason_codes

    def unsubscribe(self, *filters: str) -> UnsubAck:
        packet_id = next(self._ids)
        answer = self.ask(Unsubscribe(packet_id, filters))
        assert isinstance(answer, UnsubAck) and answer.packet_id == packet_id
        return answer

    def publish(
        self,
        topic: str,
        payload: bytes = b"x",
        qos: int = 1,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int:
        """One message with its whole handshake; returns the reason code of the first answer."""
        packet_id = next(self._ids) if qos else 0
        packet = Publish(topic, payload, qos, retain, False, packet_id, properties or Properties())
        if qos == 0:
            self.send(packet)
            assert self.fenced() == []
            return 0
        answer = self.ask(packet)
        assert isinstance(answer, (PubAck, PubRec)) and answer.packet_id == packet_id, answer
        if qos == 2 and answer.reason_code < 0x80:
            assert self.ask(PubRel(packet_id)) == PubComp(packet_id)
        return answer.reason_code

    def take(self) -> Publish:
        """The next message, acknowledged as its QoS asks."""
        packet = self.next()
        assert isinstance(packet, Publish), packet
        if packet.qos == 1:
            self.send(PubAck(packet.packet_id))
        elif packet.qos == 2:
            assert self.ask(PubRec(packet.packet_id)) == PubRel(packet.packet_id)
            self.send(PubComp(packet.packet_id))
        return packet

    def payloads(self) -> list[bytes]:
        """Payloads of everything published to us up to now; acknowledgements are sent."""
        found = []
        for packet in self.fenced():
            assert isinstance(packet, Publish), packet
            found.append(packet.payload)
            if packet.qos == 1:
                self.send(PubAck(packet.packet_id))
            elif packet.qos == 2:
                self.send(PubRec(packet.packet_id))
                assert self.next() == PubRel(packet.packet_id)
                self.send(PubComp(packet.packet_id))
        return found


def _module_limits(request: pytest.FixtureRequest) -> Limits:
    return getattr(request.module, "LIMITS", Limits())


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The module's broker; a module says other limits as LIMITS."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as folder:
        running = Server(Path(folder), _module_limits(request))
        running.start()
        yield running
        running.stop()
    structlog.reset_defaults()


@pytest.fixture
def dial(server: Server) -> Iterator[Callable[..., Wire]]:
    """Opens connections that have said nothing yet."""
    wires: list[Wire] = []

    def open_one(version: ProtocolVersion = V5) -> Wire:
        wires.append(Wire(server.port, version))
        return wires[-1]

    yield open_one
    for wire in wires:
        wire.close()


@pytest.fixture
def connect(dial: Callable[..., Wire]) -> Callable[..., Wire]:
    """Opens a connection and logs in as ADMIN; the client id is a new one unless given."""

    def join(
        version: ProtocolVersion = V5,
        client_id: str | None = None,
        *,
        clean: bool = True,
        keep_alive: int = 0,
        will: Will | None = None,
        user: str = "admin",
        expiry: int | None = None,
        properties: Properties | None = None,
    ) -> Wire:
        wire = dial(version)
        wire.client_id = f"client-{next(_numbers)}" if client_id is None else client_id
        if expiry is not None:
            properties = Properties(session_expiry_interval=expiry)
        answer = wire.ask(
            Connect(wire.client_id, version, clean, keep_alive, will, user, b"secret", properties or Properties())
        )
        assert isinstance(answer, ConnAck), answer
        wire.connack = answer
        return wire

    return join


@pytest.fixture
def keep(connect: Callable[..., Wire]) -> Callable[..., Wire]:
    """The same for a session that outlives its connection, in the words of each version."""

    def join(version: ProtocolVersion, client_id: str | None = None, *, clean: bool = False, **rest: object) -> Wire:
        if version is V5:
            rest.setdefault("expiry", 300)
            if rest.get("properties") is not None:
                rest.pop("expiry")
        return connect(version, client_id, clean=clean, **rest)

    return join


@pytest.fixture
def topic() -> str:
    """A topic of this test alone."""
    return f"test/{next(_numbers)}"
