"""All aliases and triggers of a gateway: what is enabled runs, what is not doesn't, whoever changed it.

Does: compare, once a second and after each change, what should run with what runs; start and stop each alias and each
trigger for itself, so that a broker that is down, a wrong password or a fault of ours stops no other. Does not: decide
what is right (`checks.py`) or keep it (`store.py`).
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import structlog

from gateway.aliases.actions import Commander, Runner
from gateway.aliases.catalogue import Catalogue, Kind, PasswordMissing
from gateway.aliases.errors import AliasError, StoreFileError
from gateway.aliases.keystore import client_context
from gateway.aliases.packets import AliasPackets
from gateway.aliases.publisher import Health, Relay
from gateway.aliases.publishing import PublishingAlias
from gateway.aliases.records import AliasSettings, TriggerSettings
from gateway.aliases.route import client_id_of, login_of, route_of
from gateway.aliases.store import AliasStore
from gateway.aliases.tee import AliasQueue, Tee
from gateway.aliases.trigger import Trigger
from gateway.errors import GatewayError
from gateway.outbox import Outbox
from gateway.settings import BridgeSettings, Durability, OutboxSettings
from gateway.statistics import Event, Statistics
from gateway.storage import FileStorage, MemoryStorage

__all__ = ["AliasService"]

LOOK_EVERY_S: Final = 1.0
RESTART_S: Final = 5.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Running:
    """Something at work, and what it was started with."""

    made_of: object
    task: asyncio.Task[None]
    work: PublishingAlias | Trigger


class AliasService:
    """See the module's text.

    Args:
        store: what there is.
        bridge: categories, window and patience.
        outbox: durability and size of segments.
        commander: reaches devices.
        lane: 0 for the gateway's own process; a worker publishes what it took in and leaves the rest to that.
    """

    def __init__(
        self,
        store: AliasStore,
        bridge: BridgeSettings,
        outbox: OutboxSettings,
        commander: Commander,
        *,
        lane: int = 0,
    ) -> None:
        self.store = store
        self._lane = lane
        self._bridge = bridge
        self._outbox = outbox
        self._runner = Runner(self._relay, self._context, commander)
        self._queues: dict[str, AliasQueue] = {}
        self._aliases: dict[str, _Running] = {}
        self._triggers: dict[str, _Running] = {}
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._unreadable = ""
        self._complaints: dict[tuple[Kind, str], str] = {}
        self._checked: dict[tuple[Kind, str], tuple[object, bool]] = {}

    def tee(self, outbox: Outbox) -> Tee:
        """What stands in the outbox's place for those who commit."""
        return Tee(outbox, self._collecting)

    def wake(self) -> None:
        """Something has been changed: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Keep what runs in line with what is enabled until cancelled; `stop` comes after it."""
        while True:
            self._refresh()
            await self.apply()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def apply(self) -> None:
        """Bring what runs in line with the store; returns when what had to end has ended."""
        async with self._one_at_a_time:
            await self._reconcile()

    def _refresh(self) -> None:
        try:
            self.store.refresh()
        except AliasError as error:
            if self._unreadable != str(error):
                _log.error("the store of aliases can't be read; what runs goes on", reason=str(error))
            self._unreadable = str(error)

    # --- what should run

    async def _reconcile(self) -> None:
        catalogue = self.store.catalogue
        enabled = {alias.name: alias for alias in self._ours(catalogue) if catalogue.is_on(alias)}
        self._open_queues(enabled)
        wanted_aliases = {
            name: (alias, files)
            for name, alias in enabled.items()
            if name in self._queues and self._fits(alias, files := self._files(alias, catalogue))
        }
        triggers = () if self._lane else catalogue.triggers.values()
        wanted_triggers = {
            trigger.name: (trigger, wanted_aliases[trigger.alias])
            for trigger in triggers
            if catalogue.is_on(trigger) and trigger.alias in wanted_aliases and self._fits(trigger, ())
        }
        ending = self._end_unwanted(self._triggers, wanted_triggers)
        ending += self._end_unwanted(self._aliases, wanted_aliases)
        if ending:
            await asyncio.wait(ending)
        for name in self._queues.keys() - enabled.keys():
            self._queues.pop(name).close()
        for name, alias_made_of in wanted_aliases.items():
            if name not in self._aliases:
                make_alias = partial(self._publishing, alias_made_of[0], catalogue)
                self._start(self._aliases, name, alias_made_of, make_alias)
        for name, made_of in wanted_triggers.items():
            if name not in self._triggers:
                self._start(self._triggers, name, made_of, partial(self._trigger, made_of[0], catalogue))

    def _ours(self, catalogue: Catalogue) -> list[AliasSettings]:
        """A worker has no use for an alias without rules, and announces nothing: one gateway, one state."""
        if not self._lane:
            return list(catalogue.aliases.values())
        silent = {"will_enabled": False, "on_connect_payload": "", "on_disconnect_payload": ""}
        return [alias.model_copy(update=silent) for alias in catalogue.aliases.values() if alias.publish]

    def _fits(self, record: AliasSettings | TriggerSettings, files: object) -> bool:
        """Checked again only when something has changed: opening a keystore takes many rounds of hashing."""
        kind = Kind.ALIAS if isinstance(record, AliasSettings) else Kind.TRIGGER
        seen = (self.store.catalogue, files)
        known = self._checked.get((kind, record.name))
        if known is not None and known[0] == seen:
            return known[1]
        said = "; ".join(map(str, self.store.check(record)))
        if said:
            _log.warning("can't be used", kind=kind, name=record.name, reason=said)
        self._complaints[kind, record.name] = said
        self._checked[kind, record.name] = seen, not said
        return not said

    def _files(self, alias: AliasSettings, catalogue: Catalogue) -> tuple[object, ...]:
        """What makes a running alias outdated, beside its own fields: its stores and their files."""
        stores = [catalogue.truststores.get(alias.truststore), catalogue.keystores.get(alias.keystore)]
        paths = [alias.password_file]
        for store in stores:
            if store is not None:
                paths += [store.file, store.password_file]
        return (*stores, *((path, _stamp(path)) for path in paths if path))

    def _end_unwanted(self, running: dict[str, _Running], wanted: Mapping[str, object]) -> list[asyncio.Task[None]]:
        ending = []
        for name in [name for name, each in running.items() if wanted.get(name) != each.made_of or each.task.done()]:
            each = running.pop(name)
            each.task.cancel()
            ending.append(each.task)
        return ending

    def _start(
        self,
        running: dict[str, _Running],
        name: str,
        made_of: object,
        make: Callable[[], PublishingAlias | Trigger],
    ) -> None:
        try:
            work = make()
        except (StoreFileError, PasswordMissing, GatewayError, OSError) as error:
            self._complain(Kind.ALIAS if running is self._aliases else Kind.TRIGGER, name, str(error))
            return
        running[name] = _Running(made_of, asyncio.create_task(_guard(name, work.run), name=name), work)

    def _open_queues(self, enabled: Mapping[str, AliasSettings]) -> None:
        """A queue is open while its alias is enabled, also while that connects anew or can't: so nothing is missed."""
        for name, alias in enabled.items():
            packets = AliasPackets(alias.publish, self._bridge)
            if name in self._queues:
                self._queues[name].packets = packets
                continue
            in_memory = self._outbox.durability is Durability.MEMORY
            try:
                storage = MemoryStorage() if in_memory else FileStorage(self.store.queue_folder(self._lane) / name)
                outbox = Outbox(storage, max_octets=alias.queue_max_octets, segment_octets=self._outbox.segment_octets)
            except (GatewayError, OSError) as error:
                self._complain(Kind.ALIAS, name, str(error))
                continue
            self._queues[name] = AliasQueue(name, outbox, packets, Statistics())

    def _publishing(self, alias: AliasSettings, catalogue: Catalogue) -> PublishingAlias:
        environment = self.store.environment
        own = client_id_of(alias, self.store.site)
        login = login_of(alias, self.store.site, environment, own if not self._lane else f"{own}-{self._lane}")
        route = route_of(alias, catalogue, environment)
        return PublishingAlias(alias, route, login, self._queues[alias.name], self._bridge)

    def _trigger(self, trigger: TriggerSettings, catalogue: Catalogue) -> Trigger:
        alias, environment = catalogue.aliases[trigger.alias], self.store.environment
        identifier = trigger.client_id or f"{client_id_of(alias, self.store.site)}-{trigger.name}"
        login = login_of(alias, self.store.site, environment, identifier)
        route = route_of(alias, catalogue, environment)
        return Trigger(trigger, route, login, self._runner, clean=alias.clean_session)

    def _complain(self, kind: Kind, name: str, reason: str) -> None:
        if self._complaints.get((kind, name)) != reason:
            _log.error("can't be started", kind=kind, name=name, reason=reason)
        self._complaints[kind, name] = reason

    async def drain(self) -> None:
        """Publish what a worker of an earlier run has left, and remove its queues; nothing new is collected."""
        running = asyncio.create_task(self.run(), name=f"aliases of worker {self._lane}")
        try:
            await self.apply()
            while any(queue.outbox.status(0).depth for queue in self._queues.values()):  # noqa: ASYNC110 - now and then
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            running.cancel()
            await asyncio.wait({running})
            await self.stop()
        shutil.rmtree(self.store.queue_folder(self._lane), ignore_errors=True)

    async def stop(self) -> None:
        """End everything in order, and let go of the queues."""
        tasks = [each.task for each in (*self._triggers.values(), *self._aliases.values())]
        self._triggers.clear()
        self._aliases.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for queue in self._queues.values():
            queue.close()
        self._queues.clear()

    # --- for others

    def _collecting(self) -> list[AliasQueue]:
        return [queue for queue in self._queues.values() if queue.packets.has_rules]

    def _relay(self, name: str) -> Relay | None:
        running = self._aliases.get(name)
        return running.work.relay if running is not None and isinstance(running.work, PublishingAlias) else None

    def _context(self, truststore: str) -> ssl.SSLContext:
        if not truststore:
            return client_context([], with_system=True)
        anchors, with_system = self.store.catalogue.anchors(truststore, self.store.environment)
        return client_context(cast("Any", anchors), with_system=with_system)

    def state(self, kind: Kind, name: str) -> dict[str, object]:
        """How an alias or trigger is, ready for JSON."""
        running = (self._aliases if kind is Kind.ALIAS else self._triggers).get(name)
        if running is None:
            return {"state": self._why_not(kind, name), "reason": self._complaints.get((kind, name), "")}
        health: Health = running.work.health
        state: dict[str, object] = {
            "state": "connected" if health.is_connected else "connecting",
            "reason": health.reason,
            "connects": health.connects,
        }
        if isinstance(running.work, PublishingAlias):
            return state | self._queue_state(running.work)
        counts = running.work.counts
        return state | {
            "received": counts.received,
            "done": counts.done,
            "retried": counts.retried,
            "failed": counts.failed,
            "lastFailure": counts.last_failure,
        }

    def _queue_state(self, work: PublishingAlias) -> dict[str, object]:
        status = work.queue.outbox.status(int(time.time() * 1000))
        return {
            "clientId": work.login.client_id,
            "published": work.queue.statistics.total(Event.PUBLISHED),
            "queue": {"depth": status.depth, "octets": status.octets, "ageS": round(status.age_s, 3)},
            "losses": dict(work.queue.statistics.by_reason(Event.LOST)),
        }

    def _why_not(self, kind: Kind, name: str) -> str:
        record = self.store.catalogue.of(kind).get(name)
        if not isinstance(record, AliasSettings | TriggerSettings):
            return "unknown"
        if not record.enabled:
            return "disabled"
        if not self.store.catalogue.is_package_on(record.package):
            return "package-disabled"
        return (
            "invalid"
            if self._complaints.get((kind, name))
            else "alias-disabled"
            if kind is Kind.TRIGGER
            else "starting"
        )

    def status(self) -> dict[str, object]:
        """For the status page."""
        catalogue = self.store.catalogue
        return {
            "aliases": {name: self.state(Kind.ALIAS, name) for name in catalogue.aliases},
            "triggers": {name: self.state(Kind.TRIGGER, name) for name in catalogue.triggers},
        }


async def _guard(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """A fault in one alias is told, and the alias started again by the next look after a pause; no other notices."""
    try:
        await run()
    except Exception:  # The task's top.
        _log.exception("an alias or trigger has failed; it starts again", name=name)
        await asyncio.sleep(RESTART_S)


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
