"""The broker's own affairs while it runs: who is connected, which topics are in use, what a tenant may use and uses,
roles and listeners; and ending a connection. Requests over MQTT, for ADMIN and OPERATOR.

A request is a JSON object published to `$CONTROL/broker/v1`; `control_reply` says where the answer goes. Which tenant
may be shown to whom is the business of whoever asks: these requests are the platform's.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Annotated, Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from broker.control_reply import reply
from broker.engine import Engine
from broker.message import Message
from broker.outlet import SessionKey
from broker.policy import RoleRule
from broker.role_table import RoleTable
from broker.session import Session
from broker.settings import ListenerSettings
from broker.topics_seen import LONGEST
from meshwire.identity import LoginKind
from meshwire.mqtt import ProtocolVersion
from meshwire.topics import BROKER_CONTROL_TOPIC

__all__ = ["OPERATIONS_TOPIC", "Operations"]

OPERATIONS_TOPIC: Final = BROKER_CONTROL_TOPIC

MOST_SUBSCRIPTIONS: Final = 50
LONGEST_FILTER: Final = 200
LONGEST_USER: Final = 128
LONGEST_CLIENT_ID: Final = 256
"""Characters; client ids may have 65,535, and an answer is to be read by people."""
ANSWER_OCTETS: Final = 524_288
ROW_OCTETS: Final = 512
"""Of a connection in an answer, besides its subscriptions; beyond the bound an answer ends early."""

_VERSIONS: Final = {ProtocolVersion.V3_1: "3.1", ProtocolVersion.V3_1_1: "3.1.1", ProtocolVersion.V5: "5"}

_log = structlog.get_logger()

Record = dict[str, object]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Connections(_Request):
    command: Literal["connections"]
    tenant: str | None = None
    """Absent: of all."""
    find: str = ""
    """Text that tenant, client id, user or address must contain."""
    after: int = Field(default=0, ge=0)
    """So many are left out in front."""
    limit: int = Field(default=200, ge=1, le=1_000)


class _Kick(_Request):
    command: Literal["kick"]
    tenant: str
    client: str
    login: LoginKind


class _Topics(_Request):
    command: Literal["topics"]
    tenant: str
    find: str = ""
    limit: int = Field(default=500, ge=1, le=1_000)


class _Plan(_Request):
    command: Literal["plan"]
    tenant: str


class _Roles(_Request):
    command: Literal["roles"]


class _Listeners(_Request):
    command: Literal["listeners"]


_Any = _Connections | _Kick | _Topics | _Plan | _Roles | _Listeners
_READER: Final[TypeAdapter[_Any]] = TypeAdapter(Annotated[_Any, Field(discriminator="command")])


class Operations:
    """See the module.

    Args:
        engine: the broker without its sockets.
        roles: of this site.
        listeners: with their ports, as they were bound.
        wall_offset_s: what to add to loop time for Unix time.
    """

    def __init__(
        self,
        engine: Engine,
        roles: RoleTable,
        listeners: Sequence[tuple[ListenerSettings, int]],
        wall_offset_s: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._roles = roles
        self._listeners = listeners
        self._wall_offset_s = wall_offset_s

    def answer(self, asked: Message, now: float) -> Message:
        """The answer to one request; one that is not understood gets `{"error": …}`.

        Args:
            now: loop time in seconds.
        """
        try:
            request = _READER.validate_json(asked.payload)
        except ValidationError as error:
            return reply(asked, {"error": f"request is not valid: {error.errors()[0]['msg']}"})
        return reply(asked, self._answer(request))

    def _answer(self, request: _Any) -> Record:
        match request:
            case _Connections():
                return self._connections(request)
            case _Kick():
                return self._kick(request)
            case _Topics():
                return self._topics(request)
            case _Plan():
                return self._plan(request.tenant)
            case _Roles():
                return {"roles": [_role(name, rule) for name, rule in sorted(self._roles.rules.items())]}
            case _Listeners():
                return {"listeners": [_listener(settings, port) for settings, port in self._listeners]}

    # --- connections --------------------------------------------------------------------------------------------------

    def _connections(self, request: _Connections) -> Record:
        wanted = request.find.lower()
        found = [session for session in self._connected(request.tenant) if wanted in _words(session)]
        found.sort(key=lambda session: session.key)
        rows: list[Record] = []
        octets = 0
        for session in found[request.after : request.after + request.limit]:
            shown = _shown_subscriptions(session)
            octets += ROW_OCTETS + sum(map(len, shown))
            if rows and octets > ANSWER_OCTETS:
                break
            rows.append(_connection(session, shown))
        return {"connections": rows, "total": len(found)}

    def _connected(self, tenant: str | None) -> Iterable[Session]:
        return (
            session
            for key, session in self._engine.sessions.items()
            if session.outlet is not None and session.facts is not None and tenant in (None, key.tenant)
        )

    def _kick(self, request: _Kick) -> Record:
        session = self._engine.sessions.get(SessionKey(request.tenant, request.login, request.client))
        if session is None and len(request.client) >= LONGEST_CLIENT_ID:
            session = self._shown_as(request)
        if session is None or session.outlet is None:
            return {"error": f"client {request.client!r} of tenant {request.tenant!r} is not connected"}
        _log.warning("connection ended by an operator", tenant=request.tenant, client_id=request.client)
        session.outlet.kicked()
        return {"kicked": request.client}

    def _shown_as(self, request: _Kick) -> Session | None:
        """The connection whose client id is too long to be shown in full."""
        return next(
            (
                session
                for session in self._connected(request.tenant)
                if session.key.kind is request.login and _shown_id(session.key.client_id) == request.client
            ),
            None,
        )

    # --- topics and plans ---------------------------------------------------------------------------------------------

    def _topics(self, request: _Topics) -> Record:
        """Those with messages, the newest first; then those that only hold a retained one."""
        tenant, wanted, offset_s = request.tenant, request.find.lower(), self._wall_offset_s()
        seen, retained = self._engine.topics_seen, self._engine.retained
        found: list[Record] = []
        known = seen.of_tenant(tenant)
        for each in known:
            if wanted in each.topic.lower():
                last = round(each.last_at + offset_s, 3)
                is_retained = retained.holds(each.topic)
                found.append({"topic": each.topic, "messages": each.messages, "last": last, "retained": is_retained})
        more = set(retained.below(tenant, request.limit + len(known))).difference(each.topic for each in known)
        quiet = sorted(topic for topic in more if wanted in topic.lower() and len(topic) <= LONGEST)
        found += [{"topic": topic, "messages": 0, "last": None, "retained": True} for topic in quiet]
        return {
            "topics": found[: request.limit],
            "total": len(found),
            "forgotten": seen.forgotten.get(tenant, 0),
        }

    def _plan(self, tenant: str) -> Record:
        account = self._engine.tenants.of(tenant)
        addresses = sum(live.address.tenant == tenant for live in self._engine.addresses)
        return {
            "plan": account.plan.model_dump(mode="json"),
            "connections": account.connections,
            "queued_messages": account.queued_messages,
            "queued_octets": account.queued_octets,
            "addresses": addresses,
        }


def _words(session: Session) -> str:
    facts = session.facts
    own = (facts.user, facts.address) if facts is not None else ()
    return " ".join((session.key.tenant, _shown_id(session.key.client_id), *own)).lower()


def _shown_id(client_id: str) -> str:
    """A client id as it is told: a very long one by its beginning, and a digest that tells it from others."""
    if len(client_id) < LONGEST_CLIENT_ID:
        return client_id
    digest = hashlib.sha256(client_id.encode()).hexdigest()[:32]
    return f"{client_id[: LONGEST_CLIENT_ID - 33]}…{digest}"


def _shown_subscriptions(session: Session) -> list[str]:
    """The first ones, each not in excess of what a person reads."""
    return [each[:LONGEST_FILTER] for each in islice(session.subscriptions, MOST_SUBSCRIPTIONS)]


def _connection(session: Session, subscriptions: list[str]) -> Record:
    key, facts, outlet = session.key, session.facts, session.outlet
    assert facts is not None and outlet is not None
    return {
        "tenant": key.tenant,
        "client": _shown_id(key.client_id),
        "login": key.kind.value,
        "user": facts.user[:LONGEST_USER],
        "address": facts.address,
        "version": _VERSIONS[outlet.version],
        "listener": facts.listener,
        "protection": facts.protection,
        "since": facts.since_s,
        "received": session.received,
        "sent": session.sent,
        "queued": len(session.queue),
        "inflight": session.inflight_count,
        "subscriptions": sorted(subscriptions),
        "subscription_count": len(session.subscriptions),
    }


def _role(name: str, rule: RoleRule) -> Record:
    return {
        "name": str(name),
        "subscribe": list(rule.subscribe),
        "publish": list(rule.publish),
        "password_only": rule.password_only,
    }


def _listener(settings: ListenerSettings, port: int) -> Record:
    return {"kind": settings.kind.value, "host": settings.host, "port": port}
