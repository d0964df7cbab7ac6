"""`meshwire coap get|put|post|delete|observe`: a request to a device through a gateway.

A session is opened with the token, the request goes out from the same UDP socket with a Proxy-Uri (dialect D.3),
and the session is closed. Without `--token` a token is signed with this site's own key for `--tenant`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import aiocoap
import typer
from aiocoap import error as coap_error

from gateway.tools.admin import DEFAULT_ROLES, issue_token
from gateway.tools.errors import DeviceAnswer, NotReachable, Refused, TimedOut, WrongInput
from gateway.tools.payload import PayloadOption, octets_of
from meshwire.errors import MeshwireError
from meshwire.identity import DeviceId, IdentityError, TenantId
from meshwire.notification import decode_reading
from meshwire.option_group import with_groups

__all__ = ["GatewayClient", "app"]

app = typer.Typer(add_completion=False, help="A CoAP request to a device, through a gateway.", no_args_is_help=True)

DEFAULT_DOMAIN: Final = "SG.YEL01.SSN.SSNSGS.NET"
DEVICE_PORT: Final = 4849
TLS_SCHEME: Final = "coaps+tcp"
CBOR: Final = 60
TEXT: Final = 0


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """A session with one gateway: all requests leave from the socket to which the session is bound."""

    context: aiocoap.Context
    authority: str
    domain: str = DEFAULT_DOMAIN
    timeout_s: float = 60.0
    over_tls: bool = False

    async def open_session(self, token: str) -> None:
        """POST /sessions with the token as payload; raises Refused."""
        request = self._to_gateway(aiocoap.POST, payload=token.encode())
        request.opt.uri_path = ("sessions",)
        request.opt.content_format = TEXT
        answer = await self._answer(request)
        if not _succeeded(answer):
            raise Refused(
                "the gateway opened no session", evidence=_words(answer), fix="check --token; it lives one hour"
            )

    async def close_session(self) -> None:
        """DELETE /sessions; a gateway that has gone is no error."""
        request = self._to_gateway(aiocoap.DELETE)
        request.opt.uri_path = ("sessions",)
        try:
            async with asyncio.timeout(2.0):
                await self.context.request(request).response
        except (TimeoutError, coap_error.Error, OSError):
            pass

    async def request(self, method: str, device: DeviceId, path: str, payload: bytes = b"") -> aiocoap.Message:
        """One request; an answer of class 4 or 5 raises DeviceAnswer or Refused."""
        answer = await self._answer(self.build(method, device, path, payload))
        raise_for_code(answer)
        return answer

    def build(self, method: str, device: DeviceId, path: str, payload: bytes = b"") -> aiocoap.Message:
        """The request with its Proxy-Uri `coap://SSN<mac>.<domain>:4849/<path>`."""
        request = self._to_gateway(aiocoap.Code[method.upper()], payload=payload)
        request.opt.proxy_uri = f"coap://{device.host(self.domain)}:{DEVICE_PORT}/{path.lstrip('/')}"
        return request

    def _to_gateway(self, code: aiocoap.Code, payload: bytes = b"") -> aiocoap.Message:
        if self.over_tls:
            return aiocoap.Message(code=code, payload=payload, uri=f"{TLS_SCHEME}://{self.authority}")
        request = aiocoap.Message(code=code, payload=payload)
        request.unresolved_remote = self.authority
        return request

    async def _answer(self, request: aiocoap.Message) -> aiocoap.Message:
        try:
            async with asyncio.timeout(self.timeout_s):
                answer: aiocoap.Message = await self.context.request(request).response
                return answer
        except (TimeoutError, coap_error.ConRetransmitsExceeded):
            raise TimedOut(
                "no answer in time",
                evidence=f"{self.authority}, {self.timeout_s:g} s",
                fix="a board on a slow line needs some seconds: raise --timeout; or see whether the NIC runs",
            ) from None
        except (coap_error.NetworkError, OSError) as error:
            raise NotReachable(
                "the gateway does not answer",
                evidence=f"{self.authority}: {error.__cause__ or error}",
                fix="start `meshwire gateway`, or name its address with --gateway",
            ) from None


def raise_for_code(answer: aiocoap.Message) -> None:
    """Turn an answer of class 4 or 5 into the error that names it."""
    if _succeeded(answer):
        return
    if answer.code in (aiocoap.UNAUTHORIZED, aiocoap.FORBIDDEN):
        raise Refused("the gateway refused", evidence=_words(answer), fix="use a token of the device's tenant")
    unknown = answer.code == aiocoap.NOT_FOUND and answer.payload.startswith(b"gateway:")
    fix = "check MAC and tenant: another tenant's device is told alike" if unknown else "see the hop that is named"
    raise DeviceAnswer("the device answered with an error", evidence=_words(answer), fix=fix)


def _succeeded(answer: aiocoap.Message) -> bool:
    return answer.code is not None and answer.code.is_successful()


def _words(answer: aiocoap.Message) -> str:
    text = answer.payload.decode(errors="replace")
    return f"{answer.code}" + (f": {text}" if text else "")


@dataclass(frozen=True, slots=True)
class Target:
    """What all sub-commands have in common."""

    device: DeviceId
    path: str
    gateway: str
    token: str = field(repr=False)
    timeout_s: float
    form: str
    cafile: Path | None = None


@asynccontextmanager
async def session(target: Target) -> AsyncIterator[GatewayClient]:
    """A context with an open session at the target's gateway."""
    parts = urllib.parse.urlsplit(target.gateway)
    if parts.netloc and parts.scheme not in ("coap", TLS_SCHEME):
        fix = f"give coap://HOST[:PORT] or {TLS_SCHEME}://HOST[:PORT]"
        raise WrongInput("can't ask that gateway", evidence=f"--gateway {target.gateway}", fix=fix)
    authority = parts.netloc or target.gateway
    over_tls = parts.scheme == TLS_SCHEME
    context = await aiocoap.Context.create_client_context(transports=["tlsclient" if over_tls else "udp6"])
    if over_tls:
        _trust(context, target.cafile)
    client = GatewayClient(context, authority, timeout_s=target.timeout_s, over_tls=over_tls)
    try:
        await client.open_session(target.token)
        yield client
        await client.close_session()
    finally:
        await context.shutdown()


def _trust(context: aiocoap.Context, cafile: Path | None) -> None:
    """Judge the gateway's certificate by this authority; by the system's when none is given."""
    try:
        tls = ssl.create_default_context(cafile=None if cafile is None else str(cafile))
    except (OSError, ssl.SSLError) as error:
        raise WrongInput("can't read --cafile", evidence=f"{cafile}: {error}", fix="give a PEM file") from None

    def tls_for(scheme: str, host: str) -> ssl.SSLContext:
        return tls

    credentials: Any = context.client_credentials
    credentials.ssl_client_context = tls_for


DEFAULT_GATEWAY: Final = "coap://127.0.0.1:5683"


@dataclass(frozen=True, slots=True)
class Asked:
    """Arguments and options of every sub-command."""

    device: Annotated[str, typer.Argument(help="MAC or host name of the device", metavar="DEVICE")]
    path: Annotated[str, typer.Argument(help="path and query, such as 'snsr/arduino/temp?sens'", metavar="PATH")]
    gateway: Annotated[str, typer.Option("--gateway", help="address of the gateway", envvar="MESHWIRE_GATEWAY")] = (
        DEFAULT_GATEWAY
    )
    token: Annotated[str | None, typer.Option("--token", help="token of the tenant", envvar="MESHWIRE_TOKEN")] = field(
        default=None, repr=False
    )
    tenant: Annotated[str, typer.Option("--tenant", help="without --token: sign one for this tenant")] = ""
    cafile: Annotated[
        Path | None,
        typer.Option("--cafile", help="PEM: who signed the gateway's certificate", envvar="MESHWIRE_COAP_CAFILE"),
    ] = None
    timeout_s: Annotated[float, typer.Option("--timeout", help="seconds to wait for an answer")] = 60.0


JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object a line")]
HexOption = Annotated[bool, typer.Option("--hex", help="payload as hexadecimal digits")]


def _target(asked: Asked, *, form: str) -> Target:
    try:
        mac = DeviceId.parse(asked.device)
        signed = asked.token or issue_token(TenantId(asked.tenant), DEFAULT_ROLES, ttl_s=3600, admin=False)
    except IdentityError as error:
        raise WrongInput("can't address that", evidence=str(error), fix="give a MAC, and --token or --tenant") from None
    return Target(mac, asked.path, asked.gateway, signed, asked.timeout_s, form, asked.cafile)


def _form(as_json: bool, as_hex: bool) -> str:
    return "json" if as_json else "hex" if as_hex else "text"


def _single(method: str, target: Target, payload: bytes = b"") -> None:
    async def run() -> None:
        async with session(target) as client:
            show(await client.request(method, target.device, target.path, payload), target.form)

    _run(run())


@app.command("get")
@with_groups
def get(asked: Asked, as_json: JsonOption = False, as_hex: HexOption = False) -> None:
    """Read a resource."""
    _single("GET", _target(asked, form=_form(as_json, as_hex)))


@app.command("put")
@with_groups
def put(asked: Asked, payload: PayloadOption = "", as_json: JsonOption = False) -> None:
    """Set a resource."""
    _single("PUT", _target(asked, form=_form(as_json, False)), octets_of(payload))


@app.command("post")
@with_groups
def post(asked: Asked, payload: PayloadOption = "", as_json: JsonOption = False) -> None:
    """Send data to a resource."""
    _single("POST", _target(asked, form=_form(as_json, False)), octets_of(payload))


@app.command("delete")
@with_groups
def delete(asked: Asked, as_json: JsonOption = False) -> None:
    """Delete a resource."""
    _single("DELETE", _target(asked, form=_form(as_json, False)))


@app.command("observe")
@with_groups
def observe(
    asked: Asked,
    count: Annotated[int | None, typer.Option("-C", "--count", help="end after so many notifications", min=1)] = None,
    as_json: JsonOption = False,
    as_hex: HexOption = False,
) -> None:
    """Print a resource now and whenever it changes, until Ctrl-C."""
    target = _target(asked, form=_form(as_json, as_hex))

    async def run() -> None:
        async with session(target) as client:
            request = client.build("GET", target.device, target.path)
            request.opt.observe = 0
            pending = client.context.request(request, handle_blockwise=False)
            async with asyncio.timeout(target.timeout_s):
                answer = await pending.response
            raise_for_code(answer)
            show(answer, target.form)
            left = None if count is None else count - 1
            if left == 0 or pending.observation is None:
                return
            async for notification in pending.observation:
                raise_for_code(notification)
                show(notification, target.form)
                if left is not None and (left := left - 1) == 0:
                    pending.observation.cancel()
                    return

    _run(run())


def show(answer: aiocoap.Message, form: str) -> None:
    """Print one answer on standard output; an empty one is its code on standard error."""
    payload: bytes = answer.payload
    content_format = answer.opt.content_format
    reading = decode_reading("", payload) if content_format == CBOR or payload[:1] == b"\xa2" else None
    if form == "json":
        record = {
            "code": answer.code.dotted if answer.code else None,
            "observe": answer.opt.observe,
            "content_format": None if content_format is None else int(content_format),
            "payload_hex": payload.hex(),
            "text": reading.text if reading else payload.decode(errors="replace"),
        }
        typer.echo(json.dumps(record, ensure_ascii=False))
    elif form == "hex":
        typer.echo(payload.hex())
    elif not payload:
        typer.echo(str(answer.code), err=True)
    elif reading is not None:
        typer.echo(reading.text)
    else:
        text = payload.decode(errors="replace")
        typer.echo(text if text.isprintable() or "\n" in text else payload.hex(" "))


def _run(work: Coroutine[object, object, None]) -> None:
    try:
        asyncio.run(work)
    except MeshwireError:
        raise
    except coap_error.NetworkError as error:
        raise NotReachable("the gateway does not answer", evidence=str(error), fix="start `meshwire gateway`") from None
    except (TimeoutError, coap_error.ConRetransmitsExceeded) as error:
        raise TimedOut("no answer in time", evidence=str(error), fix="raise --timeout") from None
