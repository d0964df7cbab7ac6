"""Which accounts this instance serves, and how they may connect: a document that the messaging service publishes.

Deny by default: with an instance name, an account that is not in the document, or assigned elsewhere or nowhere, is
refused; so is everybody while there is no document. The platform's own password users are always served, for they
carry the service. Without an instance name everybody is served.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from broker.settings import InstanceSettings
from broker.watched_file import WatchedFile
from meshwire.identity import INTERNAL_TENANT, LoginKind, Principal
from meshwire.site import Site

__all__ = ["Accounts", "Protection", "accounts_of"]

_log = structlog.get_logger()


class Protection(StrEnum):
    """How a connection is protected."""

    PLAIN = "plain"
    TLS = "tls"
    MUTUAL = "mutual"
    """TLS, and the client has shown a certificate."""


class _Account(BaseModel):
    model_config = ConfigDict(frozen=True)

    instance: str | None
    options: frozenset[str]


class _Document(BaseModel):
    schema_version: int
    accounts: dict[str, _Account]


def accounts_of(settings: InstanceSettings, site: Site) -> "Accounts":
    """The accounts of the instance that these settings name."""
    return Accounts(settings.accounts_file or site.path("messaging", "accounts.json"), settings.name)


class Accounts:
    """See the module.

    Args:
        path: the document.
        instance: our name; empty: everybody is served.
    """

    def __init__(self, path: Path, instance: str) -> None:
        self._instance = instance
        self._watched = WatchedFile(path)
        self._accounts: Mapping[str, _Account] | None = None
        self.reload()

    def reload(self) -> bool:
        """Reads the document again when it changed; says whether it did. One that is not valid leaves the former."""
        if not self._instance or not self._watched.has_changed():
            return False
        try:
            document = _Document.model_validate_json(self._watched.path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = f"{error.error_count()} wrong values" if isinstance(error, ValidationError) else str(error)
            _log.warning("accounts document is not valid, the former one stays", reason=reason)
            return False
        self._accounts = document.accounts
        _log.info("accounts document read", accounts=len(document.accounts))
        return True

    def refusal(self, principal: Principal, protection: Protection | None) -> str | None:
        """Why a party is not served on such a connection, in words for it; None: it is.

        Args:
            protection: of the connection; None: it is not known, and not judged.
        """
        if not self._instance or (principal.tenant == INTERNAL_TENANT and principal.kind is LoginKind.PASSWORD):
            return None
        if self._accounts is None:
            return "the messaging service has not told this instance which accounts it serves"
        account = self._accounts.get(principal.tenant.value)
        if account is None or account.instance is None:
            return f"account {principal.tenant} is not assigned to a messaging service instance"
        if account.instance != self._instance:
            return f"account {principal.tenant} is assigned to instance {account.instance}, this is {self._instance}"
        if protection is not None and protection.value not in account.options:
            allowed = ", ".join(kind.value for kind in Protection if kind.value in account.options) or "none"
            return f"account {principal.tenant} may not connect with protection {protection}; allowed: {allowed}"
        return None
