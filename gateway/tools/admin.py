"""`meshwire token|device|client`: administration of a site.

Tokens are signed here with the site's own key (whoever may read the state folder is the administrator); everything
else asks the gateway's HTTP API.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Mapping
from typing import Annotated, Final, cast

import typer

from gateway.tools.errors import NotReachable, Refused, WrongInput
from meshwire.identity import DeviceId, IdentityError, Role, TenantId
from meshwire.site import Site
from meshwire.tokens import TokenError, VerifyingKeys

__all__ = ["client_app", "device_app", "token_app"]

token_app = typer.Typer(help="Issue and show tokens.", no_args_is_help=True)
device_app = typer.Typer(help="Add, list and remove devices.", no_args_is_help=True)
client_app = typer.Typer(help="OAuth clients (id and secret) of a tenant.", no_args_is_help=True)

DEFAULT_ROLES: Final = (Role.BUBBLE_UP_READ_CONSUMER, Role.BUBBLE_UP_ALERT_CONSUMER, Role.COMMAND_CLIENT)
SOLUTION: Final = "sandbox"

HttpOption = Annotated[str, typer.Option("--http", help="the gateway's HTTP API", envvar="MESHWIRE_HTTP")]
TenantOption = Annotated[str, typer.Option("--tenant", "-T", help="tenant id")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object a line")]
DEFAULT_HTTP: Final = "http://127.0.0.1:8080"


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
    typer.echo(issue_token(_tenant(tenant), role or DEFAULT_ROLES, ttl_s=ttl, admin=admin))


@token_app.command("show")
def show(token: Annotated[str, typer.Argument(help="the token; - reads standard input")]) -> None:
    """Verify a token against this site's keys and print who it names."""
    text = typer.get_text_stream("stdin").read().strip() if token == "-" else token
    try:
        principal = VerifyingKeys.load(Site.default().jwks_path).verify(text, now=time.time())
    except (TokenError, OSError) as error:
        raise Refused("token does not hold", evidence=str(error), fix="issue a new one") from None
    end = principal.expires_at
    typer.echo(json.dumps({"tenant": principal.tenant.value, "roles": sorted(principal.roles), "expires": end}))


@device_app.command("add")
def add_device(
    mac: Annotated[str, typer.Argument(help="MAC (EUI-64) or SSN host name")],
    tenant: TenantOption,
    kind: Annotated[str, typer.Option("--type", help="device type")] = "MILLI",
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Provision a device: from now on its data go to this tenant and to nobody else."""
    body = {"deviceType": kind, "domainInfo": {"nic_macID": _device(mac).value}, "tenant": _tenant(tenant).value}
    typer.echo(json.dumps(call(http_url, "POST", f"/api/solutions/{SOLUTION}/devices/", body)))


@device_app.command("list")
def list_devices(http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False) -> None:
    """List the devices of all tenants."""
    answer = call(http_url, "GET", f"/api/solutions/{SOLUTION}/devices")
    devices = cast("list[dict[str, object]]", answer.get("devices", []))
    for device in devices:
        if as_json:
            typer.echo(json.dumps(device))
            continue
        info = cast("dict[str, object]", device.get("domainInfo", {}))
        address = device.get("address") or "no address yet"
        typer.echo(
            f"{info.get('nic_macID')}  {device.get('tenant', '-'):<16}  {device.get('deviceType'):<8}  {address}"
        )


@device_app.command("remove")
def remove_device(
    mac: Annotated[str, typer.Argument(help="MAC (EUI-64) or SSN host name")], http_url: HttpOption = DEFAULT_HTTP
) -> None:
    """Take a device out of the network: its data are refused from now on."""
    call(http_url, "DELETE", f"/api/solutions/{SOLUTION}/devices/{_device(mac).value}")


@client_app.command("add")
def add_client(tenant: TenantOption, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Make an OAuth client for a tenant; its secret is shown this once."""
    typer.echo(json.dumps(call(http_url, "POST", "/api/clients", {"tenant": _tenant(tenant).value})))


def issue_token(tenant: TenantId, roles: list[str] | tuple[str, ...], *, ttl_s: float, admin: bool) -> str:
    """Sign a token with the site's key; `admin` adds the scope of the administration API."""
    scope = "api admin" if admin else "api"
    return Site.default().signing_keys().issue(tenant, roles, now=time.time(), ttl_s=ttl_s, scope=scope)


def call(base: str, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
    """One request to the HTTP API as administrator.

    Raises:
        NotReachable: nobody listens at `base`.
        Refused: an answer of 4xx or 5xx, with its words.
    """
    parts = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=10)
    token = issue_token(TenantId("ssni"), (), ttl_s=60, admin=True)
    headers = {"Authorization": token, "Content-Type": "application/json"}
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        text = response.read().decode()
    except OSError as error:
        raise NotReachable(
            "the gateway's HTTP API does not answer",
            evidence=f"{base}: {error}",
            fix="start `meshwire gateway`, or name its address with --http",
        ) from None
    finally:
        connection.close()
    if response.status == 404 and method == "GET":
        return {}
    if response.status >= 400:
        raise Refused(
            "the gateway refused", evidence=f"{method} {path}: {response.status} {text[:200]}", fix=_fix(text)
        )
    return cast("dict[str, object]", json.loads(text)) if text else {}


def _fix(text: str) -> str:
    return "use the same state folder (MESHWIRE_STATE) as the gateway" if "token" in text else "mend the request"


def _tenant(text: str) -> TenantId:
    try:
        return TenantId(text)
    except IdentityError as error:
        raise WrongInput("not a tenant", evidence=str(error), fix="use letters, digits, _ and -") from None


def _device(text: str) -> DeviceId:
    try:
        return DeviceId.parse(text)
    except IdentityError as error:
        raise WrongInput("not a device", evidence=str(error), fix="give the MAC printed on the NIC") from None
