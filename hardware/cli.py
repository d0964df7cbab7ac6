"""`meshwire ports`: the serial ports of this machine, under names that last, and who holds them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hardware.ports import PortInfo, list_ports

__all__ = ["ports_app"]

ports_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@ports_app.command()
def ports(
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """List the serial ports. Use the stable name in configurations: /dev/ttyUSB0 may be another device tomorrow."""
    found = list_ports()
    if as_json:
        for port in found:
            typer.echo(json.dumps(_record(port), ensure_ascii=False))
    elif not found:
        typer.echo("no serial ports here; `pty` and `sim://PROFILE` need none", err=True)
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        for port in found:
            typer.echo("\t".join((port.stable_name, port.device, port.description, _held_by(port))))


def _record(port: PortInfo) -> dict[str, object]:
    return {
        "port": port.stable_name,
        "device": port.device,
        "description": port.description,
        "hardware_id": port.hardware_id,
        "holders": [{"pid": holder.pid, "command": holder.command} for holder in port.holders],
    }


def _held_by(port: PortInfo) -> str:
    return ", ".join(str(holder) for holder in port.holders) or "free"


def _print_table(found: Sequence[PortInfo]) -> None:
    table = Table("port", "device", "description", "held by", box=None, pad_edge=False)
    for port in found:
        table.add_row(port.stable_name, port.device, port.description, _held_by(port))
    Console(no_color="NO_COLOR" in os.environ).print(table)
