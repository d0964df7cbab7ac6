"""Our own broker, asked over MQTT: `$CONTROL/broker/v1` about itself, `$CONTROL/address/v1` about addresses."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.operations.control_line import ControlLine
from gateway.operations.desk import MOST_CLIENTS, Page, Topics
from gateway.operations.errors import NotReached
from gateway.operations.records import AddressRow, Browsed, Client, Listener, PlanUse, RoleRow, TopicRow
from meshwire.topics import ADDRESS_CONTROL_TOPIC, BROKER_CONTROL_TOPIC

__all__ = ["TOPICS", "EmbeddedDesk"]

_BROKER: Final = BROKER_CONTROL_TOPIC
_ADDRESS: Final = ADDRESS_CONTROL_TOPIC
TOPICS: Final = (_BROKER, _ADDRESS)
_AT_ONCE: Final = 1_000

RecordT = TypeVar("RecordT", bound=BaseModel)


class EmbeddedDesk:
    """See the module.

    Args:
        line: to the broker.
    """

    engine = "embedded"
    limits: Sequence[str] = ()

    def __init__(self, line: ControlLine) -> None:
        self._line = line

    async def clients(self, tenant: str | None, find: str) -> Page:
        found: list[Client] = []
        while True:
            question = {"command": "connections", "tenant": tenant, "find": find, "after": len(found)}
            answer = await self._line.ask(_BROKER, question | {"limit": _AT_ONCE})
            page = _read(Client, answer.get("connections", ()))
            found += page
            total = int(answer.get("total", len(found)))
            if not page or len(found) >= min(total, MOST_CLIENTS):
                return Page(found, total)

    async def kick(self, client: Client) -> None:
        question = {"command": "kick", "tenant": client.tenant, "client": client.client, "login": client.login}
        await self._line.ask(_BROKER, question)

    async def topics(self, tenant: str, find: str) -> Topics:
        answer = await self._line.ask(_BROKER, {"command": "topics", "tenant": tenant, "find": find})
        rows = _read(TopicRow, answer.get("topics", ()))
        return Topics(rows, int(answer.get("total", len(rows))), int(answer.get("forgotten", 0)))

    async def addresses(self, tenant: str | None) -> Sequence[AddressRow]:
        answer = await self._line.ask(_ADDRESS, {"command": "list", "tenant": tenant})
        return sorted(_read(AddressRow, answer.get("addresses", ())), key=lambda row: row.key)

    async def put_address(self, definition: Mapping[str, object]) -> None:
        await self._line.ask(_ADDRESS, {"command": "put", "definition": dict(definition)})

    async def remove_address(self, tenant: str, name: str) -> None:
        await self._line.ask(_ADDRESS, {"command": "remove", "tenant": tenant, "address": name})

    async def browse(self, tenant: str, name: str, after: int, limit: int) -> tuple[Sequence[Browsed], int | None]:
        question = {"command": "browse", "tenant": tenant, "address": name, "after": after, "limit": limit}
        answer = await self._line.ask(_ADDRESS, question)
        messages = [{**item, "payload": base64.b64decode(item["payload"])} for item in answer.get("messages", ())]
        return _read(Browsed, messages), answer.get("next")

    async def plan(self, tenant: str) -> PlanUse:
        (plan,) = _read(PlanUse, [await self._line.ask(_BROKER, {"command": "plan", "tenant": tenant})])
        return plan

    async def roles(self) -> Sequence[RoleRow]:
        return _read(RoleRow, (await self._line.ask(_BROKER, {"command": "roles"})).get("roles", ()))

    async def listeners(self) -> Sequence[Listener]:
        return _read(Listener, (await self._line.ask(_BROKER, {"command": "listeners"})).get("listeners", ()))


def _read(kind: type[RecordT], items: Any) -> list[RecordT]:
    try:
        return [kind.model_validate(item) for item in items]
    except ValidationError as error:
        raise NotReached(
            "the broker's answer can't be read", evidence=str(error.errors()[0]["msg"]), fix="give both one version"
        ) from None
