"""From the store back to a working engine, before the first client connects.

Decides what an unclean end means: who was connected then has lost its connection now, so its session's expiry and the
delay of its will begin with the start of the broker.
"""

from collections import defaultdict
from collections.abc import Callable

import structlog

from broker.delivery import Delivery
from broker.engine import Engine
from broker.errors import StoreError
from broker.journal import Journal
from broker.message import Message
from broker.policy import Permissions
from broker.records import (
    delivery_of,
    fill_session,
    message_of,
    queued_of,
    retained_of,
    session_key_of,
    subscription_of,
)
from broker.session import Session
from broker.store import Store
from meshwire.identity import Principal
from meshwire.mqtt import MqttError

__all__ = ["recover"]

_log = structlog.get_logger()


def recover(
    engine: Engine,
    store: Store,
    journal: Journal,
    *,
    permissions_of: Callable[[Principal], Permissions],
    now: float,
    offset: float,
) -> None:
    """Fills the engine.

    Args:
        engine: a new one, with this journal.
        store: read once.
        journal: of all restored sessions from here on.
        permissions_of: the rights of a principal by the roles of today.
        now: loop time in seconds.
        offset: Unix time minus loop time.

    Raises:
        StoreError: a row does not have the form it was written in.
    """
    try:
        sessions, connected = _sessions(engine, store, offset)
        _subscriptions(sessions, store)
        queued = _deliveries(engine, sessions, store, journal, offset)
        for row in store.retained():
            engine.retained.store(retained_of(row, offset))
    except (ValueError, TypeError, KeyError, MqttError) as error:
        raise StoreError(
            "the store is damaged",
            evidence=f"{store.path}: {type(error).__name__}: {error}",
            fix="put a backup in its place, or move it away and start without the queues it held",
            code="MW-BRK-010",
        ) from None
    for session in sessions.values():
        session.journal = journal
        engine.restore(session, permissions_of(session.principal) if session.principal else Permissions())
    for number in connected:
        engine.abandon(sessions[number], now)
    engine.tick(now)
    _log.info(
        "store read", path=str(store.path), sessions=len(sessions), messages=queued, retained=len(engine.retained)
    )


def _sessions(engine: Engine, store: Store, offset: float) -> tuple[dict[int, Session], list[int]]:
    sessions: dict[int, Session] = {}
    connected: list[int] = []
    for row in store.sessions():
        session = engine.new_session(session_key_of(row))
        if fill_session(session, row, offset):
            connected.append(session.number)
        sessions[session.number] = session
    return sessions, connected


def _subscriptions(sessions: dict[int, Session], store: Store) -> None:
    for row in store.subscriptions():
        session = sessions.get(int(row[0] or 0))
        if session is not None:
            held = subscription_of(row)
            session.subscriptions[held.topic_filter] = held
    for number, packet_id in store.incoming():
        session = sessions.get(int(number or 0))
        if session is not None:
            session.incoming.add(int(packet_id or 0))


def _deliveries(engine: Engine, sessions: dict[int, Session], store: Store, journal: Journal, offset: float) -> int:
    """Gives each session what it had in flight and in its queue; returns the number of messages."""
    messages: dict[int, Message] = {}
    for row in store.messages():
        message = message_of(row, offset)
        messages[message.number] = message
    items: defaultdict[int, list[Delivery]] = defaultdict(list)
    for row in store.deliveries():
        number, found = int(row[1] or 0), messages.get(int(row[2] or 0))
        if found is not None and number in sessions:
            found.references += 1
            items[number].append(delivery_of(row, found))
    for number, held in items.items():
        sessions[number].restore(held)
    _queues(engine, store, messages)
    for message in messages.values():
        if not message.references:
            journal.orphaned(message)
    return len(messages)


def _queues(engine: Engine, store: Store, messages: dict[int, Message]) -> None:
    """Gives each queue what it held; what was stored at one that is no more is dropped."""
    rows = [queued_of(row, messages[int(row[3] or 0)]) for row in store.queued() if int(row[3] or 0) in messages]
    for *_, message in rows:
        message.references += 1
    engine.addresses.restore(rows)
