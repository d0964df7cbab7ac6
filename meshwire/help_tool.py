"""`meshwire help CODE`: what a stable error code means, off-line.

Each package that raises coded errors keeps a table `CATALOGUE` from code to meaning; this file only knows where
those tables are.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Final

import typer

from meshwire.errors import ExitCode

__all__ = ["CATALOGUES", "app", "catalogue"]

app = typer.Typer(add_completion=False, help="Explain an error code such as MW-SER-012.")

CATALOGUES: Final = (
    "meshwire.errors",
    "meshwire.config",
    "meshwire.control",
    "sensor_sim.errors",
    "nic_sim.errors",
    "hardware.errors",
    "hardware.shell.errors",
    "hardware.learn.cli",
    "meshwire.capture.errors",
    "hardware.conform.errors",
    "gateway.errors",
    "gateway.broker_tls.errors",
    "gateway.commands.errors",
    "gateway.messages.errors",
    "gateway.messaging.errors",
    "gateway.operations.errors",
    "gateway.tools.errors",
    "gateway.aliases.errors",
    "gateway.lab",
    "bench.against",
    "broker.errors",
    "broker.authority.errors",
    "broker.adapters.errors",
    "broker.attack.errors",
)


def catalogue() -> dict[str, str]:
    """All codes and their meanings."""
    merged: dict[str, str] = {}
    for module in CATALOGUES:
        merged.update(importlib.import_module(module).CATALOGUE)
    return dict(sorted(merged.items()))


@app.callback(invoke_without_command=True)
def explain(
    code: Annotated[str, typer.Argument(help="the code in brackets at the end of a message, or `all`")],
) -> None:
    """Print what a code means; exit code 1 when there is no such code."""
    known = catalogue()
    chosen = known if code == "all" else {code.upper(): known.get(code.upper(), "")}
    for name, meaning in chosen.items():
        if not meaning:
            typer.echo(f"{name} is no code of this release; `meshwire help all` lists them.", err=True)
            raise typer.Exit(ExitCode.FAILURE)
        typer.echo(f"{name}  {meaning}")
