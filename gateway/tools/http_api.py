"""Asking the gateway's HTTP API as administrator: over TCP when a gateway runs, else in this very process.

Without a gateway at the default address, or with `--http local`, the same application answers here, on the registry's
own database: there is one implementation of every verb. A gateway that runs notices the change within a second.
"""

from __future__ import annotations

import getpass
import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from gateway.tools.errors import NotReachable, Refused, WrongInput
from meshwire.identity import DeviceId, IdentityError, TenantId
from meshwire.site import Site

__all__ = [
    "DEFAULT_HTTP",
    "Answer",
    "HttpOption",
    "JsonOption",
    "TenantOption",
    "admin_token",
    "ask",
    "call",
    "device_of",
    "everything",
    "quoted",
    "tenant_of",
]

DEFAULT_HTTP: Final = "http://127.0.0.1:8080"
LOCAL: Final = "local"
HttpOption = Annotated[
    str, typer.Option("--http", help="the gateway's HTTP API; local: the registry itself", envvar="MESHWIRE_HTTP")
]
TenantOption = Annotated[str, typer.Option("--tenant", "-T", help="tenant id")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object a line")]
TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    text: str

    @property
    def body(self) -> Any:
        """The text as JSON; None when it is empty."""
        return json.loads(self.text) if self.text else None


def admin_token() -> str:
    """A short-lived token of an administrator, signed with the site's key; it names who sits at the shell."""
    keys = Site.default().signing_keys()
    client = f"cli:{getpass.getuser()}"
    return keys.issue(TenantId("ssni"), (), now=time.time(), ttl_s=60, scope="api admin", client=client)


def ask(
    base: str,
    method: str,
    path: str,
    body: object = None,
    *,
    content_type: str = "application/json",
    running: bool = False,
) -> Answer:
    """One request as administrator.

    Args:
        base: URL of the API.
        method: of HTTP.
        path: with its query.
        body: what becomes JSON; a text goes as it is.
        content_type: of the body.
        running: only a gateway that runs can tell.

    Raises:
        NotReachable: nobody listens at `base`, and it is not the default or the gateway has to run.
    """
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    headers = {"Authorization": admin_token(), "Content-Type": content_type}
    if base == LOCAL:
        return _ask_here(method, path, text, headers)
    parts = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, text.encode(), headers)
        response = connection.getresponse()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()
        )
    except ConnectionRefusedError as error:
        if base != DEFAULT_HTTP or running:
            raise _unreachable(base, error) from None
    except OSError as error:
        raise _unreachable(base, error) from None
    finally:
        connection.close()
    typer.echo(f"no gateway at {base}: working on the registry itself", err=True)
    return _ask_here(method, path, text, headers)


def _ask_here(method: str, path: str, text: str, headers: Mapping[str, str]) -> Answer:
    # The application takes a second to import, which a running gateway saves.
    from gateway.tools.local_api import ask_here

    return Answer(*ask_here(method, path, text, headers))


def call(base: str, method: str, path: str, body: object = None, *, running: bool = False) -> Any:
    """One request as administrator; gives the answer's JSON. Arguments as for `ask`.

    Raises:
        NotReachable: see `ask`.
        Refused: an answer of 4xx or 5xx, with its words.
    """
    return expect(ask(base, method, path, body, running=running), f"{method} {path}").body


def expect(answer: Answer, what: str) -> Answer:
    """The answer, unless it is an error; raises Refused with its words."""
    if answer.status < 400:
        return answer
    try:
        detail = str(answer.body["detail"])
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:200]
    mend = "use the same state folder (MESHWIRE_STATE) as the gateway" if answer.status == 401 else "mend the request"
    raise Refused("the gateway refused", evidence=f"{what}: {answer.status} {detail}", fix=mend)


def everything(base: str, path: str, name: str) -> Iterator[dict[str, Any]]:
    """All entries of a list, page by page.

    Args:
        base: URL of the API.
        path: of the list, with its query.
        name: of the array in the answer.
    """
    following: str | None = path
    while following:
        answer = expect(ask(base, "GET", following), f"GET {path}")
        yield from answer.body[name]
        url = answer.headers.get("next_page")
        parts = urllib.parse.urlsplit(url) if url else None
        following = f"{parts.path}?{parts.query}" if parts else None


def quoted(path: str, **query: object) -> str:
    """A path with the arguments that are not None."""
    pairs = {name: str(value) for name, value in query.items() if value is not None}
    return f"{path}?{urllib.parse.urlencode(pairs)}" if pairs else path


def tenant_of(text: str) -> TenantId:
    """A tenant from the command line."""
    try:
        return TenantId(text)
    except IdentityError as error:
        raise WrongInput("not a tenant", evidence=str(error), fix="use letters, digits, _ and -") from None


def device_of(text: str) -> DeviceId:
    """A device from the command line."""
    try:
        return DeviceId.parse(text)
    except IdentityError as error:
        raise WrongInput("not a device", evidence=str(error), fix="give the MAC printed on the NIC") from None


def _unreachable(base: str, error: OSError) -> NotReachable:
    return NotReachable(
        "the gateway's HTTP API does not answer",
        evidence=f"{base}: {error}",
        fix="start `meshwire gateway`, or name its address with --http",
    )
