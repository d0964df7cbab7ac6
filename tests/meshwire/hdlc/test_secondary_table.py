"""The secondary's table, cell by cell: ``tests/vectors/hdlc_secondary_cells.toml`` against the station."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from meshwire.hdlc.profile import STANDARD
from meshwire.hdlc.secondary import _PERFORM, SecondaryStation
from meshwire.hdlc.secondary_table import TRANSITIONS, Action, Input, State

CELLS = tomllib.loads((Path(__file__).parents[2] / "vectors" / "hdlc_secondary_cells.toml").read_text())

FRAMES = {
    Input.SNRM: "SNRM P",
    Input.DISC: "DISC P",
    Input.I: "I 0,0 hi",
    Input.I_POLL: "I 0,0 P hi",
    Input.S: "RR 0",
    Input.S_POLL: "RR 0 P",
    Input.UI: "UI hi",
    Input.UI_POLL: "UI P hi",
    Input.INVALID: "SABM",
    Input.INVALID_POLL: "SABM P",
}


def bring_to(state: State, text: ModuleType) -> Any:
    """A station in ``state``; in NORMAL an SDU (handle 1) was sent and is not acknowledged."""
    station = SecondaryStation(STANDARD)
    desk = text.Desk(station)
    if state is not State.DISCONNECTED:
        desk.hear("SNRM P")
    if state is State.NORMAL:
        station.send(b"sdu", desk.now)
        desk.hear("RR 0 P")
    if state is State.REJECTING:
        desk.hear("REJ 0")
    desk.look()
    desk.told()
    assert station.state is state
    return desk


def observe(state: State, what: Input, text: ModuleType) -> str:
    """Bring about one cell; return ``STATE | sent | told``."""
    desk = bring_to(state, text)
    station = desk.station
    if what is Input.SEND:
        station.send(b"more", desk.now)
    elif what is Input.PIPE_LOST:
        station.pipe_lost(desk.now)
    elif what is Input.EXPIRED:
        station._step(what, None, desk.now)
    else:
        desk.hear(FRAMES[what])
    sent, told = "; ".join(desk.look()), "; ".join(desk.told())
    return f"{station.state.name} | {sent} | {told}".rstrip()


WALKED = [(state, what) for state in State for what in Input]


@pytest.mark.parametrize(("state", "what"), WALKED, ids=lambda item: item.name)
def test_cell(state: State, what: Input, text: ModuleType) -> None:
    assert observe(state, what, text) == CELLS[state.name][what.name]


def test_every_state_and_input_has_a_cell() -> None:
    assert {(state, what) for state, row in TRANSITIONS.items() for what in row} == set(WALKED)
    assert {(state, what) for state, row in CELLS.items() for what in row} == {(s.name, i.name) for s, i in WALKED}


def test_every_action_is_performed_and_used() -> None:
    assert set(_PERFORM) == set(Action)
    assert {action for row in TRANSITIONS.values() for _, action in row.values()} == set(Action)


def test_it_never_speaks_unasked(text: ModuleType) -> None:
    """Law 1."""
    asked = (Input.SNRM, Input.DISC, Input.I_POLL, Input.S_POLL, Input.UI_POLL, Input.INVALID_POLL)
    for state, what in WALKED:
        sent = observe(state, what, text).split("|")[1].strip()
        assert bool(sent) == (what in asked), (state, what)


def test_only_snrm_makes_a_link(text: ModuleType) -> None:
    """Law 2."""
    up = {what for state, what in WALKED if observe(state, what, text).endswith("up")}
    assert up == {Input.SNRM}
