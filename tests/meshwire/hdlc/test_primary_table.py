"""The primary's table, cell by cell.

``tests/vectors/hdlc_primary_cells.toml`` says for each state and input where the station is afterwards, what it put on
the line and what it told its owner; here each cell is brought about and compared. ``READY`` and ``DISCONNECTED`` of a
session per exchange are passed through, so their rows show the standing link's.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from meshwire.hdlc.primary import _PERFORM, PrimaryStation
from meshwire.hdlc.primary_table import TRANSITIONS, Action, Input, State
from meshwire.hdlc.profile import MILLI, STANDARD

CELLS = tomllib.loads((Path(__file__).parents[2] / "vectors" / "hdlc_primary_cells.toml").read_text())
STAND = replace(STANDARD, quiet_time_s=0.5, max_attempts=3, offer_parameters=False)
SESSION = replace(MILLI, max_attempts=3)

FRAMES = {
    Input.UA: "UA P +",
    Input.DM: "DM P",
    Input.FRMR: "FRMR P",
    Input.I: "I 0,0 hi",
    Input.I_FINAL: "I 0,0 P hi",
    Input.S: "RR 0",
    Input.S_FINAL: "RR 0 P",
    Input.BROKEN: "RR 5 P",
    Input.OTHER: "UI P",
}
"""The frame that is each input. No SDU of the station was acknowledged before, so that N(R) 5 is broken everywhere."""


def bring_to(state: State, text: ModuleType) -> Any:
    """A station in ``state`` by the shortest way there, what it said on the way forgotten."""
    session = state in (State.REQUESTING, State.FETCHING, State.FETCH_QUIET)
    station = PrimaryStation(SESSION if session else STAND)
    desk = text.Desk(station)
    if session:
        if state is State.REQUESTING:
            station.send(b"request", desk.now)
        else:
            station.poll(desk.now)
        desk.hear("UA P +")
    elif state is not State.DISCONNECTED:
        station.connect(desk.now)
    if state is State.FETCH_QUIET or state is State.CONNECT_QUIET:
        desk.wait()
    if state is State.RESTING:
        desk.hear("DM P")
    if state in (State.READY, State.AWAITING, State.ASK_QUIET, State.ASKING, State.SETTLING, State.RELEASING):
        desk.hear("UA P +", "RR 0 P")
    if state in (State.AWAITING, State.ASK_QUIET, State.ASKING, State.SETTLING):
        station.send(b"sdu", desk.now)
    if state in (State.ASK_QUIET, State.ASKING, State.SETTLING):
        desk.wait()
    if state in (State.ASKING, State.SETTLING):
        desk.wait()
    if state is State.SETTLING:
        desk.hear("RR 0 P")
    if state is State.RELEASING:
        station.disconnect(desk.now)
    desk.look()
    desk.told()
    assert station.state is state
    return desk


def observe(state: State, what: Input, text: ModuleType) -> str:
    """Bring about one cell; return ``STATE | sent | told``."""
    desk = bring_to(state, text)
    station = desk.station
    owner = {
        Input.CONNECT: lambda: station.connect(desk.now),
        Input.DISCONNECT: lambda: station.disconnect(desk.now),
        Input.SEND: lambda: station.send(b"more", desk.now),
        Input.POLL: lambda: station.poll(desk.now),
        Input.PIPE_LOST: lambda: station.pipe_lost(desk.now),
    }
    if what in owner:
        owner[what]()
    elif what in FRAMES:
        desk.hear(FRAMES[what])
    else:
        station._step(what, None, desk.now)
    sent, told = "; ".join(desk.look()), "; ".join(desk.told())
    return f"{station.state.name} | {sent} | {told}".rstrip()


OWN = (Input.OPEN, Input.PASS, Input.REQUEST, Input.OVERSIZE, Input.FETCH, Input.RELEASE)
"""The station's own inputs: they come up only where its decision leads to them, see below."""

WALKED = [(state, what) for state in State for what in Input if what not in OWN]


@pytest.mark.parametrize(("state", "what"), WALKED, ids=lambda item: item.name)
def test_cell(state: State, what: Input, text: ModuleType) -> None:
    assert observe(state, what, text) == CELLS[state.name][what.name]


def test_every_state_and_input_has_a_cell() -> None:
    assert {(state, what) for state, row in TRANSITIONS.items() for what in row} == {
        (s, i) for s in State for i in Input
    }
    assert {(state, what) for state, row in CELLS.items() for what in row} == {(s.name, i.name) for s, i in WALKED}


def test_every_action_is_performed_and_used() -> None:
    assert set(_PERFORM) == set(Action)
    assert {action for row in TRANSITIONS.values() for _, action in row.values()} == set(Action)


def test_the_stations_own_inputs() -> None:
    own = {(s, i): cell for s, row in TRANSITIONS.items() for i, cell in row.items() if i in OWN}
    moving = {key: cell for key, cell in own.items() if cell[1] is not Action.NOTHING}
    assert moving == {
        (State.DISCONNECTED, Input.OPEN): (State.CONNECTING, Action.SEND_SNRM),
        (State.READY, Input.PASS): (State.AWAITING, Action.PASS_TURN),
        (State.READY, Input.REQUEST): (State.REQUESTING, Action.SEND_REQUEST),
        (State.READY, Input.OVERSIZE): (State.RELEASING, Action.DROP_AND_SEND_DISC),
        (State.READY, Input.FETCH): (State.FETCHING, Action.FETCH),
        (State.READY, Input.RELEASE): (State.RELEASING, Action.SEND_DISC),
    }
    assert all(cell[0] is state for (state, what), cell in own.items() if (state, what) not in moving)


def test_only_ua_to_snrm_brings_a_link_up() -> None:
    """Law 2."""
    up = {(s, i) for s, row in TRANSITIONS.items() for i, cell in row.items() if cell[1] is Action.COME_UP}
    assert up == {(State.CONNECTING, Input.UA), (State.CONNECT_QUIET, Input.UA)}


def test_information_is_never_sent_because_time_has_passed() -> None:
    """Laws 3 and 4."""
    sends = {Action.PASS_TURN, Action.SEND_REQUEST}
    timed = {row[what][1] for row in TRANSITIONS.values() for what in (Input.EXPIRED, Input.EXHAUSTED)}
    assert not timed & sends
