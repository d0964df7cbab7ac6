"""The standard board over a memory pipe, asked by an aiocoap client on a primary station: RFC 7252, 7641, 7959."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import cbor2
import pytest
from aiocoap import CON, DELETE, GET, NON, POST, PUT, Message
from aiocoap.optiontypes import OpaqueOption
from aiocoap.resource import Resource, Site
from patience import PATIENCE_S

from meshwire.coap.message import Message as PlainMessage
from meshwire.coap.message import decode, encode
from meshwire.coap.options import OBSERVE, URI_PATH
from meshwire.coap_link import create_context
from meshwire.hdlc.events import DataReceived, Event
from meshwire.hdlc.primary import PrimaryStation
from meshwire.hdlc.profile import STANDARD
from meshwire.link import Link
from meshwire.pipe import Pipe, memory_pair
from sensor_sim.board import SensorBoard
from sensor_sim.spec import SensorSpec

EPOCH = 1_700_000_000.0
SENSORS = [SensorSpec("temp", "22.5", 0), SensorSpec("echo", None, 0), SensorSpec("lnic", "24.07", 0)]


class RebootSink(Resource):
    """The NIC's `/sys/snsr`."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: asyncio.Queue[Message] = asyncio.Queue()

    async def render_put(self, request: Message) -> Message:
        self.heard.put_nowait(request)
        return Message()


class Nic:
    """A client on the other end of the board's line."""

    def __init__(self, board: SensorBoard, link: Link, context: Any, reboots: RebootSink, station: Any) -> None:
        self.board, self.link, self.context, self.reboots, self.station = board, link, context, reboots, station

    async def ask(self, code: Any, target: str, **fields: Any) -> Any:
        message = Message(code=code, uri=f"coap://board{target}", **fields)
        return await asyncio.wait_for(self.context.request(message).response, PATIENCE_S)

    async def observe(self, target: str) -> tuple[Any, Any]:
        request = self.context.request(Message(code=GET, uri=f"coap://board{target}", observe=0))
        return request, await asyncio.wait_for(request.response, PATIENCE_S)


@asynccontextmanager
async def site(**settings: Any) -> AsyncIterator[Nic]:
    near, far = memory_pair()

    opened = asyncio.Event()

    async def board_end() -> Pipe:
        return near

    async def nic_end() -> Pipe:
        opened.set()
        return far

    specs = settings.pop("sensors", SENSORS)
    board = SensorBoard("standard", specs, board_end, wall_clock=lambda: EPOCH, name="nic", **settings)
    station = PrimaryStation(STANDARD)
    link = Link(nic_end, station, name="board")
    reboots = RebootSink()
    nic_site = Site()
    nic_site.add_resource(["sys", "snsr"], reboots)
    context = await create_context(link, nic_site)
    async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(board.run()), tasks.create_task(link.run())]
        await opened.wait()
        await asyncio.sleep(0)
        link.connect()
        try:
            yield Nic(board, link, context, reboots, station)
        finally:
            await context.shutdown()
            for task in running:
                task.cancel()


def value(answer: Any) -> Any:
    return cbor2.loads(answer.payload)[1]


@pytest.mark.parametrize("target", ["/arduino/temp", "/arduino/temp?sens"])
async def test_get(target: str) -> None:
    async with site() as nic:
        answer = await nic.ask(GET, target)
        assert (str(answer.code), answer.opt.content_format, answer.opt.max_age) == ("2.05 Content", 60, 60)
        assert value(answer) == "1700000000,72.50,F"


async def test_put_changes_the_reading() -> None:
    async with site() as nic:
        assert (await nic.ask(PUT, "/arduino/temp?cfg=C")).code.dotted == "2.04"
        assert value(await nic.ask(GET, "/arduino/temp")) == "1700000000,22.50,C"
        assert value(await nic.ask(GET, "/arduino/temp?cfg")) == "1700000000,C"


async def test_an_etag_is_validated() -> None:
    async with site() as nic:
        etag = (await nic.ask(GET, "/arduino/temp")).opt.etag
        answer = await nic.ask(GET, "/arduino/temp", etags=[etag])
        assert (answer.code.dotted, answer.payload, answer.opt.etag) == ("2.03", b"", etag)
        assert answer.opt.content_format is None
        assert (await nic.ask(GET, "/arduino/temp", etags=[b"other"])).code.dotted == "2.05"


async def test_link_format() -> None:
    async with site() as nic:
        answer = await nic.ask(GET, "/.well-known/core")
        assert answer.opt.content_format == 40
        assert b'</arduino/temp>;rt="temp";if="sensor";ct="60";obs' in answer.payload
        assert b"</sys/time>" in answer.payload
        only = await nic.ask(GET, "/.well-known/core?rt=echo")
        assert only.payload.startswith(b"</arduino/echo>") and b"temp" not in only.payload


ERRORS = [
    (GET, "/nothing", {}, "4.04"),
    (GET, "/arduino", {}, "4.04"),
    (GET, "/arduino/temp?other", {}, "4.00"),
    (PUT, "/arduino/temp", {}, "4.00"),
    (PUT, "/arduino/temp?cfg=K", {}, "4.00"),
    (POST, "/arduino/temp", {}, "4.05"),
    (DELETE, "/arduino/temp", {}, "4.05"),
    (GET, "/arduino/temp", {"accept": 0}, "4.06"),
    (GET, "/arduino/temp", {"if_none_match": True}, "4.02"),
    (GET, "/arduino/echo?cfg", {}, "5.01"),
    (PUT, "/sys/time", {"payload": b"\x06"}, "4.00"),
    (PUT, "/sys/time", {"payload": bytes.fromhex("05080000000000000000")}, "4.00"),
]


async def test_errors() -> None:
    async with site() as nic:
        for code, target, fields, expected in ERRORS:
            assert (await nic.ask(code, target, **fields)).code.dotted == expected, (code, target)


async def test_critical_options() -> None:
    async with site() as nic:
        for number, expected in ((9999, "4.02"), (9998, "2.05"), (35, "5.05"), (39, "5.05")):
            message = Message(code=GET, uri="coap://board/arduino/temp")
            message.opt.add_option(OpaqueOption(number, b"coap"))
            answer = await asyncio.wait_for(nic.context.request(message).response, PATIENCE_S)
            assert answer.code.dotted == expected, number


async def test_time() -> None:
    async with site() as nic:
        now = (await nic.ask(GET, "/sys/time")).payload
        assert EPOCH <= struct.unpack(">I", now)[0] < EPOCH + 20, "right from the start"
        assert (await nic.ask(PUT, "/sys/time", payload=struct.pack(">BBII", 6, 8, 5_000, 0))).code.dotted == "2.04"
        assert 5_000 <= struct.unpack(">I", (await nic.ask(GET, "/sys/time")).payload)[0] < 5_020
        assert (await nic.ask(PUT, "/sys/time", payload=struct.pack(">BBiI", 7, 8, -1000, 0))).code.dotted == "2.04"
        assert 4_000 <= struct.unpack(">I", (await nic.ask(GET, "/sys/time")).payload)[0] < 4_020


async def test_the_log_is_longer_than_a_block() -> None:
    async with site() as nic:
        for number in range(40):
            await nic.ask(PUT, f"/arduino/echo?cfg={number}")
        answer = await nic.ask(GET, "/sys/log")
        assert answer.code.dotted == "2.05" and len(answer.payload) > 1024
        assert answer.opt.block2.block_number > 0
        assert len(answer.payload.splitlines()) == 40


@pytest.mark.parametrize(("confirmable", "mtype"), [(False, NON), (True, CON)])
async def test_observe(confirmable: bool, mtype: Any) -> None:
    async with site(confirmable=confirmable) as nic:
        request, first = await nic.observe("/arduino/echo?sens")
        assert (first.code.dotted, value(first)) == ("2.05", "Hello World: 1")
        notifications = aiter(request.observation)
        for number in (2, 3):
            assert nic.board.push("echo")
            notification = await asyncio.wait_for(anext(notifications), PATIENCE_S)
            assert notification.mtype is mtype
            assert value(notification) == f"Hello World: {number}"
            assert notification.opt.observe > first.opt.observe
            assert notification.opt.max_age == 60 and notification.opt.etag
        request.observation.cancel()


async def test_the_sequence_rises_over_registrations() -> None:
    async with site() as nic:
        numbers = []
        for _ in range(3):
            request, first = await nic.observe("/arduino/temp")
            numbers.append(first.opt.observe)
            request.observation.cancel()
        assert numbers == sorted(set(numbers))


async def test_a_new_setting_is_told_to_observers() -> None:
    async with site() as nic:
        request, _ = await nic.observe("/arduino/temp")
        await nic.ask(PUT, "/arduino/temp?cfg=C")
        notification = await asyncio.wait_for(anext(aiter(request.observation)), PATIENCE_S)
        assert value(notification).endswith(",22.50,C")
        request.observation.cancel()


class RawClient:
    """Sends and hears single messages on the link, beside aiocoap."""

    def __init__(self, nic: Nic) -> None:
        self.nic = nic
        self.heard: asyncio.Queue[PlainMessage] = asyncio.Queue()
        nic.link.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self.heard.put_nowait(decode(event.sdu))

    async def hear(self, token: bytes) -> PlainMessage:
        while True:
            message = await asyncio.wait_for(self.heard.get(), PATIENCE_S)
            if message.token == token:
                return message

    async def get(self, mid: int, token: bytes, observe: bytes) -> PlainMessage:
        options = ((OBSERVE, observe), (URI_PATH, b"arduino"), (URI_PATH, b"temp"))
        self.nic.link.send(encode(PlainMessage(0, 1, mid, token, options)))
        return await self.hear(token)


async def test_deregistration_by_observe_1_with_the_same_token() -> None:
    async with site() as nic:
        client = RawClient(nic)
        assert (await client.get(0x4000, b"\x77", b"")).uint(OBSERVE) is not None
        assert nic.board.observers() == 1
        assert (await client.get(0x4001, b"\x77", b"\x01")).uint(OBSERVE) is None
        assert nic.board.observers() == 0


@pytest.mark.parametrize("confirmable", [False, True], ids=["NON", "CON"])
async def test_a_reset_of_a_notification_ends_the_observation(confirmable: bool) -> None:
    async with site(confirmable=confirmable) as nic:
        client = RawClient(nic)
        await client.get(0x4000, b"\x77", b"")
        assert nic.board.push("temp")
        notification = await client.hear(b"\x77")
        nic.link.send(encode(PlainMessage(3, 0, notification.mid)))
        for _ in range(5):
            await nic.ask(GET, "/")  # each answer gives the board's tasks a turn
        assert nic.board.observers() == 0


async def test_the_reboot_message_comes_once_as_non() -> None:
    async with site() as nic:
        request = await asyncio.wait_for(nic.reboots.heard.get(), PATIENCE_S)
        assert request.mtype is NON and request.opt.uri_query == ("ev=rbt",)
        await nic.ask(GET, "/")
        assert nic.reboots.heard.empty()


IMAGE = b"meshwire-board 2.1.0\n" + bytes(range(256)) * 100


async def test_a_new_firmware_comes_in_blocks_and_the_board_restarts_into_it() -> None:
    digest = hashlib.sha256(IMAGE).hexdigest()
    async with site() as nic:
        await asyncio.wait_for(nic.reboots.heard.get(), PATIENCE_S)
        await nic.observe("/arduino/temp")
        assert (await nic.ask(PUT, f"/sys/fw?sha256={digest}", payload=IMAGE)).code.dotted == "2.04"
        assert (await asyncio.wait_for(nic.reboots.heard.get(), PATIENCE_S)).opt.uri_query == ("ev=rbt",)
        assert json.loads((await nic.ask(GET, "/sys/fw")).payload) == {
            "version": "2.1.0",
            "sha256": digest,
            "octets": len(IMAGE),
        }
        assert (await nic.ask(GET, "/")).payload.endswith(b" 2.1.0")
        assert nic.board.observers() == 0, "a restart forgets them"
        assert (await nic.ask(PUT, f"/sys/fw?sha256={digest}", payload=IMAGE)).code.dotted == "2.04"
        await nic.observe("/arduino/temp")
        await asyncio.sleep(1.2)
        assert nic.board.observers() == 1, "what runs already is no reason to restart"


@pytest.mark.parametrize(
    ("image", "query"),
    [
        (IMAGE, ""),
        (IMAGE, "?sha256=00"),
        (IMAGE, "?sha256=" + "0" * 64),
        (b"another vendor's", "?sha256=" + hashlib.sha256(b"another vendor's").hexdigest()),
    ],
    ids=["no digest", "half a digest", "another digest", "another header"],
)
async def test_what_is_no_firmware_changes_nothing(image: bytes, query: str) -> None:
    async with site() as nic:
        assert (await nic.ask(PUT, f"/sys/fw{query}", payload=image)).code.dotted == "4.00"
        assert json.loads((await nic.ask(GET, "/sys/fw")).payload)["version"] == "1.0.0"


async def test_period() -> None:
    async with site(sensors=[SensorSpec("temp", "22.5", 0.05)]) as nic:
        request, first = await nic.observe("/arduino/temp")
        notifications = aiter(request.observation)
        for _ in range(3):
            notification = await asyncio.wait_for(anext(notifications), PATIENCE_S)
        assert notification.opt.observe > first.opt.observe
        assert notification.opt.max_age == 1
        request.observation.cancel()


async def test_a_lost_line_ends_the_observations_of_the_board() -> None:
    async with site() as nic:
        await nic.observe("/arduino/temp")
        assert nic.board.link is not None
        nic.board.link.station.pipe_lost(asyncio.get_running_loop().time())
        nic.board.link.poll()
        nic.board.link._hand_out_events()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert nic.board.observers() == 0
        assert not nic.board.push("temp")
