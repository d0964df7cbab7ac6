"""`meshwire user`: password users of the broker, in its users file. A password is made here or read from a file; it is
never an argument, which every process of the machine could read.
"""

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer

from broker.credentials import UsersFile, open_users
from broker.errors import UsersFileError
from broker.settings import BrokerSettings
from meshwire.config import load_config, read_settings
from meshwire.identity import INTERNAL_TENANT, IdentityError, TenantId
from meshwire.site import Site

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Password users of the broker.")

Config = Annotated[Path | None, typer.Option("--config", envvar="MESHWIRE_CONFIG", help="Configuration (TOML).")]


@app.command()
def add(
    name: str,
    role: Annotated[list[str] | None, typer.Option(help="A role; may stand several times.")] = None,
    tenant: Annotated[str, typer.Option(help="Tenant of the user.")] = INTERNAL_TENANT.value,
    password_file: Annotated[Path | None, typer.Option(help="File whose first line is the password.")] = None,
    config: Config = None,
) -> None:
    """Add or replace a user. Without --password-file a password is made and shown once on stdout."""
    users = _users(config)
    password = secrets.token_urlsafe(24) if password_file is None else _first_line(password_file)
    try:
        users.add(name, password, tenant=TenantId(tenant), roles=tuple(role or ()))
    except IdentityError as error:
        raise typer.BadParameter(str(error)) from None
    if password_file is None:
        typer.echo(password)


@app.command("set")
def change(
    name: str,
    role: Annotated[list[str] | None, typer.Option(help="All roles the user has from now on; none: no rights.")] = None,
    config: Config = None,
) -> None:
    """Give a user other roles; the password stays, and a running broker applies it to its connections."""
    users = _users(config)
    _must_know(users, name)
    users.set_roles(name, tuple(role or ()))


@app.command("list")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False, config: Config = None
) -> None:
    """List users with tenant and roles; never a hash."""
    for user in _users(config).listing():
        line = json.dumps({"name": user.name, "tenant": user.tenant.value, "roles": sorted(user.roles)})
        typer.echo(line if as_json else f"{user.name}\t{user.tenant}\t{' '.join(sorted(user.roles))}")


@app.command()
def remove(name: str, config: Config = None) -> None:
    """Remove a user."""
    users = _users(config)
    _must_know(users, name)
    users.remove(name)


def _must_know(users: UsersFile, name: str) -> None:
    if name not in users.names():
        raise UsersFileError("no such user", evidence=name, fix="see `meshwire user list`", code="MW-BRK-004")


def _users(config: Path | None) -> UsersFile:
    settings = read_settings(BrokerSettings, "broker", load_config(config))
    site = Site.default()
    return open_users(settings.users_file or site.path("broker", "users.json"), site)


def _first_line(path: Path) -> str:
    try:
        return path.read_text().splitlines()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise UsersFileError("password file can't be read", evidence=f"{path}: {error}", code="MW-BRK-005") from None
