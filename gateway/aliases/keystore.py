"""What keystores and truststores hold, and the TLS contexts that are made of them.

A keystore entry is a private key with its certificate and the chain above it, under a key alias: the friendly name it
carries in the file, else the common name of its certificate, else `key-<n>`. Private keys never touch the disk again:
OpenSSL reads them from a file in memory.
"""

from __future__ import annotations

import datetime
import os
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from gateway.aliases.errors import StoreFileError
from gateway.aliases.pkcs12 import Bag, Pkcs12Error, is_pkcs12, read_pkcs12

__all__ = ["KeyEntry", "client_context", "read_keystore", "read_truststore"]

_BLOCK: Final = re.compile(
    rb"(?:friendlyName: *(?P<name>[^\r\n]+)[^-]*?)?"
    rb"-----BEGIN (?P<kind>[A-Z0-9 ]+)-----.*?-----END (?P=kind)-----",
    re.DOTALL,
)
_CERTIFICATE_KINDS: Final = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"})


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A key with its certificate; `chain` are the certificates above it, nearest first."""

    alias: str
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes = field(repr=False)

    @property
    def ends(self) -> datetime.datetime:
        """When the certificate expires."""
        return self.certificate.not_valid_after_utc

    def pem(self) -> bytes:
        """Key and certificates, not encrypted: for memory only."""
        form = serialization.Encoding.PEM
        secret = self.key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return secret + b"".join(each.public_bytes(form) for each in (self.certificate, *self.chain))


def read_keystore(path: Path, password: str) -> dict[str, KeyEntry]:
    """The entries of a PEM or PKCS#12 file by key alias, in the file's order; raises StoreFileError."""
    bags = _bags(path, password, "keystore")
    certificates = [bag for bag in bags if bag.certificate is not None]
    entries: dict[str, KeyEntry] = {}
    for bag in bags:
        if bag.key is None:
            continue
        own = next((each for each in certificates if _belongs(each, bag)), None)
        if own is None or own.certificate is None:
            continue
        name = bag.friendly_name or own.friendly_name or _common_name(own.certificate) or f"key-{len(entries) + 1}"
        alias, number = name, 2
        while alias in entries:
            alias, number = f"{name}-{number}", number + 1
        others = [each.certificate for each in certificates if each.certificate is not None]
        entries[alias] = KeyEntry(alias, own.certificate, _chain(own.certificate, others), bag.key)
    if not entries:
        raise StoreFileError(
            "the keystore holds no private key with its certificate",
            evidence=str(path),
            fix="put both into one file: PEM (cat client.crt client.key) or PKCS#12",
        )
    return entries


def read_truststore(path: Path, password: str = "") -> list[x509.Certificate]:
    """The certificates of a PEM or PKCS#12 file; raises StoreFileError."""
    certificates = [bag.certificate for bag in _bags(path, password, "truststore") if bag.certificate is not None]
    if not certificates:
        raise StoreFileError(
            "the truststore holds no certificate", evidence=str(path), fix="give the certificate of the authority (PEM)"
        )
    return certificates


def client_context(
    trusted: Iterable[x509.Certificate], *, with_system: bool = False, entry: KeyEntry | None = None
) -> ssl.SSLContext:
    """TLS 1.2 and newer towards a broker: its chain and its name are checked, ours is shown when there is one.

    Raises:
        StoreFileError: OpenSSL takes a certificate or key not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if with_system:
            context.load_default_certs()
        anchors = "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in trusted)
        if anchors:
            context.load_verify_locations(cadata=anchors)
        if entry is not None:
            _load_pair(context, entry)
    except (ssl.SSLError, OSError) as error:
        raise StoreFileError(
            "OpenSSL does not take a key or certificate", evidence=str(error), fix="make a new pair"
        ) from None
    return context


def _load_pair(context: ssl.SSLContext, entry: KeyEntry) -> None:
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(entry.pem())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _bags(path: Path, password: str, what: str) -> list[Bag]:
    try:
        octets = path.read_bytes()
        return read_pkcs12(octets, password) if is_pkcs12(octets) else _read_pem(octets, password)
    except OSError as error:
        reason, fix = error.strerror or str(error), "check the path and its rights"
    except (Pkcs12Error, ValueError, TypeError) as error:
        reason, fix = str(error), "give a PEM or PKCS#12 file, and its password"
    raise StoreFileError(f"the {what} can't be read", evidence=f"{path}: {reason}", fix=fix) from None


def _read_pem(octets: bytes, password: str) -> list[Bag]:
    bags = []
    for match in _BLOCK.finditer(octets):
        block = octets[match.start("kind") - len(b"-----BEGIN ") : match.end()]
        name = (match["name"] or b"").strip().decode(errors="replace")
        if match["kind"] in _CERTIFICATE_KINDS:
            bags.append(Bag(None, x509.load_pem_x509_certificate(block), name))
        elif match["kind"].endswith(b"PRIVATE KEY"):
            is_encrypted = match["kind"].startswith(b"ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block
            secret = password.encode() if is_encrypted and password else None
            bags.append(Bag(serialization.load_pem_private_key(block, secret), None, name))
    return bags


def _belongs(candidate: Bag, keeper: Bag) -> bool:
    assert candidate.certificate is not None and keeper.key is not None
    if keeper.local_id and candidate.local_id and keeper.local_id != candidate.local_id:
        return False
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return candidate.certificate.public_key().public_bytes(*form) == keeper.key.public_key().public_bytes(*form)


def _chain(leaf: x509.Certificate, others: list[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The certificates above `leaf` that the file holds, without the self-signed one on top."""
    chain: list[x509.Certificate] = []
    current = leaf
    while current.issuer != current.subject:
        above = next((each for each in others if each.subject == current.issuer and each not in chain), None)
        if above is None or above.issuer == above.subject:
            break
        chain.append(above)
        current = above
    return tuple(chain)


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
