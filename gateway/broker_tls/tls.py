"""How the gateway's connections to its broker get TLS: a context made of the files as they are now, and what failed.

The context is made for each connection, so that renewed certificates count from the next one on. The chain and the
name of the broker are always checked. Does not: connect, try again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

from gateway.aliases.causes import CLIENT_REFUSED, NOT_TLS, described, subject_of, words_of
from gateway.aliases.errors import StoreFileError
from gateway.aliases.handshake import on_certificate_request
from gateway.aliases.keystore import client_context, read_truststore
from gateway.broker_tls.errors import BrokerTlsError
from gateway.broker_tls.settings import BridgeTlsSettings

__all__ = ["BrokerTls", "TlsOptions", "tls_of", "tls_options"]

PATIENCE_S: Final = 5.0
LISTEN_S: Final = 1.0
"""A broker that has shaken hands and means it waits for CONNECT."""
_UNTRUSTED: Final = frozenset({2, 7, 18, 19, 20, 21})
"""These and those below are X509_V_ERR_… of OpenSSL."""
_WRONG_NAME: Final = frozenset({62, 64})
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_REFUSALS: Final = frozenset(word.replace("_", " ") for word in (*CLIENT_REFUSED, "CERTIFICATE_REQUIRED"))
_NOT_TLS: Final = frozenset(word.replace("_", " ") for word in NOT_TLS)


class TlsOptions(TypedDict, total=False):
    ssl: ssl.SSLContext
    server_hostname: str


"""What asyncio's `create_connection` and `open_connection` take."""


@dataclass(frozen=True, slots=True)
class BrokerTls:
    """TLS to one broker.

    Args:
        host: of the broker.
        port: of the broker.
        settings: files and name.
    """

    host: str
    port: int
    settings: BridgeTlsSettings

    @property
    def name(self) -> str:
        """What the broker's certificate has to be for."""
        return self.settings.server_name or self.host

    def context(self) -> ssl.SSLContext:
        """Read the files; raises BrokerTlsError."""
        settings = self.settings
        try:
            anchors = [] if settings.ca_file is None else read_truststore(settings.ca_file)
            context = client_context(anchors, with_system=settings.ca_file is None)
            if settings.certificate_file is not None:
                # A password of its own, lest OpenSSL ask for one at the terminal.
                context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
        except StoreFileError as error:
            fix = f"{error.fix}; see gateway.bridge.tls.ca_file"
            raise BrokerTlsError(str(error.what), evidence=error.evidence, fix=fix, code="MW-TLS-007") from None
        except (OSError, ValueError) as error:
            files = ", ".join(str(path) for path in (settings.certificate_file, settings.key_file) if path)
            raise BrokerTlsError(
                "the gateway's certificate for the broker can't be used",
                evidence=f"{files}: {_text(error)}",
                fix="give gateway.bridge.tls.certificate_file and key_file as PEM that belong together, not encrypted",
                code="MW-TLS-007",
            ) from None
        return context

    async def explain(self, error: BaseException) -> BrokerTlsError | None:
        """What a failed connection means; None when it was not TLS that failed.

        Args:
            error: of the connection, or one of `context`; where it says no more than that somebody has hung up, or was
                silent, the broker is tried once more.
        """
        if isinstance(error, BrokerTlsError):
            return error
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError | ConnectionResetError | BrokenPipeError):
            return None
        return await asyncio.to_thread(self._judge, error)

    def _judge(self, error: BaseException) -> BrokerTlsError | None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._unfit(error, self._peer_certificate())
        if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError):
            return self._probe()
        text = _text(error)
        upper = text.upper().replace("_", " ")
        if any(word in upper for word in _REFUSALS):
            return self._refused(text)
        if any(word in upper for word in _NOT_TLS):
            return self._no_tls(text)
        return BrokerTlsError("TLS with the broker failed", evidence=self._seen(text), fix="see the broker's log")

    def _probe(self) -> BrokerTlsError | None:
        """Shake hands again, and wait: who refuses our certificate may hang up without a word, TLS 1.3 even later."""
        asked: list[bool] = []
        is_shaken = False
        try:
            context = self.context()
            on_certificate_request(context, lambda: asked.append(True))
            with socket.create_connection((self.host, self.port), PATIENCE_S) as sock:
                try:
                    with context.wrap_socket(sock, server_hostname=self.name) as secured:
                        is_shaken = True
                        secured.settimeout(LISTEN_S)
                        text = "" if secured.recv(1) else "the broker hangs up after the handshake"
                except TimeoutError:
                    return None
                except (ssl.SSLEOFError, ConnectionError) as error:
                    text = _text(error)
                    if not asked and not is_shaken:
                        return self._no_tls(text)
                return self._refused(f"{text}; it has asked for a certificate") if text and asked else None
        except BrokerTlsError as error:
            return error
        except ssl.SSLError as error:
            return self._judge(error)
        except OSError:
            return None

    def _seen(self, text: str) -> str:
        return f"{self.host}:{self.port}: {text}"

    def _no_tls(self, text: str) -> BrokerTlsError:
        return BrokerTlsError(
            "the broker's port does not speak TLS 1.2 or newer",
            evidence=self._seen(text),
            fix="set gateway.bridge.port to the port of mqtts (often 8883), or gateway.bridge.tls.enabled = false",
            code="MW-TLS-006",
        )

    def _unfit(self, error: ssl.SSLCertVerificationError, peer: str) -> BrokerTlsError:
        code, clock = error.verify_code, "check this machine's clock"
        if code in _UNTRUSTED:
            trusted = self.settings.ca_file or "the system's trust store"
            number, what = "MW-TLS-002", "no authority that the gateway trusts has signed the broker's certificate"
            fix = f"put the authority of the broker's certificate into gateway.bridge.tls.ca_file (now {trusted})"
        elif code in _WRONG_NAME:
            number, what = "MW-TLS-003", f"the broker's certificate is not for {self.name}"
            fix = "write gateway.bridge.host as the certificate names it, or set gateway.bridge.tls.server_name"
        elif code == _EXPIRED:
            number, what = "MW-TLS-004", "the broker's certificate has expired"
            fix = f"renew it at the broker; {clock}"
        elif code == _NOT_YET_VALID:
            number, what, fix = "MW-TLS-004", "the broker's certificate is not valid yet", clock
        else:
            number, what, fix = "MW-TLS-001", "the broker's certificate does not hold", "see the reason"
        return BrokerTlsError(what, evidence=f"{error.verify_message}; {peer}", fix=fix, code=number)

    def _refused(self, text: str) -> BrokerTlsError:
        path, evidence = self.settings.certificate_file, self._seen(text)
        if path is None:
            return BrokerTlsError(
                "the broker demands a client certificate",
                evidence=evidence,
                fix="set gateway.bridge.tls.certificate_file and key_file",
                code="MW-TLS-005",
            )
        return BrokerTlsError(
            "the broker refuses the gateway's certificate",
            evidence=f"{evidence}; {_own_certificate(path)}",
            fix="have one signed by an authority that the broker trusts, and not expired",
            code="MW-TLS-005",
        )

    def _peer_certificate(self) -> str:
        """The certificate that was not accepted, fetched once more without judging it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection((self.host, self.port), PATIENCE_S) as sock,
                context.wrap_socket(sock, server_hostname=self.name) as secured,
            ):
                return described(secured.getpeercert(True))
        except OSError:
            return "its certificate could not be fetched"


async def tls_options(tls: BrokerTls | None) -> TlsOptions:
    """For `create_connection`; empty: in plain. Raises BrokerTlsError."""
    if tls is None:
        return {}
    return {"ssl": await asyncio.to_thread(tls.context), "server_hostname": tls.name}


def tls_of(host: str, port: int, settings: BridgeTlsSettings) -> BrokerTls | None:
    """TLS to the broker of the settings; None: in plain."""
    return BrokerTls(host, port, settings) if settings.enabled else None


def _own_certificate(path: Path) -> str:
    try:
        certificate = read_truststore(path)[0]
    except StoreFileError as error:
        return error.evidence
    return f"ours is of {subject_of(certificate)}, valid to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _text(error: BaseException) -> str:
    return words_of(error) if isinstance(error, OSError) else str(error)
