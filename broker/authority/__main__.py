"""`meshwire broker authority`: the policy as a process of its own, for brokers of other makers."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.adapters.capabilities import check
from broker.authority.service import Authority
from broker.authority.settings import AuthoritySettings
from broker.settings import BrokerSettings
from meshwire.cli import main
from meshwire.config import load_config, read_settings
from meshwire.logs import tell

__all__ = ["app", "authority", "verb_app"]

app = typer.Typer(add_completion=False, help="The broker's policy as a service for RabbitMQ, EMQX, VerneMQ, Mosquitto.")
"""`meshwire broker-authority`, the same in one word."""
verb_app = typer.Typer(add_completion=False)
"""Has the verb `authority` of `meshwire broker`."""


@verb_app.callback()
def broker() -> None:
    """The MQTT broker, and its policy for brokers of other makers."""


@app.callback(invoke_without_command=True)
@verb_app.command()
def authority(
    config: Annotated[
        Path | None,
        typer.Option("--config", envvar="MESHWIRE_CONFIG", help="Configuration (TOML, sections authority and broker)."),
    ] = None,
) -> None:
    """Serve the broker's policy to RabbitMQ, EMQX, VerneMQ, Mosquitto until interrupted. The address is told on stderr,
    one line, when brokers may ask.
    """
    tree = load_config(config)
    settings = read_settings(AuthoritySettings, "authority", tree)
    if settings.engine is not None:
        check(settings.engine, tree)
    asyncio.run(_serve(Authority(settings, read_settings(BrokerSettings, "broker", tree))))


async def _serve(service: Authority) -> None:
    """SIGINT and SIGTERM end the authority in order, with exit code 0."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    serving = asyncio.create_task(service.run())
    announcing = asyncio.create_task(_announce(service))
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    for task in (announcing, waiting):
        task.cancel()
    if serving.done():
        await serving
        return
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def _announce(service: Authority) -> None:
    await service.ready.wait()
    tell(f"authority ready: http on {service.settings.host}:{service.port}")


if __name__ == "__main__":
    sys.exit(main(["broker-authority", *sys.argv[1:]]))
