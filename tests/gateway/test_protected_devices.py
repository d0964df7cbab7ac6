"""Requests to NICs under their keys, the message layer and the NIC being scripted: what is taken, and what is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from gateway.addresses import Address, of_nic
from gateway.device_failure import DeviceFailure, DeviceRefused, DeviceUnreachable
from gateway.errors import RegistryError
from gateway.exchange import Response
from gateway.nic_oscore.devices import ProtectedDevices
from meshwire.coap import CON, Message, codes, options
from meshwire.identity import DeviceId
from meshwire.oscore import Challenge, NicKey, OscoreContext, OscoreOption, RequestId, SequenceNumbers
from meshwire.oscore import Response as Plain

MAC = DeviceId("001350050047dc9a")
PLAIN = Address("fd00::1", 4849)
GET = Message(CON, codes.GET, 0, b"", ((options.URI_PATH, b"snsr"), (options.URI_QUERY, b"sens")))
OBSERVE = Message(CON, codes.GET, 0, b"", ((options.OBSERVE, b""), (options.URI_PATH, b"snsr")))


def numbers() -> SequenceNumbers:
    reserved = itertools.count(0, 100)
    return SequenceNumbers(lambda count: next(reserved), 100)


class Keys:
    """One context for every NIC."""

    def __init__(self, context: OscoreContext) -> None:
        self._context = context

    def context(self, mac: DeviceId) -> OscoreContext:
        return self._context


class Bench:
    """What leaves, and the NIC that opens it; stands where the message layer is."""

    def __init__(self, *, required: bool = False) -> None:
        key = NicKey.generate(MAC)
        self.nic = OscoreContext(key.for_nic(), numbers())
        self.sent: list[tuple[Message, Address]] = []
        self.on_answer: Callable[[Response], None] = lambda response: None
        self.farewell: Callable[[], Message] | None = None
        self.given_up = 0
        self.answers: list[Response] = []
        self.failures: list[DeviceFailure] = []
        keys: Any = Keys(OscoreContext(key.for_gateway(), numbers()))
        self.devices = ProtectedDevices(self, keys, required=required)

    def start(
        self,
        request: Message,
        address: Address,
        on_answer: Callable[[Response], None],
        on_end: Callable[[DeviceFailure], None],
        timeout_s: float,
        on_acknowledged: Callable[[], None] | None = None,
        farewell: Callable[[], Message] | None = None,
    ) -> Callable[[], None]:
        self.sent.append((request, address))
        self.on_answer, self.farewell = on_answer, farewell

        def give_up() -> None:
            self.given_up += 1

        return give_up

    def ask(self, request: Message, address: Address | None = None) -> Callable[[], None]:
        to = of_nic(MAC, PLAIN) if address is None else address
        return self.devices.start(request, to, self.answers.append, self.failures.append, 5.0)

    def open(self, which: int = -1) -> tuple[Message, RequestId] | Challenge:
        request, address = self.sent[which]
        assert address == PLAIN, "the message layer knows nothing of keys"
        return self.nic.open_request(request, OscoreOption.parse(request.option(options.OSCORE) or b""))

    def answer(self, response: Plain, *, last: bool = True) -> None:
        self.on_answer(Response(response.code, response.payload, response.options, last))

    def introduced(self) -> Bench:
        """The NIC has heard us before."""
        self.ask(GET)
        challenge = self.open()
        assert isinstance(challenge, Challenge)
        self.answer(challenge.answer)
        opened = self.open()
        assert not isinstance(opened, Challenge) and opened[0] == GET
        self.answer(self.nic.protect_response(Plain(codes.CONTENT, (), b"on"), opened[1]))
        return self


def test_a_challenge_is_answered_and_nobody_notices() -> None:
    bench = Bench().introduced()
    assert len(bench.sent) == 2 and not bench.failures
    assert [(each.code, each.payload, each.last) for each in bench.answers] == [(codes.CONTENT, b"on", True)]


def observing() -> tuple[Bench, RequestId]:
    bench = Bench().introduced()
    bench.answers.clear()
    bench.ask(OBSERVE)
    opened = bench.open()
    assert not isinstance(opened, Challenge)
    return bench, opened[1]


def test_notifications_come_in_order_and_none_twice() -> None:
    bench, request_id = observing()

    def notification(payload: bytes) -> Plain:
        return bench.nic.protect_response(Plain(codes.CONTENT, ((options.OBSERVE, b"\x07"),), payload), request_id)

    first, second, third = notification(b"1"), notification(b"2"), notification(b"3")
    for each in (first, third, second, first, third):
        bench.answer(each, last=False)
    assert [each.payload for each in bench.answers] == [b"1", b"3"]
    shown = [each.uint(options.OBSERVE) for each in bench.answers]
    assert shown == [0, 1], "numbered here: the NIC's own number is not protected"


def test_a_first_answer_without_a_number_of_its_own_is_taken_once() -> None:
    """As aiocoap gives it: under the request's nonce."""
    bench, request_id = observing()
    protection = bench.nic._protection
    first = protection.protect_response(Plain(codes.CONTENT, ((options.OBSERVE, b""),), b"1"), request_id, None)
    bench.answer(first, last=False)
    bench.answer(first, last=False)
    assert [each.payload for each in bench.answers] == [b"1"]


def test_a_notification_in_plain_ends_nothing() -> None:
    bench, request_id = observing()
    observe = ((options.OBSERVE, b"\x01"),)
    bench.answer(bench.nic.protect_response(Plain(codes.CONTENT, observe, b"1"), request_id), last=False)
    bench.answer(Plain(codes.CONTENT, observe, b"evil"), last=False)
    assert [each.payload for each in bench.answers] == [b"1"] and not bench.failures
    bench.answer(Plain(codes.NOT_FOUND), last=True)
    assert isinstance(bench.failures[0], DeviceRefused), "the message layer has ended it: it has to be made again"


@pytest.mark.parametrize("code", [codes.CONTENT, codes.UNAUTHORIZED])
def test_an_answer_in_plain_is_none(code: int) -> None:
    bench = Bench().introduced()
    bench.answers.clear()
    bench.ask(GET)
    bench.answer(Plain(code, (), b"words"))
    assert not bench.answers
    (failure,) = bench.failures
    assert isinstance(failure, DeviceRefused) and "oscore-unprotected" in str(failure) and "words" in str(failure)


def test_an_observation_is_cancelled_under_the_key() -> None:
    bench, _ = observing()
    assert bench.farewell is not None
    bench.sent.append((bench.farewell(), PLAIN))
    opened = bench.open()
    assert not isinstance(opened, Challenge)
    assert opened[0].code == codes.GET and opened[0].option(options.OBSERVE) == b"\x01"


def test_after_it_was_given_up_nothing_is_passed_on() -> None:
    bench = Bench().introduced()
    bench.answers.clear()
    end = bench.ask(GET)
    opened = bench.open()
    assert not isinstance(opened, Challenge)
    end()
    bench.answer(bench.nic.protect_response(Plain(codes.CONTENT), opened[1]))
    assert bench.given_up == 1 and not bench.answers


def test_plain_addresses_and_pings_are_left_alone_unless_protection_is_required() -> None:
    ping = Message(CON, codes.EMPTY, 0)
    bench = Bench()
    bench.ask(GET, PLAIN)
    bench.ask(ping)
    assert bench.sent == [(GET, PLAIN), (ping, PLAIN)]
    strict = Bench(required=True)
    strict.ask(ping, PLAIN)
    with pytest.raises(DeviceUnreachable, match="no OSCORE key"):
        strict.ask(GET, PLAIN)
    assert strict.sent == [(ping, PLAIN)]


def test_a_database_that_fails_is_a_device_that_can_not_be_reached() -> None:
    def fails(mac: DeviceId) -> None:
        raise RegistryError("the registry's database failed")

    bench = Bench()
    keys: Any = type("Keys", (), {"context": staticmethod(fails)})()
    with pytest.raises(DeviceUnreachable, match="database failed"):
        ProtectedDevices(bench, keys, required=True).start(
            GET, of_nic(MAC, PLAIN), bench.answers.append, bench.failures.append, 5.0
        )
