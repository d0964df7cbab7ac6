"""`meshwire device`: the devices of a site."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.tools.errors import Refused, WrongInput
from gateway.tools.http_api import (
    DEFAULT_HTTP,
    HttpOption,
    JsonOption,
    TenantOption,
    ask,
    call,
    device_of,
    everything,
    expect,
    quoted,
    tenant_of,
)
from meshwire.errors import MeshwireError

__all__ = ["device_app"]

device_app = typer.Typer(
    add_completion=False,
    help="Devices: provision, list, change, disable, move between tenants, import and export.",
    no_args_is_help=True,
)

MacArgument = Annotated[str, typer.Argument(help="MAC (EUI-64) or SSN host name")]
MaybeTenant = Annotated[str | None, typer.Option("--tenant", "-T", help="only this tenant's")]
MaybeType = Annotated[str | None, typer.Option("--type", help="only devices of this type")]
MaybeTag = Annotated[str | None, typer.Option("--tag", help="only devices with this tag")]
SHOWN_REASONS = 20


class Format(StrEnum):
    """Of a file."""

    CSV = "csv"
    JSON = "json"


@device_app.command("add")
def add_device(
    mac: MacArgument,
    tenant: TenantOption,
    kind: Annotated[str, typer.Option("--type", help="device type")] = "MILLI",
    domain: Annotated[str, typer.Option("--domain", help="domain of its host name; none: any")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="tag, repeatable")] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="refused until it is enabled")] = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Provision a device: from now on its data go to this tenant and to nobody else."""
    body = {
        "mac": device_of(mac).value,
        "tenant": tenant_of(tenant).value,
        "type": kind,
        "domain": domain,
        "tags": tag or [],
        "enabled": not disabled,
    }
    typer.echo(json.dumps({"id": call(http_url, "POST", "/api/devices", body)["mac"]}))


@device_app.command("list")
def list_devices(
    tenant: MaybeTenant = None,
    kind: MaybeType = None,
    tag: MaybeTag = None,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """List devices, of all tenants unless one is named."""
    path = quoted("/api/devices", tenant=tenant, type=kind, tag=tag, limit=10_000)
    for device in everything(http_url, path, "devices"):
        typer.echo(json.dumps(device) if as_json else _line(device))


def _line(device: dict[str, Any]) -> str:
    address = device.get("address") or "no address yet"
    rest = ["" if device["enabled"] else "disabled", *device["tags"]]
    return f"{device['mac']}  {device['tenant']:<16}  {device['type']:<8}  {address}  {' '.join(rest)}".rstrip()


@device_app.command("show")
def show_device(mac: MacArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Everything the registry knows of a device, as JSON."""
    typer.echo(json.dumps(call(http_url, "GET", f"/api/devices/{device_of(mac).value}"), indent=2))


@device_app.command("set")
def set_device(
    mac: MacArgument,
    kind: Annotated[str | None, typer.Option("--type", help="device type")] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="domain of its host name; empty: any")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="the tags, repeatable; --tag '' for none")] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="a disabled device is answered like an unknown one")
    ] = None,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Change what is named of a device; the rest stays."""
    body: dict[str, object] = {
        name: value for name, value in (("type", kind), ("domain", domain), ("enabled", enabled)) if value is not None
    }
    if tag is not None:
        body["tags"] = [each for each in tag if each]
    if not body:
        raise WrongInput("nothing to change", evidence="no option", fix="name --type, --domain, --tag or --disable")
    typer.echo(json.dumps(call(http_url, "PATCH", f"/api/devices/{device_of(mac).value}", body)))


@device_app.command("move")
def move_device(
    mac: MacArgument,
    to: Annotated[str, typer.Option("--to", help="the tenant that gets it; it must be known")],
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Give a device to another tenant. What was received before stays with the former one; both logs say so."""
    body = {"tenant": tenant_of(to).value}
    typer.echo(json.dumps(call(http_url, "POST", f"/api/devices/{device_of(mac).value}/move", body)))


@device_app.command("provision")
def provision(
    mac: MacArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="new file for the key, mode 0600; default: standard output")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="in the place of the key that it has")] = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Make the OSCORE key of a device's NIC, for `meshwire nic --oscore-key`. It is shown once, now."""
    descriptor = None if out is None else _new_secret_file(out)
    try:
        key = expect(
            ask(http_url, "POST", f"/api/devices/{device_of(mac).value}/key", {"renew": renew}), "POST key"
        ).text
    except MeshwireError:
        if descriptor is not None and out is not None:
            os.close(descriptor)
            out.unlink()
        raise
    if descriptor is None:
        typer.echo(key, nl=False)
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(key)


@device_app.command("unprovision")
def unprovision(mac: MacArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Take the key of a device's NIC away: what is protected with it is refused from now on."""
    call(http_url, "DELETE", f"/api/devices/{device_of(mac).value}/key")


def _new_secret_file(path: Path) -> int:
    """Made before the key is, which would be lost if it could not be written."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise WrongInput(
            "the file can't be made", evidence=f"{path}: {error.strerror}", fix="name a new file in a folder of yours"
        ) from None


@device_app.command("remove")
def remove_device(mac: MacArgument, http_url: HttpOption = DEFAULT_HTTP) -> None:
    """Take a device out of the network: its data are refused from now on."""
    call(http_url, "DELETE", f"/api/devices/{device_of(mac).value}")


@device_app.command("import")
def import_devices(
    file: Annotated[str, typer.Argument(help="CSV, JSON or JSON Lines; - reads standard input")],
    tenant: Annotated[str | None, typer.Option("--tenant", "-T", help="of rows that name none")] = None,
    form: Annotated[Format | None, typer.Option("--format", help="default: by the file's name")] = None,
    good_rows_only: Annotated[
        bool, typer.Option("--good-rows-only", help="take good rows though others are bad; default: all or none")
    ] = False,
    try_only: Annotated[bool, typer.Option("--dry-run", help="only say what would come of it")] = False,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Provision many devices; columns mac, tenant, type, domain, tags (separated by blanks), enabled."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput("the file can't be read", evidence=f"{file}: {error}", fix="name a UTF-8 text file") from None
    chosen = form or (Format.JSON if Path(file).suffix.startswith(".json") else None)
    if chosen is None:
        chosen = Format.JSON if text.lstrip()[:1] in ("[", "{") else Format.CSV
    path = quoted(
        "/api/devices/import",
        tenant=None if tenant is None else tenant_of(tenant).value,
        good_rows_only=good_rows_only,
        try_only=try_only,
    )
    content_type = "text/csv" if chosen is Format.CSV else "application/json"
    answer = ask(http_url, "POST", path, text, content_type=content_type)
    if answer.status == 422 and answer.body.get("errors"):
        errors = answer.body["errors"]
        _tell_reasons([f"{each['pointer']}: {each['detail']}" for each in errors])
        raise Refused("nothing is imported", evidence=answer.body["detail"], fix="mend those lines")
    done = expect(answer, f"POST {path}").body
    _tell_reasons([f"line {each['line']}: {each['reason']}" for each in done["refused"]])
    typer.echo(json.dumps({"added": done["added"], "changed": done["changed"], "refused": len(done["refused"])}))


def _tell_reasons(reasons: list[str]) -> None:
    for reason in reasons[:SHOWN_REASONS]:
        typer.echo(reason, err=True)
    if len(reasons) > SHOWN_REASONS:
        typer.echo(f"… and {len(reasons) - SHOWN_REASONS} more", err=True)


@device_app.command("export")
def export_devices(
    tenant: MaybeTenant = None,
    kind: MaybeType = None,
    tag: MaybeTag = None,
    form: Annotated[Format, typer.Option("--format", help="csv or json")] = Format.CSV,
    http_url: HttpOption = DEFAULT_HTTP,
) -> None:
    """Write devices to standard output as `import` takes them."""
    path = quoted("/api/devices/export", tenant=tenant, type=kind, tag=tag, format=form.value)
    typer.echo(expect(ask(http_url, "GET", path), f"GET {path}").text, nl=False)
