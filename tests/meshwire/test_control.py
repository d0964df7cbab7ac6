"""Changing a process while it runs: found by its user alone, refused in words, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import socket as sockets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from meshwire import control
from meshwire.control import ControlError, ControlSocket, Peer, ask, peers


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESHWIRE_RUN", str(tmp_path / "run"))
    return tmp_path / "run"


def open_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)


class Lamp:
    def __init__(self) -> None:
        self.lit = False

    def describe(self) -> dict[str, Any]:
        return {"lit": self.lit}

    async def carry_out(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if request["do"] != "switch":
            raise ValueError(f"can't {request['do']}")
        self.lit = not self.lit
        return self.describe()


async def open_lamp(lamp: Lamp) -> ControlSocket:
    socket = await ControlSocket.open("lamp", lamp.describe, lamp.carry_out)
    assert socket is not None
    return socket


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


async def test_a_change_is_made_and_what_is_refused_is_said(folder: Path) -> None:
    lamp = Lamp()
    socket = await open_lamp(lamp)
    other = await open_lamp(Lamp())
    for each in (socket, other):
        os.utime(each.path, (0, 0))  # as if both were made in one tick of the file system's clock
    found = await asyncio.to_thread(peers, "lamp")
    assert [peer.path for peer in found] == [socket.path, other.path]
    assert await asyncio.to_thread(ask, found[0], {"do": "switch"}) == {"lit": True}
    assert lamp.lit
    with pytest.raises(ControlError, match="can't explode") as caught:
        await asyncio.to_thread(ask, found[0], {"do": "explode"})
    assert (caught.value.code, caught.value.exit_code) == ("MW-CTL-002", 5)
    with pytest.raises(ControlError, match="do"):
        await asyncio.to_thread(ask, found[0], {})
    assert await asyncio.to_thread(peers, "else") == []
    socket.close()
    socket.close()
    other.close()
    assert names(folder.parent) == []
    with pytest.raises(ControlError, match="MW-CTL-003"):
        await asyncio.to_thread(ask, found[0], {"do": "switch"})


async def test_nonsense_and_silence_harm_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    socket = await open_lamp(Lamp())
    for octets in (b"\xff\xfe\n", b"[]\n", b"7\n", b"{" * 70_000, b""):
        monkeypatch.setattr(control, "_REQUEST_S", 60.0 if octets else 0.05)
        reader, writer = await asyncio.open_unix_connection(str(socket.path))
        writer.write(octets)
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        assert not answer or "error" in json.loads(answer)
        writer.close()
    monkeypatch.undo()
    assert await asyncio.to_thread(ask, Peer(socket.path, 0, {}), {"do": "switch"}) == {"lit": True}
    socket.close()


def test_the_socket_of_a_dead_process_goes_away(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    left = folder / "lamp-999999-1.sock"
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(left))
    assert peers("lamp") == []
    assert not left.exists()


async def test_a_folder_that_others_may_enter_is_not_used(folder: Path) -> None:
    open_to_all(folder)
    lamp = Lamp()
    assert await ControlSocket.open("lamp", lamp.describe, lamp.carry_out) is None
    assert names(folder) == []
