"""Everything that is known under a name, at one moment: from the configuration file and from the site's store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, SecretStr

from gateway.aliases.errors import AliasError
from gateway.aliases.keystore import KeyEntry, read_keystore, read_truststore
from gateway.aliases.records import (
    DEFAULT_PACKAGE,
    AliasSettings,
    KeystoreSettings,
    PackageSettings,
    TriggerSettings,
    TruststoreSettings,
)

__all__ = ["MODELS", "Catalogue", "Kind", "PasswordMissing", "Record", "password_of"]

Record = AliasSettings | TriggerSettings | PackageSettings | TruststoreSettings | KeystoreSettings


class Kind(StrEnum):
    """What a name can stand for; each kind has names of its own."""

    PACKAGE = "package"
    TRUSTSTORE = "truststore"
    KEYSTORE = "keystore"
    ALIAS = "alias"
    TRIGGER = "trigger"


MODELS: Final[dict[Kind, type[BaseModel]]] = {
    Kind.PACKAGE: PackageSettings,
    Kind.TRUSTSTORE: TruststoreSettings,
    Kind.KEYSTORE: KeystoreSettings,
    Kind.ALIAS: AliasSettings,
    Kind.TRIGGER: TriggerSettings,
}
_CORE: Final = PackageSettings(name=DEFAULT_PACKAGE, description="the core package: always on")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class PasswordMissing(Exception):
    """A password is only named, and what the name stands for is not there; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A snapshot; `declared` are those of the configuration file, which only an editor changes."""

    packages: Mapping[str, PackageSettings] = field(default_factory=dict)
    truststores: Mapping[str, TruststoreSettings] = field(default_factory=dict)
    keystores: Mapping[str, KeystoreSettings] = field(default_factory=dict)
    aliases: Mapping[str, AliasSettings] = field(default_factory=dict)
    triggers: Mapping[str, TriggerSettings] = field(default_factory=dict)
    declared: frozenset[tuple[Kind, str]] = frozenset()

    def of(self, kind: Kind) -> Mapping[str, Record]:
        """All of a kind by name."""
        match kind:
            case Kind.PACKAGE:
                return {DEFAULT_PACKAGE: _CORE, **self.packages}
            case Kind.TRUSTSTORE:
                return self.truststores
            case Kind.KEYSTORE:
                return self.keystores
            case Kind.ALIAS:
                return self.aliases
            case Kind.TRIGGER:
                return self.triggers

    def find(self, kind: Kind, name: str) -> Record:
        """The one of that name; raises AliasError (MW-ALI-002)."""
        found = self.of(kind).get(name)
        if found is None:
            raise AliasError(
                f"no {kind} of that name", evidence=name, fix=f"see `meshwire {kind} list`", code="MW-ALI-002"
            )
        return found

    def alias(self, name: str) -> AliasSettings:
        """The alias of that name; raises AliasError (MW-ALI-002)."""
        found = self.find(Kind.ALIAS, name)
        assert isinstance(found, AliasSettings)
        return found

    def is_package_on(self, name: str) -> bool:
        """Whether a package is there and enabled."""
        if name == DEFAULT_PACKAGE:
            return True
        package = self.packages.get(name)
        return package is not None and package.enabled

    def is_on(self, record: AliasSettings | TriggerSettings) -> bool:
        """Whether an alias or trigger is enabled, itself and by its package."""
        return record.enabled and self.is_package_on(record.package)

    def key_entries(self, name: str, environment: Mapping[str, str]) -> dict[str, KeyEntry]:
        """What a keystore holds; raises StoreFileError or PasswordMissing."""
        store = self.keystores[name]
        return read_keystore(Path(store.file), password_of(store, environment))

    def anchors(self, name: str, environment: Mapping[str, str]) -> tuple[list[object], bool]:
        """(certificates of a truststore, whether the system's own count, too); raises StoreFileError."""
        store = self.truststores[name]
        certificates = read_truststore(Path(store.file), password_of(store, environment)) if store.file else []
        return list(certificates), store.system


def password_of(record: AliasSettings | TruststoreSettings | KeystoreSettings, environment: Mapping[str, str]) -> str:
    """The password behind a reference; empty when there is none.

    Raises:
        PasswordMissing: an environment variable is not set, or a file can't be read.
    """
    if record.password is not None:
        return expand(record.password, environment)
    if not record.password_file:
        return ""
    try:
        return Path(record.password_file).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PasswordMissing(f"{record.password_file} can't be read: {error}") from None


def expand(secret: SecretStr, environment: Mapping[str, str]) -> str:
    """A password in which ${NAME} is replaced; raises PasswordMissing."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise PasswordMissing(f"environment variable {match[1]} is not set")
        return environment[match[1]]

    return _VARIABLE.sub(value, secret.get_secret_value())
