"""The publishing session without a socket: identifiers, verdicts, what is sent again and how."""

from __future__ import annotations

import pytest

from gateway.mqtt_session import PublishSession, Verdict
from meshwire.mqtt import (
    NO_PROPERTIES,
    Disconnect,
    PacketStream,
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
