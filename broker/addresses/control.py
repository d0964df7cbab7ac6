"""Addresses while the broker runs: list, browse, purge, put and remove, as requests over MQTT for ADMIN.

A request is a JSON object published to `$CONTROL/address/v1`; the answer goes to its response topic, or to
`$CONTROL/address/v1/response` where it names none, with its correlation data. Browsing changes nothing: messages stay
where they are, and nobody's turn. Put and remove write the addresses file, as `meshwire address` does.
"""

import base64
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.addresses.address import Address
from broker.addresses.competing import CompetingAddress, Entry
from broker.addresses.space import AddressSpace, LiveAddress
from broker.control_reply import reply
from broker.errors import AddressError
from broker.message import Message
from meshwire.topics import ADDRESS_CONTROL_REPLY_TOPIC, ADDRESS_CONTROL_TOPIC

__all__ = ["CONTROL_TOPIC", "RESPONSE_TOPIC", "answer", "figures_of"]

CONTROL_TOPIC: Final = ADDRESS_CONTROL_TOPIC
RESPONSE_TOPIC: Final = ADDRESS_CONTROL_REPLY_TOPIC
BROWSE_OCTETS: Final = 262_144
"""Payload octets of one answer; then it ends early and says where to go on."""

Record = dict[str, object]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    command: Literal["list", "browse", "purge", "put", "remove"]
    tenant: str | None = None
    address: str | None = None
    after: int = Field(default=0, ge=0)
    """Browse: the `sequence` after which to begin."""
    limit: int = Field(default=100, ge=1, le=1_000)
    definition: Address | None = None
    """Put: the address, with all its bounds."""


def figures_of(live: LiveAddress) -> dict[str, int]:
    """What an address holds now, and has counted."""
    counters = live.counters
    figures = {"received": counters.received, "delivered": counters.delivered, "refused": counters.refused}
    if isinstance(live, CompetingAddress):
        figures |= {
            "stored": live.stored,
            "bytes": live.stored_octets,
            "receivers": live.receivers,
            "handed out": live.handed_out,
            "redelivered": counters.redelivered,
            "expired": counters.expired,
            "given up": counters.given_up,
        }
    figures |= {f"turned away/{reason}": count for reason, count in counters.turned_away.items()}
    return figures


def answer(space: AddressSpace, asked: Message, now: float) -> Message:
    """The answer to one request; a request that is not understood gets `{"error": …}`.

    Args:
        now: loop time in seconds.
    """
    try:
        body = _answer(space, _Request.model_validate_json(asked.payload), now)
    except ValidationError as error:
        body = {"error": f"request is not valid: {error.errors()[0]['msg']}"}
    except AddressError as error:
        body = {"error": str(error)}
    return reply(asked, body)


def _answer(space: AddressSpace, request: _Request, now: float) -> Record:
    if request.command == "list":
        senders = space.senders()
        return {
            "addresses": [
                _listed(space, live, senders[live]) for live in space if request.tenant in (None, live.address.tenant)
            ]
        }
    if request.command == "put":
        if request.definition is None:
            return {"error": "put needs a definition"}
        space.put(request.definition, now)
        return {"put": request.definition.name}
    live = space.of(request.tenant or "", request.address or "")
    if live is None:
        return {"error": f"no address {request.address!r} in tenant {request.tenant!r}"}
    if request.command == "remove":
        space.remove(live.address, now)
        return {"removed": live.address.name}
    if not isinstance(live, CompetingAddress):
        return {"error": f"an address of type {live.address.type} holds nothing"}
    return {"purged": live.purge()} if request.command == "purge" else _browse(live, request, now)


def _listed(space: AddressSpace, live: LiveAddress, senders: int) -> Record:
    described = live.address.model_dump(mode="json", exclude_none=True)
    own = {
        "topic_filter": live.address.topic_filter,
        "senders": senders,
        "receivers": space.receivers(live),
    }
    return {**described, **figures_of(live), **own}


def _browse(live: CompetingAddress, request: _Request, now: float) -> Record:
    found: list[Record] = []
    octets = 0
    for entry in live.entries():
        if entry.sequence <= request.after:
            continue
        octets += len(entry.message.payload)
        if len(found) == request.limit or (found and octets > BROWSE_OCTETS):
            return {"messages": found, "stored": live.stored, "next": found[-1]["sequence"]}
        found.append(_browsed(live, entry, now))
    return {"messages": found, "stored": live.stored}


def _browsed(live: CompetingAddress, entry: Entry, now: float) -> Record:
    message = entry.message
    return {
        "sequence": entry.sequence,
        "topic": message.topic,
        "payload": base64.b64encode(message.payload).decode(),
        "qos": message.qos,
        "attempts": entry.attempts,
        "handed_out": live.has_handed(entry),
        "expires_in_s": None if message.expires_at is None else round(message.expires_at - now, 1),
        "content_type": message.properties.content_type,
        "user_properties": [list(pair) for pair in message.properties.user_properties],
    }
