"""`meshwire cert`: certificates for trials: an authority of one's own, a server's certificate and clients'. What is
made here is as good as the secrecy of the key files; a site with an authority of its own uses that.
"""

import datetime
import ipaddress
import os
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.errors import CertificateError
from meshwire.identity import INTERNAL_TENANT, IdentityError, TenantId

__all__ = ["TrialAuthority", "app"]

CA_DAYS: Final = 3_650
BACKDATED: Final = datetime.timedelta(minutes=5)
"""A clock that is a little slow must not refuse a new certificate."""

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Certificates for trials of TLS and mutual TLS.")


@app.callback()
def group() -> None:
    """Keeps `make` a command of its own."""


@app.command()
def make(
    folder: Annotated[Path, typer.Option("--dir", help="Folder for the files; made when absent.")] = Path("certs"),
    host: Annotated[list[str] | None, typer.Option(help="Name or address of the server; may repeat.")] = None,
    client: Annotated[list[str] | None, typer.Option(help="A client certificate: TENANT/NAME; may repeat.")] = None,
    days: Annotated[int, typer.Option(min=1, help="Life of server and client certificates.")] = 365,
) -> None:
    """Make `ca.crt` (unless it is there), `server.crt` and a pair for each client; names of files go to stdout."""
    authority = TrialAuthority.in_folder(folder)
    made = [folder / "ca.crt", *authority.server(tuple(host or ("localhost", "127.0.0.1", "::1")), days=days)]
    for text in client or ():
        tenant, _, name = text.rpartition("/")
        try:
            made += authority.client(name, TenantId(tenant or INTERNAL_TENANT.value), days=days)
        except IdentityError as error:
            raise typer.BadParameter(str(error)) from None
    for path in made:
        typer.echo(str(path))


class TrialAuthority:
    """A certificate authority in a folder: `ca.crt` and `ca.key` (ECDSA P-256), keys with mode 0600.

    Args:
        folder: where files are written.
        certificate, key: the authority's own.
    """

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.folder = folder
        self._certificate = certificate
        self._key = key

    @classmethod
    def in_folder(cls, folder: Path) -> "TrialAuthority":
        """The authority of this folder, made when there is none.

        Raises:
            CertificateError: the folder can't be written, or holds an authority that can't be read.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / "ca.crt").exists():
                return cls._load(folder)
            return cls._make(folder)
        except (OSError, ValueError, TypeError) as error:
            raise CertificateError(
                "certificate authority can't be used", evidence=f"{folder}: {error}", fix="name another --dir"
            ) from None

    @classmethod
    def _load(cls, folder: Path) -> "TrialAuthority":
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("ca.key is no ECDSA key")
        return cls(folder, certificate, key)

    @classmethod
    def _make(cls, folder: Path) -> "TrialAuthority":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "meshwire trial authority")])
        builder = _builder(name, name, key.public_key(), CA_DAYS)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(folder, "ca", certificate, key)
        return cls(folder, certificate, key)

    def server(self, hosts: tuple[str, ...], *, days: int = 365, file: str = "server") -> tuple[Path, Path]:
        """Certificate and key for a server known under these names and addresses."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        return self._issue(file, subject, ExtendedKeyUsageOID.SERVER_AUTH, names, days)

    def client(self, name: str, tenant: TenantId, *, days: int = 365, file: str | None = None) -> tuple[Path, Path]:
        """Certificate and key of a client: CN = name, O = tenant, as the broker's own rule reads them."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, tenant.value),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        return self._issue(file or f"client-{tenant}-{name}", subject, ExtendedKeyUsageOID.CLIENT_AUTH, None, days)

    def _issue(
        self,
        file: str,
        subject: x509.Name,
        purpose: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
        days: int,
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._certificate.subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return _write(self.folder, file, builder.sign(self._key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(
    folder: Path, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    """Each file is replaced in one step: a broker that reads again never sees half of one."""
    name = "".join(letter if letter.isalnum() or letter in "-_.@" else "_" for letter in file)
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, data, mode in ((paths[1], secret, 0o600), (paths[0], certificate.public_bytes(encoding), 0o644)):
        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(data)
        draft.replace(path)
    return paths
