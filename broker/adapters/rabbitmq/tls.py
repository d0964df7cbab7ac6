"""TLS of RabbitMQ's listeners: the files it is given, and its lines in `rabbitmq.conf`.

Decides that one certificate serves all listeners of a node, that TLS is 1.2 or newer, and that the files lie beside
`rabbitmq.conf` under names of our own. There is no MQTT over WebSocket where clients have to show a certificate:
RabbitMQ 3.10 has no setting by which that listener would ask for one.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.errors import TlsFilesError
from broker.settings import ListenerSettings
from meshwire.identity import LoginKind

__all__ = ["NodeTls", "TlsFiles", "TlsPorts", "tls_lines", "tls_of_listeners"]

CERTIFICATE: Final = "server.crt"
KEY: Final = "server.key"
CLIENT_CA: Final = "client-ca.crt"
VERSIONS: Final = ("tlsv1.3", "tlsv1.2")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM texts.

    Args:
        certificate: of the server, with intermediate certificates.
        key: of the certificate, not encrypted.
        client_ca: who signs client certificates; with it every client has to show one (mutual TLS).
    """

    certificate: str
    key: str
    client_ca: str | None = None

    @classmethod
    def read(cls, certificate: Path, key: Path | None = None, client_ca: Path | None = None) -> "TlsFiles":
        """From files; without `key` it stands in the certificate's.

        Raises:
            TlsFilesError: a file can't be read, is no PEM, or key and certificate are not of each other.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(certificate, key, password="")
            if client_ca is not None:
                context.load_verify_locations(client_ca)
            client_ca_text = client_ca.read_text() if client_ca is not None else None
            return cls(certificate.read_text(), (key or certificate).read_text(), client_ca_text)
        except (OSError, ValueError) as error:
            names = ", ".join(str(path) for path in (certificate, key, client_ca) if path is not None)
            raise TlsFilesError(
                "TLS files can't be used",
                evidence=f"{names}: {error}",
                fix="check the paths, and that the key is not encrypted and of the certificate; "
                "`meshwire cert make` makes a set for trials",
            ) from None

    @property
    def is_mutual(self) -> bool:
        return self.client_ca is not None

    def by_name(self) -> dict[str, str]:
        """File names and texts, to be written where `NodeTls.folder` says."""
        files = {CERTIFICATE: self.certificate, KEY: self.key}
        return files if self.client_ca is None else files | {CLIENT_CA: self.client_ca}

    def write(self, folder: Path) -> None:
        """All of them, readable for the owner alone."""
        for name, text in self.by_name().items():
            path = folder / name
            path.touch(0o600)
            path.write_text(text)


@dataclass(frozen=True, slots=True)
class TlsPorts:
    """TCP ports: MQTT, MQTT over WebSocket and AMQP 1.0, each over TLS."""

    mqtts: int = 8883
    wss: int = 15_676
    amqps: int = 5_671


@dataclass(frozen=True, slots=True)
class NodeTls:
    """What one node's TLS listeners are made from.

    Args:
        is_mutual: every client has to show a certificate; then there is no MQTT over WebSocket.
        address: to listen on.
        ports: TCP ports.
        folder: of the three files, as the node sees it.
    """

    is_mutual: bool
    address: str = "127.0.0.1"
    ports: TlsPorts = TlsPorts()
    folder: str = "/etc/rabbitmq"


def tls_of_listeners(listeners: tuple[ListenerSettings, ...]) -> TlsFiles | None:
    """Those of the embedded broker's first listener with TLS; None: it has none. RabbitMQ asks for client certificates
    where that listener demands one; one that it only asks for would change nothing, for nobody logs in by it there.

    Raises:
        TlsFilesError: a file can't be used.
    """
    for listener in listeners:
        if listener.certificate_file is not None:
            only = set(listener.authentication) == {LoginKind.CERTIFICATE}
            is_mutual = listener.enable_client_cert_validation or only
            client_ca = listener.client_ca_file if is_mutual else None
            return TlsFiles.read(listener.certificate_file, listener.key_file, client_ca)
    return None


def tls_lines(tls: NodeTls, *, amqp: bool) -> list[str]:
    """The lines of `rabbitmq.conf`."""
    lines = [
        "# TLS, the same for all of its listeners but MQTT over WebSocket, which has its own settings.",
        f"ssl_options.certfile = {tls.folder}/{CERTIFICATE}",
        f"ssl_options.keyfile = {tls.folder}/{KEY}",
        *_versions("ssl_options"),
        f"ssl_options.verify = {'verify_peer' if tls.is_mutual else 'verify_none'}",
        f"ssl_options.fail_if_no_peer_cert = {'true' if tls.is_mutual else 'false'}",
    ]
    if tls.is_mutual:
        lines.append(f"ssl_options.cacertfile = {tls.folder}/{CLIENT_CA}")
    if amqp:
        lines.append(f"listeners.ssl.default = {tls.address}:{tls.ports.amqps}")
    lines.append(f"mqtt.listeners.ssl.default = {tls.address}:{tls.ports.mqtts}")
    if not tls.is_mutual:
        lines += [
            f"web_mqtt.ssl.ip = {tls.address}",
            f"web_mqtt.ssl.port = {tls.ports.wss}",
            f"web_mqtt.ssl.certfile = {tls.folder}/{CERTIFICATE}",
            f"web_mqtt.ssl.keyfile = {tls.folder}/{KEY}",
            *_versions("web_mqtt.ssl"),
        ]
    return [*lines, ""]


def _versions(section: str) -> list[str]:
    return [f"{section}.versions.{number} = {version}" for number, version in enumerate(VERSIONS, 1)]
