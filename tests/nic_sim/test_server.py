"""The NIC's own resources, and the translation of messages, without sockets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiocoap
import pytest

from meshwire.coap import codes, options
from meshwire.coap.message import CON, Message
from meshwire.identity import DeviceId
from nic_sim.instruments import Instruments
from nic_sim.observation import Observation, ObservationRow
from nic_sim.resources import Resource, ResourceError, board_links, build_resources
from nic_sim.server import answer_own, cut_block
from nic_sim.wire import for_board, for_network, read_request


class View:
    """A NIC that is only looked at."""

    device = DeviceId("001350050047dd92")
    instruments = Instruments("1", 1_700_000_000.0)

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.items = [Observation("snsr/arduino/temp", "sens", b"\1\2\3\4")]

    def unix_time(self) -> float:
        return 1_760_000_000.0

    def rows(self) -> list[ObservationRow]:
        return []

    def observations(self, path: str | None) -> list[Observation]:
        return [item for item in self.items if path in (None, item.path)]

    def renew(self, items: list[Observation]) -> None:
        self.calls.append(f"renew {len(items)}")

    def cancel(self, items: list[Observation]) -> None:
        self.calls.append(f"cancel {len(items)}")

    def reboot_seen(self) -> None:
        self.calls.append("reboot")

    def link_report(self) -> Mapping[str, object]:
        return {"state": "up"}

    def uplink_report(self) -> Mapping[str, object]:
        return {"queued": 0}

    def stats_report(self) -> Mapping[str, object]:
        return {"requests": 1}

    def metrics(self) -> str:
        return "# none\n"

    def frames(self, after: int, lease_s: float) -> bytes:
        return b"\x80"

    def unwatch(self) -> None:
        pass

    def coap_report(self) -> Mapping[str, object]:
        return {}


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
def table(view: View) -> dict[str, Resource]:
    return build_resources(view)


def request(path: str, code: int = codes.GET, *extra: tuple[int, bytes], query: str | None = None) -> Message:
    pairs = [(options.URI_PATH, part.encode()) for part in path.split("/") if part]
    pairs += [] if query is None else [(options.URI_QUERY, query.encode())]
    return Message(CON, code, 0).with_options((*pairs, *extra))


def test_every_resource_answers_get_in_its_format(table: dict[str, Resource]) -> None:
    for path, resource in table.items():
        if codes.GET not in resource.methods:
            continue
        block = 0
        while True:
            answer = answer_own(request(path, codes.GET, (options.BLOCK2, options.encode_uint(block << 4 | 6))), table)
            assert answer.code == codes.CONTENT
            assert answer.uint(options.CONTENT_FORMAT) == resource.content_format
            if not (answer.uint(options.BLOCK2) or 0) & 8:
                break
            block += 1


def test_uri_table_lists_what_there_is_and_the_sensor_uris(table: dict[str, Resource], view: View) -> None:
    text = b"".join(
        answer_own(request("", codes.GET, (options.BLOCK2, bytes([n << 4 | 6]))), table).payload for n in range(2)
    ).decode()
    for path in table:
        assert f"/{path} " in text
    assert "/snsr/…" in text


def test_links_name_the_sensors_as_observable(table: dict[str, Resource], view: View) -> None:
    links = answer_own(request(".well-known/core"), table).payload.decode()
    assert '</snsr/arduino/temp>;rt="temp";obs' in links
    assert "</sys/battery>" in links
    assert board_links(view) == b'</snsr>,</snsr/arduino/temp>;rt="temp";obs'


def test_date_time_and_instruments(table: dict[str, Resource]) -> None:
    assert answer_own(request("sys/date"), table).payload == b"2025-10-09"
    assert answer_own(request("sys/time"), table).payload == b"08:53:20Z"
    battery = json.loads(answer_own(request("sys/battery"), table).payload)
    assert 70 < battery["percent"] <= 100 and 2900 < battery["millivolts"] < 3700
    signal = json.loads(answer_own(request("sys/signal"), table).payload)
    assert -110 < signal["rssi_dbm"] < -40 and 0 <= signal["link_quality"] <= 255
    assert answer_own(request("sys/signal"), table) == answer_own(request("sys/signal"), table)


REFUSALS = [
    (request("nothing"), codes.NOT_FOUND),
    (request("sys"), codes.NOT_FOUND),
    (request("sys/date", codes.PUT), codes.METHOD_NOT_ALLOWED),
    (request("sys/date", codes.GET, (options.ACCEPT, b"\x32")), codes.NOT_ACCEPTABLE),
    (request("sys/date", codes.GET, (options.IF_MATCH, b"x")), codes.BAD_OPTION),
    (request("sys/date", codes.GET, (65001, b"x")), codes.BAD_OPTION),
    (request("sys/date", codes.GET, (options.BLOCK2, b"\x16")), codes.BAD_OPTION),
    (request("sys/date", codes.GET, (options.BLOCK2, b"\x07")), codes.BAD_REQUEST),
    (request("sys/observe", codes.DELETE), codes.BAD_REQUEST),
    (request("sys/observe", codes.DELETE, query="path=snsr/no"), codes.NOT_FOUND),
    (request("sys/snsr", codes.PUT), codes.BAD_REQUEST),
    (request("sys/snsr", codes.PUT, query="ev=other"), codes.BAD_REQUEST),
]


@pytest.mark.parametrize(("message", "code"), REFUSALS)
def test_refusals(message: Message, code: int, table: dict[str, Resource]) -> None:
    with pytest.raises(ResourceError) as caught:
        answer_own(message, table)
    assert caught.value.code == code and caught.value.diagnostic


def test_elective_options_are_ignored(table: dict[str, Resource]) -> None:
    assert answer_own(request("sys/date", codes.GET, (options.ENDPOINT_ID, b"x"), (65000, b"y")), table).code == 0x45


def test_what_may_be_done(table: dict[str, Resource], view: View) -> None:
    assert answer_own(request("sys/observe", codes.POST), table).code == codes.CHANGED
    assert (
        answer_own(request("sys/observe", codes.DELETE, query="path=/snsr/arduino/temp"), table).code == codes.DELETED
    )
    assert answer_own(request("sys/snsr", codes.PUT, query="ev=rbt"), table).code == codes.CHANGED
    assert view.calls == ["renew 1", "cancel 1", "reboot"]


@pytest.mark.parametrize("szx", range(7))
def test_blocks_make_the_whole(szx: int) -> None:
    payload = bytes(range(256)) * 9
    whole = Message(CON, codes.CONTENT, 0, b"", ((options.CONTENT_FORMAT, b""),), payload)
    parts, number = [], 0
    while True:
        block = cut_block(whole, number << 4 | szx)
        parts.append(block.payload)
        value = block.uint(options.BLOCK2) or 0
        assert (value >> 4, value & 7) == (number, szx)
        if not value & 8:
            break
        number += 1
    assert b"".join(parts) == payload


BOARD_PATHS = [
    ("snsr/arduino/temp", ("arduino", "temp")),
    ("snsr", ()),
    ("snsr/", ()),
    ("snsr/snsr/x", ("snsr", "x")),
    ("snsr/.well-known/core", (".well-known", "core")),
]


@pytest.mark.parametrize(("path", "on_board"), BOARD_PATHS)
def test_outward_path_to_board_path(path: str, on_board: tuple[str, ...]) -> None:
    pairs = tuple((options.URI_PATH, part.encode()) for part in path.split("/"))
    assert for_board(Message(CON, codes.GET, 0, b"", pairs)).path() == on_board


def test_all_but_hop_by_hop_options_pass_to_the_board_octet_for_octet() -> None:
    message: Any = aiocoap.Message(code=aiocoap.PUT, uri="coap://h/snsr/a/b?c=d&e", payload=b"\0\xff")
    message.opt.content_format = 60
    message.opt.block1 = (0, True, 3)
    message.opt.if_match = [b"tag"]
    message.opt.no_response = 2
    message.opt.accept = 40
    message.opt.proxy_scheme = "coap"
    forwarded = for_board(read_request(message))
    assert (forwarded.code, forwarded.payload) == (codes.PUT, b"\0\xff")
    assert forwarded.options == (
        (options.IF_MATCH, b"tag"),
        (options.URI_PATH, b"a"),
        (options.URI_PATH, b"b"),
        (options.CONTENT_FORMAT, b"\x3c"),
        (options.URI_QUERY, b"c=d"),
        (options.URI_QUERY, b"e"),
        (options.ACCEPT, b"\x28"),
        (options.BLOCK1, b"\x0b"),
    )


def test_all_options_pass_back_octet_for_octet() -> None:
    pairs = (
        (options.ETAG, b"\x01\x02"),
        (options.OBSERVE, b"\0\0\x05"),
        (options.CONTENT_FORMAT, b"\x3c"),
        (options.MAX_AGE, b"\0\0\0\x5a"),
        (options.BLOCK2, b"\x08"),
        (2049, b"private"),
    )
    response = Message(CON, 0x5F, 0, b"", pairs, b"body")
    message: Any = for_network(response, Message(CON, codes.GET, 0), 77)
    out = [(int(o.number), o.encode()) for o in message.opt.option_list()]
    assert out == [(n, b"\x4d" if n == options.OBSERVE else v) for n, v in pairs]
    assert (int(message.code), message.payload) == (0x5F, b"body")
    plain: Any = for_network(response, Message(CON, codes.GET, 0))
    assert options.OBSERVE not in [int(o.number) for o in plain.opt.option_list()]
