"""A NIC's and a gateway's context against each other: replays, restarts, challenges, and what changes on the way."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire.coap import CON, Message, codes, options
from meshwire.identity import DeviceId
from meshwire.oscore import (
    Challenge,
    KeyFileError,
    NicKey,
    OscoreContext,
    OscoreError,
    OscoreOption,
    Reason,
    RequestId,
    Response,
    SequenceNumbers,
    challenged,
)
from meshwire.oscore.context import LIMIT, ReplayWindow

MAC = DeviceId("001350050047dd92")
RESERVE = 100
KEY = NicKey(MAC, bytes(range(16)), bytes(8))


class Disk:
    """What survives a restart."""

    def __init__(self) -> None:
        self.reserved = 0

    def reserve(self, count: int) -> int:
        first, self.reserved = self.reserved, self.reserved + count
        return first


class Pair:
    """Both ends; either may restart."""

    def __init__(self) -> None:
        self.disks = {"nic": Disk(), "gateway": Disk()}
        self.restart("nic")
        self.restart("gateway")

    def restart(self, who: str) -> None:
        numbers = SequenceNumbers(self.disks[who].reserve, RESERVE)
        if who == "nic":
            self.nic = OscoreContext(KEY.for_nic(), numbers)
        else:
            self.gateway = OscoreContext(KEY.for_gateway(), numbers)

    def introduce(self) -> None:
        """The gateway has asked the NIC whether it is there now."""
        assert ask(self.nic, self.gateway)[0].code == codes.CHANGED


def bubble_up(payload: bytes = b"21.5") -> Message:
    pairs = ((options.URI_PATH, b"bubble-up"), (options.CONTENT_FORMAT, b"\x3c"), (options.URI_QUERY, b"o=1"))
    return Message(CON, codes.POST, 7, b"tk", pairs, payload)


def take(context: OscoreContext, protected: Message) -> tuple[Message, RequestId] | Challenge:
    return context.open_request(protected, OscoreOption.parse(protected.option(options.OSCORE) or b""))


def ask(client: OscoreContext, server: OscoreContext) -> tuple[Response, int]:
    """A request with its answer, after a challenge where there is one; and how many rounds it took."""
    echo = None
    for rounds in (1, 2):
        protected, sent = client.protect_request(bubble_up(), echo=echo)
        taken = take(server, protected)
        if isinstance(taken, Challenge):
            answer, _ = client.open_response(taken.answer, sent)
            echo = challenged(answer)
            assert echo is not None
            continue
        inner, received = taken
        assert inner == bubble_up()
        answer, _ = client.open_response(server.protect_response(Response(codes.CHANGED), received), sent)
        return answer, rounds
    raise AssertionError("challenged twice")


def test_the_first_request_after_a_start_is_challenged_and_no_other() -> None:
    pair = Pair()
    assert [ask(pair.nic, pair.gateway)[1] for _ in range(3)] == [2, 1, 1]
    assert [ask(pair.gateway, pair.nic)[1] for _ in range(3)] == [2, 1, 1], "the other direction has its own window"
    pair.restart("gateway")
    assert [ask(pair.nic, pair.gateway)[1] for _ in range(2)] == [2, 1]
    pair.restart("nic")
    assert ask(pair.nic, pair.gateway)[1] == 1, "its numbers go on, so nothing has to be asked"


def test_nothing_is_told_in_the_clear() -> None:
    protected, _ = Pair().nic.protect_request(bubble_up(b"the payload"))
    assert [number for number, _ in protected.options] == [options.OSCORE] and protected.code == codes.POST
    assert b"payload" not in protected.payload and b"bubble" not in protected.payload


def test_a_replayed_request_is_refused_also_after_a_restart_of_the_gateway() -> None:
    pair = Pair()
    pair.introduce()
    protected, _ = pair.nic.protect_request(bubble_up())
    assert not isinstance(take(pair.gateway, protected), Challenge)
    with pytest.raises(OscoreError) as raised:
        take(pair.gateway, protected)
    assert raised.value.reason is Reason.REPLAY
    pair.restart("gateway")
    assert isinstance(take(pair.gateway, protected), Challenge), "nothing of it is done"
    pair.introduce()
    with pytest.raises(OscoreError, match="replay"):
        take(pair.gateway, protected)


def test_the_answer_to_another_challenge_is_none() -> None:
    """An Echo value of before the restart does not open the window: it may be recorded."""
    pair = Pair()
    protected, sent = pair.nic.protect_request(bubble_up())
    challenge = take(pair.gateway, protected)
    assert isinstance(challenge, Challenge)
    echo = challenged(pair.nic.open_response(challenge.answer, sent)[0])
    recorded, _ = pair.nic.protect_request(bubble_up(), echo=echo)
    pair.restart("gateway")
    assert isinstance(take(pair.gateway, recorded), Challenge)


@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_changed_octet_is_a_wrong_key(position: int) -> None:
    pair = Pair()
    pair.introduce()
    protected, sent = pair.nic.protect_request(bubble_up())
    octets = bytearray(protected.payload)
    octets[position] ^= 1
    with pytest.raises(OscoreError) as raised:
        take(pair.gateway, replace(protected, payload=bytes(octets)))
    assert raised.value.reason is Reason.WRONG_KEY
    taken = take(pair.gateway, protected)
    assert not isinstance(taken, Challenge), "the failure has changed nothing"
    answer = pair.gateway.protect_response(Response(codes.CHANGED), taken[1])
    octets = bytearray(answer.payload)
    octets[position] ^= 1
    with pytest.raises(OscoreError):
        pair.nic.open_response(replace(answer, payload=bytes(octets)), sent)


def test_a_message_of_another_key_is_refused() -> None:
    stranger = OscoreContext(NicKey(MAC, bytes(16), bytes(8)).for_nic(), SequenceNumbers(Disk().reserve, RESERVE))
    protected, _ = stranger.protect_request(bubble_up())
    with pytest.raises(OscoreError, match="wrong-key"):
        take(Pair().gateway, protected)


def test_an_answer_is_of_its_request_and_of_no_other() -> None:
    pair = Pair()
    pair.introduce()
    first, first_sent = pair.nic.protect_request(bubble_up())
    _, second_sent = pair.nic.protect_request(bubble_up())
    taken = take(pair.gateway, first)
    assert not isinstance(taken, Challenge)
    answer = pair.gateway.protect_response(Response(codes.CHANGED), taken[1])
    assert pair.nic.open_response(answer, first_sent)[0].code == codes.CHANGED
    with pytest.raises(OscoreError, match="wrong-key"):
        pair.nic.open_response(answer, second_sent)
    with pytest.raises(OscoreError, match="unprotected"):
        pair.nic.open_response(Response(codes.CHANGED), first_sent)


def test_a_nonce_is_used_once() -> None:
    """The request's for the first answer; a second one, or a notification, has a number of its own."""
    pair = Pair()
    pair.introduce()
    protected, sent = pair.nic.protect_request(bubble_up())
    taken = take(pair.gateway, protected)
    assert not isinstance(taken, Challenge)
    answers = [pair.gateway.protect_response(Response(codes.CHANGED), taken[1]) for _ in range(3)]
    numbers = [pair.nic.open_response(answer, sent)[1] for answer in answers]
    assert numbers[0] is None and numbers[1] is not None and numbers[2] == numbers[1] + 1


def test_an_observation() -> None:
    pair = Pair()
    ask(pair.gateway, pair.nic)
    request = Message(CON, codes.GET, 1, b"ob", ((options.OBSERVE, b""), (options.URI_PATH, b"snsr")))
    protected, sent = pair.gateway.protect_request(request)
    assert (protected.code, protected.option(options.OBSERVE)) == (codes.FETCH, b"")
    taken = take(pair.nic, protected)
    assert not isinstance(taken, Challenge)
    assert taken[0] == request
    numbers = []
    for observe in (b"\x01", b"\x02"):
        notification = Response(codes.CONTENT, ((options.OBSERVE, observe),), b"on")
        outer = pair.nic.protect_response(notification, taken[1])
        assert (outer.code, outer.option(options.OBSERVE)) == (codes.CONTENT, observe)
        opened, number = pair.gateway.open_response(outer, sent)
        assert opened == notification
        numbers.append(number)
    assert numbers[0] is not None and numbers[1] == numbers[0] + 1
    # Somebody on the way takes the observation away: it is a plain GET then.
    protected, _ = pair.gateway.protect_request(request)
    taken = take(pair.nic, protected.without(options.OBSERVE))
    assert not isinstance(taken, Challenge) and taken[0].option(options.OBSERVE) is None


def test_outer_options_count_for_nothing() -> None:
    pair = Pair()
    pair.introduce()
    protected, _ = pair.nic.protect_request(bubble_up())
    taken = take(pair.gateway, protected.with_options([(options.URI_PATH, b"evil"), (options.MAX_AGE, b"\x05")]))
    assert not isinstance(taken, Challenge) and taken[0] == bubble_up()


def test_numbers_are_never_used_twice_however_often_it_restarts() -> None:
    disk, seen = Disk(), set()
    for _ in range(20):
        numbers = SequenceNumbers(disk.reserve, RESERVE)
        seen |= {numbers.take() for _ in range(7)}
    assert len(seen) == 140
    disk.reserved = LIMIT - RESERVE
    numbers = SequenceNumbers(disk.reserve, RESERVE)
    for _ in range(RESERVE):
        numbers.take()
    with pytest.raises(OscoreError, match="exhausted"):
        numbers.take()


def test_a_reserve_that_can_not_be_written_is_not_used() -> None:
    def full(count: int) -> int:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        SequenceNumbers(full, RESERVE).take()


@given(st.integers(0, 200), st.lists(st.integers(0, 300), max_size=80))
def test_the_window_takes_each_number_once(start: int, numbers: list[int]) -> None:
    window = ReplayWindow()
    window.open_at(start)
    taken: set[int] = set()
    newest = start
    for number in numbers:
        takes = window.takes(number)
        assert not (takes and (number in taken or number <= start))
        if number > start and number not in taken and number > newest - 32:
            assert takes
        if takes:
            window.note(number)
            taken.add(number)
            newest = max(newest, number)


def test_a_key_file_is_written_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "nic.json"
    made = NicKey.generate(MAC)
    made.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert NicKey.load(path) == made and made.fingerprint == NicKey.load(path).fingerprint
    assert made.secret.hex() not in repr(made)
    with pytest.raises(FileExistsError):
        NicKey.generate(MAC).save(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        NicKey.load(path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"mac": "x"}', KEY.to_json().replace('"01"', '"02"'), KEY.to_json().replace("0001", "01")],
)
def test_what_is_no_key_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "nic.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(KeyFileError):
        NicKey.load(path)
    with pytest.raises(KeyFileError):
        NicKey.load(tmp_path / "nothing")
