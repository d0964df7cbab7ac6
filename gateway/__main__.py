"""`meshwire gateway`: the gateway as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.gateway import Gateway
from gateway.settings import GatewaySettings
from meshwire.cli import main
from meshwire.config import load_config, read_settings
from meshwire.logs import tell
from meshwire.long_running import settle
from meshwire.systemd import Systemd

__all__ = ["app"]

app = typer.Typer(add_completion=False, help="The CoAP gateway and its bridge to MQTT.")


@app.callback(invoke_without_command=True)
def run(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", envvar="MESHWIRE_CONFIG", help="Configuration (TOML, section gateway); none: loopback."
        ),
    ] = None,
    port: Annotated[int | None, typer.Option("--port", help="UDP port for CoAP; 0: any.")] = None,
    http: Annotated[str | None, typer.Option("--http", help="HOST:PORT of the HTTP API; port 0: any.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Tell the ports as one JSON object on stdout.")] = False,
) -> None:
    """Serve until interrupted. The ports are told, one line, when NICs and clients may come."""
    settings = read_settings(GatewaySettings, "gateway", load_config(config), port=port, http=http)
    asyncio.run(_serve(settings, as_json))


async def _serve(settings: GatewaySettings, as_json: bool) -> None:
    """SIGINT and SIGTERM end the gateway in order, with exit code 0."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    gateway = Gateway(settings)
    try:
        async with asyncio.TaskGroup() as tasks:
            announcement = tasks.create_task(_announce(gateway, as_json))
            systemd = tasks.create_task(Systemd().run(gateway.ready, "serving NICs and clients"))
            try:
                await gateway.run()
            finally:
                announcement.cancel()
                systemd.cancel()
    except asyncio.CancelledError:
        if not stopping:
            raise


async def _announce(gateway: Gateway, as_json: bool) -> None:
    await gateway.ready.wait()
    settle()
    if as_json:
        typer.echo(
            json.dumps(
                {"event": "ready", "coap": gateway.coap_port, "http": gateway.http_port, "coaps": gateway.tls_port}
            )
        )
    else:
        coap = ", ".join(f"{host} port {gateway.coap_port}" for host in gateway.settings.listen)
        coap += f"; coaps+tcp on port {gateway.tls_port}" if gateway.tls_port else ""
        http = f"; http on port {gateway.http_port}" if gateway.http_port else ""
        tell(f"gateway ready: coap on {coap}{http}")


if __name__ == "__main__":
    sys.exit(main(["gateway", *sys.argv[1:]]))
