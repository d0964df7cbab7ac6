"""A worker process: takes in notifications on its socket of the shared port, stores and publishes them.

Everything else is the main process's: it provisions devices and learns from us where they are, it answers client
applications, and what comes to us and is not a notification is passed on to it. We end when it has gone.
Started by `workers.py` as `python -m gateway.worker CHANNEL SOCKET…`, numbers of inherited file descriptors.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

import structlog

from gateway.addresses import Address
from gateway.aliases.actions import no_devices
from gateway.aliases.service import AliasService
from gateway.aliases.store import AliasStore, declared_in
from gateway.delivery import answer
from gateway.endpoint import Endpoint
from gateway.errors import RegistryError
from gateway.lane import Lane
from gateway.messaging.service import closed_for
from gateway.nic_oscore import NicGuard
from gateway.registry import Device, Registry, Sighting
from gateway.registry.opening import open_database
from gateway.settings import GatewaySettings, NicOscore
from gateway.sink import is_for_sink
from gateway.sockets import DatagramSockets
from gateway.statistics import Statistics
from gateway.worker_channel import Kind, WorkerChannel
from meshwire.cli import use_fast_loop
from meshwire.coap import Message, options
from meshwire.errors import MeshwireError
from meshwire.identity import DeviceId
from meshwire.logs import configure_logging
from meshwire.mesh_place import MeshPlace
from meshwire.notification import BUBBLE_UP
from meshwire.site import Site

__all__ = ["Worker", "WorkerDirectory"]

REPORT_S: Final = 0.5
_START_S: Final = 30.0
_SIGHTINGS_A_MESSAGE: Final = 1000

_log = structlog.get_logger(__name__)


class WorkerDirectory:
    """The registry as a worker sees it: devices are read from the file, where they were heard is kept to be told.

    Args:
        registry: opened for reading; nothing is written through it.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._sightings: dict[DeviceId, Sighting] = {}
        self._fresh: dict[DeviceId, Sighting] = {}
        self._failed = False

    @property
    def generation(self) -> int:
        """See `Registry.generation`."""
        return self._registry.generation

    def device(self, mac: DeviceId) -> Device | None:
        """A provisioned device, or None."""
        return self._registry.device(mac)

    def sighting(self, mac: DeviceId) -> Sighting | None:
        """Where it was heard last by us."""
        return self._sightings.get(mac)

    def seen(self, mac: DeviceId, address: Address, now_s: float) -> None:
        """It was heard from `address`."""
        self._fresh[mac] = self._sightings[mac] = Sighting(address, now_s)

    def registered(
        self, mac: DeviceId, address: Address, now_s: float, interval_s: float | None, place: MeshPlace | None = None
    ) -> None:
        """Registrations are passed on to the main process, so none comes here."""
        raise AssertionError("a worker takes no registrations")

    async def refresh(self) -> None:
        """See what other processes have changed; without the database what is known goes on to hold."""
        try:
            changes = await asyncio.to_thread(self._registry.read_changes)
        except RegistryError as error:
            if not self._failed:
                _log.warning("registry is not up to date", reason=str(error))
            self._failed = True
            return
        self._failed = False
        if changes is not None:
            self._registry.show_changes(changes)

    def take_fresh(self) -> list[tuple[str, str, int, float]]:
        """Where devices were heard since the last call."""
        fresh, self._fresh = self._fresh, {}
        return [(mac.value, at.address.host, at.address.port, at.seen_s) for mac, at in fresh.items()]


class _ToMain:
    """The client side of a worker's endpoint: passes datagrams on."""

    def __init__(self, channel: WorkerChannel, sockets: DatagramSockets) -> None:
        self._channel = channel
        self._sockets = sockets

    def receive(self, octets: bytes, message: Message, source: Address) -> None:
        """Not for us."""
        self._channel.send(Kind.DATAGRAM, octets, source.host, source.port, self._sockets.position_of(source))


class Worker:
    """See the module's text.

    Args:
        number: 1 and above.
        settings: section `[gateway]`.
        site: the state folder.
        channel: to the main process.
        bound: our sockets of the shared port.
    """

    def __init__(
        self,
        number: int,
        settings: GatewaySettings,
        site: Site,
        channel: WorkerChannel,
        bound: Sequence[socket.socket],
    ) -> None:
        self._number = number
        self._settings = settings
        self._site = site
        self._channel = channel
        self._bound = bound
        self._statistics = Statistics()
        self._answering: Callable[[int, dict[str, object]], object] = lambda number, question: None

    def ask(self, number: int, question: dict[str, object]) -> None:
        """Answer a question in a while; before we work, it is not heard."""
        self._answering(number, question)

    async def _answer(self, lane: Lane, number: int, question: dict[str, object]) -> None:
        self._channel.send(Kind.ANSWER, number, await answer(lane.deliveries, question))

    async def run(self) -> None:
        """Serve until cancelled."""
        settings = self._settings
        registry = Registry(open_database(settings.registry, self._site), closed=closed_for(settings.instance))
        guard = (
            None
            if settings.nic_oscore is NicOscore.OFF
            else NicGuard(None, required=settings.nic_oscore is NicOscore.REQUIRED)
        )
        directory = WorkerDirectory(registry)
        lane = Lane(self._number, settings, self._site, self._statistics)
        store = AliasStore(self._site, declared_in(settings))
        aliases = AliasService(store, settings.bridge, settings.outbox, no_devices, lane=self._number)
        try:
            sockets = DatagramSockets(
                settings.listen,
                settings.port,
                receive_buffer_octets=settings.receive_buffer_octets,
                statistics=self._statistics,
                bound=self._bound,
            )
            endpoint = Endpoint(
                sockets,
                lane.sink(directory, guard=guard),
                aliases.tee(lane.outbox),
                _ToMain(self._channel, sockets),
                self._statistics,
                sync=lane.sync,
                on_stored=lane.bridge.stored,
                is_own=_is_notification,
            )
            await aliases.apply()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(endpoint.run(), name="coap endpoint")
                tasks.create_task(aliases.run(), name="aliases")
                if settings.bridge.enabled:
                    tasks.create_task(lane.bridge.run(), name="bridge")
                tasks.create_task(self._report(lane, aliases, directory), name="report")
                tasks.create_task(lane.run(), name="lane")
                self._answering = lambda number, question: tasks.create_task(self._answer(lane, number, question))
        finally:
            await aliases.stop()
            lane.close()
            registry.database.close()

    async def _report(self, lane: Lane, aliases: AliasService, directory: WorkerDirectory) -> None:
        """Tell the main process how we are, at once and then again and again."""
        while True:
            status = lane.status() | {"aliases": aliases.status()["aliases"]}
            self._channel.send(Kind.REPORT, status, self._statistics.listed())
            fresh = directory.take_fresh()
            for start in range(0, len(fresh), _SIGHTINGS_A_MESSAGE):
                self._channel.send(Kind.SEEN, fresh[start : start + _SIGHTINGS_A_MESSAGE])
            await asyncio.sleep(REPORT_S)
            await directory.refresh()


def _is_notification(message: Message) -> bool:
    return is_for_sink(message) and message.option(options.URI_PATH) == BUBBLE_UP.encode()


async def _serve(channel: WorkerChannel, bound: Sequence[socket.socket]) -> None:
    """Wait for the order to start, work until the main process has gone or says SIGTERM."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    order: asyncio.Future[Sequence[object]] = loop.create_future()
    ends = False
    worker: Worker | None = None

    def end() -> None:
        nonlocal ends
        ends = True
        task.cancel()

    def on_message(kind: Kind, fields: Sequence[object]) -> None:
        if kind is Kind.START and not order.done():
            order.set_result(fields)
        if kind is Kind.ASK and worker is not None:
            worker.ask(cast(int, fields[0]), cast("dict[str, object]", fields[1]))

    channel.start(on_message, end)
    loop.add_signal_handler(signal.SIGTERM, end)
    # A person's Ctrl-C reaches the whole process group; the main process ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        async with asyncio.timeout(_START_S):
            number, settings, folder = await order
        worker = Worker(
            cast(int, number),
            GatewaySettings.model_validate_json(cast(str, settings)),
            Site(Path(cast(str, folder))),
            channel,
            bound,
        )
        await worker.run()
    except asyncio.CancelledError:
        if not ends:
            raise
    finally:
        channel.close()


def main(arguments: Sequence[str]) -> int:
    """Run a worker."""
    configure_logging()
    use_fast_loop()
    end, *numbers = map(int, arguments)
    bound = [socket.socket(fileno=number) for number in numbers]
    code = 0
    try:
        asyncio.run(_serve(WorkerChannel(socket.socket(fileno=end)), bound))
    except* (MeshwireError, TimeoutError) as group:
        # Such as the outbox of a predecessor that is still about to end: the main process tries again.
        _log.error("the worker can't go on", reason="; ".join(map(str, group.exceptions)))
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
