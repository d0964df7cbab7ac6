"""`meshwire audit`: who changed what."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.tools.http_api import DEFAULT_HTTP, HttpOption, JsonOption, everything, quoted

__all__ = ["audit_app"]

audit_app = typer.Typer(add_completion=False, help="Who changed what, and who commanded what.")


@audit_app.callback(invoke_without_command=True)
def show(
    tenant: Annotated[str | None, typer.Option("--tenant", "-T", help="only what concerns this tenant")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="only of this MAC, client id, …")] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="only this action (device.move), or a noun's (device.)")
    ] = None,
    number: Annotated[int, typer.Option("-n", "--lines", min=1, help="the newest so many")] = 50,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """Print the newest lines of the audit log, the oldest of them first."""
    path = quoted("/api/audit", tenant=tenant, subject=subject, action=action, limit=min(number, 10_000))
    entries = [*itertools.islice(everything(http_url, path, "entries"), number)]
    for entry in reversed(entries):
        if as_json:
            typer.echo(json.dumps(entry))
            continue
        at = datetime.fromtimestamp(entry["at"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        detail = " ".join(f"{name}={json.dumps(value)}" for name, value in entry["detail"].items())
        line = f"{at}  {entry['by']}  {entry['action']}  {entry['subject']}  {entry['tenant'] or '-'}  {detail}"
        typer.echo(line.rstrip())
