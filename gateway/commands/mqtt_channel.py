"""Commands over MQTT: orders from `{tenant}/cmd/{mac}/req/{id}`, events of all on `{tenant}/cmd/{mac}/res/{id}`.

The tenant of the topic is the party that orders: that a client publishes to its own tenant's topics only is the
broker's part, that the device is that tenant's is ours. Events go out in the order in which they happened, at QoS 1,
and are told again after a lost connection until the broker has them. What is published while the gateway is not there
is not heard (the session is not kept): an order is taken when `accepted` comes, and may be repeated with its id.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from gateway.commands.desk import CommandDesk
from gateway.commands.documents import Document, event_document, refusal_document
from gateway.commands.errors import CommandError, CommandRefused, CommandStoreError, StillArriving
from gateway.commands.orders import OrderBody, order_of, parse_body
from gateway.commands.records import Command, Event, ReplyTo
from gateway.commands.store import CommandStore, Untold
from gateway.mqtt import Arrival, Connection, ConnectionLost, Login, Publication
from gateway.reconnecting import stay_connected
from gateway.statistics import Event as Counted
from gateway.statistics import Statistics
from meshwire.identity import LoginKind, Principal, Role, TenantId
from meshwire.topics import (
    Branch,
    ParsedTopic,
    TopicError,
    TopicFilter,
    command_response_topic,
    parse_topic,
    topic_level,
    validate_topic,
)

__all__ = ["CommandChannel", "is_own_response_topic"]

REQUESTS: Final = f"+/{Branch.COMMAND}/+/req/+"
_AT_ONCE: Final = 200
"""Events that are under way to the broker together."""
_MAX_ARRIVING: Final = 10_000
"""Orders that wait to be taken; beyond it they are dropped, and their senders hear no `accepted`."""
_ACKNOWLEDGED_WITHIN_S: Final = 30.0
_LONGEST_BODY: Final = 16_384

_log = structlog.get_logger(__name__)


class CommandChannel:
    """See the module's text.

    Args:
        desk: takes the orders.
        store: holds the events that were not told.
        login: towards the broker.
        statistics: refusals are counted here.
        now_s: Unix time.
    """

    def __init__(
        self,
        desk: CommandDesk,
        store: CommandStore,
        login: Login,
        statistics: Statistics,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._desk = desk
        self._store = store
        self._login = login
        self._statistics = statistics
        self._now_s = now_s
        self._wake = asyncio.Event()
        self._orders: set[asyncio.Task[None]] = set()
        self._connection: Connection | None = None

    def wake(self) -> None:
        """There may be something to tell."""
        self._wake.set()

    async def run(self) -> None:
        """Take orders and tell events until cancelled."""
        try:
            await stay_connected(self._login, self._serve)
        finally:
            if self._orders:
                await asyncio.wait(self._orders, timeout=1.0)

    async def _serve(self, connection: Connection) -> ConnectionLost:
        lost = asyncio.create_task(connection.wait_lost(self._arrived), name="commands' connection")
        lost.add_done_callback(lambda task: self._wake.set())
        self._connection = connection
        try:
            await connection.subscribe(REQUESTS, 1)
            while not lost.done():
                self._wake.clear()
                if not await self._tell_some(connection, lost):
                    await self._wake.wait()
            return lost.result()
        except ConnectionLost as failure:
            return failure
        except CommandStoreError as failure:
            _log.error("events of commands can't be read", error=str(failure))
            return ConnectionLost(str(failure))
        finally:
            self._connection = None
            lost.cancel()

    # --- events

    async def _tell_some(self, connection: Connection, lost: asyncio.Task[ConnectionLost]) -> bool:
        """Tell the oldest events that the broker does not know; False when there are none."""
        # Each may go to two topics, and the broker says how much it takes at once.
        untold = await self._store.untold(max(1, min(_AT_ONCE, connection.receive_maximum // 2)))
        if not untold:
            return False
        open_publications = sum(len(publications_of(each)) for each in untold)
        all_there: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def acknowledged(code: int) -> None:
            nonlocal open_publications
            open_publications -= 1
            if open_publications == 0 and not all_there.done():
                all_there.set_result(None)

        for each in untold:
            for publication in publications_of(each):
                connection.publish(publication, acknowledged)
        either: set[asyncio.Future[Any]] = {all_there, lost}
        await asyncio.wait(either, timeout=_ACKNOWLEDGED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if not all_there.done():
            raise ConnectionLost("the broker does not acknowledge events of commands")
        self._store.told(each.seq for each in untold)
        return True

    # --- orders

    def _arrived(self, arrival: Arrival) -> None:
        parsed = parse_topic(arrival.topic)
        if arrival.retain or parsed is None or parsed.branch is not Branch.COMMAND or parsed.rest[0] != "req":
            # A retained order was an order when it was published, and must not be one again at each reconnect.
            self._drop("retained" if arrival.retain else "topic", arrival)
        elif topic_level(parsed.rest[1]) != parsed.rest[1]:
            self._drop("id is not 1 to 64 of A-Z a-z 0-9 _ . : = -", arrival)
        elif len(self._orders) >= _MAX_ARRIVING:
            self._drop("too many at once", arrival)
        else:
            task = asyncio.create_task(self._take(arrival, parsed), name="an order by MQTT")
            self._orders.add(task)
            task.add_done_callback(self._orders.discard)

    def _drop(self, reason: str, arrival: Arrival) -> None:
        self._statistics.count(Counted.COMMAND, "dropped")
        _log.warning("an order was dropped", **_named(arrival.topic), reason=reason)

    async def _take(self, arrival: Arrival, parsed: ParsedTopic) -> None:
        reply_to = ReplyTo()
        try:
            reply_to = _reply_to(arrival, parsed.tenant)
            order = order_of(_body(arrival, parsed.rest[1]), reply_to=reply_to, ttl_s=arrival.expiry_s)
            submission = await self._desk.submit(order, parsed.mac, _party(parsed.tenant), "mqtt")
            if not submission.is_new:
                await self._tell_again(submission.command, reply_to)
        except StillArriving:
            # The first of the two is told of.
            return
        except CommandError as error:
            self._statistics.count(Counted.COMMAND, "refused")
            _log.info("an order was refused", **_named(arrival.topic), reason=str(error))
            document = refusal_document(parsed.mac, parsed.rest[1], error, self._now_s())
            topic = command_response_topic(parsed.tenant, parsed.mac, parsed.rest[1])
            self._answer([topic, reply_to.topic], document, reply_to.correlation)
        except Exception:  # A fault of ours must not end the channel for everybody.
            _log.exception("an order could not be handled", **_named(arrival.topic))

    async def _tell_again(self, command: Command, reply_to: ReplyTo) -> None:
        """An order that came twice: its sender may have missed what was told."""
        events = await self._desk.events(command, command.events - 1)
        topic = command_response_topic(command.key.tenant, command.key.mac, command.key.id)
        for event in events:
            self._answer([topic, reply_to.topic], event_document(command, event), reply_to.correlation)

    def _answer(self, topics: list[str | None], document: Document, correlation: bytes | None) -> None:
        """Tell something that is not kept: when the connection is lost, the sender asks again."""
        for topic in dict.fromkeys(topics):
            if topic is not None and self._connection is not None:
                try:
                    self._connection.publish(_publication(topic, document, correlation), lambda code: None)
                except ConnectionLost:
                    return


def _party(tenant: TenantId) -> Principal:
    return Principal(f"mqtt {tenant}", tenant, frozenset({Role.COMMAND_CLIENT}), LoginKind.TOKEN)


def _body(arrival: Arrival, id: str) -> OrderBody:
    if len(arrival.payload) > _LONGEST_BODY:
        raise CommandRefused("the order is too long", evidence=f"{len(arrival.payload)} octets")
    body = parse_body(arrival.payload)
    if body.id not in (None, id):
        raise CommandRefused("id differs from the topic's", evidence=f"{body.id} and {id}", fix="leave id out")
    return body.model_copy(update={"id": id})


def _reply_to(arrival: Arrival, tenant: TenantId) -> ReplyTo:
    topic = arrival.response_topic
    if topic is not None and not is_own_response_topic(topic, tenant):
        raise CommandRefused(
            "the response topic can't be used", evidence=topic[:100], fix=f"use one below {tenant}/cmd/+/res/+"
        )
    return ReplyTo(topic, arrival.correlation)


def is_own_response_topic(topic: str, tenant: TenantId) -> bool:
    """Whether a response topic is one that the tenant's command clients may hear, no place for readings or orders.

    Anything else would let a client write in the gateway's name where it may not write itself.
    """
    try:
        validate_topic(topic)
    except TopicError:
        return False
    return TopicFilter.parse(f"{tenant}/{Branch.COMMAND}/+/res/+").matches(topic)


def publications_of(untold: Untold) -> list[Publication]:
    """An event on the scheme's topic, and on the client's own where that is another."""
    return _publications(untold.command, untold.event)


def _publications(command: Command, event: Event) -> list[Publication]:
    key, reply_to = command.key, command.reply_to
    document = event_document(command, event)
    topics = dict.fromkeys((command_response_topic(key.tenant, key.mac, key.id), reply_to.topic))
    return [_publication(topic, document, reply_to.correlation) for topic in topics if topic is not None]


def _publication(topic: str, document: Document, correlation: bytes | None) -> Publication:
    payload = json.dumps(document, separators=(",", ":")).encode()
    return Publication(topic, payload, 1, content_type="application/json", correlation=correlation)


def _named(topic: str) -> dict[str, str]:
    """Whose order it is, for the log."""
    parsed = parse_topic(topic)
    if parsed is None:
        return {"topic": topic}
    return {"topic": topic, "tenant": parsed.tenant.value, "mac": parsed.mac.value, "id": parsed.rest[-1]}
