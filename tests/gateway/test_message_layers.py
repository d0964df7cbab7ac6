"""Both message layers by a made-up clock: repetition, giving up, taking turns, who may answer, who has gone."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.addresses import Address
from gateway.client_exchanges import CONFIRM_EVERY_S, ClientExchanges
from gateway.deadlines import Deadlines
from gateway.device_exchanges import MAX_WAITING, DeviceExchanges
from gateway.device_failure import DeviceBusy, DeviceFailure, DeviceRefused, DeviceSilent, DeviceUnreachable
from gateway.exchange import GiveUp, Reply, Response
from gateway.statistics import Event, Statistics
from meshwire.coap import ACK, CON, NON, RST, Message, codes, decode, encode, options

DEVICE, OTHER, CLIENT = Address("192.0.2.1", 4849), Address("192.0.2.2", 4849), Address("192.0.2.9", 6000)


class Clock:
    """Deadlines that come when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, call))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, call = heapq.heappop(self._heap)
            call()
        self.now = end


class Devices:
    def __init__(self, max_under_way: int = 2) -> None:
        self.clock = Clock()
        self.sent: list[Message] = []
        self.answers: list[Response] = []
        self.failures: list[DeviceFailure] = []
        self.broken: str | None = None
        self.layer = DeviceExchanges(
            self._send,
            now_s=lambda: self.clock.now,
            deadlines=cast(Deadlines, self.clock),
            max_under_way=max_under_way,
        )

    def _send(self, octets: bytes, to: Address) -> str | None:
        if self.broken is None:
            self.sent.append(decode(octets))
        return self.broken

    def get(self, *pairs: tuple[int, bytes], timeout_s: float = 30.0) -> GiveUp:
        request = Message(CON, codes.GET, 0, b"", pairs)
        return self.layer.start(request, DEVICE, self.answers.append, self.failures.append, timeout_s)

    def receive(
        self, mtype: int, code: int, mid: int, token: bytes = b"", source: Address = DEVICE, **more: Any
    ) -> None:
        self.layer.receive(encode(Message(mtype, code, mid, token, **more)), source)


def test_two_repetitions_then_silence() -> None:
    devices = Devices()
    devices.get()
    devices.clock.advance(3.0)
    assert len(devices.sent) == 2
    devices.clock.advance(6.0)
    assert len(devices.sent) == 3 and len(set(devices.sent)) == 1, "the same datagram"
    devices.clock.advance(12.0)
    assert [type(failure) for failure in devices.failures] == [DeviceSilent]
    devices.receive(ACK, codes.CONTENT, devices.sent[0].mid, devices.sent[0].token)
    assert devices.answers == []


def test_an_acknowledged_request_is_not_repeated_and_ends_with_its_time() -> None:
    devices = Devices()
    devices.get(timeout_s=20.0)
    devices.receive(ACK, codes.EMPTY, devices.sent[0].mid)
    devices.clock.advance(19.9)
    assert (len(devices.sent), devices.failures) == (1, [])
    devices.clock.advance(0.2)
    assert str(devices.failures[0]) == "20 s"


@pytest.mark.parametrize("source", [OTHER, Address(DEVICE.host, 1), Address("192.0.2.3", DEVICE.port)])
def test_only_the_device_itself_may_answer(source: Address) -> None:
    devices = Devices()
    devices.get()
    sent = devices.sent[0]
    devices.receive(ACK, codes.CONTENT, sent.mid, sent.token, source)
    devices.receive(CON, codes.CONTENT, 7, sent.token, source)
    devices.receive(ACK, codes.CONTENT, sent.mid, b"wrong")
    devices.receive(ACK, codes.CONTENT, sent.mid ^ 1, sent.token)
    assert devices.answers == []
    assert devices.sent[1] == Message(RST, codes.EMPTY, 7)
    devices.receive(ACK, codes.CONTENT, sent.mid, sent.token, payload=b"right")
    assert [answer.payload for answer in devices.answers] == [b"right"]


def test_a_separate_answer_is_acknowledged_as_often_as_it_comes() -> None:
    devices = Devices()
    devices.get()
    sent = devices.sent[0]
    for _ in range(3):
        devices.receive(CON, codes.CONTENT, 77, sent.token, payload=b"late")
    assert [answer.payload for answer in devices.answers] == [b"late"]
    assert devices.sent[1:] == [Message(ACK, codes.EMPTY, 77)] * 3


def test_requests_take_turns_and_too_many_are_refused() -> None:
    devices = Devices(max_under_way=2)
    for _ in range(2 + MAX_WAITING):
        devices.get()
    assert len(devices.sent) == 2
    with pytest.raises(DeviceBusy):
        devices.get()
    devices.receive(ACK, codes.EMPTY, devices.sent[0].mid)
    assert len(devices.sent) == 3
    devices.receive(RST, codes.EMPTY, devices.sent[1].mid)
    assert len(devices.sent) == 4 and isinstance(devices.failures[0], DeviceRefused)


def test_who_gave_up_takes_no_turn() -> None:
    devices = Devices(max_under_way=1)
    devices.get()
    devices.get()()
    devices.get()
    devices.receive(ACK, codes.CONTENT, devices.sent[0].mid, devices.sent[0].token)
    assert len(devices.sent) == 2
    devices.receive(ACK, codes.CONTENT, devices.sent[1].mid, devices.sent[1].token)
    assert len(devices.answers) == 2


def test_unreachable_devices() -> None:
    devices = Devices()
    devices.get()
    devices.layer.unreachable(OTHER, "No route to host")
    assert devices.failures == []
    devices.layer.unreachable(DEVICE, "No route to host")
    assert isinstance(devices.failures[0], DeviceUnreachable)
    devices.broken = "Network is unreachable"
    with pytest.raises(DeviceUnreachable, match="Network"):
        devices.get()


def test_an_observation_is_cancelled_at_the_device_with_its_token() -> None:
    devices = Devices()
    end = devices.get((options.OBSERVE, b""), (options.URI_PATH, b"temp"))
    sent = devices.sent[0]
    devices.receive(ACK, codes.CONTENT, sent.mid, sent.token, options=((options.OBSERVE, b"\x03"),))
    devices.clock.advance(3600.0)
    devices.receive(NON, codes.CONTENT, 5, sent.token, options=((options.OBSERVE, b"\x04"),))
    assert [answer.last for answer in devices.answers] == [False, False]
    end()
    assert (devices.sent[-1].token, devices.sent[-1].uint(options.OBSERVE)) == (sent.token, 1)
    devices.receive(ACK, codes.CONTENT, devices.sent[-1].mid, sent.token)
    devices.receive(NON, codes.CONTENT, 6, sent.token, options=((options.OBSERVE, b"\x05"),))
    assert devices.sent[-1] == Message(RST, codes.EMPTY, 6) and len(devices.answers) == 2


class Clients:
    def __init__(self) -> None:
        self.clock = Clock()
        self.sent: list[Message] = []
        self.replies: list[Reply] = []
        self.given_up = 0
        self.statistics = Statistics()
        self.layer = ClientExchanges(
            self._handle,
            lambda octets, to: self.sent.append(decode(octets)),
            self.statistics,
            now_s=lambda: self.clock.now,
            deadlines=cast(Deadlines, self.clock),
            empty_ack_s=1.5,
        )

    def _handle(self, request: Message, source: Address, reply: Reply) -> GiveUp:
        self.replies.append(reply)
        return self._give_up

    def _give_up(self) -> None:
        self.given_up += 1

    def receive(self, message: Message) -> None:
        self.layer.receive(encode(message), message, CLIENT)


GET = Message(CON, codes.GET, 0x1234, b"tk")


def notification(number: int, *, last: bool = False) -> Response:
    return Response(codes.CONTENT, b"%d" % number, ((options.OBSERVE, bytes((number,))),), last)


def test_an_empty_acknowledgement_after_1_5_s_and_four_repetitions_of_the_answer() -> None:
    clients = Clients()
    clients.receive(GET)
    clients.clock.advance(1.49)
    assert clients.sent == []
    clients.clock.advance(0.02)
    assert clients.sent == [Message(ACK, codes.EMPTY, 0x1234)]
    clients.replies[0](Response(codes.CONTENT, b"late"))
    clients.clock.advance(100.0)
    assert len(clients.sent) == 1 + 1 + 4 and len(set(clients.sent[1:])) == 1
    assert (clients.sent[1].mtype, clients.sent[1].token) == (CON, b"tk")


def test_a_repetition_is_answered_again_for_247_s() -> None:
    clients = Clients()
    clients.receive(GET)
    clients.receive(GET)
    assert (len(clients.replies), clients.sent) == (1, [])
    clients.replies[0](Response(codes.CONTENT, b"once"))
    clients.clock.advance(246.0)
    clients.receive(GET)
    assert (len(clients.replies), len(clients.sent), len(set(clients.sent))) == (1, 2, 1)
    assert clients.statistics.total(Event.DUPLICATE, "client") == 2
    clients.clock.advance(2.0)
    clients.receive(GET)
    assert len(clients.replies) == 2


def test_the_newest_notification_is_what_is_sent_next() -> None:
    clients = Clients()
    clients.receive(GET)
    for number in (3, 4, 5, 6):
        clients.replies[0](notification(number))
    assert [message.payload for message in clients.sent] == [b"3", b"4"]
    clients.clock.advance(3.0)
    assert clients.sent[-1].payload == b"6" and clients.sent[-1].mid != clients.sent[1].mid
    clients.receive(Message(ACK, codes.EMPTY, clients.sent[-1].mid))
    clients.clock.advance(100.0)
    assert len(clients.sent) == 3 and clients.given_up == 0


def test_a_client_that_acknowledges_nothing_has_gone() -> None:
    clients = Clients()
    clients.receive(GET)
    clients.replies[0](notification(3))
    clients.replies[0](notification(4))
    clients.clock.advance(100.0)
    assert clients.given_up == 1
    sent = len(clients.sent)
    clients.replies[0](notification(5))
    assert len(clients.sent) == sent


def test_a_client_without_confirmation_confirms_now_and_then() -> None:
    clients = Clients()
    clients.receive(Message(NON, codes.GET, 0x1234, b"tk"))
    clients.replies[0](notification(3))
    clients.replies[0](notification(4))
    clients.clock.advance(CONFIRM_EVERY_S)
    clients.replies[0](notification(5))
    assert [message.mtype for message in clients.sent] == [NON, NON, CON]
    clients.receive(Message(ACK, codes.EMPTY, clients.sent[-1].mid))
    clients.replies[0](notification(6))
    assert clients.sent[-1].mtype == NON


def test_message_ids_of_our_own_never_repeat_those_of_the_clients_requests() -> None:
    clients = Clients()
    clients.receive(Message(NON, codes.GET, 0, b"ob"))
    clients.replies[0](notification(1))
    clients.replies[0](notification(2))
    following = (clients.sent[-1].mid + 1) & 0xFFFF
    clients.receive(Message(NON, codes.GET, following, b"x"))
    clients.replies[1](Response(codes.CONTENT))
    assert clients.sent[-1].mid == following
    clients.replies[0](notification(3))
    assert clients.sent[-1].mid == (following + 1) & 0xFFFF


@pytest.mark.parametrize(("code", "answer"), [(codes.CONTENT, RST), (codes.EMPTY, RST)])
def test_what_is_no_request_is_reset(code: int, answer: int) -> None:
    clients = Clients()
    clients.receive(Message(CON, code, 9, b"" if code == codes.EMPTY else b"t"))
    assert clients.sent == [Message(answer, codes.EMPTY, 9)] and clients.replies == []
