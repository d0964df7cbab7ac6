"""The role table of this site: the built-in roles, and more of them in a JSON file that is read again when it changes.

Decides what a role may look like. A role that a token or certificate may hold grants only filters that begin with the
tenant, because whoever signs tokens must not be able to reach across tenants by choosing a role's name.
"""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from broker.errors import RolesFileError, wrong_values
from broker.policy import BUILT_IN_ROLES, TENANT_TOKEN, RoleRule
from broker.watched_file import WatchedFile
from meshwire.topics import TopicError, TopicFilter

__all__ = ["RoleTable"]

_log = structlog.get_logger()


_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class _Role(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    password_only: bool = False

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        for template in (*self.subscribe, *self.publish):
            try:
                TopicFilter.parse(template.replace(TENANT_TOKEN, "x"))
            except TopicError as error:
                raise ValueError(f"{template!r}: {error}") from None
            if template.startswith("$share/"):
                raise ValueError(f"{template!r}: name the filter; a share group may always stand in front of it")
            if not self.password_only and template.split("/")[0] != TENANT_TOKEN:
                raise ValueError(f"{template!r} does not begin with {TENANT_TOKEN}/, so the role must be password_only")
        return self


class _Roles(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(default=1, ge=1, le=1)
    roles: dict[str, _Role] = Field(default_factory=dict)


class RoleTable:
    """Built-in roles and those of a file.

    Args:
        path: the JSON file; it need not exist.

    Raises:
        RolesFileError: the file exists and is not valid. A later change to an invalid file keeps the roles read before.
    """

    def __init__(self, path: Path) -> None:
        self._watched = WatchedFile(path)
        self._own: Mapping[str, _Role] = {}
        self.generation = 0
        """Counts the changes seen."""
        self.rules: Mapping[str, RoleRule] = BUILT_IN_ROLES
        if self._watched.has_changed():
            self._own = self._read()
        self._combine()

    @property
    def path(self) -> Path:
        return self._watched.path

    @property
    def own_names(self) -> list[str]:
        return sorted(self._own)

    def reload(self) -> bool:
        """Reads the file again when it changed; True when it gave another table now."""
        if not self._watched.has_changed():
            return False
        try:
            own = self._read()
        except RolesFileError as error:
            _log.warning("roles file is not valid, the former roles stay", error=str(error))
            return False
        self._own = own
        self._combine()
        _log.info("roles file read", path=str(self.path), roles=len(own))
        return True

    def add(
        self, name: str, *, subscribe: tuple[str, ...] = (), publish: tuple[str, ...] = (), password_only: bool = False
    ) -> None:
        """Adds or replaces a role. Raises RolesFileError for one that may not be."""
        role = {"subscribe": subscribe, "publish": publish, "password_only": password_only}
        plain = {known: item.model_dump() for known, item in self._own.items()}
        self._write(self._checked({"roles": {**plain, name: role}}))

    def remove(self, name: str) -> None:
        """Removes a role of the file, if it is there."""
        self._write({known: role for known, role in self._own.items() if known != name})

    def _combine(self) -> None:
        own = {name: RoleRule(role.subscribe, role.publish, role.password_only) for name, role in self._own.items()}
        self.rules = MappingProxyType({**own, **BUILT_IN_ROLES})
        self.generation += 1

    def _read(self) -> Mapping[str, _Role]:
        try:
            text = self.path.read_bytes()
        except OSError as error:
            raise RolesFileError("roles file can't be read", evidence=str(error), fix="check its permissions") from None
        return self._checked(text)

    def _checked(self, source: bytes | Mapping[str, object]) -> Mapping[str, _Role]:
        try:
            if isinstance(source, bytes):
                roles = _Roles.model_validate_json(source).roles
            else:
                roles = _Roles.model_validate(source).roles
        except ValidationError as error:
            evidence = f"{self.path}: {wrong_values(error)}"
            raise RolesFileError("a role is not valid", evidence=evidence, fix="mend it") from None
        for name in roles:
            self._check_name(name)
        return roles

    def _check_name(self, name: str) -> None:
        if name in BUILT_IN_ROLES:
            raise RolesFileError("a built-in role can't be changed", evidence=name, fix="choose another name")
        if _NAME.fullmatch(name) is None:
            raise RolesFileError(
                "a role's name is not valid", evidence=repr(name), fix="use 1 to 64 of A-Z a-z 0-9 _ . : -"
            )

    def _write(self, roles: Mapping[str, _Role]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        text = _Roles(roles=dict(roles)).model_dump_json(indent=2)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
        draft.replace(self.path)
        self._own = roles
        self._watched.has_changed()
        self._combine()
