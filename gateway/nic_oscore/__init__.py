"""OSCORE between NICs and the gateway: keys at rest, requests of NICs opened, requests to NICs protected.

`keys` holds the contexts, `guard` serves the sink, `devices` stands in front of the message layer towards devices.
OSCORE of client applications is another matter: `coap_context/oscore_door.py`.
"""

from gateway.nic_oscore.guard import NicGuard, Opened
from gateway.nic_oscore.keys import NicKeys, Seal

__all__ = ["NicGuard", "NicKeys", "Opened", "Seal"]
