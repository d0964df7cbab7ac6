"""`meshwire fault`: what the bad lines of this user's processes do, and changing it while they run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from hardware.errors import PortError, PortProblem
from hardware.fault_control import FAULT
from hardware.port_spec import FAULT_KEYS, change_plan
from meshwire.control import ControlError, Peer, ask, peers
from meshwire.pipe import FaultPlan

__all__ = ["fault_app"]

fault_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@fault_app.command()
def fault(
    port: Annotated[
        str | None, typer.Argument(help="the port behind fault+, or a part of it, a process number, or `all`")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=f"KEY is {', '.join(sorted(FAULT_KEYS))}")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="a good line from now on")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="as bad as the port's name says")] = False,
    stall: Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="stand still once, now")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """List the lines opened as fault+PORT, or change one while it runs: meshwire fault ttyUSB0 ber=0.01 cut=in.

    KEY=VALUE pairs change what they name; --clear and --reset come before them. A process has to have the port open.
    """
    requests = _requests(changes or [], clear=clear, reset=reset, stall=stall)
    chosen = peers(FAULT) if port is None else _chosen(port)
    if port is None and not chosen:
        typer.echo("no bad lines: nothing of this user has a fault+PORT open", err=True)
    for peer in chosen:
        description = peer.description
        for request in requests:
            description = ask(peer, request)
        _show(peer, description, as_json)


def _requests(changes: Sequence[str], *, clear: bool, reset: bool, stall: float | None) -> list[dict[str, Any]]:
    """What to ask for, checked before anybody is asked."""
    requests: list[dict[str, Any]] = []
    if clear:
        requests.append({"do": "clear"})
    if reset:
        requests.append({"do": "reset"})
    if changes:
        faults = dict(_pair(text) for text in changes)
        try:
            change_plan(FaultPlan(), faults)
        except ValueError as error:
            raise _bad(str(error)) from None
        requests.append({"do": "set", "faults": faults})
    if stall is not None:
        requests.append({"do": "stall", "seconds": stall})
    return requests


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not value:
        raise _bad(f"{text!r} is not KEY=VALUE")
    return key, value


def _bad(evidence: str) -> PortError:
    return PortError(
        PortProblem.BAD_FAULTS,
        "the line can't be made so",
        evidence=evidence,
        fix="give shares between 0 and 1, times of 0 or above: meshwire fault PORT ber=0.001 delay_ms=20 cut=in",
    )


def _chosen(port: str) -> list[Peer]:
    """The line that is meant; more than one only for `all`."""
    found = peers(FAULT)
    wanted = port.removeprefix("fault+")
    matching = [peer for peer in found if port == "all" or wanted in (str(peer.pid), peer.description["port"])]
    matching = matching or [peer for peer in found if wanted in peer.description["port"]]
    if len(matching) == 1 or (matching and port == "all"):
        return matching
    open_now = ", ".join(f"{peer.description['port']} (pid {peer.pid})" for peer in found) or "none"
    raise ControlError(
        f"{len(matching) or 'no'} bad lines are called {port}",
        evidence=f"open as fault+PORT: {open_now}",
        fix="name one of them, or its process number"
        if found
        else "open the port as fault+PORT, such as meshwire nic --serial 'fault+/dev/…'",
    )


def _show(peer: Peer, description: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"pid": peer.pid, **description}, ensure_ascii=False))
        return
    faults = " ".join(f"{key}={value}" for key, value in description["faults"].items()) or "good"
    done = "; ".join(
        f"{direction} {counts['octets']} octets: {counts['damaged']} damaged, {counts['dropped']} lost, "
        f"{counts['doubled']} doubled, {counts['stalls']} stalls"
        for direction, counts in (("out", description["out"]), ("in", description["in"]))
    )
    typer.echo(f"{description['port']}\tpid {peer.pid}\t{faults}\t{done}")
