"""`meshwire user`: password users, by the broker that runs, else in its users file. A password is made here or read
from a file; it is never an argument, which every process of the machine could read, and leaves only as its hash.
"""

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer
from argon2 import PasswordHasher

from broker.administration.acts import Rows, on_users
from broker.administration.asking import ask
from broker.administration.requests import UserChange, UserList, UserPut, UserRemove, UserRequest
from broker.credentials import open_users
from broker.errors import UsersFileError
from broker.roles import known_roles
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
    try:
        TenantId(tenant)
    except IdentityError as error:
        raise typer.BadParameter(str(error)) from None
    password = secrets.token_urlsafe(24) if password_file is None else _first_line(password_file)
    hashed = PasswordHasher().hash(password)
    _ask(UserPut(name=name, password_hash=hashed, tenant=tenant, roles=tuple(role or ())), config)
    _warn_of_unknown(role or [], config)
    if password_file is None:
        typer.echo(password)


@app.command("set")
def change(
    name: str,
    role: Annotated[list[str] | None, typer.Option(help="All roles the user has from now on; none: no rights.")] = None,
    config: Config = None,
) -> None:
    """Give a user other roles; the password stays, and a running broker applies it to its connections."""
    _ask(UserChange(name=name, roles=tuple(role or ())), config)
    _warn_of_unknown(role or [], config)


@app.command("list")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False, config: Config = None
) -> None:
    """List users with tenant and roles; never a hash."""
    for user in _ask(UserList(), config):
        typer.echo(json.dumps(user) if as_json else f"{user['name']}\t{user['tenant']}\t{' '.join(user['roles'])}")


@app.command()
def remove(name: str, config: Config = None) -> None:
    """Remove a user."""
    _ask(UserRemove(name=name), config)


def _warn_of_unknown(roles: list[str], config: Path | None) -> None:
    """A role may come later; until then its holder has no right by it, and would not know why."""
    if roles and (unknown := sorted(set(roles) - known_roles(config))):
        typer.echo(f"no such role yet: {', '.join(unknown)}; it grants nothing; see `meshwire role list`", err=True)


def _ask(request: UserRequest, config: Path | None) -> Rows:
    settings = read_settings(BrokerSettings, "broker", load_config(config))
    site = Site.default()
    file = settings.users_file or site.path("broker", "users.json")
    return ask(site, file, request, lambda: on_users(open_users(file, site), request))


def _first_line(path: Path) -> str:
    try:
        return path.read_text().splitlines()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise UsersFileError("password file can't be read", evidence=f"{path}: {error}", code="MW-BRK-005") from None
