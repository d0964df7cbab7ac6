"""Topic and multicast: every receiver gets the message, through the subscriptions that match it.

A topic is stored: the broker has the message, and the queue of each durable session keeps it. A multicast address is
direct: only who is connected gets it, nothing is kept, and the sender's acknowledgement waits until each receiver that
was there has acknowledged or gone.
"""

from typing import TYPE_CHECKING

from broker.addresses.address import Address, AddressType
from broker.addresses.counters import Counters
from broker.addresses.outcome import Outcome, Receipt
from broker.message import Message
from broker.statistics import Drop

if TYPE_CHECKING:
    from broker.addresses.space import AddressSpace

__all__ = ["SpreadingAddress"]


class _Broadcast:
    """One multicast message on its way; the lease of all its deliveries."""

    __slots__ = ("_address", "_open", "_receipt", "_taken")

    def __init__(self, address: "SpreadingAddress", receipt: Receipt | None, count: int) -> None:
        self._address = address
        self._receipt = receipt
        self._open = count
        self._taken = 0

    def taken(self, now: float) -> None:
        self._taken += 1
        self._address.counters.delivered += 1
        self._close()

    def refused(self, reason: int, now: float) -> None:
        self._address.counters.refused += 1
        self._close()

    def returned(self) -> None:
        self._close()

    def _close(self) -> None:
        self._open -= 1
        if not self._open and self._receipt is not None:
            self._receipt.settle(Outcome.TAKEN if self._taken else Outcome.NOBODY)


class SpreadingAddress:
    """See the module.

    Args:
        address: its definition.
        space: all addresses of the broker, and what they share.
    """

    def __init__(self, address: Address, space: "AddressSpace") -> None:
        self.address = address
        self.counters = Counters()
        self._space = space
        self._is_stored = address.type is AddressType.TOPIC

    def offer(self, message: Message, receipt: Receipt | None, now: float) -> None:
        """A sender's message; the receipt is settled now or later."""
        self.counters.received += 1
        if self._is_stored:
            self.counters.delivered += self._space.publish(message, now)
            if receipt is not None:
                receipt.settle(Outcome.STORED)
            return
        listeners = [target for target in self._space.targets(message) if target.subscriber.outlet is not None]
        if not listeners:
            self.counters.turned_away[Outcome.NOBODY.value] += 1
            self._space.lost(message.topic, Drop.NO_RECEIVER)
            if receipt is not None:
                receipt.settle(Outcome.NOBODY)
            return
        self._space.tell_of(message)
        if receipt is not None:
            receipt.withhold()
        broadcast = _Broadcast(self, receipt, len(listeners))
        for target in listeners:
            qos = min(message.qos, target.qos, 1)
            target.subscriber.carry(message, qos, False, target.identifiers, broadcast, now)

    def tick(self, now: float) -> None:
        """Nothing waits here."""

    def close(self) -> int:
        """The address is no more; nothing waits here."""
        return 0

    def revise(self, address: Address) -> None:
        """Other bounds; name, type and filter are the same."""
        self.address = address
