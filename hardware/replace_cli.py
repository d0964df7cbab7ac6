"""`meshwire replace MAC=PORT`: another board, or a simulated one, on a NIC or in a demo that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import typer

from hardware.port_spec import parse_port
from meshwire.control import ControlError, Peer, ask, peers
from meshwire.errors import ExitCode
from meshwire.identity import DeviceId, IdentityError

__all__ = ["replace_app"]

replace_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_KINDS: Final = ("site", "nic")
_SIMULATED: Final = "sim"


@replace_app.command()
def replace(
    change: Annotated[
        str | None, typer.Argument(metavar="[MAC=PORT]", help="any PORT; in a demo also `sim`: its simulated board")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="the new board's kind: standard, milli-1.4.8, milli-1.4.5; default: as before")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Exchange the board of a NIC that runs, or list them. Subscribers notice only fresher data.

    Finds `meshwire nic` and `meshwire demo` processes of this user on this machine.
    """
    boards = list(_boards())
    if change is None:
        if not boards:
            typer.echo("no NIC of this user runs here", err=True)
        for _, board in boards:
            _show(board, as_json)
        return
    mac, port = _parse(change)
    peer = next((peer for peer, board in boards if board["mac"] == mac), None)
    if peer is None:
        raise ControlError(
            f"no NIC {mac} runs here",
            evidence=", ".join(board["mac"] for _, board in boards) or "no NIC of this user runs",
            fix="start it with `meshwire nic --mac …` or `meshwire demo`; `meshwire replace` lists what runs",
        )
    answer = ask(peer, {"do": "replace", "mac": mac, "port": port, "profile": profile})
    _show(next(board for board in answer["boards"] if board["mac"] == mac), as_json)


def _boards() -> Iterator[tuple[Peer, Mapping[str, Any]]]:
    for kind in _KINDS:
        for peer in peers(kind):
            for board in peer.description["boards"]:
                yield peer, board


def _parse(change: str) -> tuple[str, str]:
    mac, _, port = change.partition("=")
    try:
        device = DeviceId.parse(mac)
        if not port:
            raise IdentityError("no =PORT")
    except IdentityError as error:
        typer.echo(
            f"error: {change!r}: {error}; do: give MAC=PORT, such as 001350050047dd92=/dev/serial/by-id/…", err=True
        )
        raise typer.Exit(ExitCode.USAGE) from None
    if port != _SIMULATED:
        parse_port(port)
    return device.value, port


def _show(board: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(board, ensure_ascii=False))
    else:
        simulated = " (simulated)" if board["simulated"] else ""
        typer.echo(f"{board['mac']}\t{board['port']}{simulated}\t{board['profile']}\t{board['state']}")
