"""Why TLS with the broker does not come about, and stable codes."""

from __future__ import annotations

from typing import ClassVar, Final

from gateway.errors import GatewayError
from meshwire.errors import ExitCode

__all__ = ["CATALOGUE", "BrokerTlsError"]

CATALOGUE: Final = {
    "MW-TLS-001": "TLS with the broker failed for another reason, which the message quotes.",
    "MW-TLS-002": "No authority of gateway.bridge.tls.ca_file (`meshwire mqtt`: --cafile; or the system's) has signed "
    "the broker's certificate.",
    "MW-TLS-003": "The broker's certificate is for another name than gateway.bridge.host, or tls.server_name below it "
    "(`meshwire mqtt`: -h).",
    "MW-TLS-004": "The broker's certificate has expired, or is not valid yet by this machine's clock.",
    "MW-TLS-005": "The broker refuses the gateway's certificate, or demands one and there is none.",
    "MW-TLS-006": "The broker's port does not speak TLS 1.2 or newer: it is one for plain MQTT, or of another service.",
    "MW-TLS-007": "A file of gateway.bridge.tls can't be read, or certificate and key do not belong together.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""


class BrokerTlsError(GatewayError):
    """No TLS with the broker; nothing is lost, it is tried again."""

    default_code: ClassVar[str] = "MW-TLS-001"
    exit_code: ClassVar[ExitCode] = ExitCode.NOT_REACHABLE
    http_status = 503
