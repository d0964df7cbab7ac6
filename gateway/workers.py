"""The worker processes as the main process sees them: starts them, restarts one that has died, hears their reports.

Sockets of the shared port stay open here, so that what comes in while a worker is away waits for the next one; its
outbox is opened, and what was acknowledged to NICs published, as soon as it is back.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import structlog

from gateway.addresses import Address
from gateway.aliases.records import WITH_SECRETS
from gateway.registry import Registry
from gateway.settings import GatewaySettings
from gateway.statistics import Event, Statistics
from gateway.worker_channel import Kind, WorkerChannel
from meshwire.identity import DeviceId
from meshwire.site import Site

__all__ = ["Workers"]

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
_STEADY_S: Final = 10.0
_PATIENCE_S: Final = 10.0
"""A worker may take so long to commit and answer what it has taken in."""
_ANSWER_S: Final = 10.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Worker:
    number: int
    bound: Sequence[socket.socket]
    channel: WorkerChannel | None = None
    pid: int | None = None
    restarts: int = 0
    status: Mapping[str, object] = field(default_factory=dict)
    counts: Sequence[Sequence[object]] = ()
    earlier: Statistics = field(default_factory=Statistics)
    """What its predecessors have counted."""
    questions: dict[int, asyncio.Future[object]] = field(default_factory=dict)


class Workers:
    """See the module's text.

    Args:
        settings: section `[gateway]`.
        site: the state folder.
        bound: for each worker its sockets of the shared port.
        registry: told where devices were heard.
        statistics: restarts are counted here.
        on_datagram: takes what workers pass on: octets, source, position of the socket.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        site: Site,
        bound: Sequence[Sequence[socket.socket]],
        registry: Registry,
        statistics: Statistics,
        on_datagram: Callable[[bytes, Address, int], None],
    ) -> None:
        self._settings = settings
        self._site = site
        self._registry = registry
        self._statistics = statistics
        self._on_datagram = on_datagram
        self._workers = [_Worker(number, sockets) for number, sockets in enumerate(bound, 1)]
        self._numbers = itertools.count(1)
        self.ready = asyncio.Event()
        """Set when each worker has reported once."""

    async def run(self) -> None:
        """Keep all workers running until cancelled; then they end in order."""
        if not self._workers:
            self.ready.set()
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(self._keep(worker), name=f"worker {worker.number}")

    def counts(self) -> list[Sequence[Sequence[object]]]:
        """What all workers, those that have died too, have counted (`Statistics.merged`)."""
        return [part for worker in self._workers for part in (worker.counts, worker.earlier.listed())]

    def status(self) -> list[dict[str, object]]:
        """Each worker's last report."""
        return [
            {**worker.status, "lane": worker.number, "pid": worker.pid, "restarts": worker.restarts}
            for worker in self._workers
        ]

    async def ask(self, question: object) -> list[object]:
        """Ask all workers; those that are away or do not answer in time are left out."""
        futures = [future for worker in self._workers if (future := self._put(worker, question)) is not None]
        if not futures:
            return []
        done, late = await asyncio.wait(futures, timeout=_ANSWER_S)
        for future in late:
            future.cancel()
        return [future.result() for future in futures if future in done and not future.cancelled()]

    def _put(self, worker: _Worker, question: object) -> asyncio.Future[object] | None:
        number = next(self._numbers)
        if worker.channel is None or not worker.channel.send(Kind.ASK, number, question):
            return None
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        worker.questions[number] = future
        future.add_done_callback(lambda done: worker.questions.pop(number, None))
        return future

    # --- one worker

    async def _keep(self, worker: _Worker) -> None:
        loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
        while True:
            since = loop.time()
            code = await self._run_once(worker)
            if loop.time() - since >= _STEADY_S:
                pause_s = FIRST_PAUSE_S
            _log.warning("a worker has ended; it is started again", worker=worker.number, code=code, pause_s=pause_s)
            worker.restarts += 1
            self._statistics.count(Event.WORKER, "restarted")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _run_once(self, worker: _Worker) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        files = [theirs.fileno(), *(sock.fileno() for sock in worker.bound)]
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.worker",
                *map(str, files),
                pass_fds=files,
                stdin=asyncio.subprocess.DEVNULL,
            )
        channel = worker.channel = WorkerChannel(ours)
        worker.pid = process.pid
        try:
            channel.start(lambda kind, fields: self._hear(worker, kind, fields), lambda: None)
            channel.send(
                Kind.START,
                worker.number,
                self._settings.model_dump_json(context=WITH_SECRETS),
                str(self._site.state_dir),
            )
            return await process.wait()
        finally:
            self._forget(worker)
            if process.returncode is None:
                await _end(process)

    def _forget(self, worker: _Worker) -> None:
        if worker.channel is not None:
            worker.channel.close()
        worker.channel, worker.pid = None, None
        worker.status = {**worker.status, "connected": False}
        worker.earlier, worker.counts = worker.earlier.merged(worker.counts), ()
        for future in tuple(worker.questions.values()):
            future.cancel()

    def _hear(self, worker: _Worker, kind: Kind, fields: Sequence[object]) -> None:
        match kind, fields:
            case Kind.REPORT, [status, counts]:
                worker.status = cast("Mapping[str, object]", status)
                worker.counts = cast("Sequence[Sequence[object]]", counts)
                if all(each.status for each in self._workers):
                    self.ready.set()
            case Kind.SEEN, [sightings]:
                self._see(cast("list[tuple[str, str, int, float]]", sightings))
            case Kind.DATAGRAM, [octets, host, port, position]:
                source = Address(cast(str, host), cast(int, port))
                self._on_datagram(cast(bytes, octets), source, cast(int, position))
            case Kind.ANSWER, [number, answer]:
                future = worker.questions.get(cast(int, number))
                if future is not None and not future.done():
                    future.set_result(answer)

    def _see(self, sightings: list[tuple[str, str, int, float]]) -> None:
        for mac, host, port, seen_s in sightings:
            device = DeviceId(mac)
            known = self._registry.sighting(device)
            if known is None or known.seen_s < seen_s:
                self._registry.seen(device, Address(host, port), seen_s)


async def _end(process: asyncio.subprocess.Process) -> None:
    """The channel is closed, which is the order to end; whoever does not heed it is killed."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
