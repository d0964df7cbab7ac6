"""The Milli board's CoAP server: one message in, the octets of at most one answer out (dialect B.1 to B.3, B.6).

Does: message types and the path table. Does not: keep an answer, deduplicate, hold the pending slot. A request on the
never-send list raises BoardCrash; the station resets.
"""

from __future__ import annotations

from typing import Final

from meshwire.coap import codes
from meshwire.coap.message import ACK, CON, NON, RST, Message, encode
from meshwire.coap.options import URI_PATH, URI_QUERY
from sensor_sim.milli.profile import MilliProfile
from sensor_sim.milli.reply import Reply, encode_empty, encode_reply
from sensor_sim.milli.request import MAX_MESSAGE_OCTETS, Request, read_header, read_request
from sensor_sim.milli.sensor_resources import SensorResources
from sensor_sim.milli.system_resources import SystemResources

__all__ = ["REBOOT_MESSAGE", "MilliServer"]

REBOOT_MESSAGE: Final = encode(
    Message(NON, codes.PUT, 0xFFFF, options=((URI_PATH, b"sys"), (URI_PATH, b"snsr"), (URI_QUERY, b"ev=rbt")))
)
"""What the board says to its NIC at boot (B.6)."""


class MilliServer:
    """The server of one board since its last boot.

    Args:
        profile: the firmware version.
        classifier: first path segment of the sensors.
        system: the fixed resources.
        sensors: the sensor resources.
    """

    def __init__(
        self, profile: MilliProfile, classifier: str, system: SystemResources, sensors: SensorResources
    ) -> None:
        self._profile = profile
        self._classifier = classifier.encode()
        self._fixed = system.paths()
        self._sensors = sensors

    def handle(self, data: bytes, now: float) -> bytes | None:
        """Answer one CoAP message; b"" for an I frame without information, None for no answer at all.

        Raises:
            BoardCrash: the message is one that the board does not survive.
        """
        header = read_header(data)
        if header is None:
            return None
        if header.mtype == ACK:
            return b"" if self._profile.answers_acknowledgements else None
        if header.mtype == RST:
            return encode_empty(RST, header.mid)
        if header.code == codes.EMPTY:
            return encode_empty(RST if header.mtype == CON else NON, header.mid)
        if len(data) > MAX_MESSAGE_OCTETS:
            return encode_reply(header, Reply(codes.REQUEST_ENTITY_TOO_LARGE))
        return encode_reply(header, self._respond(read_request(header, data), now))

    def _respond(self, request: Request, now: float) -> Reply:
        if request.refusal is not None:
            return Reply(request.refusal)
        if (resource := self._fixed.get(request.path)) is not None:
            return resource(request, now)
        if len(request.path) == 2 and request.path[0] == self._classifier and self._sensors.serves(request.path[1]):
            return self._sensors.respond(request, now)
        return Reply(codes.NOT_FOUND)
