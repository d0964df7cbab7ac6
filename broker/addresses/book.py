"""The addresses of this site: a JSON file that `meshwire address` writes; a running broker reads it again when it
changes.

Decides which addresses fit together: names are unique in a tenant, no topic belongs to two of them, and a dead-letter
address is one with a topic of its own that stores.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.addresses.address import Address, intersect
from broker.errors import AddressError, wrong_values
from broker.watched_file import WatchedFile

__all__ = ["AddressBook"]

_log = structlog.get_logger()

Key = tuple[str, str]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(default=1, ge=1, le=1)
    addresses: tuple[Address, ...] = ()


class AddressBook:
    """See the module.

    Args:
        path: the JSON file; it need not exist.

    Raises:
        AddressError: the file exists and is not valid. A later change to an invalid file keeps the former addresses.
    """

    def __init__(self, path: Path) -> None:
        self._watched = WatchedFile(path)
        self._known: Mapping[Key, Address] = {}
        if self._watched.has_changed():
            self._known = self._read()

    @property
    def path(self) -> Path:
        return self._watched.path

    def __iter__(self) -> Iterator[Address]:
        return iter(self._known.values())

    def of(self, tenant: str, name: str) -> Address | None:
        return self._known.get((tenant, name))

    def in_tenant(self, tenant: str) -> list[Address]:
        return [item for item in self._known.values() if item.tenant == tenant]

    def reload(self) -> bool:
        """Reads the file again when it changed; True when it gave other addresses now."""
        if not self._watched.has_changed():
            return False
        try:
            known = self._read()
        except AddressError as error:
            _log.warning("addresses file is not valid, the former addresses stay", error=str(error))
            return False
        changed = known != self._known
        self._known = known
        if changed:
            _log.info("addresses read", path=str(self.path), addresses=len(known))
        return changed

    def put(self, address: Address) -> None:
        """Adds or replaces an address. Raises AddressError where it does not fit the others."""
        self._write({**self._known, (address.tenant, address.name): address})

    def remove(self, tenant: str, name: str) -> None:
        """Removes an address, if it is there. Raises AddressError where another one needs it for dead letters."""
        self._write({key: item for key, item in self._known.items() if key != (tenant, name)})

    def _read(self) -> Mapping[Key, Address]:
        try:
            items = _File.model_validate_json(self.path.read_bytes()).addresses
        except OSError as error:
            raise AddressError(
                "addresses file can't be read", evidence=str(error), fix="check its permissions"
            ) from None
        except ValidationError as error:
            raise invalid(error, str(self.path)) from None
        known = {(item.tenant, item.name): item for item in items}
        if len(known) != len(items):
            raise AddressError("two addresses of a tenant have the same name", evidence=str(self.path), fix="mend it")
        check(known)
        return known

    def _write(self, known: Mapping[Key, Address]) -> None:
        check(known)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        text = _File(addresses=tuple(known.values())).model_dump_json(indent=2, exclude_defaults=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
        draft.replace(self.path)
        self._known = known
        self._watched.has_changed()


def check(known: Mapping[Key, Address]) -> None:
    """Whether these addresses fit together. Raises AddressError."""
    by_tenant: dict[str, list[Address]] = {}
    for item in known.values():
        for other in by_tenant.setdefault(item.tenant, []):
            if intersect(item.topic_filter, other.topic_filter):
                raise AddressError(
                    "a topic would belong to two addresses",
                    evidence=f"{item.name}: {item.topic_filter}, {other.name}: {other.topic_filter}",
                    fix="give one of them another filter",
                )
        by_tenant[item.tenant].append(item)
        for target in (item.dead_letter, item.expired_to):
            if target is not None:
                _check_target(item, target, known.get((item.tenant, target)))


def _check_target(item: Address, target: str, found: Address | None) -> None:
    if found is None or found.topic is None or not found.type.is_stored:
        raise AddressError(
            "this address can't take dead letters",
            evidence=f"{target}, named by {item.name} of tenant {item.tenant}",
            fix="name a queue or topic of the same tenant that has no wildcard in its filter, or add it first",
        )


def invalid(error: ValidationError, where: str) -> AddressError:
    """What pydantic said, in one line."""
    return AddressError("an address is not valid", evidence=f"{where}: {wrong_values(error)}", fix="mend it")
