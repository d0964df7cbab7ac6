"""Why a step of `alias test` failed: what the system, OpenSSL or the broker said, as cause, code and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509

from meshwire.mqtt import ProtocolVersion

__all__ = [
    "CLIENT_REFUSED",
    "NOT_TLS",
    "REFUSALS",
    "V3_REASONS",
    "VERIFY_CODES",
    "Stop",
    "described",
    "subject_of",
    "tcp_stop",
    "version_name",
    "words_of",
]

V3_REASONS: Final = {
    1: "unacceptable protocol version",
    2: "identifier rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorized",
}
"""Return codes of CONNACK (MQTT 3.1.1 section 3.2.2.3)."""


class Stop(Exception):
    """A step failed."""

    def __init__(self, code: str, cause: str, evidence: str, fix: str) -> None:
        super().__init__(cause)
        self.code, self.cause, self.evidence, self.fix = code, cause, evidence, fix


CLIENT_REFUSED: Final = (
    "UNKNOWN_CA",
    "UNKNOWN CA",
    "BAD_CERTIFICATE",
    "BAD CERTIFICATE",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE EXPIRED",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE REVOKED",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE UNKNOWN",
    "ACCESS_DENIED",
    "ACCESS DENIED",
    "DECRYPT_ERROR",
    "HANDSHAKE_FAILURE",
)
NOT_TLS: Final = ("WRONG_VERSION", "UNEXPECTED_EOF", "EOF OCCURRED", "RECORD LAYER", "PROTOCOL_VERSION", "UNSUPPORTED")
_UNTRUSTED: Final = (
    "MW-ALI-122",
    "no authority of the truststore has signed the server's certificate",
    "put the certificate of the server's authority into the truststore",
)
_WRONG_HOST: Final = (
    "MW-ALI-125",
    "the server's certificate is for another host",
    "write the host as the certificate names it, or have a certificate made for this name",
)
VERIFY_CODES: Final = {
    # X509_V_ERR_… of OpenSSL
    2: _UNTRUSTED,
    7: _UNTRUSTED,
    18: _UNTRUSTED,
    19: _UNTRUSTED,
    20: _UNTRUSTED,
    21: _UNTRUSTED,
    9: ("MW-ALI-124", "the server's certificate is not valid yet", "check this machine's clock"),
    10: ("MW-ALI-123", "the server's certificate has expired", "renew it at the server; check this machine's clock"),
    62: _WRONG_HOST,
    64: _WRONG_HOST,
}
_CREDENTIALS: Final = ("MW-ALI-151", "user name or password is wrong", "check username and password of the alias")
_NOT_AUTHORIZED: Final = (
    "MW-ALI-152",
    "the broker does not let this client in",
    "have the broker's operator permit it",
)
_CLIENT_ID: Final = ("MW-ALI-153", "the broker refuses the client id", "give the alias a client_id that it accepts")
_NOT_NOW: Final = ("MW-ALI-154", "the broker can't serve now", "try again later; see the broker's log")
REFUSALS: Final = {
    1: ("MW-ALI-155", "the broker speaks no MQTT 3.1.1 or 5", "use another broker"),
    0x84: ("MW-ALI-155", "the broker speaks no MQTT 5", "use another broker"),
    2: _CLIENT_ID,
    0x85: _CLIENT_ID,
    3: _NOT_NOW,
    0x88: _NOT_NOW,
    0x89: _NOT_NOW,
    0x97: _NOT_NOW,
    0x9F: _NOT_NOW,
    4: _CREDENTIALS,
    0x86: _CREDENTIALS,
    0x8C: _CREDENTIALS,
    5: _NOT_AUTHORIZED,
    0x87: _NOT_AUTHORIZED,
    0x8A: _NOT_AUTHORIZED,
}


def tcp_stop(failures: Sequence[tuple[str, OSError]]) -> Stop:
    """Why none of the addresses could be reached."""
    evidence = "; ".join(f"{where}: {words_of(error)}" for where, error in failures)
    kinds = [type(error) for _, error in failures]
    if any(issubclass(kind, ConnectionRefusedError) for kind in kinds):
        return Stop(
            "MW-ALI-111", "nobody listens there", evidence, "start the broker, or correct the port; see its listeners"
        )
    if any(issubclass(kind, TimeoutError) for kind in kinds):
        return Stop(
            "MW-ALI-112",
            "no answer in time",
            evidence,
            "ask for the firewall between here and the broker, or raise connect_timeout_s",
        )
    return Stop("MW-ALI-113", "the address can't be reached", evidence, "check address, route and VPN")


def described(der: bytes | None) -> str:
    """A certificate in words."""
    if der is None:
        return "no certificate"
    certificate = x509.load_der_x509_certificate(der)
    names: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*extension.get_values_for_type(x509.DNSName), *map(str, extension.get_values_for_type(x509.IPAddress))]
    except (x509.ExtensionNotFound, ValueError):
        pass
    issuer = certificate.issuer.rfc4514_string() or "nobody"
    begin, end = (
        f"{moment:%Y-%m-%d %H:%M}" for moment in (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    )
    hosts = ", ".join(names) or "no host"
    return f"certificate of {subject_of(certificate)} for {hosts}, issued by {issuer}, valid {begin} to {end} UTC"


def subject_of(certificate: x509.Certificate) -> str:
    """Its subject as text."""
    return certificate.subject.rfc4514_string() or "nobody"


def words_of(error: OSError) -> str:
    """What the system says, never empty."""
    return str(error.strerror or error) or type(error).__name__


def version_name(version: ProtocolVersion) -> str:
    """The protocol as people call it."""
    return {ProtocolVersion.V5: "MQTT 5"}.get(version, "MQTT 3.1.1")
