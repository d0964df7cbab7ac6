"""`meshwire nic`: one NIC on one sensor board.

The only file of this component that may use `hardware`, and only to open a port.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from hardware.port_spec import parse_port
from hardware.ports import open_port
from hardware.wake_line import WakeInput
from meshwire.cli import main
from meshwire.config import load_config, read_settings
from meshwire.control import ControlSocket
from meshwire.errors import ExitCode
from meshwire.pipe import Pipe
from nic_sim.board_line import OpenPipe, ResetAction
from nic_sim.board_profile import ProfileName
from nic_sim.control import NIC, NicControl
from nic_sim.errors import NoBoardNamed
from nic_sim.nic import Nic
from nic_sim.observation import Delivery
from nic_sim.settings import NicSettings

__all__ = ["app"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_OBSERVE_HELP = "PATH[?QUERY][,DELIVERY], may be repeated: snsr/arduino/temp (the query is `sens` unless one is given)."
_SERIAL_HELP = (
    "PORT of the board: device path, socket://, rfc2217://, pty[:LINK], sim://PROFILE?sensor=temp, fault+PORT."
)


@app.command()
def nic(
    mac: Annotated[str | None, typer.Option(help="The NIC's EUI-64, such as 001350050047dd92.")] = None,
    serial: Annotated[str | None, typer.Option(help=_SERIAL_HELP)] = None,
    gateway: Annotated[str | None, typer.Option(help="coap://HOST[:PORT], where readings go.")] = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT of the CoAP server; port 0: any.")] = None,
    observe: Annotated[list[str] | None, typer.Option(help=_OBSERVE_HELP)] = None,
    delivery: Annotated[Delivery | None, typer.Option(help="Where notifications go.")] = None,
    profile: Annotated[ProfileName | None, typer.Option(help="The kind of board.")] = None,
    poll: Annotated[float | None, typer.Option(help="Seconds between polls of the board.")] = None,
    wake: Annotated[WakeInput | None, typer.Option(help="Input that the wake line is wired to.")] = None,
    baud: Annotated[int | None, typer.Option(help="Line rate of the serial port.")] = None,
    silent_after: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Alarm when the board says nothing for so long.")
    ] = None,
    reset_after: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Reset the board when it says nothing for so long.")
    ] = None,
    reset_action: Annotated[
        ResetAction | None, typer.Option(help="How: open the port again, or pulse a line first.")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="HOST:PORT of GET /metrics (Prometheus).")] = None,
    oscore_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="OSCORE key of `meshwire device provision`.")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="Folder of this NIC's state.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; its section nic.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes random waits and instruments repeatable.")] = None,
) -> None:
    """One NIC on one board: CoAP proxy, persistent observes, bubble-up to the gateway; ends on Ctrl-C."""
    settings = read_settings(
        NicSettings,
        "nic",
        load_config(config),
        mac=mac,
        serial=serial,
        gateway=gateway,
        listen=listen,
        observe=observe or None,
        delivery=delivery,
        profile=profile,
        poll_s=poll,
        wake=None if wake is None else wake.value,
        baud=baud,
        silent_after_s=silent_after,
        reset_after_s=reset_after,
        reset_action=reset_action,
        metrics=metrics,
        oscore_key_file=oscore_key,
        state_dir=state,
        seed=seed,
    )
    if settings.serial is None:
        raise NoBoardNamed(
            "the NIC has no board",
            evidence="neither --serial nor serial in [nic]",
            fix="name the port, such as --serial /dev/ttyUSB0 or --serial 'sim://milli-1.4.8?sensor=temp'",
        )
    parse_port(settings.serial)  # a port that can't be understood is refused here; one that is absent is tried for ever
    asyncio.run(_run_until_signal(settings, settings.serial))


async def _run_until_signal(settings: NicSettings, port: str) -> None:
    """Run the NIC; SIGINT and SIGTERM cancel it, so that its state is saved."""

    def opener(uri: str) -> OpenPipe:
        parse_port(uri)

        async def open_pipe() -> Pipe:
            return await open_port(uri, baud=settings.baud, wake=WakeInput(settings.wake))

        return open_pipe

    board = Nic(settings, opener(port))
    control = NicControl(board, opener)
    socket = await ControlSocket.open(NIC, control.describe, control.carry_out)
    task = asyncio.create_task(board.run())
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        if socket is not None:
            socket.close()
    if signal.SIGINT in received:
        raise typer.Exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main(["nic", *sys.argv[1:]]))
