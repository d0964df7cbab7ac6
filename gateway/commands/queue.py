"""All commands that have not ended, in the order in which each device gets them. Pure: `now_s` is handed in.

Does: keep one line per device with one command under way at most; expire, replace, cancel, move; remember which devices
are away and when they are worth another try. Does not: send, store, or read a clock. The caller owes: every returned
`Change` to the store, in order, and `sent` durable before a datagram leaves.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from gateway.blocks import MAX_PAYLOAD_OCTETS
from gateway.commands.errors import NoSuchCommand, NotWaiting, QueueFull
from gateway.commands.lifecycle import Input, advance
from gateway.commands.records import Change, Command, CommandKey, Event, Mode, State, resource_of
from meshwire.coap import Message
from meshwire.identity import DeviceId

__all__ = ["CommandQueue", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How many commands may wait."""

    max_waiting: int = 100_000
    max_waiting_per_device: int = 1000


@dataclass(slots=True)
class _Line:
    """The commands of one device."""

    waiting: list[Command] = field(default_factory=list)
    """Lowest rank first."""
    under_way: Command | None = None
    ready_at_s: float = 0.0
    """Not tried before; 0: at once; infinite: not before it is heard of."""


class CommandQueue:
    """See the module's text."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lines: dict[DeviceId, _Line] = {}
        self._by_key: dict[CommandKey, Command] = {}
        self._expiries: list[tuple[float, CommandKey]] = []
        self._due: dict[DeviceId, None] = {}
        """Devices worth a try, the longest due first: nothing here looks through all lines."""
        self._resting: list[tuple[float, DeviceId]] = []
        """A heap of when devices are worth another try; entries may be outdated."""
        self._away: dict[DeviceId, float] = {}
        """Devices that were not there, and since when."""
        self._rank = 0.0

    # --- what there is

    def get(self, key: CommandKey) -> Command | None:
        """A command that has not ended."""
        return self._by_key.get(key)

    def waiting(self, mac: DeviceId) -> tuple[Command, ...]:
        """A device's waiting commands, the next one first; one under way is not among them."""
        line = self._lines.get(mac)
        return tuple(line.waiting) if line is not None else ()

    def under_way(self, mac: DeviceId) -> Command | None:
        """The command that a device has been sent and has not answered."""
        line = self._lines.get(mac)
        return None if line is None else line.under_way

    def long_payloads(self) -> Iterator[bytes]:
        """Payloads of commands that have not ended, as far as they are too long for one message."""
        payloads = (command.request.payload for command in self._by_key.values())
        return (payload for payload in payloads if len(payload) > MAX_PAYLOAD_OCTETS)

    def __len__(self) -> int:
        return len(self._by_key)

    def next_deadline(self) -> float | None:
        """When the next waiting command expires or a device is worth another try, in Unix seconds."""
        while self._resting and not self._is_resting(*self._resting[0]):
            heapq.heappop(self._resting)
        times = [heap[0][0] for heap in (self._expiries, self._resting) if heap]
        return min(times, default=None)

    # --- intake

    def restore(self, commands: Iterable[Command], now_s: float) -> list[Change]:
        """Take up what an earlier run left, in the order of ranks.

        What was sent then is not sent again, unless it may be repeated; a direct command's client waits no more.
        """
        changes = []
        for command in sorted(commands, key=lambda each: each.rank):
            self._rank = max(self._rank, command.rank)
            change = self._taken_up(command, now_s)
            if change is not None:
                changes.append(change)
                command = change.command
            if not command.is_final:
                self._insert(command)
        return changes + self.expire(now_s)

    def _taken_up(self, command: Command, now_s: float) -> Change | None:
        restarted = "the gateway has started anew"
        if command.state in (State.SENT, State.DELIVERED):
            may_repeat = command.may_repeat and command.mode is Mode.STORED
            return advance(command, Input.RETRY if may_repeat else Input.LOSE, now_s, hop="gateway", reason=restarted)
        if command.mode is Mode.DIRECT:
            return advance(command, Input.REFUSE, now_s, hop="gateway", reason=restarted)
        if command.state is State.ACCEPTED:
            return advance(command, Input.QUEUE, now_s)
        return None

    def start_ranks_at(self, rank: float) -> None:
        """Begin behind what an earlier run has ranked, ended or not."""
        self._rank = max(self._rank, rank)

    def next_rank(self) -> float:
        """The rank of a command that comes last."""
        self._rank += 1.0
        return self._rank

    def add(self, command: Command, now_s: float, *, is_present: bool, replace_older: bool = False) -> list[Change]:
        """Take a new command in.

        Args:
            command: its state counts for nothing.
            now_s: Unix seconds.
            is_present: whether its device is held to be reachable.
            replace_older: whether waiting commands for the same resource are cancelled.

        Returns:
            First what becomes of it, then what becomes of those that it replaces. A direct command for a device that
            is away has failed at once.

        Raises:
            QueueFull: there is no room; one of a group has failed instead.
        """
        line = self._lines.get(command.key.mac)
        command = replace(command, state=State.ACCEPTED, events=0)
        if command.mode is Mode.DIRECT and (not is_present or (line is not None and line.ready_at_s > now_s)):
            return [advance(command, Input.REFUSE, now_s, hop="gateway", reason="device is not reachable")]
        older = []
        if replace_older and line is not None:
            older = [each for each in line.waiting if resource_of(each.request) == resource_of(command.request)]
        if (full := self._is_full(command.key.mac, len(older))) is not None:
            if command.group is None:
                raise QueueFull(full)
            return [advance(command, Input.REFUSE, now_s, hop="gateway", reason=f"too many commands wait: {full}")]
        accepted = Change(replace(command, events=1), Event(State.ACCEPTED, now_s, 1))
        replaced = []
        for each in older:
            replaced.append(advance(each, Input.CANCEL, now_s, hop="gateway", reason=f"replaced by {command.key.id}"))
            self._remove(each)
        queued = advance(accepted.command, Input.QUEUE, now_s, position=self._position(command.key.mac))
        self._insert(queued.command)
        return [accepted, queued, *replaced]

    def check_room(self, macs: Iterable[DeviceId]) -> None:
        """Whether one more command for each of these devices would find room now; raises QueueFull."""
        for count, mac in enumerate(macs):
            if (full := self._is_full(mac, -count, leaving_here=0)) is not None:
                raise QueueFull(full)

    def _is_full(self, mac: DeviceId, leaving: int, *, leaving_here: int | None = None) -> str | None:
        """What is full, if `leaving` commands are replaced; None: there is room."""
        line = self._lines.get(mac)
        waiting = (len(line.waiting) if line is not None else 0) - (leaving if leaving_here is None else leaving_here)
        if waiting >= self._limits.max_waiting_per_device:
            return f"{waiting} for {mac}"
        if len(self._by_key) - leaving >= self._limits.max_waiting:
            return f"{len(self._by_key)} for all devices"
        return None

    def undo(self, added: Iterable[Change]) -> None:
        """Undo `add`: what could not be stored was never accepted, and replaces nothing."""
        for change in added:
            command, known = change.command, self._by_key.get(change.command.key)
            if command.state is State.QUEUED and known is not None and known.state is State.QUEUED:
                self._remove(known)
            elif command.state is State.CANCELLED:
                self._insert(replace(command, state=State.QUEUED, events=command.events - 1))

    # --- what clients may still change

    def cancel(self, key: CommandKey, now_s: float, reason: str) -> list[Change]:
        """Take a waiting command back; raises NoSuchCommand or NotWaiting."""
        command = self._waiting_one(key)
        self._remove(command)
        return [advance(command, Input.CANCEL, now_s, reason=reason)]

    def move(self, key: CommandKey, position: int) -> list[Change]:
        """Give a waiting command another place, 0 for the next one; raises NoSuchCommand or NotWaiting."""
        command = self._waiting_one(key)
        others = [each for each in self._lines[key.mac].waiting if each.key != key]
        position = min(max(position, 0), len(others))
        if not others:
            return [Change(command)]
        if position == 0:
            rank = others[0].rank - 1.0
        elif position == len(others):
            rank = others[-1].rank + 1.0
        else:
            rank = (others[position - 1].rank + others[position].rank) / 2.0
            if not others[position - 1].rank < rank < others[position].rank:
                return self._renumber([*others[:position], command, *others[position:]])
        moved = replace(command, rank=rank)
        self._remove(command)
        self._insert(moved)
        return [Change(moved)]

    def _renumber(self, order: list[Command]) -> list[Change]:
        """Two ranks have become neighbours among floating-point numbers: the whole line gets new ones."""
        changes = []
        for command in order:
            self._remove(command)
            moved = replace(command, rank=self.next_rank())
            self._insert(moved)
            changes.append(Change(moved))
        return changes

    def _waiting_one(self, key: CommandKey) -> Command:
        command = self._by_key.get(key)
        if command is None:
            raise NoSuchCommand
        if command.state is not State.QUEUED:
            raise NotWaiting(command.state)
        return command

    # --- time

    def expire(self, now_s: float) -> list[Change]:
        """End every waiting command whose time is over; those under way are the sender's to judge."""
        changes = []
        while self._expiries and self._expiries[0][0] <= now_s:
            _, key = heapq.heappop(self._expiries)
            command = self._by_key.get(key)
            if command is not None and command.state is State.QUEUED and command.expires_s <= now_s:
                self._remove(command)
                changes.append(advance(command, Input.EXPIRE, now_s))
        return changes

    def due(self, now_s: float) -> list[DeviceId]:
        """Devices that have commands waiting, none under way, and are worth a try."""
        while self._resting and self._resting[0][0] <= now_s:
            ready_at_s, mac = heapq.heappop(self._resting)
            if self._is_resting(ready_at_s, mac):
                self._lines[mac].ready_at_s = 0.0
                self._place(mac)
        return list(self._due)

    def is_due(self, mac: DeviceId, now_s: float) -> bool:
        """Whether one device is among them."""
        line = self._lines.get(mac)
        return line is not None and bool(line.waiting) and line.under_way is None and line.ready_at_s <= now_s

    def away(
        self, mac: DeviceId, now_s: float, ready_at_s: float, *, hop: str, reason: str, until_heard: bool = False
    ) -> list[Change]:
        """A device can't be reached: its direct commands fail, the others wait.

        Args:
            mac: the device.
            now_s: Unix seconds; from here on a sign of life counts as a return.
            ready_at_s: when it is worth another try; infinite: not before it returns.
            hop: where it failed.
            reason: in words.
            until_heard: whether it is worth a try as soon as it gives a sign of life.
        """
        line = self._lines.get(mac)
        if line is None:
            return []
        line.ready_at_s = ready_at_s
        self._away.pop(mac, None)
        if until_heard:
            self._away[mac] = now_s
        self._place(mac)
        changes = []
        for command in [each for each in line.waiting if each.mode is Mode.DIRECT]:
            self._remove(command)
            changes.append(advance(command, Input.REFUSE, now_s, hop=hop, reason=reason))
        return changes

    def away_devices(self) -> list[tuple[DeviceId, float]]:
        """Devices that were not there when something was to be sent, and since when."""
        return list(self._away.items())

    def returned(self, mac: DeviceId) -> None:
        """A device was heard of: it is worth a try at once."""
        self._away.pop(mac, None)
        line = self._lines.get(mac)
        if line is not None:
            line.ready_at_s = 0.0
            self._place(mac)

    # --- the command under way

    def head(self, mac: DeviceId, now_s: float) -> Command | None:
        """The next command of a device that has not expired."""
        line = self._lines.get(mac)
        if line is None:
            return None
        return next((each for each in line.waiting if each.expires_s > now_s), None)

    def begin(self, key: CommandKey, now_s: float) -> Change | None:
        """Let a waiting command out; None when it waits no more, its time is over, or another one is under way."""
        command = self._by_key.get(key)
        if command is None or command.state is not State.QUEUED or command.expires_s <= now_s:
            return None
        line = self._lines[key.mac]
        if line.under_way is not None:
            return None
        change = advance(command, Input.SEND, now_s)
        line.waiting.remove(command)
        line.under_way = self._by_key[key] = change.command
        self._place(key.mac)
        return change

    def acknowledged(self, key: CommandKey, now_s: float) -> list[Change]:
        """The device has acknowledged it; nothing the second time."""
        command = self._by_key.get(key)
        if command is None or command.state is not State.SENT:
            return []
        change = advance(command, Input.ACKNOWLEDGE, now_s)
        self._lines[key.mac].under_way = self._by_key[key] = change.command
        return [change]

    def answered(self, key: CommandKey, now_s: float, answer: Message) -> list[Change]:
        """The device has answered."""
        return [*self.acknowledged(key, now_s), self._end(key, Input.ANSWER, now_s, answer=answer)]

    def refused(self, key: CommandKey, now_s: float, *, hop: str, reason: str) -> list[Change]:
        """A hop has refused it: it was not executed and is given up. It may still have waited."""
        return [self._end(key, Input.REFUSE, now_s, hop=hop, reason=reason)]

    def lost(self, key: CommandKey, now_s: float, *, hop: str, reason: str) -> list[Change]:
        """Nobody knows whether it was executed."""
        return [self._end(key, Input.LOSE, now_s, hop=hop, reason=reason)]

    def lapsed(self, key: CommandKey, now_s: float) -> list[Change]:
        """Its time was over between `begin` and the first datagram."""
        return [self._end(key, Input.EXPIRE, now_s)]

    def put_back(self, key: CommandKey, now_s: float, *, hop: str, reason: str) -> list[Change]:
        """It was surely not executed, or may be repeated: it waits again, in its old place."""
        command = self._by_key[key]
        change = advance(command, Input.RETRY, now_s, hop=hop, reason=reason, position=0)
        self._remove(command)
        self._insert(change.command)
        return [change, *self.expire(now_s)]

    # --- inside

    def _end(
        self,
        key: CommandKey,
        how: Input,
        now_s: float,
        *,
        hop: str | None = None,
        reason: str | None = None,
        answer: Message | None = None,
    ) -> Change:
        command = self._by_key[key]
        change = advance(command, how, now_s, hop=hop, reason=reason, answer=answer)
        self._remove(command)
        return change

    def _position(self, mac: DeviceId) -> int:
        line = self._lines.get(mac)
        return 0 if line is None else len(line.waiting) + (line.under_way is not None)

    def _insert(self, command: Command) -> None:
        line = self._lines.setdefault(command.key.mac, _Line())
        bisect.insort(line.waiting, command, key=lambda each: each.rank)
        self._by_key[command.key] = command
        heapq.heappush(self._expiries, (command.expires_s, command.key))
        self._place(command.key.mac)

    def _remove(self, command: Command) -> None:
        line = self._lines[command.key.mac]
        if line.under_way is not None and line.under_way.key == command.key:
            line.under_way = None
        else:
            line.waiting.remove(command)
        del self._by_key[command.key]
        self._place(command.key.mac)

    def _place(self, mac: DeviceId) -> None:
        """See to it that a device is found when it is due, and forgotten when there is nothing to know of it."""
        line = self._lines.get(mac)
        if line is None or not line.waiting or line.under_way is not None or line.ready_at_s:
            self._due.pop(mac, None)
        else:
            self._due.setdefault(mac)
        if line is None:
            return
        if line.ready_at_s and not math.isinf(line.ready_at_s):
            heapq.heappush(self._resting, (line.ready_at_s, mac))
        elif not line.ready_at_s and not line.waiting and line.under_way is None:
            del self._lines[mac]

    def _is_resting(self, ready_at_s: float, mac: DeviceId) -> bool:
        """Whether an entry of the heap still holds."""
        line = self._lines.get(mac)
        return line is not None and line.ready_at_s == ready_at_s and line.under_way is None
