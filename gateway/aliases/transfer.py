"""A package as a document that travels: its aliases and triggers, and the authorities they trust; never a secret.

Passwords stay behind unless they are references (`${ENV}`, a file of the operator's own), and so do keystores: both
are named, and what is missing at the other end is told when the document is read there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gateway.aliases.catalogue import Kind, Record
from gateway.aliases.errors import AliasError, FieldProblem, InvalidAlias
from gateway.aliases.records import AliasSettings, TriggerSettings
from gateway.aliases.store import AliasStore, build, plain

__all__ = ["export_aliases", "export_package", "import_document"]

FORMAT: Final = "meshwire-aliases"
VERSION: Final = 1


def export_package(store: AliasStore, name: str) -> dict[str, object]:
    """A package with everything in it; raises AliasError."""
    catalogue = store.catalogue
    package = catalogue.find(Kind.PACKAGE, name)
    aliases = [alias for alias in catalogue.aliases.values() if alias.package == name]
    triggers = [trigger for trigger in catalogue.triggers.values() if trigger.package == name]
    return _document(store, [package], aliases, triggers)


def export_aliases(store: AliasStore, names: Iterable[str]) -> dict[str, object]:
    """Aliases with their triggers; no names: all. Raises AliasError."""
    catalogue = store.catalogue
    chosen = [catalogue.alias(name) for name in names] or list(catalogue.aliases.values())
    known = {alias.name for alias in chosen}
    triggers = [trigger for trigger in catalogue.triggers.values() if trigger.alias in known]
    return _document(store, [], chosen, triggers)


def _document(
    store: AliasStore, packages: list[Record], aliases: list[AliasSettings], triggers: list[TriggerSettings]
) -> dict[str, object]:
    trusted = {alias.truststore for alias in aliases} | {getattr(each.action, "truststore", "") for each in triggers}
    return {
        "format": FORMAT,
        "version": VERSION,
        "package": [plain(package) for package in packages],
        "truststore": [_truststore(store, name) for name in sorted(trusted & store.catalogue.truststores.keys())],
        "alias": [_without_secret(store, alias) for alias in aliases],
        "trigger": [plain(trigger) for trigger in triggers],
    }


def _truststore(store: AliasStore, name: str) -> dict[str, object]:
    settings = store.catalogue.truststores[name]
    anchors, with_system = store.catalogue.anchors(name, store.environment)
    pem = "".join(
        each.public_bytes(serialization.Encoding.PEM).decode() for each in cast("list[x509.Certificate]", anchors)
    )
    return {"name": name, "description": settings.description, "system": with_system, "pem": pem}


def _without_secret(store: AliasStore, alias: AliasSettings) -> dict[str, object]:
    values = plain(alias)
    if alias.password_file and store.is_ours(alias.password_file):
        del values["password_file"]
    if alias.password is not None and not alias.password.get_secret_value().startswith("${"):
        del values["password"]
    return values


def import_document(store: AliasStore, document: Mapping[str, object]) -> dict[str, list[FieldProblem]]:
    """Save everything in a document. An alias that is there already is replaced when it is of the same package.

    Returns: by name, what an alias or trigger lacks here; it is saved, disabled.

    Raises:
        AliasError: no such document, or a name is taken by another package.
    """
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise AliasError(
            "this is no export of aliases",
            evidence=f"format {document.get('format')!r}, version {document.get('version')!r}",
            fix="give a file made by `meshwire package export` or `meshwire alias export`",
        )
    return store.take_over(list(_records(store, cast("Mapping[str, Any]", document))))


def _records(store: AliasStore, document: Mapping[str, Any]) -> Iterable[Record]:
    catalogue = store.catalogue
    for values in document.get("package", ()):
        record = build(Kind.PACKAGE, values)
        if record.name not in catalogue.of(Kind.PACKAGE):
            yield record
    for values in document.get("truststore", ()):
        pem = str(values.get("pem", ""))
        fields = {key: value for key, value in values.items() if key != "pem"}
        build(Kind.TRUSTSTORE, fields)
        if fields["name"] not in catalogue.truststores:
            file = store.keep_file(Kind.TRUSTSTORE, str(fields["name"]), pem.encode()) if pem else ""
            yield build(Kind.TRUSTSTORE, fields | {"file": file})
    for kind in (Kind.ALIAS, Kind.TRIGGER):
        for values in document.get(kind.value, ()):
            yield _merged(store, kind, build(kind, values))


def _merged(store: AliasStore, kind: Kind, record: Record) -> Record:
    known = store.catalogue.of(kind).get(record.name)
    if known is None:
        return record
    if getattr(known, "package", None) != getattr(record, "package", None):
        raise InvalidAlias(
            f"{kind} {record.name}",
            [FieldProblem("name", f"is taken by package {getattr(known, 'package', '')}")],
        )
    if isinstance(record, AliasSettings) and isinstance(known, AliasSettings):
        kept = {} if record.password or record.password_file else {"password_file": known.password_file}
        return record.model_copy(update=kept)
    return record
