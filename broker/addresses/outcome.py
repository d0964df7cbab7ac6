"""What a sender learns about its message: the outcome, and the receipt that waits for it.

Decides what each MQTT version is told. The table is literal; who may not be told the truth by its version is not told a
lie: see `Receipt.settle`.
"""

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from broker.outlet import Outlet
from meshwire.mqtt import NO_PROPERTIES, Properties, ProtocolVersion, PubAck, PubRec, ReasonCode, encode

if TYPE_CHECKING:
    from broker.session import Session

__all__ = ["ANSWERS", "Answered", "Outcome", "Receipt"]

_log = structlog.get_logger()


class Outcome(Enum):
    """What became of a message that was sent to an address."""

    STORED = "stored"
    """The broker has it (queue, topic)."""
    TAKEN = "taken"
    """A receiver acknowledged it (anycast, multicast)."""
    NOBODY = "nobody"
    """No receiver is there (anycast, multicast)."""
    EXPIRED = "expired"
    """Its life ended before a receiver took it (anycast)."""
    REFUSED = "refused"
    """Every receiver it was handed to refused it or went away (anycast)."""
    BUSY = "busy"
    """The receivers that are there take no more (anycast)."""
    FULL = "full"
    """The address, or the tenant's plan, has no room (queue)."""
    REMOVED = "removed"
    """The address was removed meanwhile (anycast)."""


class Answered(NamedTuple):
    """One line of the table."""

    reason: ReasonCode
    words: str
    in_v3: bool
    """Whether a 3.1.1 sender gets its acknowledgement, which always means success there."""


ANSWERS: Final[dict[Outcome, Answered]] = {
    Outcome.STORED: Answered(ReasonCode.SUCCESS, "", True),
    Outcome.TAKEN: Answered(ReasonCode.SUCCESS, "", True),
    Outcome.NOBODY: Answered(ReasonCode.NO_MATCHING_SUBSCRIBERS, "no receiver is there", False),
    Outcome.EXPIRED: Answered(ReasonCode.NO_MATCHING_SUBSCRIBERS, "expired before a receiver took it", False),
    Outcome.REFUSED: Answered(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "no receiver accepted it", False),
    Outcome.BUSY: Answered(ReasonCode.QUOTA_EXCEEDED, "the receivers take no more at present", False),
    Outcome.FULL: Answered(ReasonCode.QUOTA_EXCEEDED, "the address is full", False),
    Outcome.REMOVED: Answered(ReasonCode.NO_MATCHING_SUBSCRIBERS, "the address was removed", False),
}


class Receipt:
    """The acknowledgement of one QoS 1 or 2 PUBLISH, until it is known what it says.

    Args:
        session: of the sender.
        outlet: the connection the message came from; on another one the sender asks again by itself.
        packet_id: of the PUBLISH.
        qos: 1 or 2.
    """

    __slots__ = ("_outlet", "_packet_id", "_qos", "_session", "is_void")

    def __init__(self, session: "Session", outlet: Outlet, packet_id: int, qos: int) -> None:
        self._session = session
        self._outlet = outlet
        self._packet_id = packet_id
        self._qos = qos
        self.is_void = False
        """The sender is gone: nobody waits for the answer, and a message nobody took yet is withdrawn."""

    @property
    def can_be_told(self) -> bool:
        """The sender's protocol has words for "no"."""
        return self._outlet.version is ProtocolVersion.V5

    def withhold(self) -> None:
        """The answer comes later."""
        session = self._session
        if session.withheld is None:
            session.withheld = set()
        session.withheld.add(self)

    def settle(self, outcome: Outcome) -> None:
        """Tells the sender. A 3.1.1 sender is told good news alone; without an acknowledgement it keeps the message
        and sends it again on its next connection.
        """
        session = self._session
        if session.withheld:
            session.withheld.discard(self)
        if self.is_void or session.outlet is not self._outlet:
            return
        reason, words, in_v3 = ANSWERS[outcome]
        if not self.can_be_told and not in_v3:
            key = session.key
            _log.warning(
                "not acknowledged: MQTT 3 has no reason code", tenant=key.tenant, client_id=key.client_id, reason=words
            )
            return
        if self._qos == 2 and reason < ReasonCode.UNSPECIFIED_ERROR:
            session.open_incoming(self._packet_id)
        self._outlet.write(self._packet(reason, words))

    def _packet(self, reason: ReasonCode, words: str) -> bytes:
        kind, outlet = PubAck if self._qos == 1 else PubRec, self._outlet
        if words and outlet.version is ProtocolVersion.V5 and self._session.may_explain:
            data = encode(kind(self._packet_id, reason, Properties(reason_string=words)), outlet.version)
            if len(data) <= outlet.max_packet_octets:
                return data
        return encode(kind(self._packet_id, reason, NO_PROPERTIES), outlet.version)
