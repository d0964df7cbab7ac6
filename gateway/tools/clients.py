"""`meshwire client`: OAuth clients of tenants."""

from __future__ import annotations

import json
import urllib.parse
from typing import Annotated

import typer

from gateway.tools.errors import WrongInput
from gateway.tools.http_api import (
    DEFAULT_HTTP,
    HttpOption,
    JsonOption,
    TenantOption,
    call,
    everything,
    quoted,
    tenant_of,
)

__all__ = ["client_app"]

client_app = typer.Typer(add_completion=False, help="OAuth clients (id and secret) of a tenant.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(help="client id")]
RoleOption = Annotated[list[str] | None, typer.Option("--role", help="role, repeatable; default: the consumer roles")]
ScopeOption = Annotated[str | None, typer.Option("--scope", help="API scopes, separated by blanks: api, admin")]


@client_app.command("add")
def add_client(
    tenant: TenantOption, role: RoleOption = None, scope: ScopeOption = None, http_url: HttpOption = DEFAULT_HTTP
) -> None:
    """Make an OAuth client for a tenant; its secret is shown this once."""
    body = {"tenant": tenant_of(tenant).value} | _changes(role, scope)
    typer.echo(json.dumps(call(http_url, "POST", "/api/clients", body)))


@client_app.command("list")
def list_clients(
    tenant: Annotated[str | None, typer.Option("--tenant", "-T", help="only this tenant's")] = None,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """List clients; nobody knows their secrets."""
    for client in everything(http_url, quoted("/api/clients", tenant=tenant), "clients"):
        if as_json:
            typer.echo(json.dumps(client))
        else:
            typer.echo(f"{client['clientId']}  {client['tenant']:<16}  {client['scope']}  {' '.join(client['roles'])}")


@client_app.command("show")
def show_client(client: IdArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """One client, as JSON."""
    typer.echo(json.dumps(call(http_url, "GET", _path(client)), indent=2))


@client_app.command("set")
def set_client(
    client: IdArgument, role: RoleOption = None, scope: ScopeOption = None, http_url: HttpOption = DEFAULT_HTTP
) -> None:
    """Change roles or scope; tokens that were issued keep theirs until they end."""
    body = _changes(role, scope)
    if not body:
        raise WrongInput("nothing to change", evidence="no option", fix="name --role or --scope")
    typer.echo(json.dumps(call(http_url, "PATCH", _path(client), body)))


@client_app.command("renew")
def renew_client(client: IdArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """A new secret, shown this once; the former one no longer holds."""
    typer.echo(json.dumps(call(http_url, "POST", f"{_path(client)}/secret")))


@client_app.command("remove")
def remove_client(client: IdArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Forget a client; its tokens hold until they end, an hour at most."""
    call(http_url, "DELETE", _path(client))


def _changes(role: list[str] | None, scope: str | None) -> dict[str, object]:
    return ({} if role is None else {"roles": role}) | ({} if scope is None else {"scope": scope})


def _path(client: str) -> str:
    return f"/api/clients/{urllib.parse.quote(client, safe='')}"
