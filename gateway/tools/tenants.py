"""`meshwire tenant`: the tenants of a site. `meshwire tenant attack` is the broker's."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gateway.tools.errors import WrongInput
from gateway.tools.http_api import DEFAULT_HTTP, HttpOption, JsonOption, call, everything, tenant_of

__all__ = ["tenant_app"]

tenant_app = typer.Typer(
    add_completion=False,
    help="Tenants: whose the devices are.",
    epilog="`meshwire tenant attack` tries to cross the border between tenants: `meshwire tenant attack --help`.",
    no_args_is_help=True,
)

IdArgument = Annotated[str, typer.Argument(help="tenant id: 1 to 64 of A-Z a-z 0-9 _ -")]


@tenant_app.command("add")
def add_tenant(
    tenant: IdArgument,
    title: Annotated[str, typer.Option("--title", help="a name for people")] = "",
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Make a tenant known."""
    call(http_url, "POST", "/api/tenants", {"id": tenant_of(tenant).value, "title": title})


@tenant_app.command("list")
def list_tenants(http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False) -> None:
    """List tenants with the number of their devices and clients."""
    for tenant in everything(http_url, "/api/tenants", "tenants"):
        if as_json:
            typer.echo(json.dumps(tenant))
            continue
        bound = "" if tenant["maxDevices"] is None else f" of {tenant['maxDevices']}"
        has = f"{tenant['devices']}{bound} devices, {tenant['clients']} clients"
        typer.echo(f"{tenant['id']:<16}  {has}  {tenant['title']}".rstrip())


@tenant_app.command("show")
def show_tenant(tenant: IdArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """One tenant, as JSON."""
    typer.echo(json.dumps(call(http_url, "GET", f"/api/tenants/{tenant_of(tenant)}"), indent=2))


@tenant_app.command("set")
def set_tenant(
    tenant: IdArgument,
    title: Annotated[str | None, typer.Option("--title", help="a name for people")] = None,
    max_devices: Annotated[
        int | None, typer.Option("--max-devices", min=-1, help="most devices; -1: as the configuration says")
    ] = None,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Change a tenant's title, or how many devices it may have."""
    body: dict[str, object] = {} if title is None else {"title": title}
    if max_devices is not None:
        body["maxDevices"] = None if max_devices < 0 else max_devices
    if not body:
        raise WrongInput("nothing to change", evidence="no option", fix="name --title or --max-devices")
    call(http_url, "PATCH", f"/api/tenants/{tenant_of(tenant)}", body)


@tenant_app.command("remove")
def remove_tenant(tenant: IdArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Forget a tenant that has neither devices nor clients."""
    call(http_url, "DELETE", f"/api/tenants/{tenant_of(tenant)}")
