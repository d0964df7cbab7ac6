"""Octets towards a client: one write per connection and loop turn, and a bound for readers that are too slow."""

import asyncio
import weakref

from broker.output import FLUSH_AT_OCTETS, Output
from broker.settings import Limits
from broker.statistics import Statistics
from broker.turn import Turn


class Transport(asyncio.Transport):
    """Keeps what is written; `stuck` octets wait for the network."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.stuck = 0
        self.ending = ""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return bool(self.ending)

    def get_write_buffer_size(self) -> int:
        return self.stuck

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.ending = "closed"

    def abort(self) -> None:
        self.ending = "aborted"


def output_of(limits: Limits | None = None) -> tuple[Output, Transport, list[str]]:
    said: list[str] = []
    output = Output(
        Turn(asyncio.get_running_loop()),
        limits or Limits(),
        Statistics(),
        on_room=lambda: said.append("room"),
        on_overflow=lambda: said.append("overflow"),
        on_taken_over=lambda: said.append("taken over"),
        on_revoked=lambda: said.append("revoked"),
        on_kicked=lambda: said.append("kicked"),
    )
    transport = Transport()
    output.open(transport)
    return output, transport, said


async def test_one_write_per_loop_turn() -> None:
    output, transport, _ = output_of()
    for number in range(100):
        output.write(b"%d," % number)
    assert transport.writes == []
    await asyncio.sleep(0)
    assert transport.writes == [b"".join(b"%d," % number for number in range(100))]
    output.write(b"next")
    await asyncio.sleep(0)
    assert transport.writes[1:] == [b"next"]


async def test_much_in_one_turn_is_handed_over_early() -> None:
    output, transport, _ = output_of()
    output.write(b"x" * FLUSH_AT_OCTETS)
    assert transport.writes == []
    output.write(b"y")
    assert len(transport.writes) == 1
    await asyncio.sleep(0)
    assert len(transport.writes) == 1


async def test_a_backlog_beyond_the_bound_is_told() -> None:
    output, transport, said = output_of(Limits(max_backlog_octets=1_000))
    transport.stuck = 1_000
    output.pause(1.0)
    output.write(b"x")
    output.flush()
    assert (said, output.backlog_octets, output.full_since) == ([], 1_000, 1.0)
    transport.stuck = 1_001
    output.write(b"x")
    output.flush()
    assert said == ["overflow"]
    output.resume()
    assert (output.is_full, output.backlog_octets, output.full_since) == (False, 0, None)


async def test_closing_sends_what_was_collected_but_does_not_wait_for_a_stuck_peer() -> None:
    output, transport, _ = output_of()
    output.write(b"bye")
    output.close(abort=False)
    assert (transport.writes, transport.ending) == ([b"bye"], "closed")
    output, transport, _ = output_of()
    transport.stuck = 1
    output.close(abort=False)
    assert transport.ending == "aborted"
    output.write(b"too late")
    await asyncio.sleep(0)
    assert transport.writes == []


async def test_a_lost_connection_is_neither_written_to_nor_told() -> None:
    output, transport, said = output_of()
    held = weakref.ref(transport)
    output.lost()
    del transport
    assert held() is None
    output.write(b"too late")
    await asyncio.sleep(0)
    output.taken_over()
    output.revoked()
    output.kicked()
    output.close(abort=True)
    assert said == []
