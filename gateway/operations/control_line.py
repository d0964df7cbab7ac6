"""Questions to our own broker over MQTT: a JSON object to a `$CONTROL/…` topic, the answer by its correlation data.

Connects when somebody asks and leaves when nobody has asked for a while, so a site whose console is closed has no
connection more. MQTT 5 alone: 3.1.1 has no correlation data.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.mqtt import Arrival, ConnectFailure, Connection, ConnectionLost, Login, MqttVersion, Publication
from gateway.operations.errors import NotReached, RequestRefused

__all__ = ["ControlLine"]

ANSWER_WITHIN_S: Final = 5.0
IDLE_S: Final = 60.0
PAUSE_S: Final = 1.0
"""After a connection that failed; who asks meanwhile hears of the failure."""
MOST_WAITING: Final = 200
ROLES_FIX: Final = (
    "give the gateway's user the role OPERATOR at the broker: "
    "`meshwire user set gateway --role GATEWAY --role OPERATOR`"
)
_REFUSED: Final = 0x80
_NOBODY: Final = 0x10


class ControlLine:
    """See the module.

    Args:
        login: where and as whom; asked at each connection. None: there is no broker.
        topics: those that are asked at; `/response` behind them is where answers come.
    """

    def __init__(self, login: Callable[[], Login] | None, topics: tuple[str, ...]) -> None:
        self._login = login
        self._topics = topics
        self._wanted = asyncio.Event()
        self._waiting: dict[bytes, asyncio.Future[Any]] = {}
        self._unsent: list[tuple[str, bytes, bytes]] = []
        self._connection: Connection | None = None
        self._has_been_asked = False

    async def ask(self, topic: str, question: Mapping[str, object]) -> Any:
        """The broker's answer, an object.

        Raises:
            NotReached: it is away, or does not answer.
            RequestRefused: it said no.
        """
        if self._login is None:
            raise NotReached("there is no broker to ask", fix="set gateway.bridge.enabled and gateway.bridge.host")
        if len(self._waiting) >= MOST_WAITING:
            raise NotReached("too many questions wait for the broker's answer", fix="try again in a moment")
        key, future = secrets.token_bytes(8), asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        self._has_been_asked = True
        try:
            self._send(topic, json.dumps(question).encode(), key)
            async with asyncio.timeout(ANSWER_WITHIN_S):
                body = await future
        except TimeoutError:
            fix = "see whether it runs; set gateway.operations.engine when it is not meshwire's own broker"
            raise NotReached(
                "the broker does not answer", evidence=f"{ANSWER_WITHIN_S:g} s of silence", fix=fix
            ) from None
        finally:
            self._waiting.pop(key, None)
        if "error" in body:
            raise RequestRefused("the broker refuses", evidence=str(body["error"]))
        return body

    def _send(self, topic: str, payload: bytes, key: bytes) -> None:
        if self._connection is None:
            self._unsent.append((topic, payload, key))
            self._wanted.set()
            return
        publication = Publication(topic, payload, 1, content_type="application/json", correlation=key)
        try:
            self._connection.publish(publication, lambda code: self._published(key, code))
        except ConnectionLost as failure:
            self._fail(NotReached("the broker can't be asked", evidence=str(failure)))

    def _published(self, key: bytes, code: int) -> None:
        future = self._waiting.get(key)
        if future is None or future.done():
            return
        if code >= _REFUSED:
            future.set_exception(NotReached("the broker lets us ask nothing", evidence=f"{code:#04x}", fix=ROLES_FIX))
        elif code == _NOBODY:
            fix = "set gateway.operations.engine when it is not meshwire's own broker"
            future.set_exception(NotReached("the broker does not know such questions", fix=fix))

    def _arrived(self, arrival: Arrival) -> None:
        future = self._waiting.get(arrival.correlation or b"")
        if future is None or future.done():
            return
        try:
            body = json.loads(arrival.payload)
        except ValueError:
            body = None
        if isinstance(body, dict):
            future.set_result(body)
        else:
            future.set_exception(NotReached("the broker's answer can't be read"))

    def _fail(self, reason: NotReached) -> None:
        self._unsent.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(reason)

    # --- the connection

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if not self._unsent or self._login is None:
                continue
            login = self._login()
            try:
                async with Connection(login, MqttVersion.V5) as connection:
                    await self._serve(connection)
            except (ConnectFailure, ConnectionLost) as failure:
                is_ours = "refuses the subscription" in str(failure)
                fix = ROLES_FIX if is_ours else "start the broker, or check gateway.bridge and gateway.operations"
                self._fail(NotReached("the broker can't be asked", evidence=str(failure), fix=fix))
                await asyncio.sleep(PAUSE_S)

    async def _serve(self, connection: Connection) -> None:
        lost = asyncio.create_task(connection.wait_lost(self._arrived), name="control line")
        try:
            for topic in self._topics:
                await connection.subscribe(f"{topic}/response", 0)
            self._connection = connection
            unsent, self._unsent = self._unsent, []
            for topic, payload, key in unsent:
                self._send(topic, payload, key)
            while not lost.done() and (self._has_been_asked or self._waiting):
                self._has_been_asked = False
                await asyncio.wait({lost}, timeout=IDLE_S)
            if lost.done():
                raise lost.result()
        finally:
            # What is asked while this one is being closed waits for the next.
            self._connection = None
            lost.cancel()
