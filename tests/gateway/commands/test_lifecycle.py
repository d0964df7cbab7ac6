"""The life of a command: every state × input cell, and the laws that follow from the table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from command_parts import T0, command

from gateway.commands.lifecycle import TRANSITIONS, Input, advance
from gateway.commands.records import FINAL_STATES, State

CELLS = [(state, happening) for state in State for happening in Input]


@pytest.mark.parametrize(("state", "happening"), CELLS)
def test_each_cell(state: State, happening: Input) -> None:
    before = command(state=state, events=3, attempts=1)
    following = TRANSITIONS.get((state, happening))
    if following is None:
        with pytest.raises(ValueError, match="can't"):
            advance(before, happening, T0)
        return
    change = advance(before, happening, T0 + 1, hop="nic", reason="why", position=2)
    assert change.event is not None
    assert (change.command.state, change.event.kind) == (following, following)
    assert (change.command.events, change.event.number) == (4, 4)
    assert change.command.attempts == (2 if happening is Input.SEND else 1)
    assert (change.event.at_s, change.event.hop, change.event.reason, change.event.position) == (
        T0 + 1,
        "nic",
        "why",
        2,
    )
    assert replace(change.command, state=state, events=3, attempts=1) == before


def test_nothing_leaves_a_final_state() -> None:
    assert not [cell for cell in TRANSITIONS if cell[0] in FINAL_STATES]


def test_what_has_not_ended_can_end_in_the_end() -> None:
    for state in set(State) - FINAL_STATES:
        reached = {state}
        while more := {after for (before, _), after in TRANSITIONS.items() if before in reached} - reached:
            reached |= more
        assert reached & FINAL_STATES, state


def test_a_command_is_cancelled_only_while_it_waits() -> None:
    assert {before for (before, happening) in TRANSITIONS if happening is Input.CANCEL} == {State.QUEUED}


def test_only_sending_leads_out_of_waiting_to_the_device() -> None:
    ways = {(before, happening) for (before, happening), after in TRANSITIONS.items() if after is State.SENT}
    assert ways == {(State.QUEUED, Input.SEND)}
