"""`meshwire ports`: the serial ports of this machine, under names that last, and who holds them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hardware.ports import PortInfo, list_ports, moving_name
from meshwire.config import ConfigError, load_config

__all__ = ["ports_app"]

ports_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@ports_app.command()
def ports(
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """List the serial ports. Use the stable name in configurations: /dev/ttyUSB0 may be another device tomorrow."""
    found = list_ports()
    configured = _configured_port()
    warning = None if configured is None else moving_name(configured, found)
    if warning is not None:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        for port in found:
            typer.echo(json.dumps(_record(port, configured, warning), ensure_ascii=False))
    elif not found:
        typer.echo("no serial ports here; `pty` and `sim://PROFILE` need none", err=True)
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        for port in found:
            typer.echo("\t".join((port.stable_name, port.device, port.description, port.hardware_id, _held_by(port))))


def _configured_port() -> str | None:
    """`[nic] serial` of the configuration file; a file that can't be read is said, and lists the ports all the same."""
    try:
        section = load_config(None).get("nic")
    except ConfigError as error:
        typer.echo(f"warning: {error}", err=True)
        return None
    serial = section.get("serial") if isinstance(section, Mapping) else None
    return serial if isinstance(serial, str) else None


def _record(port: PortInfo, configured: str | None, warning: str | None) -> dict[str, object]:
    record: dict[str, object] = {
        "port": port.stable_name,
        "device": port.device,
        "names": list(port.names),
        "description": port.description,
        "hardware_id": port.hardware_id,
        "holders": [{"pid": holder.pid, "command": holder.command} for holder in port.holders],
    }
    if warning is not None and configured == port.device:
        record["warning"] = warning
    return record


def _held_by(port: PortInfo) -> str:
    return ", ".join(str(holder) for holder in port.holders) or "free"


def _print_table(found: Sequence[PortInfo]) -> None:
    table = Table("port", "device", "description", "USB ids", "held by", box=None, pad_edge=False)
    for port in found:
        table.add_row(port.stable_name, port.device, port.description, port.hardware_id, _held_by(port))
    Console(no_color="NO_COLOR" in os.environ).print(table)
