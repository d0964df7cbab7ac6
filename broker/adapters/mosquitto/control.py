"""Live changes of Mosquitto's users and roles, as messages to the plug-in's `$CONTROL` topic.

A command takes about 2.5 ms with few users, and rewrites the whole file: 35 to 100 ms with 10,000. So single changes
go this way, and a full set by a new file and a restart. Changing or deleting a client disconnects it; a changed role
holds for connected clients at once.
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, cast

from broker.adapters.connection import BrokerAddress, MqttConnection
from broker.adapters.errors import EngineError
from broker.adapters.mosquitto.dynsec import (
    CONTROL_TOPIC,
    FROM_USERS_FILE,
    JsonObject,
    MosquittoUser,
    role_name,
    role_record,
)
from broker.policy import BUILT_IN_ROLES, RoleRule
from meshwire.mqtt import Connect, ProtocolVersion, PubAck, Publish, SubAck, Subscribe, TopicSubscription

__all__ = ["DynamicSecurity", "ListedUser"]

RESPONSE_TOPIC: Final = f"{CONTROL_TOPIC}/response"
_V311: Final = ProtocolVersion.V3_1_1
ALREADY: Final = ("Role already exists", "Client already exists", "Client is already in this role")
ABSENT: Final = ("Client not found", "Role not found")


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user as Mosquitto lists it."""

    description: str
    roles: frozenset[str]
    """Names of plug-in roles."""


class DynamicSecurity:
    """A connection by which users and roles are changed; use it with `async with`.

    Args:
        address: a listener of Mosquitto.
        username: the control user.
        password: its password.
        rules: the role table.
    """

    def __init__(
        self, address: BrokerAddress, username: str, password: str, rules: Mapping[str, RoleRule] = BUILT_IN_ROLES
    ) -> None:
        self._connection = MqttConnection(address, _V311)
        self._username = username
        self._password = password.encode()
        self._rules = rules
        self._packet_id = 0

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        client_id = f"{self._username}-{secrets.token_hex(4)}"
        connect = Connect(client_id, _V311, username=self._username, password=self._password)
        answer = await self._connection.login(connect)
        if answer is None or answer.reason_code != 0:
            raise EngineError("Mosquitto refuses the control user", evidence=self._username, code="MW-ENG-005")
        self._connection.send(Subscribe(1, (TopicSubscription(RESPONSE_TOPIC, 1),)))
        granted = await self._connection.receive()
        if not isinstance(granted, SubAck) or granted.reason_codes[0] > 2:
            raise EngineError("Mosquitto hides its answers from the control user", code="MW-ENG-005")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, trace)

    async def run(self, commands: Sequence[JsonObject], tolerate: Iterable[str] = ()) -> list[JsonObject]:
        """Has commands carried out in order.

        Args:
            commands: of the plug-in's interface.
            tolerate: error texts that are as good as success.

        Raises:
            EngineError: a command was refused, or the connection is lost.
            TimeoutError: no answer.
        """
        mark = secrets.token_hex(8)
        marked = [command | {"correlationData": mark} for command in commands]
        self._packet_id = self._packet_id % 65_535 + 1
        body = json.dumps({"commands": marked}).encode()
        self._connection.send(Publish(CONTROL_TOPIC, body, 1, packet_id=self._packet_id))
        responses = [item for item in await self._answers(mark) if item.get("correlationData") == mark]
        failed = [str(item["error"]) for item in responses if "error" in item and item["error"] not in set(tolerate)]
        if failed or len(responses) != len(commands):
            raise EngineError("Mosquitto refuses a change", evidence="; ".join(failed), code="MW-ENG-005")
        return responses

    async def _answers(self, mark: str) -> list[JsonObject]:
        while True:
            packet = await self._connection.receive()
            if packet is None:
                raise EngineError("Mosquitto closes the control connection", code="MW-ENG-005")
            if not isinstance(packet, Publish):
                continue
            if packet.qos == 1:
                self._connection.send(PubAck(packet.packet_id))
            if packet.topic == RESPONSE_TOPIC and mark.encode() in packet.payload:
                return cast("list[JsonObject]", json.loads(packet.payload)["responses"])

    async def put_roles(self, user: MosquittoUser) -> list[str]:
        """Makes sure that the user's roles exist with their present rules; gives their names."""
        names: list[str] = []
        for role in sorted(set(user.roles)):
            record = role_record(role, user.tenant, user.kind, self._rules)
            if record is None:
                continue
            await self.run([{"command": "createRole", **record}], tolerate=ALREADY)
            await self.run([{"command": "modifyRole", **record}])
            names.append(role_name(role, user.tenant))
        return names

    async def put_user(self, user: MosquittoUser, description: str = FROM_USERS_FILE) -> None:
        """Adds or replaces a user; one that is connected is disconnected."""
        names = await self.put_roles(user)
        record: JsonObject = {
            "username": user.name,
            "password": user.password,
            "roles": [{"rolename": name} for name in names],
            "textdescription": description,
        }
        if user.client_id is not None:
            record["clientid"] = user.client_id
        await self.run([{"command": "createClient", **record}], tolerate=ALREADY)
        await self.run([{"command": "modifyClient", **record}])

    async def set_roles(self, user: MosquittoUser) -> None:
        """Gives a user exactly these roles; the password stays. It is disconnected."""
        names = await self.put_roles(user)
        change: JsonObject = {"command": "modifyClient", "username": user.name}
        await self.run([change | {"roles": [{"rolename": name} for name in names]}])

    async def remove_user(self, name: str) -> None:
        """Deletes a user, if there is one; it is disconnected."""
        await self.run([{"command": "deleteClient", "username": name}], tolerate=ABSENT)

    async def users(self) -> dict[str, ListedUser]:
        """All users by name."""
        (answer,) = await self.run([{"command": "listClients", "verbose": True}])
        data = cast("JsonObject", answer.get("data", {}))
        clients = cast("list[JsonObject]", data.get("clients", []))
        return {str(client["username"]): _listed(client) for client in clients}


def _listed(client: JsonObject) -> ListedUser:
    roles = cast("list[JsonObject]", client.get("roles", []))
    return ListedUser(str(client.get("textdescription", "")), frozenset(str(role["rolename"]) for role in roles))
