"""The desk: where every way in (CoAP, MQTT, HTTP) brings its orders and asks what became of them.

An order is taken in this order: may the party command · is the device its own · is the order in bounds · is it new ·
is there room · on disk. Only then is it accepted. Everything that happens to a command passes `record`, which makes it
durable and then tells whoever follows.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Final

import structlog

from gateway.access import sees_all
from gateway.blocks import MAX_PAYLOAD_OCTETS
from gateway.commands.errors import (
    CommandRefused,
    CommandStoreError,
    NoSuchCommand,
    NoSuchDevice,
    NotAllowed,
    NotWaiting,
    QueueFull,
    StillArriving,
)
from gateway.commands.queue import CommandQueue
from gateway.commands.records import (
    FINAL_STATES,
    Change,
    Command,
    CommandKey,
    Event,
    Group,
    Mode,
    Order,
    Origin,
    target_text,
)
from gateway.commands.store import CommandStore, Filter
from gateway.registry import Device, Registry
from gateway.settings import GatewaySettings
from gateway.statistics import Event as Counted
from gateway.statistics import Statistics
from meshwire.coap import codes, encode, options
from meshwire.identity import DeviceId, Principal, TenantId

__all__ = ["CommandDesk", "Submission", "tenant_of"]

MAX_GROUP: Final = 10_000
GROUP_PART: Final = 200
"""Commands of a group that are taken in at a time; between them others have their turn."""
ID_CHARACTERS: Final = "A-Z a-z 0-9 _ . : = -"
_ID: Final = re.compile(r"[A-Za-z0-9_.:=-]{1,64}")
_METHODS: Final = frozenset(range(codes.GET, codes.IPATCH + 1))
_NOT_STORED: Final = (options.OBSERVE, options.BLOCK1, options.BLOCK2)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of an order."""

    command: Command
    is_new: bool
    """False: a command of that id was there already, and nothing has changed."""
    replaced: tuple[str, ...] = ()
    """Ids of older commands whose place it took."""
    failure: Event | None = None
    """Why a direct command was rejected at once."""


class CommandDesk:
    """See the module's text.

    Args:
        queue: what waits.
        store: what is remembered.
        registry: whose device is whose.
        is_present: whether a device has been heard of lately.
        settings: bounds, and which roles may change something (`proxy.write_roles`).
        statistics: events are counted here.
        now_s: Unix time.
    """

    def __init__(
        self,
        queue: CommandQueue,
        store: CommandStore,
        registry: Registry,
        is_present: Callable[[DeviceId], bool],
        settings: GatewaySettings,
        statistics: Statistics,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.on_change: list[Callable[[], None]] = []
        """Called after each change has become durable."""
        self.on_event: list[Callable[[Command, Event], None]] = []
        """Told of each event that has become durable."""
        self._queue = queue
        self._store = store
        self._registry = registry
        self._is_present = is_present
        self._settings = settings.commands
        self._write_roles = frozenset(settings.proxy.write_roles)
        self._statistics = statistics
        self._now_s = now_s
        self._arriving: set[CommandKey] = set()
        self._followers: dict[CommandKey | DeviceId | str, set[asyncio.Event]] = {}

    @property
    def max_payload_octets(self) -> int:
        """Longest payload of a command."""
        return self._settings.max_payload_octets

    # --- taking orders

    async def submit(self, order: Order, mac: DeviceId | None, principal: Principal, via: str) -> Submission:
        """Take an order for one device.

        Args:
            order: what is to be done.
            mac: the device; None: the client named nothing that could be one.
            principal: who orders.
            via: coap, mqtt or http.

        Raises:
            CommandError: it was not accepted; nothing of it is remembered.
        """
        self.check_party(principal)
        device = self._device(mac, principal)
        order = self._checked(order)
        key = CommandKey(device.tenant, device.mac, order.id or secrets.token_hex(8))
        if order.id is not None:
            existing = await self._existing(key, order)
            if existing is not None:
                return Submission(existing, is_new=False)
        self._arriving.add(key)
        try:
            changes = self._add(key, order, self._origin(principal, via), None)
            await self._accept(changes)
        finally:
            self._arriving.discard(key)
        replaced = tuple(change.command.key.id for change in changes if change.command.key != key)
        command = self._queue.get(key) or next(c.command for c in reversed(changes) if c.command.key == key)
        failure = changes[0].event if changes[0].command.is_final else None
        return Submission(command, True, replaced, failure)

    async def submit_group(
        self, order: Order, macs: Sequence[DeviceId], selector: str, principal: Principal, via: str
    ) -> Group:
        """Take one order for several devices of one tenant: all of them or none.

        Raises:
            CommandError: as `submit` does; NoSuchDevice names those that are unknown or foreign.
        """
        self.check_party(principal)
        order = self._checked(order)
        if order.id is not None:
            raise CommandRefused("a group's commands get ids of their own", fix="leave id out")
        if not 0 < len(macs) <= MAX_GROUP:
            raise CommandRefused("a group has no device, or too many", evidence=str(len(macs)), fix=f"1 to {MAX_GROUP}")
        devices = {mac: self._device_or_none(mac, principal) for mac in macs}
        if missing := [str(mac) for mac, device in devices.items() if device is None]:
            raise NoSuchDevice(", ".join(missing[:20]))
        members = [device for device in devices.values() if device is not None]
        if len({device.tenant for device in members}) > 1:
            raise CommandRefused("a group's devices are of more than one tenant", fix="name a tenant")
        origin, id = self._origin(principal, via), secrets.token_hex(8)
        group = Group(id, members[0].tenant, self._now_s(), origin, selector)
        self._queue.check_room(device.mac for device in members)
        # A client that goes away meanwhile leaves no half of a group.
        await asyncio.shield(asyncio.create_task(self._accept_group(group, members, order), name="a group of commands"))
        return group

    async def _accept_group(self, group: Group, members: Sequence[Device], order: Order) -> None:
        """Part by part, so that a large group holds nobody up; when one can't be stored, the others are cancelled."""
        written: list[tuple[list[Change], asyncio.Future[None]]] = []
        for start in range(0, len(members), GROUP_PART):
            changes: list[Change] = []
            for device in members[start : start + GROUP_PART]:
                key = CommandKey(device.tenant, device.mac, f"{group.id}-{device.mac}")
                changes += self._add(key, order, group.origin, group.id)
            written.append((changes, self.record(changes, () if start else (group,))))
            await asyncio.sleep(0)
        await asyncio.wait([done for _, done in written])
        if (failure := next(filter(None, (done.exception() for _, done in written)), None)) is None:
            return
        for changes, done in written:
            if done.exception() is not None:
                self._queue.undo(changes)
        await self.record(self._cancel_all(await self.members(group), "not all of the group could be stored"))
        raise failure

    def check_party(self, principal: Principal) -> None:
        """Raises NotAllowed unless the party may command.

        Who may change something through the proxy may command, be it a GET: it changes a queue.
        """
        if not self._write_roles or not self._write_roles.isdisjoint(principal.roles) or sees_all(principal):
            return
        raise NotAllowed(
            "the party may not command",
            evidence=f"roles {', '.join(sorted(principal.roles)) or 'none'}",
            fix=f"use a token with one of the roles {', '.join(sorted(self._write_roles))}",
        )

    def _device_or_none(self, mac: DeviceId | None, principal: Principal) -> Device | None:
        device = None if mac is None else self._registry.device(mac)
        if device is None or not device.enabled:
            return None
        return device if device.tenant == principal.tenant or sees_all(principal) else None

    def _device(self, mac: DeviceId | None, principal: Principal) -> Device:
        device = self._device_or_none(mac, principal)
        if device is None:
            raise NoSuchDevice
        return device

    def _checked(self, order: Order) -> Order:
        """The order, if it is in bounds."""
        longest_s, request = self._settings.max_ttl_s, order.request
        if order.mode is Mode.STORED and order.ttl_s is None:
            raise CommandRefused("a stored command has no ttl", fix=f"give it one: up to {longest_s:g} seconds")
        if order.ttl_s is not None and not 0 < order.ttl_s <= longest_s:
            raise CommandRefused("ttl is out of range", evidence=f"{order.ttl_s:g}", fix=f"above 0 up to {longest_s:g}")
        if order.id is not None and _ID.fullmatch(order.id) is None:
            raise CommandRefused("id is not of that form", evidence=order.id[:80], fix=f"1 to 64 of {ID_CHARACTERS}")
        if request.code not in _METHODS:
            raise CommandRefused("method is unknown", fix="GET, PUT, POST, DELETE, FETCH, PATCH or iPATCH")
        if any(request.option(number) is not None for number in _NOT_STORED):
            raise CommandRefused("commands are no observations and no blocks", fix="send such requests without mode")
        payload, longest = request.payload, self._settings.max_payload_octets
        if len(payload) > longest:
            raise CommandRefused("payload is too long", evidence=f"{len(payload)} octets", fix=f"at most {longest}")
        if len(payload) <= MAX_PAYLOAD_OCTETS:
            return order
        for known in self._queue.long_payloads():
            if known == payload:  # kept once, in memory, too
                return replace(order, request=replace(request, payload=known))
        if self._store.bodies_octets + len(payload) > self._settings.max_payloads_octets:
            raise QueueFull(f"payloads above {MAX_PAYLOAD_OCTETS} octets take {self._store.bodies_octets} octets")
        return order

    def _origin(self, principal: Principal, via: str) -> Origin:
        return Origin(via, _name(principal), principal.tenant)

    async def _existing(self, key: CommandKey, order: Order) -> Command | None:
        """A command of the same id: the same order come twice is no error, another one is."""
        if key in self._arriving:
            raise StillArriving
        self._arriving.add(key)
        try:
            existing = self._queue.get(key) or await self._store.find(key)
        finally:
            self._arriving.discard(key)
        if existing is not None and encode(existing.request) != encode(order.request):
            raise NotWaiting(f"another command of the same id, and {existing.state}")
        return existing

    def _add(self, key: CommandKey, order: Order, origin: Origin, group: str | None) -> list[Change]:
        now_s = self._now_s()
        ttl_s = order.ttl_s if order.ttl_s is not None else self._settings.direct_ttl_s
        command = Command(
            key,
            order.mode,
            order.request,
            now_s,
            now_s + ttl_s,
            origin,
            self._queue.next_rank(),
            idempotent=order.idempotent,
            group=group,
            reply_to=order.reply_to,
        )
        return self._queue.add(command, now_s, is_present=self._is_present(key.mac), replace_older=order.replace)

    async def _accept(self, changes: Sequence[Change], groups: Sequence[Group] = ()) -> None:
        """Accepted is what is on disk. A client that goes away meanwhile does not undo it."""
        try:
            await asyncio.shield(self.record(changes, groups))
        except CommandStoreError:
            self._queue.undo(changes)
            raise

    # --- what clients ask and change

    async def find(self, mac: DeviceId | None, id: str, principal: Principal) -> Command:
        """A command of a device that the party may see; raises NoSuchDevice or NoSuchCommand."""
        device = self._device(mac, principal)
        key = CommandKey(device.tenant, device.mac, id)
        command = self._queue.get(key) or await self._store.find(key)
        if command is None:
            raise NoSuchCommand
        return command

    async def select(self, which: Filter, principal: Principal) -> list[Command]:
        """Commands, the youngest first; a device's waiting ones in the order in which it gets them, in front."""
        if not sees_all(principal):
            which = replace(which, tenant=principal.tenant)
        return await self._store.select(which)

    async def place(self, command: Command, which: Filter) -> float:
        """Where a command stands in such a list: what `Filter.after` takes."""
        return await self._store.place(command, which)

    async def cancel(self, mac: DeviceId | None, id: str, principal: Principal) -> Command:
        """Take a waiting command back; raises NoSuchDevice, NoSuchCommand, NotWaiting or NotAllowed."""
        command = await self._changeable(mac, id, principal)
        changes = self._queue.cancel(command.key, self._now_s(), f"cancelled by {_name(principal)}")
        await self.record(changes)
        return changes[0].command

    async def move(self, mac: DeviceId | None, id: str, position: int, principal: Principal) -> Command:
        """Give a waiting command another place, 0 for the next one; raises as `cancel` does."""
        command = await self._changeable(mac, id, principal)
        changes = self._queue.move(command.key, position)
        await self.record(changes)
        return next(change.command for change in changes if change.command.key == command.key)

    async def _changeable(self, mac: DeviceId | None, id: str, principal: Principal) -> Command:
        self.check_party(principal)
        command = await self.find(mac, id, principal)
        if command.is_final:
            raise NotWaiting(command.state)
        return command

    async def again(self, command: Command) -> Command:
        """The same command as it is now."""
        return self._queue.get(command.key) or await self._store.find(command.key) or command

    def positions(self, commands: Iterable[Command]) -> dict[CommandKey, int]:
        """The places of those commands that wait."""
        macs = {command.key.mac for command in commands if not command.is_final}
        return {each.key: place for mac in macs for place, each in enumerate(self._queue.waiting(mac))}

    def position(self, command: Command) -> int | None:
        """How many waiting commands of its device come first; None when it waits no more."""
        for place, each in enumerate(self._queue.waiting(command.key.mac)):
            if each.key == command.key:
                return place
        return None

    async def events(self, command: Command, after: int = 0) -> list[Event]:
        """What has happened to a command since its event number `after`."""
        return await self._store.events(command.key, after)

    async def follow(self, command: Command, after: int = 0) -> AsyncGenerator[Event, None]:
        """What happens to a command, from event number `after` to its final one."""
        with self._watching(command.key) as changed:
            while True:
                changed.clear()
                for event in await self._store.events(command.key, after):
                    after = event.number
                    yield event
                    if event.kind in FINAL_STATES:
                        return
                await changed.wait()

    def watching(self, mac: DeviceId) -> AbstractContextManager[asyncio.Event]:
        """An event that is set whenever one of a device's commands has changed, while the block runs."""
        return self._watching(mac)

    # --- groups

    async def group(self, id: str, principal: Principal) -> Group:
        """A group that the party may see; raises NoSuchCommand."""
        group = await self._store.group(id)
        if group is None or not (group.tenant == principal.tenant or sees_all(principal)):
            raise NoSuchCommand("group")
        return group

    async def progress(self, group: Group) -> dict[str, int]:
        """How many of its commands are in which state."""
        return {state.value: count for state, count in (await self._store.progress(group.id)).items()}

    async def members(self, group: Group) -> list[Command]:
        """Its commands, one for each device."""
        return await self._store.select(Filter(group=group.id, limit=MAX_GROUP))

    async def results(self, group: Group) -> list[tuple[Command, Event | None]]:
        """Its commands, in the order of the devices, with the final events of those that have ended."""
        finals = await self._store.finals(group.id)
        members = sorted(await self.members(group), key=lambda each: each.key)
        return [(member, finals.get(member.key)) for member in members]

    async def cancel_group(self, group: Group, principal: Principal) -> int:
        """Take back what still waits; gives how many."""
        self.check_party(principal)
        changes = self._cancel_all(await self.members(group), f"cancelled by {_name(principal)}")
        await self.record(changes)
        return len(changes)

    def _cancel_all(self, commands: Sequence[Command], reason: str) -> list[Change]:
        """Those of them that still wait."""
        changes: list[Change] = []
        for command in commands:
            try:
                changes += self._queue.cancel(command.key, self._now_s(), reason)
            except (NoSuchCommand, NotWaiting):
                continue
        return changes

    async def follow_group(self, group: Group) -> AsyncGenerator[dict[str, int], None]:
        """A group's progress, each time that it has changed, until all have ended."""
        told: dict[str, int] | None = None
        with self._watching(group.id) as changed:
            while True:
                changed.clear()
                progress = await self.progress(group)
                if progress != told:
                    told = progress
                    yield progress
                if all(state in FINAL_STATES for state in progress):
                    return
                await changed.wait()

    # --- what happens

    def record(self, changes: Sequence[Change], groups: Sequence[Group] = ()) -> asyncio.Future[None]:
        """Make changes durable, then tell; calls take effect in their order."""
        written = self._store.write(changes, groups)
        if changes:
            written.add_done_callback(lambda done: self._tell(changes, done))
        return written

    def _tell(self, changes: Sequence[Change], written: asyncio.Future[None]) -> None:
        if written.cancelled() or (error := written.exception()) is not None:
            _log.error("changes of commands are not on disk", error=str(error) if not written.cancelled() else "")
            return
        for change in changes:
            if change.event is not None:
                self._statistics.count(Counted.COMMAND, change.event.kind)
                _log_event(change.command, change.event)
                for tell in self.on_event:
                    tell(change.command, change.event)
                if change.event.number == 1:
                    self._note(change.command)
            for name in (change.command.key, change.command.key.mac, change.command.group):
                for changed in self._followers.get(name, ()) if name is not None else ():
                    changed.set()
        for told in self.on_change:
            told()

    def _note(self, command: Command) -> None:
        key, origin = command.key, command.origin
        detail = {"path": target_text(command.request), "via": origin.via, "id": key.id}
        self._registry.audit.commanded(origin.principal, key.mac, key.tenant, command.request.code, **detail)

    @contextmanager
    def _watching(self, name: CommandKey | DeviceId | str) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        followers = self._followers.setdefault(name, set())
        followers.add(changed)
        try:
            yield changed
        finally:
            followers.discard(changed)
            if not followers:
                self._followers.pop(name, None)


def tenant_of(principal: Principal, named: TenantId | None) -> TenantId:
    """The tenant whose devices a group order means."""
    if named is None or named == principal.tenant:
        return principal.tenant
    if not sees_all(principal):
        raise NotAllowed("only an administrator names a tenant", evidence=str(named))
    return named


def _name(principal: Principal) -> str:
    """What names a party best: the OAuth client or the person that asked for the token, a user, else the token's id."""
    return principal.client or principal.name


def _log_event(command: Command, event: Event) -> None:
    """The audit trail: who commanded what."""
    log = _log.info if event.number == 1 or event.kind in FINAL_STATES else _log.debug
    log(
        f"command {event.kind}",
        tenant=str(command.key.tenant),
        mac=str(command.key.mac),
        id=command.key.id,
        via=command.origin.via,
        principal=command.origin.principal,
        method=codes.code_text(command.request.code),
        hop=event.hop,
        reason=event.reason,
    )
