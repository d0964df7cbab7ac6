"""OSCORE by aiocoap's own contexts, as a foreign peer in both roles.

aiocoap's transport for OSCORE wants a library for EDHOC, which is not needed here; its contexts do all the
cryptography, the sequence numbers, the replay window and the Echo. This file only hands them messages.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiocoap
from aiocoap import oscore
from aiocoap.message import Direction
from aiocoap.pipe import IterablePipe, run_driving_pipe
from patience import PATIENCE_S

from meshwire.oscore import NicKey

__all__ = ["ForeignSite", "ask", "context_of"]


def context_of(folder: Path, key: NicKey, *, as_gateway: bool = False) -> Any:
    """The context in a folder, which is made of a key if it is not there: our key file is aiocoap's `secret.json`."""
    folder.mkdir(exist_ok=True)
    fields = json.loads(key.to_json())
    if as_gateway:
        fields["sender-id_hex"], fields["recipient-id_hex"] = fields["recipient-id_hex"], fields["sender-id_hex"]
    (folder / "secret.json").write_text(json.dumps(fields))
    return oscore.FilesystemSecurityContext(str(folder))


async def ask(context: aiocoap.Context, state: Any, message: Any) -> Any:
    """A request under OSCORE and the first answer to it; an Echo that is asked for is given."""
    echo: bytes | None = None
    for _ in range(2):
        protected, identifiers = state.protect(message.copy(remote=None, echo=echo))
        protected.remote = message.remote
        async with asyncio.timeout(PATIENCE_S):
            answer: Any = await context.request(protected, handle_blockwise=False).response
        if answer.opt.oscore is None:
            return answer
        opened, _ = state.unprotect(answer, identifiers)
        if opened.code != aiocoap.UNAUTHORIZED or opened.opt.echo is None:
            return opened
        echo = opened.opt.echo
    raise AssertionError("challenged twice")


class ForeignSite:
    """A site of aiocoap's behind a context: what comes protected is opened, answers are protected.

    Args:
        site: sees plain requests.
        state: of `context_of`.
    """

    def __init__(self, site: Any, state: Any) -> None:
        self.site = site
        self.state = state
        self.plain = 0
        """Requests that were not protected."""
        self.challenges = 0

    async def render_to_pipe(self, pipe: Any) -> None:
        request = pipe.request
        if request.opt.oscore is None:
            self.plain += 1
            pipe.add_response(aiocoap.Message(code=aiocoap.UNAUTHORIZED), is_last=True)
            return
        try:
            opened, identifiers = self.state.unprotect(request)
        except oscore.ReplayErrorWithEcho as challenge:
            self.challenges += 1
            pipe.add_response(challenge.to_message(), is_last=True)
            return
        except oscore.ProtectionInvalid as error:
            pipe.add_response(aiocoap.Message(code=aiocoap.BAD_REQUEST, payload=str(error).encode()), is_last=True)
            return
        opened.remote, opened.token = request.remote, request.token
        inside = IterablePipe(opened)
        run_driving_pipe(inside, self.site.render_to_pipe(inside))
        async for event in inside:
            if event.message is None:
                break
            message = event.message
            message.direction = Direction.OUTGOING
            if not event.is_last:
                message.opt.observe = 0
            protected, _ = self.state.protect(message, identifiers)
            if not event.is_last:
                protected.opt.observe = self.state.sender_sequence_number & 0xFFFFFF
            pipe.add_response(protected, is_last=event.is_last)
            if event.is_last:
                break
