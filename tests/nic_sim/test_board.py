"""BoardClient on a link that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from meshwire.coap import codes
from meshwire.coap.message import ACK, CON, NON, RST, Message, decode, encode
from meshwire.coap.options import OBSERVE, URI_PATH, URI_QUERY
from meshwire.hdlc.events import DataReceived, DownReason, Event, LinkDown, LinkUp
from meshwire.hdlc.parameters import LinkParameters
from meshwire.link import LinkCounters, LinkState, LinkStatus
from nic_sim.board import MAX_WAITING_REQUESTS, BoardClient
from nic_sim.board_profile import BOARD_PROFILES, ProfileName
from nic_sim.errors import BoardBusy, LinkUnavailable, NoAnswer, OutcomeUnknown, RequestRefused, UnreadableAnswer

STANDARD = BOARD_PROFILES[ProfileName.STANDARD]
MILLI = BOARD_PROFILES[ProfileName.MILLI_1_4_8]
REBOOT = bytes.fromhex("5003ffffb373797304736e7372466576 3d726274".replace(" ", ""))

Reaction = Callable[[int, Message], list[Event]]


@dataclass
class FakeLink:
    """Answers each SDU with the next reaction of the script; the last one stays."""

    script: list[Reaction] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    polls: int = 0
    listeners: list[Callable[[Event], None]] = field(default_factory=list)

    def send(self, sdu: bytes) -> int:
        handle = len(self.sent)
        message = decode(sdu)
        self.sent.append(message)
        if self.script and codes.is_request(message.code):
            reaction = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            for event in reaction(handle, message):
                asyncio.get_running_loop().call_soon(self.tell, event)
        return handle

    def poll(self) -> None:
        self.polls += 1

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        self.listeners.append(callback)
        return lambda: self.listeners.remove(callback)

    def tell(self, event: Event) -> None:
        for listener in tuple(self.listeners):
            listener(event)

    @property
    def status(self) -> LinkStatus:
        return LinkStatus(LinkState.UP, 0.0, "", LinkCounters())


@dataclass
class Listener:
    told: list[str] = field(default_factory=list)
    notifications: list[Message] = field(default_factory=list)
    known: bool = True

    def board_reached(self) -> None:
        self.told.append("reached")

    def board_lost(self, reason: DownReason) -> None:
        self.told.append(f"lost {reason.value}")

    def board_rebooted(self) -> None:
        self.told.append("rebooted")

    def board_notified(self, message: Message) -> bool:
        self.notifications.append(message)
        return self.known


def get(path: str = "a/b", code: int = codes.GET, token: bytes = b"", observe: bytes | None = None) -> Message:
    options = [(OBSERVE, observe)] if observe is not None else []
    options += [(URI_PATH, part.encode()) for part in path.split("/")]
    return Message(CON, code, 0, token, tuple(options))


def answer(code: int = codes.CONTENT, mtype: int = ACK, **changes: Any) -> Reaction:
    def react(handle: int, request: Message) -> list[Event]:
        message = replace(Message(mtype, code, request.mid, request.token, (), b"hi"), **changes)
        return [DataReceived(encode(message))]

    return react


def down(reason: DownReason, what: str) -> Reaction:
    def react(handle: int, request: Message) -> list[Event]:
        return [LinkDown(reason, **{what: (handle,)})]

    return react


def silence(handle: int, request: Message) -> list[Event]:
    return []


def conversation(script: list[Reaction], profile: Any = STANDARD) -> tuple[FakeLink, BoardClient, Listener]:
    link = FakeLink(script)
    client = BoardClient(link, profile, seed=1)
    client.listener = Listener()
    return link, client, client.listener


async def ask(client: BoardClient, *messages: Message) -> list[Any]:
    """The answers or errors to some requests, one after the other."""
    serving = asyncio.create_task(client.run())
    results: list[Any] = []
    for message in messages:
        results += await asyncio.gather(client.request(message), return_exceptions=True)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    return results


@pytest.mark.parametrize(
    ("profile", "mtype"), [(STANDARD, ACK), (STANDARD, NON), (STANDARD, CON), (MILLI, ACK), (MILLI, NON)]
)
def test_answer_is_matched_by_token(run: Any, profile: Any, mtype: int) -> None:
    link, client, _ = conversation([answer(mtype=mtype)], profile)
    if mtype == CON:
        link.script = [answer(mtype=CON, mid=0x7777)]
    first, second = run(ask(client, get(), get()))
    assert (first.payload, second.payload) == (b"hi", b"hi")
    requests = [m for m in link.sent if codes.is_request(m.code)]
    assert requests[0].token != requests[1].token and requests[0].mid != requests[1].mid
    assert all(m.mtype == CON and len(m.token) == 2 for m in requests)
    assert [m.mtype for m in link.sent if m.code == 0] == ([ACK, ACK] if mtype == CON else [])


def test_separate_response_after_an_empty_acknowledgement(run: Any) -> None:
    def react(handle: int, request: Message) -> list[Event]:
        empty = DataReceived(encode(Message(ACK, 0, request.mid)))
        return [empty, *answer(mtype=CON, mid=0x1234)(handle, request)]

    link, client, _ = conversation([react])
    (result,) = run(ask(client, get(observe=b"", token=b"\1\2\3\4")))
    assert result.payload == b"hi"
    assert link.sent[-1] == Message(ACK, 0, 0x1234)


def test_answers_of_others_do_not_count(run: Any) -> None:
    def react(handle: int, request: Message) -> list[Event]:
        wrong = [
            Message(ACK, codes.CONTENT, request.mid, b"no", (), b"wrong"),
            Message(ACK, codes.CONTENT, request.mid ^ 1, request.token, (), b"wrong"),
            Message(NON, codes.CONTENT, 1, b"other", (), b"wrong"),
        ]
        return [*(DataReceived(encode(m)) for m in wrong), *answer()(handle, request)]

    _, client, listener = conversation([react], MILLI)
    (result,) = run(ask(client, get()))
    assert result.payload == b"hi"
    assert client.counters["notifications"] == 3 and len(listener.notifications) == 3


def test_notification_is_not_taken_for_the_answer_to_its_registration(run: Any) -> None:
    token = b"\1\2\3\4"

    def react(handle: int, request: Message) -> list[Event]:
        stray = Message(NON, codes.CONTENT, request.mid ^ 0x8000, token, ((OBSERVE, b"\5"),), b"old")
        return [DataReceived(encode(stray)), *answer(codes.VALID, payload=b"")(handle, request)]

    _, client, listener = conversation([react], MILLI)
    (result,) = run(ask(client, get(observe=b"", token=token)))
    assert result.code == codes.VALID
    assert [m.payload for m in listener.notifications] == [b"old"]


UNSENT_THEN_FINE = [
    (DownReason.PEER_RESET, codes.GET, 2),
    (DownReason.PEER_RESET, codes.PUT, 2),
    (DownReason.RELEASED, codes.POST, 2),
    (DownReason.FRAME_REJECTED, codes.DELETE, 2),
]


@pytest.mark.parametrize(("reason", "method", "sendings"), UNSENT_THEN_FINE)
def test_unsent_is_sent_again(run: Any, reason: DownReason, method: int, sendings: int) -> None:
    link, client, _ = conversation([down(reason, "unsent"), answer()])
    (result,) = run(ask(client, get(code=method)))
    assert isinstance(result, Message) and len(link.sent) == sendings
    assert link.sent[0].mid != link.sent[1].mid


ENDINGS = [
    (down(DownReason.PEER_RESET, "unsent"), codes.PUT, LinkUnavailable, 3),
    (down(DownReason.NO_ANSWER, "unsent"), codes.GET, LinkUnavailable, 1),
    (down(DownReason.PIPE_LOST, "unsent"), codes.PUT, LinkUnavailable, 1),
    (down(DownReason.NO_ANSWER, "uncertain"), codes.GET, NoAnswer, 2),
    (down(DownReason.NO_ANSWER, "uncertain"), codes.FETCH, NoAnswer, 2),
    (down(DownReason.NO_ANSWER, "uncertain"), codes.PUT, OutcomeUnknown, 1),
    (down(DownReason.PIPE_LOST, "uncertain"), codes.POST, OutcomeUnknown, 1),
    (down(DownReason.PEER_RESET, "uncertain"), codes.DELETE, OutcomeUnknown, 1),
    (silence, codes.GET, NoAnswer, 2),
    (silence, codes.PUT, OutcomeUnknown, 1),
    (lambda h, r: [DataReceived(b"\x60\x45\x00\x01\xff")], codes.GET, NoAnswer, 2),
    (lambda h, r: [DataReceived(b"\x80")], codes.GET, UnreadableAnswer, 1),
    (lambda h, r: [DataReceived(encode(Message(RST, 0, r.mid)))], codes.GET, UnreadableAnswer, 1),
    (lambda h, r: [DataReceived(encode(Message(RST, 0, r.mid ^ 1)))], codes.GET, NoAnswer, 2),
]


@pytest.mark.parametrize(("reaction", "method", "error", "sendings"), ENDINGS)
def test_no_answer(run: Any, reaction: Reaction, method: int, error: type[Exception], sendings: int) -> None:
    link, client, _ = conversation([reaction])
    (result,) = run(ask(client, get(code=method)))
    assert type(result) is error
    assert len(link.sent) == sendings


def test_milli_acknowledgement_without_a_response_is_unreadable(run: Any) -> None:
    """Some requests to the real firmware end in a bare `60 00 mid` (dialect B.3)."""
    _, client, _ = conversation([lambda h, r: [DataReceived(encode(Message(ACK, 0, r.mid)))]], MILLI)
    (result,) = run(ask(client, get("arduino")))
    assert type(result) is UnreadableAnswer


def test_refused_requests_never_reach_the_link(run: Any) -> None:
    link, client, _ = conversation([answer()], MILLI)
    (result,) = run(ask(client, get("sys/stats")))
    assert type(result) is RequestRefused and link.sent == []


def test_one_in_flight_and_the_rest_waits(run: Any) -> None:
    async def scenario() -> None:
        link, client, _ = conversation([silence])
        serving = asyncio.create_task(client.run())
        waiting = [asyncio.create_task(client.request(get(code=codes.PUT))) for _ in range(MAX_WAITING_REQUESTS)]
        await asyncio.sleep(0.01)
        assert len(link.sent) == 1
        with pytest.raises(BoardBusy):
            await client.request(get())
        link.script = [answer()]
        own = asyncio.create_task(client.request(get("own"), own=True))
        results = await asyncio.gather(*waiting, own, return_exceptions=True)
        assert type(results[0]) is OutcomeUnknown
        assert all(isinstance(result, Message) for result in results[1:])
        assert link.sent[1].path() == ("own",)  # the NIC's own business goes first
        serving.cancel()

    run(scenario())


def test_requester_that_went_away_is_not_served(run: Any) -> None:
    async def scenario() -> None:
        link, client, _ = conversation([silence])
        serving = asyncio.create_task(client.run())
        first = asyncio.create_task(client.request(get()))
        second = asyncio.create_task(client.request(get("gone")))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert {message.path() for message in link.sent} == {("a", "b")}
        serving.cancel()

    run(scenario())


def test_reboot_message_is_answered_on_standard_boards_only(run: Any) -> None:
    async def scenario(profile: Any, answers: list[Message]) -> None:
        link, client, listener = conversation([], profile)
        link.tell(DataReceived(REBOOT))
        assert listener.told == ["rebooted"]
        assert link.sent == answers
        assert client.counters["reboot-messages"] == 1

    run(scenario(MILLI, []))
    run(scenario(STANDARD, [Message(NON, codes.CHANGED, 0xFFFF)]))


NOTIFICATION = Message(NON, codes.CONTENT, 77, b"\1\2\3\4", ((OBSERVE, b"\7"),), b"x")


@pytest.mark.parametrize(
    ("profile", "known", "mtype", "sent"),
    [
        (STANDARD, True, NON, []),
        (STANDARD, True, CON, [Message(ACK, 0, 77)]),
        (STANDARD, False, NON, [Message(RST, 0, 77)]),
        (STANDARD, False, CON, [Message(RST, 0, 77)]),
        (MILLI, True, NON, []),
        (MILLI, False, NON, []),
        (MILLI, True, CON, []),
    ],
)
def test_what_a_notification_is_answered_with(
    run: Any, profile: Any, known: bool, mtype: int, sent: list[Message]
) -> None:
    async def scenario() -> None:
        link, _, listener = conversation([], profile)
        listener.known = known
        link.tell(DataReceived(encode(replace(NOTIFICATION, mtype=mtype))))
        assert len(listener.notifications) == 1
        assert link.sent == sent

    run(scenario())


def test_other_requests_of_the_board_and_pings(run: Any) -> None:
    async def scenario() -> None:
        link, client, listener = conversation([])
        options = ((URI_PATH, b"x"), (URI_QUERY, b"ev=rbt"))
        link.tell(DataReceived(encode(Message(CON, codes.PUT, 5, b"t", options))))
        link.tell(DataReceived(encode(Message(CON, 0, 6))))
        link.tell(DataReceived(b""))
        link.tell(DataReceived(b"\x40"))
        assert link.sent == [Message(ACK, codes.NOT_FOUND, 5, b"t"), Message(RST, 0, 6)]
        assert listener.told == []
        assert client.counters["unreadable-short"] == 1

    run(scenario())


@pytest.mark.parametrize(
    ("profile", "event", "told"),
    [
        (STANDARD, LinkUp(LinkParameters(255, 255, 1, 1)), ["reached"]),
        (MILLI, LinkUp(LinkParameters(255, 255, 1, 1)), []),
        (MILLI, LinkDown(DownReason.RELEASED), ["reached"]),
        (STANDARD, LinkDown(DownReason.RELEASED), []),
        (MILLI, LinkDown(DownReason.SDU_TOO_LONG), ["reached"]),
        (MILLI, LinkDown(DownReason.PEER_RESET), ["lost peer_reset"]),
        (STANDARD, LinkDown(DownReason.PIPE_LOST), ["lost pipe_lost"]),
    ],
)
def test_what_the_listener_hears_of_the_link(run: Any, profile: Any, event: Event, told: list[str]) -> None:
    async def scenario() -> None:
        link, _, listener = conversation([], profile)
        link.tell(event)
        assert listener.told == told

    run(scenario())


@pytest.mark.parametrize(
    ("profile", "reason", "waits"),
    [
        (STANDARD, DownReason.PIPE_LOST, False),
        (STANDARD, DownReason.PEER_RESET, False),
        (MILLI, DownReason.PIPE_LOST, False),
        (MILLI, DownReason.RELEASED, True),
        (MILLI, DownReason.NO_ANSWER, True),
    ],
)
def test_a_request_that_was_delivered_does_not_wait_for_an_answer_that_cannot_come(
    run: Any, profile: Any, reason: DownReason, waits: bool
) -> None:
    """The link names only what it had not delivered."""

    async def scenario() -> float:
        link = FakeLink([lambda handle, request: [LinkDown(reason)]])
        client = BoardClient(link, profile, seed=1)
        task = asyncio.create_task(client.run())
        began = asyncio.get_running_loop().time()
        with pytest.raises(OutcomeUnknown):
            await client.request(get(code=codes.PUT))
        took_s = asyncio.get_running_loop().time() - began
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return took_s

    assert (run(scenario()) > 1.0) is waits


def test_requests_that_were_never_on_the_line_use_up_no_message_ids(run: Any) -> None:
    """A board takes a message ID that comes again within 247 s for a repetition."""
    lost = down(DownReason.PIPE_LOST, "unsent")
    link, client, _ = conversation([lost] * 50 + [answer()])
    results = run(ask(client, *[get() for _ in range(51)]))
    assert all(isinstance(result, LinkUnavailable) for result in results[:50])
    assert isinstance(results[50], Message)
    assert len({message.mid for message in link.sent}) == 1
