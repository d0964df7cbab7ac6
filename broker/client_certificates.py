"""Who a client certificate stands for: a rule per listener, applied to what the TLS handshake has verified.

Decides identity only. The certificate's chain and times were checked by TLS; a certificate whose subject does not give
what the rule asks for stands for nobody.
"""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from meshwire.identity import IdentityError, LoginKind, Principal, TenantId

__all__ = ["CertificateRule", "principal_of_certificate"]

_LONG_NAMES: Final = {
    "CN": "commonName",
    "O": "organizationName",
    "OU": "organizationalUnitName",
    "UID": "userId",
    "SERIALNUMBER": "serialNumber",
    "EMAIL": "emailAddress",
    "DC": "domainComponent",
}


class CertificateRule(BaseModel):
    """Which parts of the subject say name and tenant, and what their holders may do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "CN"
    """Subject attribute: CN, O, OU, UID, SERIALNUMBER, EMAIL, DC, or a long name such as commonName."""
    tenant: str = "O"
    """Subject attribute that holds the tenant id; not used when `fixed_tenant` is set."""
    fixed_tenant: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Tenant of every certificate of this listener."""
    roles: tuple[str, ...] = ()
    tenant_roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Roles of single tenants; they take the place of `roles`."""
    name_roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Roles of single clients, named `TENANT/NAME`; they come on top."""


def principal_of_certificate(certificate: Mapping[str, object], rule: CertificateRule) -> Principal | str:
    """The Principal, or in words why there is none.

    Args:
        certificate: as `SSLSocket.getpeercert()` gives it.
        rule: of the listener.
    """
    subject = _subject(certificate)
    name = subject.get(_long(rule.name), "")
    tenant_text = rule.fixed_tenant or subject.get(_long(rule.tenant), "")
    if not name:
        return f"certificate subject has no {rule.name}"
    try:
        tenant = TenantId(tenant_text)
    except IdentityError as error:
        return f"certificate subject, {rule.tenant}: {error}"
    roles = rule.tenant_roles.get(tenant.value, rule.roles) + rule.name_roles.get(f"{tenant}/{name}", ())
    ends = certificate.get("notAfter")
    expires_at = _unix_time(ends) if isinstance(ends, str) else None
    return Principal(name, tenant, frozenset(roles), LoginKind.CERTIFICATE, expires_at)


@lru_cache(maxsize=4_096)
def _unix_time(text: str) -> float:
    """Remembered, because parsing it costs as much as all the rest of a login and clients come again."""
    return float(ssl.cert_time_to_seconds(text))


def _long(attribute: str) -> str:
    return _LONG_NAMES.get(attribute.upper(), attribute)


def _subject(certificate: Mapping[str, object]) -> dict[str, str]:
    """The first value of each attribute."""
    found: dict[str, str] = {}
    subject = certificate.get("subject", ())
    for part in subject if isinstance(subject, tuple) else ():
        for attribute, value in part:
            found.setdefault(str(attribute), str(value))
    return found
