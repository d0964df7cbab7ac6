"""Errors of MQTT connection aliases, and their stable codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from gateway.errors import GatewayError
from meshwire.errors import ExitCode

__all__ = ["CATALOGUE", "AliasError", "FieldProblem", "InvalidAlias", "StoreFileError"]

CATALOGUE: Final = {
    "MW-ALI-001": "An alias, trigger, package, truststore or keystore does not fit; the message names each field.",
    "MW-ALI-002": "No alias, trigger, package, truststore or keystore of that name.",
    "MW-ALI-003": "It is written in the configuration file: change it there, not by command or API.",
    "MW-ALI-004": "It is in use: something else names it; the message says what.",
    "MW-ALI-005": "A keystore or truststore can't be read: wrong password, unknown form, or nothing in it.",
    "MW-ALI-006": "The store of aliases can't be read or written.",
    "MW-ALI-101": "alias test: the name of the broker's host is not known.",
    "MW-ALI-102": "alias test: the name server does not answer.",
    "MW-ALI-111": "alias test: nobody listens at the address and port (connection refused).",
    "MW-ALI-112": "alias test: no answer to the TCP connection in time; often a firewall that drops.",
    "MW-ALI-113": "alias test: the network has no way to the address.",
    "MW-ALI-121": "alias test: the port does not speak TLS, or not a version from 1.2 on.",
    "MW-ALI-122": "alias test: no certificate authority of the truststore has signed the server's certificate.",
    "MW-ALI-123": "alias test: the server's certificate has expired.",
    "MW-ALI-124": "alias test: the server's certificate is not valid yet; or this machine's clock is wrong.",
    "MW-ALI-125": "alias test: the server's certificate is for another host name.",
    "MW-ALI-126": "alias test: the server demands a client certificate and the alias shows none.",
    "MW-ALI-127": "alias test: the server does not accept the client certificate.",
    "MW-ALI-128": "alias test: the TLS handshake failed for another reason, which the message quotes.",
    "MW-ALI-131": "alias test: the server does not open a WebSocket at that path.",
    "MW-ALI-141": "alias test: the server hung up or said nothing after CONNECT.",
    "MW-ALI-142": "alias test: what answers does not speak MQTT.",
    "MW-ALI-151": "alias test: the broker refused user name or password.",
    "MW-ALI-152": "alias test: the broker knows the user and does not let it in.",
    "MW-ALI-153": "alias test: the broker refused the client id.",
    "MW-ALI-154": "alias test: the broker is there and can't serve now (busy, unavailable, quota).",
    "MW-ALI-155": "alias test: the broker refused for another reason; the message quotes its reason code.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field; `field` as in the configuration, such as `host` or `publish.0.topic`."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class AliasError(GatewayError):
    """Something about aliases can't be done."""

    default_code: ClassVar[str] = "MW-ALI-001"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class InvalidAlias(AliasError):
    """Fields do not fit; `problems` has one message a field.

    Args:
        what: such as `alias plant`.
        problems: at least one.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION

    def __init__(self, what: str, problems: Sequence[FieldProblem]) -> None:
        super().__init__(
            f"{what} does not fit", evidence="; ".join(map(str, problems)), fix="mend the fields named and save again"
        )
        self.problems = tuple(problems)


class StoreFileError(AliasError):
    """A keystore or truststore can't be read."""

    default_code: ClassVar[str] = "MW-ALI-005"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION
