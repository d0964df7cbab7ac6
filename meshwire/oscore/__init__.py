"""OSCORE (RFC 8613) between a NIC and its gateway, for both sides and without sockets, clocks or files.

`key` is what two parties share, `protection` does the cryptography of one message, `context` adds what changes with
each message: sequence numbers, the replay window, and how it is found again after a restart.
"""

from meshwire.oscore.context import Challenge, OscoreContext, SequenceNumbers, challenged
from meshwire.oscore.errors import OscoreError, Reason
from meshwire.oscore.key import GATEWAY_ID, NIC_ID, KeyFileError, NicKey, OscoreKey
from meshwire.oscore.option import OscoreOption
from meshwire.oscore.protection import RequestId, Response

__all__ = [
    "GATEWAY_ID",
    "NIC_ID",
    "Challenge",
    "KeyFileError",
    "NicKey",
    "OscoreContext",
    "OscoreError",
    "OscoreKey",
    "OscoreOption",
    "Reason",
    "RequestId",
    "Response",
    "SequenceNumbers",
    "challenged",
]
