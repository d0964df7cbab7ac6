"""Keeping a connection to the broker: tries again with a growing pause, falls back from MQTT 5 to 3.1.1, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

import structlog

from gateway.mqtt import ConnectFailure, Connection, ConnectionLost, Login, MqttVersion, Publication

__all__ = ["FIRST_PAUSE_S", "LONGEST_PAUSE_S", "keep_connected", "stay_connected"]

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 3.0
_STEADY_S: Final = 5.0
"""A connection that stood this long was a good one: the pauses begin at the first one again."""

_DOUBTS: Final = 20
"""So often somebody has to hang up before a broker that spoke MQTT 5 is asked whether it speaks 3.1.1 now."""

_AWAY: Final = "away"
_REFUSED: Final = "refused"
_REMEDIES: Final = {
    _AWAY: {"do": "start the broker there, or correct host and port"},
    _REFUSED: {"do": "correct user name and password, or add the user at the broker; its log says why"},
}
"""What an operator can do; a failure of TLS says so itself."""

_log = structlog.get_logger(__name__)
ConnectionT = TypeVar("ConnectionT")


async def stay_connected(
    login: Login,
    serve: Callable[[Connection], Awaitable[ConnectionLost]],
    *,
    will: Publication | None = None,
    count: Callable[[str], None] = lambda what: None,
) -> None:
    """Connect by aiomqtt and serve, again and again, until cancelled.

    Args:
        login: where and as whom.
        serve: uses a connection until it is lost.
        will: see `Connection`.
        count: told `connected`, `disconnected` and `failed`.
    """
    await keep_connected(login, lambda version: Connection(login, version, will), serve, count=count)


async def keep_connected(
    login: Login,
    connect: Callable[[MqttVersion], AbstractAsyncContextManager[ConnectionT]],
    serve: Callable[[ConnectionT], Awaitable[ConnectionLost]],
    *,
    count: Callable[[str], None] = lambda what: None,
    failed: Callable[[ConnectFailure], None] = lambda failure: None,
    speaks_5: bool = False,
) -> None:
    """The same with any connection.

    Args:
        login: named in the log.
        connect: makes a connection; entering it raises ConnectFailure.
        serve: uses a connection until it is lost.
        count: told `connected`, `disconnected` and `failed`.
        failed: told of each attempt that came to nothing.
        speaks_5: the broker is known to speak MQTT 5. Then, as after a connection by MQTT 5, 3.1.1 is tried seldom
            unless the broker says that it is the version: whoever hangs up may be a relay in front of a broker that is
            away, and a connection by 3.1.1 would end the session that is kept there.
    """
    loop = asyncio.get_running_loop()
    log = _log.bind(client_id=login.client_id, broker=f"{login.host}:{login.port}")
    version, pause_s, told, doubts = MqttVersion.V5, FIRST_PAUSE_S, "", 0
    while True:
        try:
            async with connect(version) as connection:
                count("connected")
                log.info("connected to the broker", version=version.name)
                told, since = "", loop.time()
                speaks_5, doubts = version is MqttVersion.V5, 0
                lost = await serve(connection)
            count("disconnected")
            log.warning("connection to the broker lost", reason=str(lost))
            if loop.time() - since >= _STEADY_S:
                pause_s = FIRST_PAUSE_S
        except ConnectFailure as failure:
            count("failed")
            failed(failure)
            doubts += 1
            if version is MqttVersion.V311 and speaks_5:
                version, doubts = MqttVersion.V5, 0
            elif failure.version_refused and (failure.says_so or not speaks_5 or doubts > _DOUBTS):
                version = MqttVersion.V311 if version is MqttVersion.V5 else MqttVersion.V5
            kind = _kind(failure)
            if kind != told:
                # Once an outage is enough, and once for each kind of reason: the status page shows that it lasts.
                log.warning("the broker can't be reached", reason=str(failure), **_REMEDIES.get(kind, {}))
                told = kind
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _kind(failure: ConnectFailure) -> str:
    if failure.trouble is not None:
        return failure.trouble.code
    return _REFUSED if failure.is_refusal else _AWAY
