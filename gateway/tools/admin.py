"""`meshwire token`: tokens signed with the site's own key. Whoever may read the state folder is the administrator."""

from __future__ import annotations

import json
import time
from typing import Annotated, Final

import typer

from gateway.tools.errors import Refused
from gateway.tools.http_api import TenantOption, tenant_of
from meshwire.identity import Role, TenantId
from meshwire.site import Site
from meshwire.tokens import TokenError, VerifyingKeys

__all__ = ["DEFAULT_ROLES", "issue_token", "token_app"]

token_app = typer.Typer(add_completion=False, help="Issue and show tokens.", no_args_is_help=True)

DEFAULT_ROLES: Final = (Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER, Role.COMMAND_CLIENT)


@token_app.command("issue")
def issue(
    tenant: TenantOption,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="role, repeatable; default: the consumer roles")
    ] = None,
    ttl: Annotated[float, typer.Option("--ttl", help="life in seconds", min=1)] = 3600.0,
    admin: Annotated[bool, typer.Option("--admin", help="also for the administration API")] = False,
) -> None:
    """Print a token signed with this site's key: password of MQTT clients, payload of POST /sessions."""
    if strange := sorted(set(role or ()) - set(Role)):
        typer.echo(
            f"not built in: {', '.join(strange)}; it grants nothing unless `meshwire role list` has it", err=True
        )
    typer.echo(issue_token(tenant_of(tenant), role or DEFAULT_ROLES, ttl_s=ttl, admin=admin))


@token_app.command("show")
def show(token: Annotated[str, typer.Argument(help="the token; - reads standard input")]) -> None:
    """Verify a token against this site's keys and print who it names."""
    text = typer.get_text_stream("stdin").read().strip() if token == "-" else token
    site = Site.default()
    if not site.jwks_path.exists():
        fix = "set MESHWIRE_STATE to the site's state folder"
        raise Refused("this site has signed no token yet", evidence=str(site.jwks_path), fix=fix)
    try:
        principal = VerifyingKeys.load(site.jwks_path).verify(text, now=time.time())
    except (TokenError, OSError) as error:
        raise Refused("token does not hold", evidence=str(error), fix="issue a new one") from None
    end = principal.expires_at
    typer.echo(json.dumps({"tenant": principal.tenant.value, "roles": sorted(principal.roles), "expires": end}))


def issue_token(tenant: TenantId, roles: list[str] | tuple[str, ...], *, ttl_s: float, admin: bool) -> str:
    """Sign a token with the site's key; `admin` adds the scope of the administration API."""
    scope = "api admin" if admin else "api"
    return Site.default().signing_keys().issue(tenant, roles, now=time.time(), ttl_s=ttl_s, scope=scope)
