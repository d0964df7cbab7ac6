"""The broker's side: does what commands of its site ask for, at once, and says what came of it."""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import ValidationError

from broker.addresses.competing import CompetingAddress
from broker.addresses.space import AddressSpace
from broker.administration import door
from broker.administration.acts import file_failures_told, on_addresses, on_roles, on_users
from broker.administration.requests import (
    AddressList,
    AddressRemove,
    AddressRequest,
    AddressShow,
    Envelope,
    RoleRequest,
    UserRequest,
)
from broker.credentials import UsersFile
from broker.errors import BrokerError
from broker.revocation import Revocation
from broker.role_table import RoleTable
from broker.settings import BrokerSettings
from meshwire.site import Site

__all__ = ["Counter"]

LONGEST_QUESTION: Final = 1_048_576
"""Octets."""

_log = structlog.get_logger()

Answer = dict[str, Any]


class Counter:
    """See the module.

    Args:
        users, roles, space: of the broker; `space` with its book.
        revocation: applies what changed of users and roles.
        settings: for the plans.
    """

    def __init__(
        self,
        users: UsersFile,
        roles: RoleTable,
        space: AddressSpace,
        revocation: Revocation,
        settings: BrokerSettings,
    ) -> None:
        self._users = users
        self._roles = roles
        self._space = space
        self._revocation = revocation
        self._settings = settings

    @contextlib.asynccontextmanager
    async def open(self, site: Site) -> AsyncIterator[None]:
        """Open meanwhile. Where another broker of the same folder is asked, or the folder can hold no socket, commands
        write the files, which this one reads again.
        """
        async with contextlib.AsyncExitStack() as stack:
            lock = await _lock(site)
            if lock is not None:
                stack.callback(os.close, lock)
                try:
                    listener = door.bound(site)
                    server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LONGEST_QUESTION)
                    stack.callback(server.close)
                except OSError as error:
                    _log.warning("commands can't ask this broker", reason=str(error))
                    await stack.aclose()
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, TimeoutError, ValueError):
                async with asyncio.timeout(door.PATIENCE_S):
                    if question := await reader.readline():
                        answer = self.answer(question, asyncio.get_running_loop().time(), _uid(writer))
                        writer.write(json.dumps(answer).encode() + b"\n")
                        await writer.drain()
        finally:
            writer.close()

    def answer(self, question: bytes, now: float, uid: int) -> Answer:
        """What came of one request: `rows`, or `error`; `elsewhere`: this broker has other files.

        Args:
            question: an `Envelope` in JSON.
            now: loop time in seconds.
            uid: who asks, for the log.
        """
        try:
            envelope = Envelope.model_validate_json(question)
            with file_failures_told():
                answer = self._act(envelope, now)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            return _told(BrokerError("the broker does not know this request", evidence=reason, fix="restart it"))
        except BrokerError as error:
            return _told(error)
        if not envelope.request.verb.endswith((".list", ".show")):
            about = envelope.request.model_dump(mode="json", exclude={"verb", "password_hash"})
            _log.info("administered by command", verb=envelope.request.verb, uid=uid, of=about)
        return answer

    def _act(self, envelope: Envelope, now: float) -> Answer:
        request = envelope.request
        if isinstance(request, UserRequest | RoleRequest):
            own = self._users.path if isinstance(request, UserRequest) else self._roles.path
            if not _is_same(own, envelope.file):
                return {"elsewhere": True}
            self._revocation.check(now)  # what somebody wrote into the files meanwhile
            if isinstance(request, UserRequest):
                rows = on_users(self._users, request)
            else:
                rows = on_roles(self._roles, request)
            self._revocation.check(now)
            return {"rows": rows}
        return self._on_addresses(envelope.file, request, now)

    def _on_addresses(self, file: Path, request: AddressRequest, now: float) -> Answer:
        space, book = self._space, self._space.book
        if book is None or not _is_same(book.path, file):
            return {"elsewhere": True}
        if book.reload():
            space.apply(book, now)
        dropped = 0
        if isinstance(request, AddressRemove):
            live = space.of(request.tenant, request.name)
            dropped = live.stored if isinstance(live, CompetingAddress) else 0
        rows = on_addresses(book, self._settings, request)
        if not isinstance(request, AddressList | AddressShow):
            space.apply(book, now)
        return {"rows": rows, "dropped": dropped}


async def _lock(site: Site) -> int | None:
    """None: another broker of this folder has it, and is the one that is asked."""
    loop = asyncio.get_running_loop()
    end = loop.time() + door.PATIENCE_S
    while (descriptor := door.lock(site)) is None:
        other = door.opened(site)
        if other is not None or loop.time() > end:
            if other is not None:
                other.close()
            _log.info("commands ask another broker of this folder", folder=str(site.state_dir))
            return None
        await asyncio.sleep(door.PAUSE_S)
    return descriptor


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _told(error: BrokerError) -> Answer:
    told = {"what": error.what, "evidence": error.evidence, "fix": error.fix, "code": error.code}
    return {"error": {"kind": type(error).__name__, **told}}


def _uid(writer: asyncio.StreamWriter) -> int:
    """Of the process at the other end (unix(7), SO_PEERCRED)."""
    peer = writer.get_extra_info("socket")
    _pid, uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)
