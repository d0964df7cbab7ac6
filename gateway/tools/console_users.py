"""`meshwire console-user`: the people who sign in at the web console."""

from __future__ import annotations

import json
import sys
import urllib.parse
from typing import Annotated

import typer

from gateway.tools.errors import WrongInput
from gateway.tools.http_api import DEFAULT_HTTP, HttpOption, JsonOption, call, everything, quoted, tenant_of

__all__ = ["console_user_app"]

console_user_app = typer.Typer(
    add_completion=False, help="People who sign in at the web console.", no_args_is_help=True
)

PLACE = "/api/console-users"
NameArgument = Annotated[str, typer.Argument(help="what the person signs in with")]
PasswordOption = Annotated[
    bool, typer.Option("--password-stdin", help="read the password from standard input; default: make one and show it")
]


@console_user_app.command("add")
def add_user(
    name: NameArgument,
    tenant: Annotated[str | None, typer.Option("--tenant", "-T", help="whose data the person sees")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="an administrator, who sees and changes everything")] = False,
    password_stdin: PasswordOption = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Let somebody sign in; a password that is made here is shown this once."""
    if admin is (tenant is not None):
        fix = "name either --tenant TENANT or --admin"
        raise WrongInput("whose data may the person see?", evidence="both" if admin else "neither", fix=fix)
    whose = None if tenant is None else tenant_of(tenant).value
    body = {"name": name, "tenant": whose} | _password(password_stdin)
    typer.echo(json.dumps(call(http_url, "POST", PLACE, body)))


@console_user_app.command("list")
def list_users(
    tenant: Annotated[str | None, typer.Option("--tenant", "-T", help="only this tenant's")] = None,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """List who may sign in; nobody knows their passwords."""
    for user in everything(http_url, quoted(PLACE, tenant=tenant), "users"):
        typer.echo(json.dumps(user) if as_json else f"{user['name']:<24}  {user['tenant'] or 'administrator'}")


@console_user_app.command("show")
def show_user(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """One of them, as JSON."""
    typer.echo(json.dumps(call(http_url, "GET", _path(name)), indent=2))


@console_user_app.command("renew")
def renew_password(
    name: NameArgument, password_stdin: PasswordOption = False, http_url: HttpOption = DEFAULT_HTTP
) -> None:
    """A new password; the former one no longer holds, and wherever the person is signed in, that ends."""
    typer.echo(json.dumps(call(http_url, "POST", f"{_path(name)}/password", _password(password_stdin))))


@console_user_app.command("remove")
def remove_user(name: NameArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Forget a person, and end its sessions; without anybody the console asks for an administrator anew."""
    call(http_url, "DELETE", _path(name))


def _password(from_stdin: bool) -> dict[str, str]:
    return {"password": sys.stdin.readline().rstrip("\r\n")} if from_stdin else {}


def _path(name: str) -> str:
    return f"{PLACE}/{urllib.parse.quote(name, safe='')}"
