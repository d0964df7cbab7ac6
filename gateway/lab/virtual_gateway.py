"""The gateway in virtual time: the real sink, outbox, registry and command queue on a made-up clock, without sockets.

What a NIC sends is judged, stored, committed and answered by the code that serves real NICs; what is stored is taken
out of the outbox as the bridge would, and told. Commands wait in the real queue; only their sending is done here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from gateway.addresses import Address
from gateway.commands.queue import CommandQueue
from gateway.commands.records import Change, Command, CommandKey, Mode, Origin, bare
from gateway.envelope import unpack
from gateway.outbox import Outbox
from gateway.registry import Device, Registry
from gateway.sink import Datagram, Sink, is_for_sink
from gateway.statistics import Statistics
from gateway.storage import MemoryStorage
from meshwire.coap import ACK, CON, RST, Message, MessageError, codes, decode, encode, options
from meshwire.identity import DeviceId, TenantId
from nic_sim.mesh.ledger import ReadingKey
from nic_sim.mesh.simulation import BEGIN_S, Simulation

__all__ = ["VirtualGateway"]

TENANT: Final = TenantId("mesh")
NIC_PORT: Final = 4849
ACK_TIMEOUT_S: Final = 4.0
"""RFC 7252 section 4.8, doubled: some hops lie between."""
MAX_RETRANSMIT: Final = 4
AWAY_S: Final = 60.0
_PATH: Final = ("snsr", "arduino", "temp")
_READ_AT_ONCE: Final = 1024


@dataclass(slots=True)
class _Exchange:
    """A command that has been sent and not answered."""

    command: Command
    octets: bytes
    address: bytes
    timeout_s: float
    attempts: int = 0


class VirtualGateway:
    """See the module's text; serves `nic_sim.mesh.simulation.Gateway`.

    Args:
        simulation: whose NICs are provisioned, and whose agenda is the clock.
        send: sends a datagram to an address.
        on_stored: told of each reading that has been stored.
        on_command_ended: told of each command's final state.
    """

    def __init__(
        self,
        simulation: Simulation,
        send: Callable[[bytes, bytes], None],
        on_stored: Callable[[ReadingKey], None],
        on_command_ended: Callable[[str], None],
    ) -> None:
        self._agenda = simulation.agenda
        self._send = send
        self._on_stored = on_stored
        self._on_command_ended = on_command_ended
        self.statistics = Statistics()
        self.registry = Registry(None)
        self.registry.add_devices(Device(mac, TENANT) for mac in simulation.macs)
        self._outbox = Outbox(MemoryStorage(), max_octets=256 << 20, segment_octets=4 << 20)
        self._mids = itertools.count(1)
        self._sink = Sink(self.registry, self._outbox, self.statistics, next_message_id=self._next_mid)
        self.queue = CommandQueue()
        self._exchanges: dict[bytes, _Exchange] = {}
        self._numbers = itertools.count(1)
        self.registry.watch(self._has_returned)

    # --- what NICs send

    def receive(self, octets: bytes, address: bytes) -> None:
        """See `nic_sim.mesh.simulation.Gateway`."""
        source = Address(str(IPv6Address(address)), NIC_PORT)
        now, now_s = self._agenda.now, self._unix_s()
        self._sink.receive_all(iter([(octets, source)]), now, now_s, self._receive_other)
        if self._sink.is_waiting:
            self._answer(self._commit())

    def _receive_other(self, octets: bytes, source: Address) -> None:
        """Anything but a notification in its usual spelling."""
        try:
            message = decode(octets)
        except MessageError:
            return
        if not codes.is_request(message.code):
            self._answered(message)
        elif is_for_sink(message):
            answer = self._sink.receive(message, source, self._agenda.now, self._unix_s())
            if answer is not None:
                self._send(answer.octets, IPv6Address(source.host).packed)

    def _commit(self) -> list[Datagram]:
        commit = self._outbox.begin_commit()
        self._sink.committing()
        if commit is not None:
            commit.write(sync=False)
            self._outbox.finish_commit(commit)
            self._publish()
        return self._sink.committed()

    def _publish(self) -> None:
        """What the bridge does: read, hand over, acknowledge."""
        while records := self._outbox.read(_READ_AT_ONCE):
            for record in records:
                notification = unpack(record.payload).notification
                self._on_stored((notification.device.value, notification.epoch, notification.observe))
                self._outbox.acknowledge(record.sequence)

    def _answer(self, datagrams: Iterable[Datagram]) -> None:
        for to, octets in datagrams:
            self._send(octets, IPv6Address(to.host).packed)

    # --- commands

    def order(self, mac: DeviceId, ttl_s: float) -> None:
        """See `Gateway`: a stored PUT that may not be executed twice."""
        now_s, number = self._unix_s(), next(self._numbers)
        path = tuple((options.URI_PATH, part.encode()) for part in _PATH)
        setting = b"cfg=C" if number % 2 else b"cfg=F"
        request = bare(codes.PUT, (*path, (options.URI_QUERY, setting)), b"")
        command = Command(
            CommandKey(TENANT, mac, f"c{number}"),
            Mode.STORED,
            request,
            now_s,
            now_s + ttl_s,
            Origin("http", "scenario", TENANT),
            self.queue.next_rank(),
        )
        self._tell(self.queue.add(command, now_s, is_present=self.registry.sighting(mac) is not None))
        self._agenda.after(ttl_s + 1.0, self._expire)
        self._try(mac)

    def _expire(self) -> None:
        self._tell(self.queue.expire(self._unix_s()))

    def _has_returned(self, mac: DeviceId) -> None:
        """It has registered anew, or from elsewhere."""
        if self.queue.waiting(mac):
            self.queue.returned(mac)
            self._agenda.after(1.0, self._try, mac)

    def _try(self, mac: DeviceId) -> None:
        """Send the device's next command, if it is worth a try now."""
        now_s = self._unix_s()
        self._tell(self.queue.expire(now_s))
        sighting = self.registry.sighting(mac)
        command = self.queue.head(mac, now_s) if sighting is not None and mac in self.queue.due(now_s) else None
        if command is None or sighting is None:
            return
        begun = self.queue.begin(command.key, now_s)
        if begun is None:
            return
        token = next(self._numbers).to_bytes(4, "big")
        request = begun.command.request
        octets = encode(Message(CON, request.code, self._next_mid(), token, request.options, request.payload))
        address = IPv6Address(sighting.address.host).packed
        exchange = self._exchanges[token] = _Exchange(begun.command, octets, address, ACK_TIMEOUT_S)
        self._send(octets, address)
        self._agenda.after(exchange.timeout_s, self._timed_out, token)

    def _timed_out(self, token: bytes) -> None:
        exchange = self._exchanges.get(token)
        if exchange is None:
            return
        if exchange.attempts < MAX_RETRANSMIT and self._unix_s() < exchange.command.expires_s:
            exchange.attempts += 1
            exchange.timeout_s *= 2
            self._send(exchange.octets, exchange.address)
            self._agenda.after(exchange.timeout_s, self._timed_out, token)
            return
        del self._exchanges[token]
        command, now_s = exchange.command, self._unix_s()
        self._tell(self.queue.lost(command.key, now_s, hop="mesh", reason="no answer"))
        self._agenda.after(AWAY_S, self._try, command.key.mac)

    def _answered(self, message: Message) -> None:
        exchange = self._exchanges.pop(message.token, None)
        if exchange is None or message.mtype == RST or (message.mtype == ACK and message.code == codes.EMPTY):
            return
        command = exchange.command
        self._tell(self.queue.answered(command.key, self._unix_s(), message))
        self._try(command.key.mac)

    def _tell(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.command.is_final:
                self._on_command_ended(change.command.state.value)

    # --- private

    def _unix_s(self) -> float:
        return BEGIN_S + self._agenda.now

    def _next_mid(self) -> int:
        return next(self._mids) & 0xFFFF
