"""`meshwire role`: the roles of this site beside the built-in ones. A running broker takes a change into use within a
second, also for clients that are connected.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from broker.errors import RolesFileError
from broker.policy import BUILT_IN_ROLES
from broker.role_table import RoleTable
from broker.settings import BrokerSettings
from meshwire.config import load_config, read_settings
from meshwire.site import Site

__all__ = ["app"]

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
    table = _table(config)
    table.add(name, subscribe=tuple(subscribe or ()), publish=tuple(publish or ()), password_only=password_only)


@app.command("list")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False, config: Config = None
) -> None:
    """List all roles, the built-in ones among them."""
    for name, rule in sorted(_table(config).rules.items()):
        record = {
            "name": str(name),
            "subscribe": list(rule.subscribe),
            "publish": list(rule.publish),
            "password_only": rule.password_only,
            "built_in": name in BUILT_IN_ROLES,
        }
        line = f"{name}\tsubscribe: {' '.join(rule.subscribe) or '-'}\tpublish: {' '.join(rule.publish) or '-'}"
        typer.echo(json.dumps(record) if as_json else line)


@app.command()
def remove(name: str, config: Config = None) -> None:
    """Remove a role; who holds it loses its rights at once."""
    table = _table(config)
    if name not in table.own_names:
        raise RolesFileError("no such role", evidence=name, fix="see `meshwire role list`", code="MW-BRK-014")
    table.remove(name)


def _table(config: Path | None) -> RoleTable:
    settings = read_settings(BrokerSettings, "broker", load_config(config))
    return RoleTable(settings.roles_file or Site.default().path("broker", "roles.json"))
