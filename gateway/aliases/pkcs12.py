"""PKCS#12 files (RFC 7292) with any number of keys, as Java's keytool and OpenSSL write them.

`cryptography` reads one key from such a file; a keystore has several. So the file is walked here, and `cryptography`
does the arithmetic. Read: MAC over SHA-1 and SHA-2; bags protected by PBES2 (PBKDF2 with AES) and by the older
pbeWithSHAAnd3-KeyTripleDES-CBC. Not read: RC2, which is broken; the message says how to convert such a file.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from gateway.aliases.der import SEQUENCE, DerError, Element, oid_text, read_element

__all__ = ["Bag", "Pkcs12Error", "is_pkcs12", "read_pkcs12"]

_DATA: Final = "1.2.840.113549.1.7.1"
_ENCRYPTED_DATA: Final = "1.2.840.113549.1.7.6"
_KEY_BAG: Final = "1.2.840.113549.1.12.10.1.1"
_SHROUDED_KEY_BAG: Final = "1.2.840.113549.1.12.10.1.2"
_CERTIFICATE_BAG: Final = "1.2.840.113549.1.12.10.1.3"
_NESTED_BAG: Final = "1.2.840.113549.1.12.10.1.6"
_X509: Final = "1.2.840.113549.1.9.22.1"
_FRIENDLY_NAME: Final = "1.2.840.113549.1.9.20"
_LOCAL_KEY_ID: Final = "1.2.840.113549.1.9.21"
_PBES2: Final = "1.2.840.113549.1.5.13"
_PBKDF2: Final = "1.2.840.113549.1.5.12"
_TRIPLE_DES: Final = "1.2.840.113549.1.12.1.3"
_RC2: Final = frozenset({"1.2.840.113549.1.12.1.5", "1.2.840.113549.1.12.1.6"})
_AES: Final = {"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}
_DIGESTS: Final = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_PRFS: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.2.840.113549.2.7": hashes.SHA1(),
    "1.2.840.113549.2.9": hashes.SHA256(),
    "1.2.840.113549.2.10": hashes.SHA384(),
    "1.2.840.113549.2.11": hashes.SHA512(),
}
_MAX_ROUNDS: Final = 10_000_000
_MAC_ID, _KEY_ID, _IV_ID = 3, 1, 2
"""RFC 7292 appendix B.3: what derived octets are for."""


class Pkcs12Error(ValueError):
    """The file can't be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Bag:
    """A private key or a certificate, with the names it carries."""

    key: PrivateKeyTypes | None
    certificate: x509.Certificate | None
    friendly_name: str = ""
    local_id: bytes = b""


def is_pkcs12(octets: bytes) -> bool:
    """Whether a file looks like PKCS#12: a sequence that begins with the version number 3."""
    return octets[:1] == b"\x30" and b"\x02\x01\x03" in octets[2:10]


def read_pkcs12(octets: bytes, password: str) -> list[Bag]:
    """Everything in a file; raises Pkcs12Error."""
    try:
        return list(_Reader(password).bags(octets))
    except DerError as error:
        raise Pkcs12Error(f"no PKCS#12 in DER form: {error}") from None
    except (IndexError, KeyError) as error:
        raise Pkcs12Error(f"PKCS#12 of an unknown form: {error}") from None


class _Reader:
    def __init__(self, password: str) -> None:
        self._password = password

    def bags(self, octets: bytes) -> Iterator[Bag]:
        version, safe, *mac = read_element(octets)[0].children()
        if version.content != b"\x03":
            raise Pkcs12Error(f"PKCS#12 version {version.content.hex()}; 3 is known")
        kind, content = safe.children()
        if oid_text(kind.content) != _DATA:
            raise Pkcs12Error("PKCS#12 that is signed by a public key")
        contents = content.children()[0].octets
        if mac:
            self._check(contents, mac[0])
        for info in read_element(contents)[0].children():
            yield from self._safe(info)

    def _check(self, contents: bytes, mac: Element) -> None:
        """RFC 7292 section 4 and appendix B: the MAC tells a wrong password from a damaged file."""
        digest_info, salt, *rounds = mac.children()
        algorithm, digest = digest_info.children()
        name = _DIGESTS.get(oid_text(algorithm.children()[0].content))
        if name is None:
            raise Pkcs12Error("PKCS#12 with a MAC that is not over SHA-1 or SHA-2 (PBMAC1?)")
        count = _count(rounds[0]) if rounds else 1
        key = _derive(self._password, salt.content, count, _MAC_ID, hashlib.new(name).digest_size, name)
        if not hmac.compare_digest(hmac.digest(key, contents, name), digest.content):
            raise Pkcs12Error("wrong password" if self._password else "a password is needed")

    def _safe(self, info: Element) -> Iterator[Bag]:
        kind, content = info.children()
        if oid_text(kind.content) == _DATA:
            plain = content.children()[0].octets
        elif oid_text(kind.content) == _ENCRYPTED_DATA:
            _, encrypted = content.children()[0].children()
            _, algorithm, octets = encrypted.children()
            plain = self._decrypt(algorithm, octets.octets)
        else:
            raise Pkcs12Error("PKCS#12 encrypted for a public key")
        yield from self._contents(read_element(plain)[0])

    def _contents(self, sequence: Element) -> Iterator[Bag]:
        for bag in sequence.children():
            kind, wrapped, *attributes = bag.children()
            value = wrapped.children()[0]
            name, local_id = _attributes(attributes)
            match oid_text(kind.content):
                case id if id in (_KEY_BAG, _SHROUDED_KEY_BAG):
                    yield Bag(self._key(value, is_shrouded=id == _SHROUDED_KEY_BAG), None, name, local_id)
                case id if id == _CERTIFICATE_BAG and oid_text(value.children()[0].content) == _X509:
                    der = value.children()[1].children()[0].octets
                    yield Bag(None, x509.load_der_x509_certificate(der), name, local_id)
                case id if id == _NESTED_BAG:
                    yield from self._contents(value)

    def _key(self, value: Element, *, is_shrouded: bool) -> PrivateKeyTypes:
        plain = value.whole
        if is_shrouded:
            algorithm, octets = value.children()
            plain = self._decrypt(algorithm, octets.octets)
        try:
            return serialization.load_der_private_key(plain, None)
        except (ValueError, TypeError) as error:
            raise Pkcs12Error(f"a private key can't be read; has it a password of its own? ({error})") from None

    def _decrypt(self, algorithm: Element, octets: bytes) -> bytes:
        identifier, parameters = algorithm.children()
        name = oid_text(identifier.content)
        if name == _PBES2:
            cipher, mode = self._pbes2(parameters)
        elif name == _TRIPLE_DES:
            salt, rounds = parameters.children()
            key, iv = (
                _derive(self._password, salt.content, _count(rounds), purpose, length, "sha1")
                for purpose, length in ((_KEY_ID, 24), (_IV_ID, 8))
            )
            cipher, mode = TripleDES(key), modes.CBC(iv)
        else:
            weak = " (RC2)" if name in _RC2 else ""
            raise Pkcs12Error(
                f"encrypted by {name}{weak}; convert it: keytool -importkeystore or openssl pkcs12 of this decade"
            )
        decryptor = Cipher(cipher, mode).decryptor()
        unpadder = padding.PKCS7(cipher.block_size).unpadder()
        try:
            padded = decryptor.update(octets) + decryptor.finalize()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError:
            raise Pkcs12Error("wrong password, or damaged") from None

    def _pbes2(self, parameters: Element) -> tuple[BlockCipherAlgorithm, modes.CBC]:
        """RFC 8018 section 6.2."""
        derivation, scheme = (part.children() for part in parameters.children())
        if oid_text(derivation[0].content) != _PBKDF2:
            raise Pkcs12Error(f"key derivation {oid_text(derivation[0].content)}; PBKDF2 is known")
        salt, rounds, *more = derivation[1].children()
        prf = next((oid_text(part.children()[0].content) for part in more if part.tag == SEQUENCE), None)
        cipher = oid_text(scheme[0].content)
        if cipher not in _AES:
            raise Pkcs12Error(f"cipher {cipher}; AES in CBC mode is known")
        digest = _PRFS[prf] if prf is not None else hashes.SHA1()
        key = PBKDF2HMAC(digest, _AES[cipher], salt.content, _count(rounds)).derive(self._password.encode())
        return algorithms.AES(key), modes.CBC(scheme[1].content)


def _count(element: Element) -> int:
    value = int.from_bytes(element.content, "big")
    if not 0 < value <= _MAX_ROUNDS:
        raise Pkcs12Error(f"{value} rounds of key derivation")
    return value


def _attributes(sets: list[Element]) -> tuple[str, bytes]:
    """(friendly name, local key id) of a bag."""
    name, local_id = "", b""
    for attribute in sets[0].children() if sets else ():
        kind, values = attribute.children()
        value = values.children()[0].content
        if oid_text(kind.content) == _FRIENDLY_NAME:
            name = value.decode("utf-16-be", errors="replace")
        elif oid_text(kind.content) == _LOCAL_KEY_ID:
            local_id = value
    return name, local_id


def _derive(password: str, salt: bytes, rounds: int, purpose: int, length: int, digest: str) -> bytes:
    """RFC 7292 appendix B.2."""
    block = 128 if digest in ("sha384", "sha512") else 64
    size = hashlib.new(digest).digest_size
    text = password.encode("utf-16-be") + b"\0\0"
    diversifier = bytes((purpose,)) * block
    mixed = _fill(salt, block) + _fill(text, block)
    derived = b""
    while len(derived) < length:
        part = diversifier + mixed
        for _ in range(rounds):
            part = hashlib.new(digest, part).digest()
        derived += part
        addend = int.from_bytes((part * (block // size + 1))[:block], "big") + 1
        mixed = b"".join(
            ((int.from_bytes(mixed[at : at + block], "big") + addend) % (1 << 8 * block)).to_bytes(block, "big")
            for at in range(0, len(mixed), block)
        )
    return derived[:length]


def _fill(octets: bytes, block: int) -> bytes:
    """Repeated to a whole number of blocks."""
    length = -(-len(octets) // block) * block
    return (octets * (length // len(octets) + 1))[:length] if octets else b""
