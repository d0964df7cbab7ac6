"""`/sys/fw` of the standard board: which firmware runs, and the way a new one comes in.

Does: take an image by block-wise PUT (RFC 7959), check its digest and its header, ask for a restart into it. Does not:
restart; `StandardBoard.run` ends for that. Real boards differ in format and path, not in the way: one PUT whose answer
means that the whole image is there and right.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from aiocoap import Message, error
from aiocoap.numbers.codes import CHANGED, CONTENT

from meshwire.coap import options
from sensor_sim.standard.system_resources import BoardResource

__all__ = ["FACTORY", "Firmware", "FirmwareResource"]

MAX_IMAGE_OCTETS: Final = 256 << 10
_HEADER: Final = re.compile(rb"meshwire-board ([!-~]{1,32})\n")
"""How an image begins; what follows is the board's own matter."""
_DIGEST: Final = re.compile(r"sha256=([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Firmware:
    """What a board runs.

    Attributes:
        version: as the image says it, 1 to 32 printable ASCII characters.
        sha256: of the image, in hexadecimal digits; empty for what the board left the factory with.
        octets: length of the image.
    """

    version: str
    sha256: str = ""
    octets: int = 0


FACTORY: Final = Firmware("1.0.0")


class FirmwareResource(BoardResource):
    """See the module.

    Args:
        running: what the board runs.
    """

    ct = options.JSON
    rt = "firmware"

    def __init__(self, running: Firmware) -> None:
        super().__init__()
        self._running = running
        self.taken: asyncio.Future[Firmware] = asyncio.get_running_loop().create_future()
        """Done with a new image, once."""

    async def render_get(self, request: Message) -> Message:
        """Version, digest and length of what runs, as JSON."""
        running = self._running
        text = json.dumps({"version": running.version, "sha256": running.sha256, "octets": running.octets})
        return Message(code=CONTENT, payload=text.encode(), content_format=options.JSON)

    async def render_put(self, request: Message) -> Message:
        """Take an image, `?sha256=` its digest: 2.04 when it is whole, also when it runs already."""
        firmware = _firmware(request.payload, request.opt.uri_query)
        if firmware.sha256 != self._running.sha256 and not self.taken.done():
            self.taken.set_result(firmware)
        return Message(code=CHANGED)


def _firmware(image: Any, query: tuple[str, ...]) -> Firmware:
    named = _DIGEST.fullmatch(query[0]) if len(query) == 1 else None
    if named is None:
        raise error.BadRequest("query is sha256=…, 64 hexadecimal digits")
    if len(image) > MAX_IMAGE_OCTETS:
        raise error.RequestEntityTooLarge
    digest = hashlib.sha256(image).hexdigest()
    if digest != named[1].lower():
        raise error.BadRequest(f"the image has another digest: {digest}")
    header = _HEADER.match(image)
    if header is None:
        raise error.BadRequest("no image for this board")
    return Firmware(header[1].decode(), digest, len(image))
