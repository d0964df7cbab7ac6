"""Who connects: password users of a JSON file with argon2id hashes, and tokens of a JWKS file.

Decides only identity. A token in the password field is recognised by its form and the user name beside it is ignored; a
password is checked in a thread, because argon2id takes tens of milliseconds on purpose; a password found right is
remembered for a minute (as a keyed digest) so that a client that reconnects does not pay again. Both files are read
again when they change.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.errors import UsersFileError
from broker.issuers import MIN_INTERVAL_S, Issuer, issuer_of
from broker.settings import BrokerSettings
from broker.watched_file import WatchedFile
from meshwire.identity import INTERNAL_TENANT, LoginKind, Principal, Role, TenantId
from meshwire.site import Site
from meshwire.tokens import TokenError, VerifyingKeys

__all__ = [
    "GATEWAY_SECRET",
    "GATEWAY_USER",
    "Authenticator",
    "Login",
    "Refusal",
    "RefusedLogin",
    "UsersFile",
    "is_token",
]

GATEWAY_USER: Final = "gateway"
"""The one user that a new users file has."""
GATEWAY_SECRET: Final = "gateway-mqtt"
"""The secret of the site that is its password."""
REMEMBER_S: Final = 60.0
REMEMBER_MAX: Final = 4_096
MAX_PASSWORD_OCTETS: Final = 4_096
"""argon2id reads the whole password; longer ones are refused unread."""

_log = structlog.get_logger()


class Refusal(StrEnum):
    """Why a login was refused; the client learns only the CONNACK code."""

    NO_CREDENTIALS = "no-credentials"
    UNKNOWN_USER = "unknown-user"
    WRONG_PASSWORD = "wrong-password"
    INVALID_TOKEN = "invalid-token"
    TOO_BUSY = "too-busy"
    KIND_NOT_ALLOWED = "login-kind-not-allowed"
    UNFIT_CERTIFICATE = "unfit-certificate"


@dataclass(frozen=True, slots=True)
class RefusedLogin:
    """A refusal, with words for the log (never with the secret)."""

    cause: Refusal
    detail: str = ""


Login = Principal | RefusedLogin


class _User(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    password: str = Field(pattern=r"^\$argon2id\$")
    tenant: str = INTERNAL_TENANT.value
    roles: tuple[str, ...] = ()


class _Users(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(default=1, ge=1, le=1)
    users: dict[str, _User] = Field(default_factory=dict)


class UsersFile:
    """Password users on disk.

    Args:
        path: the JSON file; it need not exist.
        hasher: argon2id with its costs.

    Raises:
        UsersFileError: the file exists and is not valid. A later change to an invalid file keeps the users read before.
    """

    def __init__(self, path: Path, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._watched = WatchedFile(path)
        self._users: Mapping[str, _User] = {}
        self._decoy: str | None = None
        self.generation = 0
        """Counts the changes seen."""
        if self._watched.has_changed():
            self._users = self._read()

    @property
    def path(self) -> Path:
        return self._watched.path

    def names(self) -> list[str]:
        return sorted(self._users)

    def reload(self) -> None:
        """Reads the file again when it changed."""
        if not self._watched.has_changed():
            return
        try:
            self._users = self._read()
            self.generation += 1
            _log.info("users file read", path=str(self.path), users=len(self._users))
        except UsersFileError as error:
            _log.warning("users file is not valid, the former users stay", error=str(error))

    def add(self, name: str, password: str, *, tenant: TenantId = INTERNAL_TENANT, roles: tuple[str, ...] = ()) -> None:
        """Adds or replaces a user; the file is written with mode 0600 and replaced atomically."""
        self.put(name, self._hasher.hash(password), tenant=tenant, roles=roles)

    def put(self, name: str, password_hash: str, *, tenant: TenantId, roles: tuple[str, ...]) -> None:
        """The same with a hash of argon2id."""
        self._write({**self._users, name: _User(password=password_hash, tenant=tenant.value, roles=roles)})

    def set_roles(self, name: str, roles: tuple[str, ...]) -> None:
        """Gives a known user other roles; the password stays."""
        self._write({**self._users, name: self._users[name].model_copy(update={"roles": roles})})

    def remove(self, name: str) -> None:
        """Removes a user, if there is one."""
        self._write({known: user for known, user in self._users.items() if known != name})

    def listing(self) -> list[Principal]:
        """Every user as the Principal a login gives."""
        return [self._principal(name, user) for name, user in sorted(self._users.items())]

    def principal(self, name: str) -> Principal | None:
        """A user as the Principal a login gives; None: there is no such user."""
        user = self._users.get(name)
        return None if user is None else self._principal(name, user)

    def secrets(self) -> Mapping[str, str]:
        """The hash of each user's password: another one means another password."""
        return {name: user.password for name, user in self._users.items()}

    def fingerprint(self, name: str) -> str:
        """Differs whenever anything about the user does."""
        user = self._users.get(name)
        return user.model_dump_json() if user else ""

    def verify(self, name: str, password: bytes) -> Login:
        """Checks a password; takes tens of milliseconds, also for a user that does not exist."""
        user = self._users.get(name)
        if len(password) > MAX_PASSWORD_OCTETS:
            return RefusedLogin(Refusal.WRONG_PASSWORD, "password too long")
        try:
            self._hasher.verify(user.password if user else self._decoy_hash(), password)
        except (Argon2Error, InvalidHashError):
            return RefusedLogin(Refusal.WRONG_PASSWORD if user else Refusal.UNKNOWN_USER)
        if user is None:
            return RefusedLogin(Refusal.UNKNOWN_USER)
        return self._principal(name, user)

    @staticmethod
    def _principal(name: str, user: _User) -> Principal:
        return Principal(name, TenantId(user.tenant), frozenset(user.roles), LoginKind.PASSWORD)

    def _decoy_hash(self) -> str:
        """So that an unknown name costs as much time as a wrong password."""
        if self._decoy is None:
            self._decoy = self._hasher.hash(secrets.token_bytes(16))
        return self._decoy

    def _read(self) -> Mapping[str, _User]:
        try:
            users = _Users.model_validate_json(self.path.read_bytes()).users
            for user in users.values():
                TenantId(user.tenant)
        except (OSError, ValidationError, ValueError) as error:
            reason = f"{len(error.errors())} wrong values" if isinstance(error, ValidationError) else str(error)
            raise UsersFileError("users file is not valid", evidence=f"{self.path}: {reason}", fix="mend it") from None
        return users

    def _write(self, users: Mapping[str, _User]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        text = _Users(users=dict(users)).model_dump_json(indent=2)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
        draft.replace(self.path)
        self._users = users
        self.generation += 1
        self._watched.has_changed()


class _KeyFile:
    """The JWKS file; none yet means that no token holds."""

    def __init__(self, path: Path) -> None:
        self._watched = WatchedFile(path)
        self._keys = VerifyingKeys({})
        self.generation = 0
        """Rises whenever the file was read."""

    def keys(self) -> VerifyingKeys:
        if self._watched.has_changed():
            try:
                self._keys = VerifyingKeys.load(self._watched.path)
                self.generation += 1
            except (OSError, ValueError, TypeError, AttributeError) as error:
                _log.warning(
                    "key set is not valid, the former keys stay", path=str(self._watched.path), error=str(error)
                )
        return self._keys


class Authenticator:
    """Answers a CONNECT's credentials with a Principal or a refusal.

    Args:
        users: password users.
        jwks_file: key set that verifies tokens.
        settings: default roles, bound of pending checks.
        wall_clock: Unix time in seconds.
    """

    def __init__(
        self,
        users: UsersFile,
        jwks_file: Path,
        settings: BrokerSettings,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._users = users
        self._keys = _KeyFile(jwks_file)
        self._settings = settings
        self._now = wall_clock
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")
        self._fetch_pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="key-set")
        self._issuers = {item.issuer: Issuer(item, self._fetch_pool) for item in settings.issuer}
        self._pending = 0
        self._memo_key = secrets.token_bytes(32)
        self._remembered: dict[bytes, tuple[Principal, float]] = {}

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._fetch_pool.shutdown(wait=False, cancel_futures=True)

    async def keep_keys_fresh(self) -> None:
        """Fetches the key sets in use anew when they are old, so that a key taken away ends connections, too."""
        while True:
            await asyncio.sleep(MIN_INTERVAL_S)
            for issuer in self._issuers.values():
                if issuer.is_old:
                    await issuer.refresh()

    def key_generation(self) -> int:
        """Another number after each change of a key set; looks at the site's own file."""
        self._keys.keys()
        return self._keys.generation + sum(issuer.generation for issuer in self._issuers.values())

    def key_holds(self, principal: Principal) -> bool:
        """Whether the key that signed this principal's token is still trusted."""
        if principal.key_id is None:
            return True
        if principal.issuer is None:
            return principal.key_id in self._keys.keys().keys
        issuer = self._issuers.get(principal.issuer)
        return issuer is not None and issuer.has_key(principal.key_id)

    def at_once(
        self,
        username: str | None,
        password: bytes | None,
        allowed: Collection[LoginKind] = (LoginKind.PASSWORD, LoginKind.TOKEN),
        certified: Login | None = None,
    ) -> Login | None:
        """The answer where it takes no waiting: no password, a token, or a password found right a moment ago; else
        None.

        Args:
            username, password: of the CONNECT.
            allowed: ways to log in on this listener.
            certified: whom the client's certificate stands for, where it showed one.
        """
        if password is None:
            return certified or RefusedLogin(Refusal.NO_CREDENTIALS)
        kind = LoginKind.TOKEN if is_token(password) else LoginKind.PASSWORD
        if kind not in allowed:
            return certified or RefusedLogin(Refusal.KIND_NOT_ALLOWED, kind.value)
        if kind is LoginKind.TOKEN:
            return self._token_at_once(password.decode())
        if not username:
            return RefusedLogin(Refusal.NO_CREDENTIALS, "password without user name")
        self._users.reload()
        remembered = self._remembered.get(self._digest(username, password))
        return remembered[0] if remembered is not None and remembered[1] > self._now() else None

    async def verify(self, username: str, password: bytes) -> Login:
        """Checks a password in a thread, or a token whose issuer's key set must be fetched."""
        if is_token(password):
            return await self._token_after_refresh(password.decode())
        if self._pending >= self._settings.limits.max_pending_logins:
            return RefusedLogin(Refusal.TOO_BUSY)
        self._pending += 1
        try:
            digest = self._digest(username, password)
            loop = asyncio.get_running_loop()
            login = await loop.run_in_executor(self._pool, self._users.verify, username, password)
        finally:
            self._pending -= 1
        if isinstance(login, Principal):
            if len(self._remembered) >= REMEMBER_MAX:
                self._remembered.clear()
            self._remembered[digest] = (login, self._now() + REMEMBER_S)
        return login

    def _digest(self, username: str, password: bytes) -> bytes:
        """Names a checked password without holding it; the user's record is part of it, so a changed user is asked
        again.
        """
        text = f"{username}\0{self._users.fingerprint(username)}\0".encode()
        return hmac.digest(self._memo_key, text + password, hashlib.sha256)

    def _token_at_once(self, token: str) -> Login | None:
        issuer, kid = self._issuer_of(token)
        return None if issuer is not None and issuer.wants_refresh(kid) else self._token(token, issuer)

    async def _token_after_refresh(self, token: str) -> Login:
        issuer, kid = self._issuer_of(token)
        if issuer is not None and issuer.wants_refresh(kid):
            await issuer.refresh()
        return self._token(token, issuer)

    def _issuer_of(self, token: str) -> tuple[Issuer | None, object]:
        if not self._issuers:
            return None, None
        name, kid = issuer_of(token)
        return self._issuers.get(name) if isinstance(name, str) else None, kid

    def _token(self, token: str, issuer: Issuer | None) -> Login:
        try:
            if issuer is not None:
                return self._with_default_roles(issuer.verify(token, now=self._now()))
            principal = self._keys.keys().verify(token, now=self._now())
        except TokenError as error:
            return RefusedLogin(Refusal.INVALID_TOKEN, str(error))
        return principal if _names_roles(token) else self._with_default_roles(principal)

    def _with_default_roles(self, principal: Principal) -> Principal:
        if principal.roles:
            return principal
        settings = self._settings
        roles = settings.tenant_default_token_roles.get(principal.tenant.value, settings.default_token_roles)
        return replace(principal, roles=frozenset(roles))


def is_token(password: bytes) -> bool:
    """Whether a password has the form of a signed JWT (RFC 7519 section 7.2): three parts, the first a JSON object with
    `alg`.
    """
    parts = password.split(b".")
    return len(parts) == 3 and "alg" in _part(parts[0])


def _names_roles(token: str) -> bool:
    """Whether the token has an `mqttScope` claim at all: an empty one means no roles, not the default roles."""
    return "mqttScope" in _part(token.encode().split(b".")[1])


def _part(part: bytes) -> Mapping[str, object]:
    try:
        value: object = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def open_users(path: Path, site: Site, hasher: PasswordHasher | None = None) -> UsersFile:
    """The users file. Whoever comes first, broker or administrator, makes it with the gateway's own user and nobody
    else: there are no default passwords, and the gateway gets in whatever was done first.
    """
    users = UsersFile(path, hasher)
    if not path.exists():
        users.add(GATEWAY_USER, site.secret(GATEWAY_SECRET), roles=(Role.GATEWAY, Role.OPERATOR))
        _log.info("users file made", path=str(path), users=[GATEWAY_USER])
    return users
