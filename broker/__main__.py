"""`meshwire broker`: the broker as a process of its own."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.server import Broker
from broker.settings import BrokerSettings
from meshwire.cli import main
from meshwire.config import load_config, read_settings
from meshwire.logs import tell
from meshwire.long_running import settle
from meshwire.systemd import Systemd

__all__ = ["app"]

app = typer.Typer(add_completion=False, help="The MQTT broker: 3.1, 3.1.1 and 5.0, tenants kept apart by roles.")


@app.callback(
    invoke_without_command=True,
    epilog="The policy for brokers of other makers, over HTTP: `meshwire broker authority`.",
)
def run(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", envvar="MESHWIRE_CONFIG", help="Configuration (TOML, section broker); none: loopback."
        ),
    ] = None,
) -> None:
    """Serve until interrupted. The ports are told on stderr, one line, when clients may connect."""
    settings = read_settings(BrokerSettings, "broker", load_config(config))
    asyncio.run(_serve(Broker(settings)))


async def _serve(broker: Broker) -> None:
    """SIGINT and SIGTERM end the broker in order, with exit code 0; so does SIGHUP when a terminal is closed."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not under nohup
        loop.add_signal_handler(signal.SIGHUP, stop if sys.stdin.isatty() else _tell_of_reloading)
    settle()
    try:
        async with asyncio.TaskGroup() as group:
            announcement = group.create_task(_announce(broker))
            systemd = group.create_task(Systemd().run(broker.ready, "serving MQTT clients"))
            try:
                await broker.run()
            finally:
                announcement.cancel()
                systemd.cancel()
    except asyncio.CancelledError:
        if not stopping:
            raise
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _tell_of_reloading() -> None:
    """What a service manager means by SIGHUP happens by itself."""
    tell("SIGHUP: changed users, roles, keys and certificates are in use within a second; settings need a restart")


async def _announce(broker: Broker) -> None:
    await broker.ready.wait()
    listening = [
        f"{item.kind} on {item.host}:{port}" for item, port in zip(broker.settings.listener, broker.ports, strict=True)
    ]
    tell(f"broker ready: {', '.join(listening)}")


if __name__ == "__main__":
    sys.exit(main(["broker", *sys.argv[1:]]))
