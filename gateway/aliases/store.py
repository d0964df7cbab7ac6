"""Where aliases made by command or API are kept, and the one door through which they change.

Does: keep `gateway/aliases.json` (mode 0600), join it with the configuration file's own, check before anything is
saved, move passwords into files of their own under `secrets/`, notice what another process has saved. Does not:
connect. A lock file makes command line and gateway take turns; a change is one rename, so a reader never sees half.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, cast

from pydantic import BaseModel, SecretStr, ValidationError

from gateway.aliases.catalogue import MODELS, Catalogue, Kind, Record
from gateway.aliases.checks import check
from gateway.aliases.errors import AliasError, FieldProblem, InvalidAlias
from gateway.aliases.records import (
    DEFAULT_PACKAGE,
    AliasSettings,
    KeystoreSettings,
    PackageSettings,
    TriggerSettings,
    TruststoreSettings,
)
from meshwire.site import Site

__all__ = ["AliasStore", "Declaring", "build", "declared_in", "kind_of", "plain", "problems_of"]

VERSION: Final = 1
_FILE_NAME: Final = "aliases.json"
_Tables = dict[Kind, dict[str, Record]]


def problems_of(error: ValidationError) -> list[FieldProblem]:
    """pydantic's complaints, a message a field."""
    return [
        FieldProblem(".".join(str(part) for part in item["loc"]) or "entry", item["msg"]) for item in error.errors()
    ]


def build(kind: Kind, values: Mapping[str, object]) -> Record:
    """A record from its fields; raises InvalidAlias with one message a field."""
    try:
        return cast("Record", MODELS[kind].model_validate(values))
    except ValidationError as error:
        raise InvalidAlias(f"{kind} {values.get('name', '')}".strip(), problems_of(error)) from None


class Declaring(Protocol):
    """The sections of the configuration file that declare records: `gateway.settings.GatewaySettings`."""

    package: list[PackageSettings]
    truststore: list[TruststoreSettings]
    keystore: list[KeystoreSettings]
    alias: list[AliasSettings]
    trigger: list[TriggerSettings]


def declared_in(settings: Declaring) -> list[Record]:
    """Everything that a configuration file declares."""
    return [*settings.package, *settings.truststore, *settings.keystore, *settings.alias, *settings.trigger]


class AliasStore:
    """See the module's text.

    Args:
        site: the state folder.
        declared: records of the configuration file.
        environment: for `${NAME}`.
    """

    def __init__(
        self, site: Site, declared: Iterable[Record] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.site = site
        self.environment: Mapping[str, str] = os.environ if environment is None else environment
        self._path = site.path("gateway", _FILE_NAME)
        self._declared: _Tables = {kind: {} for kind in Kind}
        for record in declared:
            kind = kind_of(record)
            if record.name in self._declared[kind]:
                raise InvalidAlias(
                    f"{kind} {record.name}", [FieldProblem("name", "is used twice in the configuration file")]
                )
            self._declared[kind][record.name] = record
        self._stamp: tuple[int, int] | None = None
        self._catalogue = self._join({})
        self.refresh()

    @property
    def catalogue(self) -> Catalogue:
        """Everything, as last read."""
        return self._catalogue

    def queue_folder(self, lane: int = 0) -> Path:
        """Holds a folder for each alias's queue; each worker process (`lane` above 0) has its own."""
        return self.site.path("gateway", "aliases" if not lane else f"aliases-{lane}", "x").parent

    def lanes_left_behind(self, workers: int) -> list[int]:
        """Numbers of workers that there are no longer, and whose queues are still there."""
        found = (path.name.removeprefix("aliases-") for path in self._path.parent.glob("aliases-*"))
        return sorted(int(text) for text in found if text.isdecimal() and int(text) > workers)

    def refresh(self) -> bool:
        """Read the file again if another process has changed it; whether there is something new."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._catalogue = self._join(self._read())
        return True

    def check(self, record: Record) -> list[FieldProblem]:
        """What keeps a record from being used now."""
        return check(record, self._catalogue, self.environment)

    # --- changes

    def add(self, record: Record, copying: Path | bytes | None = None) -> Record:
        """Save something new; raises InvalidAlias.

        Args:
            record: not enabled unless it says so.
            copying: the file of a keystore or truststore, or its octets, to be copied into the state folder.
        """
        return self._put(record, must_be_new=True, copying=copying)

    def replace(self, record: Record) -> Record:
        """Save in the place of the one of the same name; raises InvalidAlias or AliasError."""
        return self._put(record, must_be_new=False)

    def change(self, kind: Kind, name: str, values: Mapping[str, object]) -> Record:
        """Save single fields; a password that is not named stays. Raises InvalidAlias or AliasError."""
        self.refresh()
        current = self._catalogue.find(kind, name)
        fields = plain(current) | dict(values)
        if "password" in values and "password_file" not in values:
            fields.pop("password_file", None)
        if fields.get("password") == "":
            del fields["password"]
        return self.replace(build(kind, fields))

    def set_enabled(self, kind: Kind, name: str, *, enabled: bool) -> Record:
        """Enable or disable; enabling asks that every field fits. Raises InvalidAlias or AliasError."""
        with self._turn() as tables:
            record = self._own(kind, name)
            if kind is Kind.PACKAGE and name == DEFAULT_PACKAGE:
                raise AliasError("the core package is always on", evidence=name, fix="use a package of your own")
            if enabled:
                self._demand(kind, record)
            changed = record.model_copy(update={"enabled": enabled})
            tables[kind][name] = changed
        return changed

    def remove(self, kind: Kind, name: str) -> None:
        """Forget it, with the password and the file that were stored for it; raises AliasError."""
        with self._turn() as tables:
            record = self._own(kind, name)
            users = sorted(self._users(kind, name))
            if users or name == DEFAULT_PACKAGE:
                raise AliasError(
                    f"{kind} {name} is in use",
                    evidence=", ".join(users) or "it is the core package",
                    fix="change or remove what uses it first",
                    code="MW-ALI-004",
                )
            del tables[kind][name]
        for path in (getattr(record, "password_file", ""), getattr(record, "file", "")):
            if path and self.is_ours(path):
                Path(path).unlink(missing_ok=True)
        if kind is Kind.ALIAS:
            # A later alias of that name must not publish what waited for this one.
            for path in self._path.parent.glob(f"aliases*/{name}"):
                shutil.rmtree(path, ignore_errors=True)

    def keep_file(self, kind: Kind, name: str, octets: bytes) -> str:
        """Copy a keystore's or truststore's octets into the state folder, mode 0600; gives the path."""
        path = self.site.path("gateway", "stores", f"{kind}-{name}")
        _write(path, octets)
        return str(path)

    def draft(self, octets: bytes) -> Path:
        """A file of mode 0600 for octets that are checked before they are kept."""
        path = self.site.path("gateway", "stores", f"draft.{secrets.token_hex(8)}")
        _write(path, octets)
        return path

    def take_over(self, records: Iterable[Record]) -> dict[str, list[FieldProblem]]:
        """Save imported records; one that does not fit yet is saved disabled. Gives what is missing, by name."""
        missing: dict[str, list[FieldProblem]] = {}
        with self._turn() as tables:
            for record in records:
                kind = kind_of(record)
                if (kind, record.name) in self._catalogue.declared:
                    raise _declared(kind, record.name)
                tables[kind][record.name] = record
                self._catalogue = self._join(tables)
                problems = check(record, self._catalogue, self.environment)
                if problems and isinstance(record, AliasSettings | TriggerSettings):
                    missing[f"{kind} {record.name}"] = problems
                    tables[kind][record.name] = record.model_copy(update={"enabled": False})
        return missing

    # --- private

    def _put(self, record: Record, *, must_be_new: bool, copying: Path | bytes | None = None) -> Record:
        kind = kind_of(record)
        with self._turn() as tables:
            is_known = record.name in self._catalogue.of(kind)
            if must_be_new and is_known:
                raise InvalidAlias(f"{kind} {record.name}", [FieldProblem("name", "is taken; names are unique")])
            if not must_be_new:
                self._own(kind, record.name)
            self._demand(kind, record)
            record = self._seal(kind, record)
            if copying is not None:
                octets = copying if isinstance(copying, bytes) else copying.read_bytes()
                file = self.keep_file(kind, record.name, octets)
                record = record.model_copy(update={"file": file})
            tables[kind][record.name] = record
        return record

    def _own(self, kind: Kind, name: str) -> Record:
        """One that may be changed here."""
        record = self._catalogue.find(kind, name)
        if (kind, name) in self._catalogue.declared:
            raise _declared(kind, name)
        return record

    def _demand(self, kind: Kind, record: Record) -> None:
        problems = check(record, self._catalogue, self.environment)
        if problems:
            raise InvalidAlias(f"{kind} {record.name}", problems)

    def _users(self, kind: Kind, name: str) -> Iterator[str]:
        catalogue = self._catalogue
        for alias in catalogue.aliases.values():
            used = {Kind.PACKAGE: alias.package, Kind.TRUSTSTORE: alias.truststore, Kind.KEYSTORE: alias.keystore}
            if used.get(kind) == name:
                yield f"alias {alias.name}"
        for trigger in catalogue.triggers.values():
            named = {
                Kind.PACKAGE: (trigger.package,),
                Kind.ALIAS: (trigger.alias, getattr(trigger.action, "alias", None)),
                Kind.TRUSTSTORE: (getattr(trigger.action, "truststore", None),),
            }
            if name in named.get(kind, ()):
                yield f"trigger {trigger.name}"

    def _seal(self, kind: Kind, record: Record) -> Record:
        """A password in words goes into a file of its own; a reference stays as it is."""
        if not isinstance(record, AliasSettings | TruststoreSettings | KeystoreSettings) or record.password is None:
            return record
        text = record.password.get_secret_value()
        if text.startswith("${") and text.endswith("}"):
            return record
        if not text:
            return record.model_copy(update={"password": None})
        path = self.site.path("secrets", f"{kind}-{record.name}")
        _write(path, text.encode())
        return record.model_copy(update={"password": None, "password_file": str(path)})

    def is_ours(self, path: str) -> bool:
        """Whether a file was made by this store, and goes with its record."""
        return Path(path).parent in (
            self.site.path("secrets", "x").parent,
            self.site.path("gateway", "stores", "x").parent,
        )

    @contextmanager
    def _turn(self) -> Iterator[_Tables]:
        """One change at a time: what is saved now, to be changed; saved at the end unless something was raised."""
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.refresh()
            tables = self._read()
            before = self._catalogue
            try:
                yield tables
            except BaseException:
                self._catalogue = before
                raise
            document = {"version": VERSION} | {
                kind.value: [plain(record) for record in table.values()] for kind, table in tables.items()
            }
            _write(self._path, json.dumps(document, indent=1, ensure_ascii=False).encode())
            self._stamp = self._look()
            self._catalogue = self._join(tables)
        finally:
            os.close(lock)

    def _look(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _read(self) -> _Tables:
        tables: _Tables = {kind: {} for kind in Kind}
        try:
            document: dict[str, Any] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return tables
        except (OSError, ValueError) as error:
            raise self._unreadable(str(error)) from None
        if document.get("version") != VERSION:
            raise self._unreadable(f"version {document.get('version')!r}; this release reads {VERSION}")
        for kind in Kind:
            for values in document.get(kind.value, ()):
                record = build(kind, values)
                tables[kind][record.name] = record
        return tables

    def _unreadable(self, reason: str) -> AliasError:
        return AliasError(
            "the store of aliases can't be read",
            evidence=f"{self._path}: {reason}",
            fix="restore the file, or remove it and add the aliases again",
            code="MW-ALI-006",
        )

    def _join(self, tables: Mapping[Kind, Mapping[str, Record]]) -> Catalogue:
        joined = {kind: {**tables.get(kind, {}), **self._declared[kind]} for kind in Kind}
        return Catalogue(
            cast("Any", joined[Kind.PACKAGE]),
            cast("Any", joined[Kind.TRUSTSTORE]),
            cast("Any", joined[Kind.KEYSTORE]),
            cast("Any", joined[Kind.ALIAS]),
            cast("Any", joined[Kind.TRIGGER]),
            frozenset((kind, name) for kind, table in self._declared.items() for name in table),
        )


def kind_of(record: Record) -> Kind:
    """What a record is."""
    return next(kind for kind, model in MODELS.items() if isinstance(record, model))


def plain(record: BaseModel) -> dict[str, object]:
    """For the file: what differs from the defaults; a password is only ever a reference here."""
    values = record.model_dump(mode="python", exclude_defaults=True)
    if isinstance(values.get("password"), SecretStr):
        values["password"] = values["password"].get_secret_value()
    return cast("dict[str, object]", json.loads(json.dumps(values)))


def _write(path: Path, octets: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _declared(kind: Kind, name: str) -> AliasError:
    return AliasError(
        f"{kind} {name} is written in the configuration file",
        evidence=f"[[gateway.{kind}]]",
        fix="change it there",
        code="MW-ALI-003",
    )
