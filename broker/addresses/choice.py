"""Which of several competing receivers gets the next message. Pure.

With every receiver equally busy this is round robin; where loads differ, the least busy one has its turn first.
"""

from collections.abc import Sequence

__all__ = ["choose"]


def choose(loads: Sequence[int | None], turn: int) -> int | None:
    """The receiver to take.

    Args:
        loads: messages each receiver has not acknowledged; None: it takes nothing now (away, or no credit left).
        turn: counts messages handed out; ties go to the first one at or after it.

    Returns:
        Its index; None when nobody takes anything.
    """
    count = len(loads)
    best: int | None = None
    least: int | None = None
    for step in range(count):
        index = (turn + step) % count
        load = loads[index]
        if load is not None and (least is None or load < least):
            best, least = index, load
    return best
