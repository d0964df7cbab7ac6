"""Asking the gateway's HTTP API as administrator: over TCP when a gateway runs, else in this very process.

Every administration verb goes through `ask`. A gateway that works on the same state folder says there where its API
is (`gateway.site_use`); when none does, the same application answers here, on the site's own data, which no gateway can
take meanwhile: there is one implementation of every verb. `--http URL` asks that gateway and nobody else, `--http
local` works on the data in any case; a gateway that runs notices the change within a second.
"""

from __future__ import annotations

import functools
import getpass
import http.client
import json
import re
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from gateway.site_use import GatewayRuns, hold_alone
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

AUTO: Final = "auto"
DEFAULT_HTTP: Final = AUTO
LOCAL: Final = "local"
HttpOption = Annotated[
    str,
    typer.Option(
        "--http",
        help="URL of a gateway's HTTP API; auto: the one that runs on this state folder, else its data; local: these",
        envvar="MESHWIRE_HTTP",
    ),
]
TenantOption = Annotated[str, typer.Option("--tenant", "-T", help="tenant id")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object a line")]
_WITH_CODE: Final = re.compile(r"(?P<words>.*; do: .*) \[(?P<code>MW-[A-Z]{3}-[0-9]{3})\]", re.DOTALL)
"""An answer that says by itself what to do."""
_MENDS: Final = {
    401: "use the same state folder (MESHWIRE_STATE) as the gateway",
    404: "name one that there is: `list` shows them",
    409: "look at what there is: `list` and `show`",
    429: "wait a little, and try again",
}
"""What to do after a status whose answer does not say it."""
TIMEOUT_S: Final = 60
TRIES: Final = 5
PAUSE_S: Final = 0.1


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
        base: URL of the API, `auto` or `local`.
        method: of HTTP.
        path: with its query.
        body: what becomes JSON; a text goes as it is.
        content_type: of the body.
        running: only a gateway that runs can tell.

    Raises:
        NotReachable: nobody answers at the URL, or no gateway runs and one has to.
    """
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    headers = {"Authorization": admin_token(), "Content-Type": content_type}
    if base not in (AUTO, LOCAL):
        if not _is_url(base):
            fix = f"give http://HOST:PORT, {AUTO} or {LOCAL}"
            raise WrongInput("can't ask that gateway", evidence=f"--http {base}", fix=fix)
        try:
            return _ask_there(base, method, path, text, headers)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(base, error) from None
    if running and base == LOCAL:
        raise _none_runs("--http local")
    return _ask_site(method, path, text, headers, running=running, local=base == LOCAL)


def _is_url(base: str) -> bool:
    """Whether this is the URL of an HTTP server."""
    try:
        parts = urllib.parse.urlsplit(base)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _ask_site(method: str, path: str, text: str, headers: Mapping[str, str], *, running: bool, local: bool) -> Answer:
    """The gateway that works on our state folder, or its data when there is none."""
    site = Site.default()
    for left in range(TRIES - 1, -1, -1):
        try:
            with hold_alone(site):
                if running:
                    raise _none_runs(str(site.state_dir))
                if not local:
                    _say_once(f"no gateway runs on {site.state_dir}: working on its data")
                return _ask_here(method, path, text, headers, alone=True)
        except GatewayRuns as runs:
            if local or not runs.url:
                if running:
                    raise _none_runs("the gateway that runs has no HTTP API (gateway.http)") from None
                return _ask_here(method, path, text, headers, alone=False)
            try:
                return _ask_there(runs.url, method, path, text, headers)
            except ConnectionRefusedError as error:
                if not left:
                    raise _unreachable(runs.url, error) from None
                time.sleep(PAUSE_S)  # it ends just now
            except OSError as error:
                raise _unreachable(runs.url, error) from None
    raise AssertionError


def _ask_there(base: str, method: str, path: str, text: str, headers: Mapping[str, str]) -> Answer:
    parts = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, text.encode(), dict(headers))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read().decode())
    finally:
        connection.close()


@functools.cache
def _say_once(line: str) -> None:
    typer.echo(line, err=True)


def _ask_here(method: str, path: str, text: str, headers: Mapping[str, str], *, alone: bool) -> Answer:
    # The application takes a second to import, which a running gateway saves.
    from gateway.tools.local_api import ask_here

    return Answer(*ask_here(method, path, text, headers, alone=alone))


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
    if own := _WITH_CODE.fullmatch(detail):
        raise Refused(own["words"], code=own["code"])
    raise Refused(
        "the request was refused",
        evidence=f"{what}: {answer.status} {detail}",
        fix=_MENDS.get(answer.status, "mend the request"),
    )


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


def _unreachable(base: str, error: Exception) -> NotReachable:
    return NotReachable(
        "the gateway's HTTP API does not answer",
        evidence=f"{base}: {str(error).strip() or type(error).__name__}",
        fix="start `meshwire gateway`, or name its address with --http",
    )


def _none_runs(evidence: str) -> NotReachable:
    return NotReachable(
        "only a gateway that runs can tell",
        evidence=evidence,
        fix="start `meshwire gateway` on this state folder (MESHWIRE_STATE), or name its address with --http",
    )
