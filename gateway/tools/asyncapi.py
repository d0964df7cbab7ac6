"""`meshwire asyncapi`: the MQTT topics of this site as an AsyncAPI 3 document."""

from __future__ import annotations

import json

import typer

from gateway.tools.http_api import DEFAULT_HTTP, HttpOption, call

__all__ = ["asyncapi_app"]

asyncapi_app = typer.Typer(add_completion=False, help="The MQTT topics as an AsyncAPI 3 document.")


@asyncapi_app.callback(invoke_without_command=True)
def show(http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Print the document: channels, messages with their schemas, and the roles that they need."""
    typer.echo(json.dumps(call(http_url, "GET", "/api/asyncapi.json"), indent=2, ensure_ascii=False))
