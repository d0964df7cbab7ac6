"""`meshwire send` and `meshwire receive`: messages to and from an address of whatever type."""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer

from broker.adapters.connection import BrokerAddress
from broker.addresses.traffic import Login, Place, receive, send
from broker.errors import TlsFilesError
from meshwire.identity import IdentityError, Role, TenantId
from meshwire.mqtt import ProtocolVersion, Publish
from meshwire.option_group import with_groups
from meshwire.site import Site
from meshwire.topics import address_topic

__all__ = ["receive_app", "send_app"]

send_app = typer.Typer(add_completion=False, help="Send messages to an address and wait until they are taken.")
receive_app = typer.Typer(add_completion=False, help="Receive messages from an address.")

VERSIONS: Final = {"5": ProtocolVersion.V5, "311": ProtocolVersion.V3_1_1}
IGNORED_USER: Final = "notused"
"""In the user name field beside a token."""

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Its name, as in `meshwire address list`.")]
Count = Annotated[int | None, typer.Option("--messages", "-m", min=1, help="How many messages.")]
Tenant = Annotated[str, typer.Option("--tenant", "-T", help="Whose address.", envvar="MESHWIRE_TENANT")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@dataclass(frozen=True, slots=True)
class Access:
    """The broker, and how to log in there."""

    host: Annotated[str, typer.Option("--host", "-h", help="The broker, whichever engine it is.")] = "127.0.0.1"
    port: Annotated[int, typer.Option("--port", "-p", envvar="MESHWIRE_MQTT_PORT")] = 1883
    ca_file: Annotated[
        Path | None,
        typer.Option("--ca-file", help="The port speaks TLS: PEM file of who may have signed its certificate."),
    ] = None
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="With --ca-file: PEM file to show, for mutual TLS.")
    ] = None
    key: Annotated[Path | None, typer.Option("--key", help="Of --certificate; default: it is in that file.")] = None
    token: Annotated[
        str | None, typer.Option("--token", envvar="MESHWIRE_TOKEN", help="Without one, one of this site's is made.")
    ] = field(default=None, repr=False)
    username: Annotated[str | None, typer.Option("--username", "-u", help="Log in by password instead.")] = None
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="File whose first line is the password.")
    ] = None
    version: Annotated[str, typer.Option("--version", "-V", help="MQTT version: 5 or 311.")] = "5"

    def place(self, tenant: str, role: Role) -> Place:
        """Where to go, in a role of the tenant; raises typer.BadParameter or TlsFilesError."""
        broker = BrokerAddress(self.host, self.port, _tls(self.ca_file, self.certificate, self.key))
        login = _login(tenant, role, self.token, self.username, self.password_file)
        if self.version not in VERSIONS:
            raise typer.BadParameter(f"no MQTT version {self.version!r}; there are {', '.join(VERSIONS)}")
        return Place(broker, login, VERSIONS[self.version])


@send_app.command()
@with_groups
def send_messages(
    address: Address,
    tenant: Tenant,
    count: Count = 1,
    body: Annotated[
        list[str] | None, typer.Option("--body", "-b", help="A message; may stand several times. Default: {sequence}.")
    ] = None,
    ttl: Annotated[int | None, typer.Option(min=1, help="Life of a message in seconds (MQTT 5).")] = None,
    timeout: Annotated[float, typer.Option(min=0.0, help="Longest wait for a receiver or for room, seconds.")] = 60.0,
    *,
    access: Access,
    as_json: AsJson = False,
) -> None:
    """Send; without --body the messages are {"sequence": 1} and so on. Ends when all are stored or taken."""
    place = access.place(tenant, Role.ADDRESS_SENDER)
    payloads = [text.encode() for text in body or ()] or [b'{"sequence": %d}' % n for n in range(1, (count or 1) + 1)]
    asyncio.run(_send(place, address_topic(tenant, address), payloads, ttl, timeout, as_json))


@receive_app.command()
@with_groups
def receive_messages(
    address: Address,
    tenant: Tenant,
    count: Count = None,
    timeout: Annotated[float | None, typer.Option(min=0.0, help="Longest wait for a message; none: for ever.")] = None,
    *,
    access: Access,
    as_json: AsJson = False,
) -> None:
    """Print messages, one a line, until --messages of them came; a message is acknowledged after it is printed."""
    place = access.place(tenant, Role.ADDRESS_RECEIVER)
    asyncio.run(_receive(place, address_topic(tenant, address), count, timeout, as_json))


async def _send(
    place: Place, topic: str, payloads: Sequence[bytes], ttl: int | None, timeout_s: float, as_json: bool
) -> None:
    async for number in send(place, topic, payloads, ttl_s=ttl, timeout_s=timeout_s):
        if as_json:
            typer.echo(json.dumps({"sent": number}))
    if not as_json:
        typer.echo("all messages taken", err=True)


async def _receive(place: Place, topic: str, count: int | None, timeout_s: float | None, as_json: bool) -> None:
    def ready() -> None:
        typer.echo(f"receiving from {topic}", err=True)

    async for packet in receive(place, topic, count, timeout_s=timeout_s, on_ready=ready):
        typer.echo(_json(packet) if as_json else packet.payload)
        sys.stdout.flush()


def _json(packet: Publish) -> str:
    properties = packet.properties
    try:
        body = {"payload": packet.payload.decode()}
    except UnicodeDecodeError:
        body = {"payload_hex": packet.payload.hex()}
    return json.dumps({"topic": packet.topic, **body, "properties": dict(properties.user_properties)})


def _tls(ca_file: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS 1.2 or newer, with the chain and the name checked; None: plain."""
    if (ca_file is None and certificate is not None) or (certificate is None and key is not None):
        raise typer.BadParameter("--certificate needs --ca-file, and --key needs --certificate")
    if ca_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate, key, password="")
        return context
    except OSError as error:
        names = ", ".join(str(path) for path in (ca_file, certificate, key) if path is not None)
        raise TlsFilesError(
            "TLS files can't be used",
            evidence=f"{names}: {error}",
            fix="check the paths, and that the key is not encrypted and of the certificate",
        ) from None


def _login(tenant: str, role: Role, token: str | None, username: str | None, password_file: Path | None) -> Login:
    """By password, by token, or by a token that is signed here with the site's own key."""
    if username is not None:
        if password_file is None:
            raise typer.BadParameter("--username needs --password-file")
        try:
            return Login(username, password_file.read_text().splitlines()[0])
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise typer.BadParameter(f"{password_file}: {error}") from None
    if token is None:
        try:
            token = Site.default().signing_keys().issue(TenantId(tenant), (role,), now=time.time())
        except IdentityError as error:
            raise typer.BadParameter(str(error)) from None
    return Login(IGNORED_USER, token)
