"""The publishing session without a socket: identifiers, verdicts, what is sent again and how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt_session import PublishSession, Verdict
from meshwire.mqtt import (
    NO_PROPERTIES,
    Disconnect,
    PacketStream,
    PingResp,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Side,
    encode,
    publish_parts,
)

V5 = ProtocolVersion.V5


def opened(final: tuple[int, ...] = (0x87,)) -> PublishSession:
    session = PublishSession(final)
    session.begin(V5, session_present=False)
    return session


def publish(session: PublishSession, *handles: int, qos: int = 1, first_id: int = 1) -> None:
    for packet_id, handle in enumerate(handles, first_id):
        assert session.publish(handle, packet_id, *parts(handle, qos))


def parts(handle: int, qos: int = 1) -> tuple[bytes, bytes]:
    return publish_parts("t", b"%d" % handle, qos, False, NO_PROPERTIES, V5)


def written(session: PublishSession) -> list[object]:
    stream = PacketStream(Side.SERVER, V5)
    stream.feed(session.data_to_send())
    return list(stream.packets())


def answers(*packets: PubAck | PubRec | PubComp | Disconnect) -> bytes:
    return b"".join(encode(packet, V5) for packet in packets)


def test_a_batch_is_one_piece() -> None:
    session = opened()
    publish(session, 7, 8, 9)
    packets = written(session)
    assert [(p.packet_id, p.payload, p.dup) for p in packets if isinstance(p, Publish)] == [
        (1, b"7", False),
        (2, b"8", False),
        (3, b"9", False),
    ]
    assert session.underway == 3 and session.exposed == [7, 8, 9] and session.data_to_send() == b""


def test_identifiers_under_way_are_not_used_again() -> None:
    session = opened()
    publish(session, 1)
    session.data_to_send()
    assert not session.publish(2, 1, *parts(2)) and session.data_to_send() == b""
    session.receive(answers(PubAck(1)))
    assert session.publish(2, 1, *parts(2))


@pytest.mark.parametrize("cut", range(1, 13))
def test_verdicts_in_any_pieces(cut: int) -> None:
    session = opened()
    publish(session, 5, 6, 7)
    octets = answers(PubAck(1), PubAck(2, 0x10), PubAck(3, 0x87))
    verdicts = session.receive(octets[:cut]) + session.receive(octets[cut:])
    assert verdicts == [Verdict(5, 0), Verdict(6, 0x10), Verdict(7, 0x87)]
    assert session.underway == 0 and session.receive(answers(PubAck(1))) == []


def test_qos_2_ends_with_pubcomp_or_a_refusal() -> None:
    session = opened()
    publish(session, 1, 2, 3, qos=2)
    session.data_to_send()
    assert session.receive(answers(PubRec(1), PubRec(2, 0x87), PubRec(3))) == [Verdict(2, 0x87)]
    assert written(session) == [] and session.held == {1: 1, 3: 3}
    session.release([1, 3])
    assert written(session) == [PubRel(1), PubRel(3)] and not session.held
    assert session.receive(answers(PubComp(1), PubComp(3, 0x92))) == [Verdict(1, 0), Verdict(3, 0)]


def test_on_a_kept_session_dup_and_pubrel_in_order() -> None:
    session = opened()
    publish(session, 1, 2, 3, qos=2)
    session.data_to_send()
    session.receive(answers(PubRec(2)))
    session.release([2])
    session.begin(V5, session_present=True)
    assert session.underway == 0
    while session.waits_to_resend:
        session.resend()
    first, second, third = written(session)
    assert isinstance(first, Publish) and (first.packet_id, first.dup, first.payload) == (1, True, b"1")
    assert second == PubRel(2)
    assert isinstance(third, Publish) and (third.packet_id, third.dup) == (3, True)


def test_on_a_lost_session_everything_is_published_anew() -> None:
    session = opened()
    publish(session, 1, 2, qos=2)
    session.receive(answers(PubRec(1)))
    session.begin(V5, session_present=False)
    session.resend()
    assert (session.underway, session.exposed) == (1, [1])
    session.resend()
    assert [(p.payload, p.dup) for p in written(session) if isinstance(p, Publish)] == [(b"1", False), (b"2", False)]


def test_a_message_that_was_not_taken_is_sent_anew_without_dup() -> None:
    session = opened()
    publish(session, 1)
    session.data_to_send()
    assert session.receive(answers(PubAck(1, 0x97))) == [Verdict(1, 0x97)]
    session.begin(V5, session_present=True)
    session.resend()
    (packet,) = written(session)
    assert isinstance(packet, Publish) and not packet.dup


def test_verdicts_in_front_of_the_end_are_told() -> None:
    session = opened()
    publish(session, 1, 2)
    assert session.receive(answers(PubAck(1), Disconnect(0x95))) == [Verdict(1, 0)]
    assert session.ended is not None and session.ended.code == 0x95
    assert session.exposed == [2]
    session.begin(V5, session_present=False)
    session.receive(b"\x00\x00")
    assert session.ended is not None and session.ended.code is None


def test_what_is_held_stays_held_on_a_kept_session() -> None:
    session = opened()
    publish(session, 1, qos=2)
    session.receive(answers(PubRec(1)))
    session.data_to_send()
    session.begin(V5, session_present=True)
    session.resend()
    assert written(session) == [] and session.held == {1: 1}
    session.receive(answers(PubRec(1)))
    assert written(session) == []
    session.release([1])
    session.receive(answers(PubRec(1)))
    assert written(session) == [PubRel(1), PubRel(1)]


def test_a_new_process_goes_on_where_the_last_one_was() -> None:
    session = PublishSession()
    session.begin(V5, session_present=True)
    assert session.take_up(1, 5, *parts(1, 2)) and not session.take_up(1, 5, *parts(1, 2))
    assert session.publish(2, 6, *parts(2, 2), again=True)
    released, again = written(session)
    assert released == PubRel(5)
    assert isinstance(again, Publish) and (again.packet_id, again.dup) == (6, True)
    assert session.receive(answers(PubComp(5, 0x92))) == [Verdict(1, 0)]
    assert session.is_settled(1) and not session.is_settled(2)
    session.receive(answers(PubRec(6)))
    assert session.is_settled(2)


def run_packets(first: int, count: int) -> tuple[list[bytes], bytes]:
    """Packets with their handles as identifiers, and the acknowledgements expected."""
    ids = [handle.to_bytes(2, "big") for handle in range(first, first + count)]
    packets = [ids[n] + tail for n, (_, tail) in enumerate(map(parts, range(first, first + count)))]
    packets = [parts(first + n)[0] + packet for n, packet in enumerate(packets)]
    return packets, b"".join(b"\x40\x02" + number for number in ids)


def each(verdicts: list[Verdict]) -> list[tuple[int, int]]:
    return [(handle, code) for first, code, span in verdicts for handle in range(first, first + span)]


def test_a_run_is_settled_as_one() -> None:
    session = opened()
    packets, acknowledgements = run_packets(1, 5)
    session.publish_run(1, packets, acknowledgements)
    assert session.data_to_send() == b"".join(packets) and (session.underway, session.oldest) == (5, 1)
    assert session.receive(acknowledgements[:8]) == [Verdict(1, 0, 2)]
    assert (session.underway, session.oldest) == (3, 3)
    assert session.receive(acknowledgements[8:]) == [Verdict(3, 0, 3)]
    assert (session.underway, session.oldest) == (0, None)


STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 4)),
    st.tuples(st.just("one"), st.just(0)),
    st.tuples(st.just("acknowledge"), st.integers(1, 6)),
    st.tuples(st.just("refuse"), st.sampled_from([0x10, 0x87, 0x97])),
    st.tuples(st.just("swap"), st.just(0)),
    st.tuples(st.just("cut"), st.integers(1, 7)),
    st.tuples(st.just("ping"), st.just(0)),
    st.tuples(st.just("begin"), st.integers(0, 1)),
)


@given(st.lists(STEPS, max_size=25))
def test_runs_behave_as_single_messages_do(steps: list[tuple[str, int]]) -> None:
    single, in_runs = opened(), opened()
    next_handle, waiting, unread = 1, list[int](), b""
    for step, number in steps:
        octets = unread
        match step:
            case "publish" | "one":
                count = max(1, number)
                for handle in range(next_handle, next_handle + count):
                    assert single.publish(handle, handle, *parts(handle))
                    if step == "one":
                        assert in_runs.publish(handle, handle, *parts(handle))
                if step == "publish":
                    in_runs.publish_run(next_handle, *run_packets(next_handle, count))
                waiting += range(next_handle, next_handle + count)
                next_handle += count
            case "acknowledge":
                octets += answers(*map(PubAck, waiting[:number]))
                del waiting[:number]
            case "refuse" if waiting:
                octets += answers(PubAck(waiting.pop(0), number))
            case "swap" if len(waiting) > 1:
                octets += answers(PubAck(waiting.pop(1)), PubAck(waiting.pop(0)))
            case "cut" if waiting:
                octets += answers(PubAck(waiting.pop(0)), *map(PubAck, waiting[:1]))
                del waiting[:1]
                octets, unread = octets[:number], octets[number:]
            case "ping":
                octets += encode(PingResp(), V5)
            case "begin":
                unread = octets = b""
                for session in (single, in_runs):
                    session.begin(V5, session_present=bool(number))
                    while session.waits_to_resend:
                        session.resend()
                waiting = sorted(single.exposed)
        if step != "cut":
            unread = b""
        assert each(single.receive(octets)) == each(in_runs.receive(octets))
        assert single.data_to_send() == in_runs.data_to_send()
        assert (single.underway, single.oldest, single.exposed) == (in_runs.underway, in_runs.oldest, in_runs.exposed)
