"""One turn of the loop: sockets are read, then what they brought is worked off, then octets leave."""

import asyncio

from broker.turn import Turn


class Peer:
    """Answers whatever it is sent."""

    def __init__(self, name: str, turn: Turn, told: list[str]) -> None:
        self._name, self._turn, self._told = name, turn, told

    def work_off(self) -> None:
        self._told.append(f"{self._name} works")
        self._turn.add(self)

    def seal(self) -> None:
        raise AssertionError("nothing waits for a commit without a journal")

    release = seal

    def flush(self) -> None:
        self._told.append(f"{self._name} sends")


async def test_all_is_worked_off_together_and_then_all_is_sent() -> None:
    told: list[str] = []
    turn = Turn(asyncio.get_running_loop())
    one, other = Peer("one", turn, told), Peer("other", turn, told)
    for _ in range(2):
        told.clear()
        turn.heard(one)
        turn.heard(other)
        assert told == [], "the other sockets are read first"
        await asyncio.sleep(0)
        assert told == ["one works", "other works", "one sends", "other sends"]
        await asyncio.sleep(0)
        assert len(told) == 4, "each turn ends"
