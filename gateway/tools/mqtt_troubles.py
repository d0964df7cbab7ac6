"""What is wrong with a connection of `meshwire mqtt`: its files and topics before it is made, its failure after."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from gateway.tools.errors import NotReachable, Refused, WrongInput
from meshwire.errors import MeshwireError
from meshwire.topics import TopicError, validate_filter, validate_topic

__all__ = ["check_filters", "check_topic", "explain", "payload_of", "tls_context", "verdicts"]

_SHARED: Final = re.compile(r"^\$share/[^/+#]+/")
_EXPIRED: Final = (9, 10)
_WRONG_NAME: Final = (62, 64)
"""Verify codes of OpenSSL: not valid yet, expired; for another host name, for another address."""


def tls_context(cafile: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS by these files; None: in plain. Raises WrongInput for a file that can't be used."""
    if cafile is None and cert is None:
        return None
    try:
        context = ssl.create_default_context(cafile=cafile)
    except (OSError, ValueError) as error:
        raise _unusable("--cafile", cafile, error, "give a PEM file of certificates") from None
    if cert is not None:
        try:
            context.load_cert_chain(cert, key)
        except (OSError, ValueError) as error:
            raise _unusable("--cert or --key", cert, error, "give PEM files that belong together") from None
    return context


def payload_of(file: Path) -> bytes:
    """A payload; raises WrongInput when it can't be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unusable("-f", file, error, "name a file that can be read") from None


def _unusable(option: str, file: Path | None, error: Exception, fix: str) -> WrongInput:
    seen = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return WrongInput(f"{option} can't be used", evidence=f"{file}: {seen}", fix=fix)


def check_filters(filters: Sequence[str]) -> None:
    """Raises WrongInput for what is no topic filter (MQTT 5.0 section 4.7.1)."""
    for text in filters:
        try:
            validate_filter(_SHARED.sub("", text))
        except TopicError as error:
            fix = "+ stands for one whole level, # for all at the end"
            raise WrongInput("no topic filter", evidence=f"{text!r}: {error}", fix=fix) from None


def check_topic(text: str) -> None:
    """Raises WrongInput for what nobody can publish to."""
    try:
        validate_topic(text)
    except TopicError as error:
        fix = "name one topic, without + and #"
        raise WrongInput("no topic to publish to", evidence=f"{text!r}: {error}", fix=fix) from None


def verdicts(client: aiomqtt.Client) -> list[ReasonCode]:
    """The broker's answers to what is published, as they come: aiomqtt leaves them out. By 3.1.1 none refuses."""
    found: list[ReasonCode] = []
    inner = client._client.on_publish

    def on_publish(paho: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        found.append(reason)
        if inner is not None:
            inner(paho, userdata, mid, reason, properties)  # type: ignore[call-arg]

    client._client.on_publish = on_publish
    return found


def explain(error: BaseException, where: str, *, secured: bool) -> MeshwireError:
    """The library's error in words that lead on.

    Args:
        error: what it raised.
        where: HOST:PORT.
        secured: whether TLS was asked for.
    """
    behind = error.__cause__ or error.__context__
    if isinstance(behind, ssl.SSLError):
        error = behind
    seen, text = f"{where}: {error}", str(error).lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unfit(error, where)
    if isinstance(error, ssl.SSLError):
        fix = "check that this port speaks TLS (often 8883), and whether it demands --cert and --key"
        return NotReachable("TLS with the broker failed", evidence=seen, fix=fix, code="MW-TLS-001")
    if "not authori" in text or "bad user name" in text or ("refused" in text and "errno" not in text):
        return Refused("the broker refused", evidence=seen, fix="check user and password; a token lives one hour")
    if "subscri" in text or "rejected" in text:
        return Refused("the broker refused the subscription", evidence=seen, fix="use a filter of your own tenant")
    fix = "start `meshwire broker`, or check -h and -p"
    if "errno" not in text:  # it took the connection, and hung up or said nothing
        fix += "; after failed logins a broker lets an address wait"
        fix += "" if secured else "; a port for TLS wants --cafile"
    return NotReachable("no MQTT broker answers", evidence=seen, fix=fix)


def _unfit(error: ssl.SSLCertVerificationError, where: str) -> NotReachable:
    if error.verify_code in _EXPIRED:
        code, fix = "MW-TLS-004", "renew it at the broker; check this machine's clock"
    elif error.verify_code in _WRONG_NAME:
        code, fix = "MW-TLS-003", "give -h as the certificate names the broker"
    else:
        code, fix = "MW-TLS-002", "give the authority that signed it: --cafile FILE"
    seen = f"{where}: {error.verify_message}"
    return NotReachable("the broker's certificate does not hold", evidence=seen, fix=fix, code=code)
