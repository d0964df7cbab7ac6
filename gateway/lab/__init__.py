"""`meshwire demo`: a whole site on this machine, in one command.

The lab is the assembly of all components; it is the only package besides the process files that may import them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from gateway.lab.keys import ReplaceKey
from gateway.lab.plan import PlannedDevice, plan_devices
from gateway.lab.site import DemoSite
from gateway.lab.subscriber import Arrival
from gateway.lab.view import JsonView, LineView, ReadySite, TableView, View
from meshwire.errors import MeshwireError
from meshwire.identity import DeviceId, IdentityError

__all__ = ["CATALOGUE", "app"]

app = typer.Typer(
    add_completion=False, help="A whole site on this machine: boards on real ptys, NICs, gateway, broker, readings."
)

CATALOGUE: Final = {
    "MW-DEM-001": "The demo ended and no reading arrived, or a board stayed silent; the message names the boards.",
    "MW-DEM-002": "`--replace` takes MAC=PORT, such as 0013500500470002=/dev/serial/by-id/….",
}
ALL_BOARDS_WITHIN_S: Final = 20.0
"""A run at least this long must have heard every board; a shorter one, any board."""


class NoData(MeshwireError):
    """The demo ran and data did not flow as they should."""

    default_code = "MW-DEM-001"


@dataclass(slots=True)
class Tally:
    """Counts readings by device and passes each on to the view."""

    view: View
    devices: tuple[PlannedDevice, ...]
    counts: dict[DeviceId, int] = field(default_factory=dict)

    def ready(self, site: ReadySite) -> None:
        """The site runs."""
        self.view.ready(site)

    def reading(self, arrival: Arrival) -> None:
        """A subscriber got a message."""
        self.counts[arrival.mac] = self.counts.get(arrival.mac, 0) + 1
        self.view.reading(arrival)

    def judge(self, ran_s: float) -> None:
        """Raise NoData unless data flowed (see ALL_BOARDS_WITHIN_S)."""
        silent = [device for device in self.devices if device.mac not in self.counts]
        if silent and (not self.counts or ran_s >= ALL_BOARDS_WITHIN_S):
            names = ", ".join(f"{device.mac} ({device.port or device.profile})" for device in silent)
            raise NoData(
                "data did not flow",
                evidence=f"no reading in {ran_s:.0f} s from {names}",
                fix="a replaced board: see `meshwire ports`, its wiring and rate; else run with -v and look at the log",
            )


@app.callback(invoke_without_command=True)
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="lines even on a terminal")] = False,
    for_s: Annotated[float | None, typer.Option("--for", help="end after so many seconds", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line: `ready`, then readings")] = False,
    seed: Annotated[int, typer.Option("--seed", help="for the boards' values")] = 1,
    replace: Annotated[list[str] | None, typer.Option("--replace", help="MAC=PORT: a real board, repeatable")] = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="keep the site's state in this folder")] = None,
    nics: Annotated[int, typer.Option("--nics", help="how many NICs with a board each", min=1, max=500)] = 5,
) -> None:
    """Run a site until Ctrl-C; exit code 0 only if data flowed (after 20 s: from every board)."""
    devices = tuple(plan_devices(nics, _replacements(replace or [])))
    tally = Tally(_view(as_json, headless), devices)
    with _state_folder(keep) as folder:
        ran_s = asyncio.run(_run_for(devices, folder, seed, tally, for_s))
    tally.judge(ran_s)


def _view(as_json: bool, headless: bool) -> View:
    if as_json:
        return JsonView()
    if headless or not sys.stdout.isatty():
        return LineView()
    return TableView(Console(no_color=bool(os.environ.get("NO_COLOR"))))


def _replacements(texts: list[str]) -> dict[DeviceId, str]:
    replacements: dict[DeviceId, str] = {}
    for text in texts:
        mac, separator, port = text.partition("=")
        try:
            if not (separator and port):
                raise IdentityError(f"{text!r} has no =PORT")
            replacements[DeviceId.parse(mac)] = port
        except IdentityError as error:
            raise typer.BadParameter(f"{error}; give MAC=PORT [MW-DEM-002]", param_hint="--replace") from None
    return replacements


@contextlib.contextmanager
def _state_folder(keep: Path | None) -> Iterator[Path]:
    """The folder that was asked for, or one that is gone when the demo is."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    folder = Path(tempfile.mkdtemp(prefix="meshwire-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run_for(
    devices: tuple[PlannedDevice, ...], folder: Path, seed: int, tally: Tally, for_s: float | None
) -> float:
    """Run the site until time is over or somebody ends it; gives the seconds since it was ready."""
    view = tally.view
    site = DemoSite(devices, folder, seed=seed, on_arrival=tally.reading, on_replaced=view.replaced)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    started_at: list[float] = []

    def on_ready(ready: ReadySite) -> None:
        started_at.append(loop.time())
        tally.ready(ready)
        if for_s is not None:
            loop.call_later(for_s, ended.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    running = asyncio.create_task(site.run(on_ready))
    waiting = asyncio.create_task(ended.wait())
    keys = asyncio.create_task(ReplaceKey(site.boards, view).run()) if isinstance(view, TableView) else None
    try:
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        ending = [task for task in (waiting, running, keys) if task is not None]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        tally.view.close()
    return loop.time() - started_at[0] if started_at else 0.0
