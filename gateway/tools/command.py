"""`meshwire command`: commands to devices. Without a gateway stored ones are put down for the next one that starts.

DEVICE is a MAC or a host name. What is sent to several devices (`--tag`, `--all`, `--devices`) is a group with a
progress of its own. Exit code 0 when the command was accepted, or with `--wait` when the device has answered with
success; else the code says what came in its place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.commands.errors import CommandError
from gateway.commands.updates import FIRMWARE_PATH, WEEK_S, update_body
from gateway.tools.errors import DeviceAnswer, Refused, TimedOut, WrongInput
from gateway.tools.http_api import (
    DEFAULT_HTTP,
    Answer,
    HttpOption,
    JsonOption,
    ask,
    device_of,
    expect,
    quoted,
    tenant_of,
)
from gateway.tools.payload import PayloadOption, is_text, octets_of
from meshwire.errors import ExitCode
from meshwire.option_group import with_groups

__all__ = ["CommandEnded", "app"]

app = typer.Typer(
    add_completion=False,
    help="Commands to devices: send, list, show, cancel, move; groups of devices.",
    no_args_is_help=True,
)
group_app = typer.Typer(add_completion=False, help="Commands to several devices at once.", no_args_is_help=True)
app.add_typer(group_app, name="group")

BASE: Final = "/api/solutions/meshwire"
DeviceArgument = Annotated[str, typer.Argument(help="MAC or host name", metavar="DEVICE")]
IdArgument = Annotated[str, typer.Argument(help="id of the command", metavar="ID")]
WaitOption = Annotated[float, typer.Option("--wait", help="wait so many seconds for its end", min=0, max=50)]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which devices a group is; false: it is none."""

    tag: Annotated[str | None, typer.Option("--tag", help="to all devices with this tag")] = None
    all: Annotated[bool, typer.Option("--all", help="to all devices of --tenant")] = False
    devices: Annotated[str | None, typer.Option("--devices", help="to these, separated by commas")] = None
    type: Annotated[str | None, typer.Option("--type", help="with --tag or --all: only of this type")] = None
    tenant: Annotated[str | None, typer.Option("--tenant", "-T", help="with --tag or --all: whose devices")] = None

    def __bool__(self) -> bool:
        return self.tag is not None or self.all or self.devices is not None

    def document(self) -> dict[str, Any]:
        """As the API takes it; raises WrongInput."""
        select: dict[str, Any] = {"tag": self.tag, "all": self.all, "type": self.type}
        if self.devices is not None:
            return select | {"devices": [device_of(each).value for each in self.devices.split(",")]}
        if self.tenant is None:
            raise WrongInput("whose devices?", evidence="--tag or --all", fix="name --tenant")
        return select | {"tenant": tenant_of(self.tenant).value}


class CommandEnded(CommandError):
    """A command ended without an answer of the device."""

    default_code = "MW-CMD-009"
    exit_code = ExitCode.FAILURE


@app.command("send")
@with_groups
def send(
    words: Annotated[list[str], typer.Argument(help="DEVICE METHOD PATH; METHOD PATH with --tag, --all or --devices")],
    payload: PayloadOption = "",
    content_format: Annotated[int | None, typer.Option("--content-format", help="CoAP Content-Format")] = None,
    stored: Annotated[bool, typer.Option("--stored", help="keep it until the device returns; needs --ttl")] = False,
    ttl: Annotated[float | None, typer.Option("--ttl", help="life in seconds")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="cancel older ones for the same method and path")] = False,
    idempotent: Annotated[
        bool, typer.Option("--idempotent", help="may be sent again when its outcome is not known")
    ] = False,
    id: Annotated[str | None, typer.Option("--id", help="your own name for it; taken once")] = None,
    *,
    selection: Selection,
    wait: WaitOption = 0.0,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """Send a command: direct (rejected at once when the device can't be reached), or stored."""
    if len(words) != (2 if selection else 3):
        raise WrongInput("the command is not complete", evidence=" ".join(words), fix="write DEVICE METHOD PATH")
    method, path = words[-2:]
    order: dict[str, Any] = {
        "method": method,
        "path": path,
        **_payload(payload),
        "contentFormat": content_format,
        "mode": "stored" if stored else "direct",
        "ttl": ttl,
        "replace": replace,
        "idempotent": idempotent,
        "id": id,
    }
    if selection:
        _send_to_many(order, selection, wait, http_url, as_json)
    else:
        _send_to_one(order, words[0], wait, http_url, as_json)


@app.command("update")
@with_groups
def update(
    image: Annotated[Path, typer.Argument(help="the image", metavar="IMAGE", exists=True, dir_okay=False)],
    device: Annotated[str | None, typer.Argument(help="MAC or host name", metavar="[DEVICE]")] = None,
    path: Annotated[str, typer.Option("--path", help="where boards take it; {sha256}: its digest")] = FIRMWARE_PATH,
    ttl: Annotated[float, typer.Option("--ttl", help="so many seconds to reach devices that are away")] = WEEK_S,
    *,
    selection: Selection,
    wait: WaitOption = 0.0,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """Bring a software image to one device or many: a stored command in blocks, in the place of an older update."""
    order = update_body(image.read_bytes(), path, ttl)
    if bool(selection) is (device is not None):
        raise WrongInput("which devices?", evidence=device or "none", fix="name DEVICE, or --tag, --all or --devices")
    if selection:
        _send_to_many(order, selection, wait, http_url, as_json)
    else:
        _send_to_one(order, str(device), wait, http_url, as_json)


@app.command("list")
def list_commands(
    device: Annotated[str | None, typer.Argument(help="only of this device", metavar="[DEVICE]")] = None,
    everything: Annotated[bool, typer.Option("--all", help="those that have ended, too")] = False,
    limit: Annotated[int, typer.Option("-n", help="at most so many", min=1, max=10_000)] = 1000,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """List commands that have not ended: of one device in its order, else the youngest first."""
    place = f"{BASE}/commands" if device is None else f"{BASE}/devices/{device_of(device).value}/commands"
    path = quoted(place, state="all" if everything else "open", limit=limit)
    for command in _call(http_url, "GET", path).body["commands"]:
        typer.echo(json.dumps(command) if as_json else _line(command))


@app.command("show")
def show(
    device: DeviceArgument,
    id: IdArgument,
    wait: WaitOption = 0.0,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """Show a command and what has happened to it."""
    answer = _call(http_url, "GET", quoted(_place(device, id), wait=wait or None)).body
    typer.echo(json.dumps(answer) if as_json else "\n".join([_line(answer), *map(_event_line, answer["events"])]))


@app.command("cancel")
def cancel(
    device: DeviceArgument, id: IdArgument, http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False
) -> None:
    """Take a command back that was not sent yet."""
    answer = _call(http_url, "DELETE", _place(device, id)).body
    typer.echo(json.dumps(answer) if as_json else _line(answer))


@app.command("move")
def move(
    device: DeviceArgument,
    id: IdArgument,
    position: Annotated[int, typer.Argument(help="0: the next one", min=0)],
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """Give a waiting command another place in its device's queue."""
    answer = _call(http_url, "PUT", f"{_place(device, id)}/position", {"position": position}).body
    typer.echo(json.dumps(answer) if as_json else _line(answer))


@group_app.command("show")
def show_group(
    id: Annotated[str, typer.Argument(metavar="GROUP")],
    wait: WaitOption = 0.0,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """Show a group's progress and the result of each device."""
    _show_group(_call(http_url, "GET", quoted(f"{BASE}/command-groups/{id}", wait=wait or None)).body, as_json)


@group_app.command("cancel")
def cancel_group(
    id: Annotated[str, typer.Argument(metavar="GROUP")],
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """Take back what of a group was not sent yet."""
    _show_group(_call(http_url, "DELETE", f"{BASE}/command-groups/{id}").body, as_json)


# --- inside


def _send_to_one(order: dict[str, Any], device: str, wait: float, http_url: str, as_json: bool) -> None:
    place = quoted(f"{BASE}/devices/{device_of(device).value}/commands", wait=wait or None)
    _tell(_call(http_url, "POST", place, order), as_json)


def _send_to_many(order: dict[str, Any], selection: Selection, wait: float, http_url: str, as_json: bool) -> None:
    body = {"select": selection.document(), "command": order}
    group = _call(http_url, "POST", f"{BASE}/command-groups", body).body
    if wait:
        group = _call(http_url, "GET", quoted(f"{BASE}/command-groups/{group['id']}", wait=wait)).body
    _show_group(group, as_json)


def _place(device: str, id: str) -> str:
    return f"{BASE}/devices/{device_of(device).value}/commands/{id}"


def _call(base: str, method: str, path: str, body: object = None) -> Answer:
    answer = ask(base, method, path, body)
    if answer.status == 503 and isinstance(answer.body, dict):
        detail, code = str(answer.body.get("detail")), answer.body.get("code")
        raise Refused("not now", evidence=detail, fix="try later, or --stored with --ttl", code=code)
    return expect(answer, f"{method} {path}")


def _payload(said: str) -> dict[str, str]:
    if is_text(said):
        return {"payload": said} if said else {}
    return {"payloadHex": octets_of(said).hex()}


def _tell(answer: Answer, as_json: bool) -> None:
    """Show a command that was sent; how it ended becomes the exit code."""
    command = answer.body
    typer.echo(json.dumps(command) if as_json else _line(command))
    if not command["final"]:
        return
    result = command.get("result", {})
    if command["state"] == "answered":
        if not result["success"]:
            words = f"{result['code']} {result.get('payload', '')}".strip()
            raise DeviceAnswer("the device answered with an error", evidence=words, fix="see its documentation")
        return
    reason = f"{command['state']}: {result.get('hop', 'gateway')}: {result.get('reason', 'its time was over')}"
    if command["state"] == "expired":
        raise TimedOut("the command was not delivered in its time", evidence=reason, fix="give it a longer --ttl")
    raise CommandEnded("the command has no answer", evidence=reason, fix="see the hop that is named")


def _line(command: dict[str, Any]) -> str:
    parts = [command["device"], command["id"], f"{command['method']} {command['path']}", command["state"]]
    if "position" in command:
        parts.append(f"position {command['position']}")
    return "  ".join([*parts, *_outcome(command.get("result", {}))])


def _event_line(event: dict[str, Any]) -> str:
    return "  ".join([f"  {event['time']:.3f}", event["event"], *_outcome(event)])


def _outcome(document: dict[str, Any]) -> list[str]:
    """Code, payload (in hexadecimal digits when it is no text), hop and reason, as far as there are any."""
    payload = "payload" if "payload" in document else "payloadHex"
    return [str(document[name]) for name in ("code", payload, "hop", "reason") if name in document]


def _show_group(group: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(group))
        return
    states = ", ".join(f"{count} {state}" for state, count in sorted(group["states"].items()))
    typer.echo(f"{group['id']}  {group['selector']}  {group['ended']} of {group['devices']} ended  {states}")
    for command in group.get("commands", []):
        typer.echo("  " + _line(command))
