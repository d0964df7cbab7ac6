"""`meshwire explain` and `meshwire outbox`: where a notification is, what was lost, how large the store has to be.

`show` and `size` look at a gateway that runs; the others read the store itself when none does.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, cast

import typer

from gateway.tools.errors import Refused, WrongInput
from gateway.tools.http_api import DEFAULT_HTTP, HttpOption, JsonOption, call
from meshwire.errors import ExitCode
from meshwire.identity import DeviceId, IdentityError

__all__ = ["explain_app", "needed_octets", "outbox_app", "parse_duration_s"]

explain_app = typer.Typer(add_completion=False, help="Where a notification is, or how it ended.")
outbox_app = typer.Typer(add_completion=False, no_args_is_help=True, help="The store between NICs and broker.")

Fields = Mapping[str, object]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="how many, the newest first")]
STEPS: Final = (
    ("sampled_at", "sampled at the device"),
    ("received_at", "received by the gateway and stored in its outbox"),
    ("published_at", "published to the broker"),
    ("acknowledged_at", "acknowledged by the broker"),
    ("dropped_at", "dropped"),
)
DIRECT_STEPS: Final = (
    ("sampled_at", "sampled at the device"),
    ("received_at", "received by the gateway; a direct reading is not stored"),
    ("published_at", "published to the broker"),
    ("acknowledged_at", "taken, as the broker says"),
    ("dropped_at", "refused, the device keeps it"),
)
MARGIN: Final = 1.25
"""Rates of tomorrow are not quite those of today."""
TYPICAL_OCTETS: Final = 160.0
"""A record of 64 octets of payload, where nothing has been measured."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@explain_app.command()
def explain(
    what: Annotated[str, typer.Argument(help="MAC or host name of a device, or the key of one notification")],
    limit: LimitOption = 10,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """Tell where the device's latest notifications are, or how they ended; exit code 1 when nothing is known."""
    answer = call(http_url, "GET", f"/api/deliveries?{urllib.parse.urlencode(_query(what, limit))}")
    deliveries, refusals = _list(answer, "deliveries"), _list(answer, "refusals")
    for delivery in deliveries:
        typer.echo(json.dumps({"event": "delivery", **delivery}) if as_json else _told(delivery))
    for refusal in refusals:
        typer.echo(json.dumps({"event": "refusal", **refusal}) if as_json else _refused(refusal))
    if not deliveries and not refusals:
        typer.echo(f"the gateway knows nothing of {what}: it never came, or longer ago than the outbox keeps", err=True)
        raise typer.Exit(ExitCode.FAILURE)


@outbox_app.command("show")
def show(http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False) -> None:
    """Depth, age, octets, rate and losses of the store."""
    status = _status(http_url)
    outbox = cast("dict[str, object]", status["outbox"])
    losses = cast("dict[str, int]", status["losses"])
    if as_json:
        typer.echo(json.dumps({**outbox, "losses": losses, "connected": _connected(status)}))
        return
    octets, most = _number(outbox["octets"]), _number(outbox["maxOctets"])
    rate = cast(Fields, outbox["rate"])
    typer.echo(f"waiting     {outbox['depth']} notifications, the oldest for {_duration(_number(outbox['ageS']))}")
    typer.echo(f"octets      {octets:.0f} of {most:.0f} ({100 * octets / most:.1f} %)")
    typer.echo(f"coming in   {_number(rate['perS']):.3g}/s, {_number(rate['peakPerS']):.3g}/s in the busiest minute")
    typer.echo(f"broker      {'connected' if _connected(status) else 'not connected'}")
    typer.echo(f"damage      {outbox['damaged']} records, {outbox['tornOctets']} octets torn")
    told = ", ".join(f"{times} {reason}" for reason, times in losses.items())
    typer.echo(f"lost        {told or 'nothing'} (since start; `meshwire outbox losses` lists them)")


@outbox_app.command("losses")
def losses(limit: LimitOption = 100, http_url: HttpOption = DEFAULT_HTTP, as_json: JsonOption = False) -> None:
    """List what was acknowledged to a NIC and did not reach the broker, with the reason."""
    for loss in _list(call(http_url, "GET", f"/api/losses?limit={limit}"), "losses"):
        if as_json:
            typer.echo(json.dumps(loss))
            continue
        what = loss["key"] or f"record {loss['sequence']}, which can't be read"
        typer.echo(f"{_time(loss['lost_at'])}  {loss['reason']:<24}  {loss['tenant'] or '-':<16}  {what}")


@outbox_app.command("size")
def size(
    offline: Annotated[str, typer.Option("--offline", help="how long the broker may be away: 90s, 30m, 6h, 2d")],
    rate: Annotated[
        float | None, typer.Option("--rate", min=0, help="notifications a second; default: the busiest minute measured")
    ] = None,
    octets: Annotated[
        float | None, typer.Option("--octets", min=1, help="octets of one in the outbox; default: as measured")
    ] = None,
    http_url: HttpOption = DEFAULT_HTTP,
    as_json: JsonOption = False,
) -> None:
    """Say how large the outbox has to be, so that an absent broker costs nothing."""
    seconds = parse_duration_s(offline)
    limit: float | None = None
    measured: Fields = {}
    if rate is None or octets is None:
        outbox = cast("dict[str, object]", _status(http_url)["outbox"])
        measured, limit = cast(Fields, outbox["rate"]), _number(outbox["maxOctets"])
    if rate is None and not _number(measured.get("peakPerS", 0)):
        raise Refused(
            "nothing has come in yet, so there is no rate to go by",
            evidence=f"{_number(measured.get('overS', 0)):.0f} s looked at",
            fix="give the rate: --rate NOTIFICATIONS_A_SECOND",
        )
    per_s = _number(measured["peakPerS"]) if rate is None else rate
    each = octets or _number(measured.get("octetsEach", 0)) or TYPICAL_OCTETS
    needed = needed_octets(seconds, per_s, each)
    if as_json:
        record = {"offlineS": seconds, "perS": per_s, "octetsEach": each, "maxOctets": needed, "configured": limit}
        typer.echo(json.dumps(record))
        return
    typer.echo(f"{per_s:.4g}/s of {each:.0f} octets for {_duration(seconds)}, and a quarter more: {needed} octets")
    typer.echo(f"[gateway.outbox]\nmax_octets = {needed}")
    if limit is not None and per_s:
        lasts = limit / (per_s * each * MARGIN)
        typer.echo(
            f"now: {limit:.0f} octets, enough for {_duration(lasts)}" + ("" if lasts >= seconds else ": too small")
        )


def needed_octets(seconds: float, per_s: float, octets_each: float) -> int:
    """What has to fit, with a margin, in whole MiB."""
    return max(1, -(-int(seconds * per_s * octets_each * MARGIN) // (1 << 20))) << 20


def parse_duration_s(text: str) -> float:
    """`90s`, `30m`, `6h`, `2d` or several of them in a row, in seconds; a number alone means seconds."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise WrongInput("not a duration", evidence=repr(text), fix="write 90s, 30m, 6h or 2d")
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def _query(what: str, limit: int) -> dict[str, object]:
    mac, slash, _ = what.partition("/")
    try:
        device = DeviceId.parse(mac)
    except IdentityError as error:
        raise WrongInput(
            "neither a device nor the key of a notification",
            evidence=str(error),
            fix="give the MAC, or MAC/PATH/EPOCH/SEQUENCE as in the user property `key`",
        ) from None
    return {"device": device.value, "limit": limit} | ({"key": device.value + what[len(mac) :]} if slash else {})


def _told(delivery: Fields) -> str:
    lines = [f"{delivery['key']}  {str(delivery['state']).upper()}  tenant {delivery['tenant']}"]
    for name, meaning in DIRECT_STEPS if delivery["direct"] else STEPS:
        if delivery[name] is not None:
            reason = f": {delivery['reason']}" if name == "dropped_at" else ""
            lines.append(f"  {_time(delivery[name])}  {meaning}{reason}")
    if delivery["state"] == "acknowledged" and delivery["acknowledged_at"] is None:
        lines.append(f"  {'':<24}  acknowledged by the broker (longer ago than times are kept)")
    if delivery["state"] in ("outbox", "published"):
        waits = "the broker's acknowledgement" if delivery["state"] == "published" else "its turn, or for the broker"
        lines.append(f"  {'now':<24}  waits for {waits}")
    return "\n".join(lines)


def _refused(refusal: Fields) -> str:
    return (
        f"{refusal['device']}  REFUSED  {refusal['times']} times: {refusal['reason']}, "
        f"last {_time(refusal['last_at'])} from {refusal['source']}"
    )


def _status(http_url: str) -> dict[str, object]:
    return cast("dict[str, object]", call(http_url, "GET", "/api/status", running=True))


def _connected(status: Fields) -> bool:
    return bool(cast(Fields, status["bridge"])["connected"])


def _list(answer: Fields, name: str) -> Sequence[Fields]:
    return cast("Sequence[Fields]", answer.get(name, []))


def _number(value: object) -> float:
    return float(cast(float, value))


def _time(value: object) -> str:
    return datetime.fromtimestamp(_number(value), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
