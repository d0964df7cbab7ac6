"""All addresses of a broker: which topic belongs to which, what they share of the engine, and changes while it runs."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from broker.addresses.address import Address, clamp_ttl
from broker.addresses.book import AddressBook
from broker.addresses.competing import CompetingAddress, Entry
from broker.addresses.outcome import Receipt
from broker.addresses.spreading import SpreadingAddress
from broker.errors import AddressError
from broker.journal import Journal
from broker.message import Message
from broker.policy import filter_of_subscription
from broker.router import Target
from broker.statistics import Drop
from broker.tenants import Tenants
from meshwire.topics import TopicFilter

if TYPE_CHECKING:
    from broker.engine import Engine
    from broker.session import Session

__all__ = ["AddressSpace", "LiveAddress"]

LiveAddress = CompetingAddress | SpreadingAddress
KNOWN_TOPICS_MAX: Final = 16_384

_log = structlog.get_logger()


class AddressSpace:
    """See the module.

    Args:
        engine: whose subscriptions and sessions the addresses work with.
    """

    def __init__(self, engine: "Engine") -> None:
        self.dirty: set[CompetingAddress] = set()
        """Those that `settle` has to look at."""
        self.book: AddressBook | None = None
        """Where definitions are written down; None: they can't be changed from here."""
        self._engine = engine
        self._live: dict[tuple[str, str], LiveAddress] = {}
        self._competing: dict[str, CompetingAddress] = {}
        self._wide: list[tuple[TopicFilter, LiveAddress]] = []
        self._topics: dict[str, LiveAddress | None] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[LiveAddress]:
        return iter(self._live.values())

    # --- look-up ------------------------------------------------------------------------------------------------------

    def of(self, tenant: str, name: str) -> LiveAddress | None:
        return self._live.get((tenant, name))

    def of_topic(self, topic: str) -> LiveAddress | None:
        """The address a topic name belongs to; remembered."""
        if not self._live:
            return None
        try:
            return self._topics[topic]
        except KeyError:
            found = next((live for wide, live in self._wide if wide.matches(topic)), None)
            if len(self._topics) >= KNOWN_TOPICS_MAX:
                self._topics.clear()
            self._topics[topic] = found
            return found

    def competed_for(self, topic_filter: str) -> CompetingAddress | None:
        """The address for which a subscription with this filter (`$share/GROUP/` or not) competes."""
        return self._competing.get(filter_of_subscription(topic_filter)) if self._competing else None

    # --- messages -----------------------------------------------------------------------------------------------------

    def offer(self, message: Message, receipt: Receipt | None, now: float) -> bool:
        """Sends a message to the address its topic belongs to; False when there is none."""
        live = self.of_topic(message.topic)
        if live is None:
            return False
        address, ends = live.address, message.expires_at
        if address.max_ttl_s is not None or address.min_ttl_s is not None:
            life = clamp_ttl(None if ends is None else ends - now, address.min_ttl_s, address.max_ttl_s)
            message.expires_at = None if life is None else now + life
        live.offer(message, receipt, now)
        return True

    def move(self, message: Message, source: Address, target: str, reason: str, now: float) -> bool:
        """Sends a message that its address gives up to another one; False when it can't be."""
        live = self.of(source.tenant, target)
        topic = None if live is None else live.address.topic
        if live is None or topic is None:
            return False
        added = (("address", source.name), ("topic", message.topic), ("reason", reason))
        properties = replace(
            message.properties,
            message_expiry_interval=None,
            user_properties=(*message.properties.user_properties, *added),
        )
        return self.offer(Message(topic, message.payload, 1, False, properties), None, now)

    # --- what addresses share -----------------------------------------------------------------------------------------

    @property
    def journal(self) -> Journal | None:
        return self._engine.journal

    @property
    def tenants(self) -> Tenants:
        return self._engine.tenants

    def lost(self, topic: str, reason: Drop) -> None:
        """Counts a message that reached nobody."""
        self._engine.lost(None, topic, reason)

    def publish(self, message: Message, now: float) -> int:
        """To all subscriptions, as without addresses; returns to how many clients."""
        return self._engine.publish(message, now)

    def show(self, message: Message, now: float) -> None:
        """To subscriptions that match but do not compete: they see a copy."""
        message.retain = False
        match = self._engine.subscriptions.tree.match(message.topic)
        if match.targets or match.groups:
            self._engine.publish(message, now)
        else:
            self.tell_of(message)

    def tell_of(self, message: Message) -> None:
        """Hooks hear of an accepted message."""
        self._engine.tell_hooks(message)

    def targets(self, message: Message) -> "list[Target[Session]]":
        """Everyone a message reaches, one member of each share group among them."""
        return self._engine.targets(message)

    # --- changes ------------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Goes on with what receivers that left have given back."""
        while self.dirty:
            self.dirty.pop().pump(now)

    def tick(self, now: float) -> None:
        """About once a second: takes out what has expired."""
        for live in list(self._live.values()):
            live.tick(now)
        self.settle(now)

    def restore(self, rows: Iterable[tuple[str, str, int, int, Message]]) -> None:
        """Queued messages of the store, in order, as (tenant, address, number, attempts, message). What was stored at
        a queue that is no more is dropped.
        """
        for tenant, name, number, attempts, message in rows:
            live = self.of(tenant, name)
            if isinstance(live, CompetingAddress):
                entry = Entry(live, message)
                entry.number, entry.attempts = number, attempts
                live.restore(entry)
            else:
                self.lost(message.topic, Drop.ADDRESS_REMOVED)
                if self.journal is not None:
                    self.journal.dequeued(number, message)

    def apply(self, addresses: Iterable[Address], now: float) -> None:
        """These are the addresses from now on; what stays keeps its messages."""
        wanted = {(item.tenant, item.name): item for item in self._within_plans(addresses)}
        for key, live in list(self._live.items()):
            new = wanted.get(key)
            if new is None or (new.type, new.topic_filter) != (live.address.type, live.address.topic_filter):
                self._close(key, live)
            else:
                live.revise(new)
        for key, item in wanted.items():
            if key not in self._live:
                self._open(key, item)
        self._topics.clear()
        self._engine.on_addresses_changed(now)

    def put(self, address: Address, now: float) -> None:
        """Adds or replaces an address, in the book as well. Raises AddressError."""
        book, most = self._writable(), self.tenants.of(address.tenant).plan.max_addresses
        known = book.in_tenant(address.tenant)
        if most is not None and len(known) >= most and book.of(address.tenant, address.name) is None:
            raise AddressError(
                "the tenant's plan allows no more addresses", evidence=f"{address.tenant}: {most}", code="MW-BRK-022"
            )
        book.put(address)
        self.apply(book, now)

    def remove(self, address: Address, now: float) -> None:
        """Removes an address, in the book as well. Raises AddressError."""
        book = self._writable()
        book.remove(address.tenant, address.name)
        self.apply(book, now)

    def _writable(self) -> AddressBook:
        if self.book is None:
            raise AddressError("addresses can't be changed here", evidence="this broker has no addresses file")
        return self.book

    def senders(self) -> Counter[LiveAddress]:
        """Connected clients that have sent to each address; looks at every session."""
        found: Counter[LiveAddress] = Counter()
        for session in self._engine.sessions.values():
            if session.outlet is not None:
                found.update({live for topic in session.publishable if (live := self.of_topic(topic)) is not None})
        return found

    def receivers(self, live: LiveAddress) -> int | None:
        """Connected clients that receive from it; None: it has no topic of its own to ask about."""
        if isinstance(live, CompetingAddress):
            return live.receivers
        if live.address.topic is None:
            return None
        match = self._engine.subscriptions.tree.match(live.address.topic)
        everyone = {target.subscriber for target in match.targets}
        everyone |= {target.subscriber for group in match.groups for target in group.members}
        return sum(session.outlet is not None for session in everyone)

    def _within_plans(self, addresses: Iterable[Address]) -> Iterator[Address]:
        counts: dict[str, int] = {}
        for item in addresses:
            most = self.tenants.of(item.tenant).plan.max_addresses
            count = counts[item.tenant] = counts.get(item.tenant, 0) + 1
            if most is not None and count > most:
                _log.warning("address not served: above the plan", tenant=item.tenant, address=item.name, most=most)
            else:
                yield item

    def _open(self, key: tuple[str, str], address: Address) -> None:
        live: LiveAddress
        if address.type.is_competing:
            live = self._competing[address.topic_filter] = CompetingAddress(address, self)
        else:
            live = SpreadingAddress(address, self)
        self._live[key] = live
        self._wide.append((TopicFilter.parse(address.topic_filter), live))

    def _close(self, key: tuple[str, str], live: LiveAddress) -> None:
        """Subscriptions become ordinary ones; what waits is dropped and counted."""
        del self._live[key]
        self._wide = [(wide, other) for wide, other in self._wide if other is not live]
        if isinstance(live, CompetingAddress):
            self._engine.subscriptions.release(live)
            del self._competing[live.address.topic_filter]
            self.dirty.discard(live)
        dropped = live.close()
        if dropped:
            _log.warning("address removed with messages", tenant=key[0], address=key[1], messages=dropped)
