"""`meshwire role`: the roles of this site beside the built-in ones. A running broker is asked, and takes a change into
use at once, also for clients that are connected.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from broker.administration.acts import Rows, on_roles
from broker.administration.asking import ask
from broker.administration.requests import RoleList, RolePut, RoleRemove, RoleRequest
from broker.role_table import RoleTable
from broker.settings import BrokerSettings
from meshwire.config import load_config, read_settings
from meshwire.site import Site

__all__ = ["app", "known_roles"]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Roles: which topics their holders may use.")

Config = Annotated[Path | None, typer.Option("--config", envvar="MESHWIRE_CONFIG", help="Configuration (TOML).")]
Filters = list[str] | None


@app.command()
def add(
    name: str,
    subscribe: Annotated[Filters, typer.Option(help="A filter to subscribe to, such as '{tenantId}/x/#'.")] = None,
    publish: Annotated[Filters, typer.Option(help="A filter to publish under; may stand several times.")] = None,
    password_only: Annotated[bool, typer.Option("--password-only", help="Not for tokens and certificates.")] = False,
    config: Config = None,
) -> None:
    """Add or replace a role."""
    filters = {"subscribe": tuple(subscribe or ()), "publish": tuple(publish or ())}
    _ask(RolePut(name=name, password_only=password_only, **filters), config)


@app.command("list")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False, config: Config = None
) -> None:
    """List all roles, the built-in ones among them."""
    for role in _ask(RoleList(), config):
        subscribe, publish = (" ".join(role[way]) or "-" for way in ("subscribe", "publish"))
        line = f"{role['name']}\tsubscribe: {subscribe}\tpublish: {publish}"
        typer.echo(json.dumps(role) if as_json else line)


@app.command()
def remove(name: str, config: Config = None) -> None:
    """Remove a role; who holds it loses its rights at once."""
    _ask(RoleRemove(name=name), config)


def known_roles(config: Path | None) -> set[str]:
    """Names of the roles that there are, the built-in ones among them."""
    return {str(role["name"]) for role in _ask(RoleList(), config)}


def _ask(request: RoleRequest, config: Path | None) -> Rows:
    settings = read_settings(BrokerSettings, "broker", load_config(config))
    site = Site.default()
    file = settings.roles_file or site.path("broker", "roles.json")
    return ask(site, file, request, lambda: on_roles(RoleTable(file), request))
