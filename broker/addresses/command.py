"""`meshwire address`: the addresses of this site, by the broker that runs, else in its file; and a look into the queues
of a broker anywhere.
"""

import asyncio
import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from broker.adapters.connection import BrokerAddress
from broker.addresses.address import AddressType
from broker.addresses.book import AddressBook
from broker.addresses.control import CONTROL_TOPIC, RESPONSE_TOPIC
from broker.addresses.traffic import Login, Place, request
from broker.administration.acts import Rows, address_of, on_addresses
from broker.administration.asking import ask
from broker.administration.requests import (
    AddressChange,
    AddressList,
    AddressPut,
    AddressRemove,
    AddressRequest,
    AddressShow,
)
from broker.credentials import GATEWAY_SECRET, GATEWAY_USER
from broker.errors import AddressError
from broker.settings import BrokerSettings
from meshwire.config import load_config, read_settings
from meshwire.option_group import with_groups
from meshwire.site import Site

__all__ = ["app"]

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Addresses: strings with a type, in the space of a tenant."
)

Config = Annotated[Path | None, typer.Option("--config", envvar="MESHWIRE_CONFIG", help="Configuration (TOML).")]
Tenant = Annotated[str, typer.Option("--tenant", "-T", help="Tenant id.", envvar="MESHWIRE_TENANT")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Seconds = Annotated[int | None, typer.Option(help="Seconds; 0: no bound.", min=0)]
Number = Annotated[int | None, typer.Option(min=1)]
Name = Annotated[str | None, typer.Option(help="An address of the same tenant; empty: none.")]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of an address as they were said on the command line."""

    min_ttl: Seconds = None
    max_ttl: Seconds = None
    max_messages: Number = None
    max_octets: Number = None
    max_waiting: Number = None
    max_deliveries: Number = None
    dead_letter: Name = None
    expired_to: Name = None

    def fields(self) -> dict[str, int | str | None]:
        """Those that were said; 0 seconds and an empty name take a bound away."""
        said = {
            "max_messages": self.max_messages,
            "max_octets": self.max_octets,
            "max_waiting": self.max_waiting,
            "max_deliveries": self.max_deliveries,
        }
        fields: dict[str, int | str | None] = {name: value for name, value in said.items() if value is not None}
        clearable = {
            "min_ttl_s": self.min_ttl,
            "max_ttl_s": self.max_ttl,
            "dead_letter": self.dead_letter,
            "expired_to": self.expired_to,
        }
        return fields | {name: value or None for name, value in clearable.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Running:
    """The running broker that is asked, and as whom."""

    host: Annotated[str, typer.Option("--host", "-h", help="Of the running broker.")] = "127.0.0.1"
    port: Annotated[int, typer.Option("--port", "-p", envvar="MESHWIRE_MQTT_PORT")] = 1883
    username: Annotated[str, typer.Option("--username", "-u", help="A user with role ADMIN or OPERATOR.")] = (
        GATEWAY_USER
    )
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="File whose first line is the password; default: of this site's gateway."),
    ] = None

    def place(self) -> Place:
        """Where to ask; raises AddressError."""
        path = self.password_file or Site.default().path("secrets", GATEWAY_SECRET)
        try:
            password = path.read_text().splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise AddressError("password file can't be read", evidence=f"{path}: {error}", code="MW-BRK-005") from None
        return Place(BrokerAddress(self.host, self.port), Login(self.username, password))


@app.command()
@with_groups
def add(
    name: str,
    type: Annotated[AddressType, typer.Option("--type", "-t", help="How messages travel.")],
    tenant: Tenant,
    filter: Annotated[str | None, typer.Option(help="Topics below the tenant, such as read/#.")] = None,
    *,
    bounds: Bounds,
    config: Config = None,
) -> None:
    """Add an address, or replace it."""
    definition = address_of({"tenant": tenant, "name": name, "type": type, "filter": filter, **bounds.fields()})
    _do(AddressPut(definition=definition), config)


@app.command("set")
@with_groups
def change(
    name: str,
    tenant: Tenant,
    *,
    bounds: Bounds,
    config: Config = None,
) -> None:
    """Change bounds of an address; what it holds stays."""
    _do(AddressChange(tenant=tenant, name=name, fields=bounds.fields()), config)


@app.command("list")
def listing(
    tenant: Annotated[str | None, typer.Option("--tenant", "-T", help="Only this tenant's.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """List addresses with their types and topics."""
    for item in _do(AddressList(tenant=tenant), config):
        line = "\t".join(item[field] for field in ("tenant", "name", "type", "filter"))
        typer.echo(json.dumps(item) if as_json else line)


@app.command()
def show(name: str, tenant: Tenant, as_json: AsJson = False, config: Config = None) -> None:
    """Everything about one address."""
    (item,) = _do(AddressShow(tenant=tenant, name=name), config)
    if as_json:
        typer.echo(json.dumps(item))
        return
    for field, value in item.items():
        typer.echo(f"{field}\t{value}")


@app.command()
def remove(name: str, tenant: Tenant, config: Config = None) -> None:
    """Remove an address; what a queue still holds is dropped."""
    _do(AddressRemove(tenant=tenant, name=name), config)


@app.command()
@with_groups
def browse(
    name: str,
    tenant: Tenant,
    limit: Annotated[int, typer.Option(min=1, help="Most messages to show.")] = 100,
    as_json: AsJson = False,
    *,
    running: Running,
) -> None:
    """Look at the messages of a queue without taking them."""
    place, after = running.place(), 0
    while limit > 0:
        page = _ask(place, command="browse", tenant=tenant, address=name, after=after, limit=min(limit, 1000))
        messages = page.get("messages")
        assert isinstance(messages, list)
        for item in messages:
            typer.echo(json.dumps(item) if as_json else _line(item))
        limit -= len(messages)
        after = page.get("next", 0)  # type: ignore[assignment]
        if not after:
            return


@app.command()
@with_groups
def purge(
    name: str,
    tenant: Tenant,
    running: Running,
) -> None:
    """Drop what waits at a queue; prints how many messages."""
    page = _ask(running.place(), command="purge", tenant=tenant, address=name)
    typer.echo(str(page["purged"]))


@app.command()
@with_groups
def status(
    tenant: Annotated[str | None, typer.Option("--tenant", "-T", help="Only this tenant's.")] = None,
    *,
    running: Running,
) -> None:
    """What addresses hold now and have counted since the broker's start: one JSON object a line."""
    found = _ask(running.place(), command="list", tenant=tenant)["addresses"]
    assert isinstance(found, list)
    for item in found:
        typer.echo(json.dumps(item))


def _line(item: dict[str, object]) -> str:
    octets = base64.b64decode(str(item["payload"]))
    text = octets.decode() if octets.isascii() and octets.decode().isprintable() else f"hex:{octets.hex()}"
    life = "" if item["expires_in_s"] is None else f"\texpires in {item['expires_in_s']} s"
    return f"{item['sequence']}\t{item['topic']}\t{text}\tattempts {item['attempts']}{life}"


def _ask(place: Place, **asked: object) -> dict[str, object]:
    payload = json.dumps(asked).encode()
    reply = asyncio.run(request(place, CONTROL_TOPIC, payload, RESPONSE_TOPIC, timeout_s=5.0))
    body: dict[str, object] = json.loads(reply)
    if "error" in body:
        raise AddressError("the broker can't do that", evidence=str(body["error"]), code="MW-BRK-021")
    return body


def _do(request: AddressRequest, config: Path | None) -> Rows:
    settings = read_settings(BrokerSettings, "broker", load_config(config))
    site = Site.default()
    file = settings.addresses_file or site.path("broker", "addresses.json")
    return ask(site, file, request, lambda: on_addresses(AddressBook(file), settings, request))
