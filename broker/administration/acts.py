"""Does a request, in the broker or in the command: what may be refused is refused in the same words.

The answer is the list that was asked for; empty for a change.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from broker.addresses.address import Address
from broker.addresses.book import AddressBook, invalid
from broker.administration.requests import (
    AddressChange,
    AddressList,
    AddressPut,
    AddressRemove,
    AddressRequest,
    AddressShow,
    RoleList,
    RolePut,
    RoleRemove,
    RoleRequest,
    UserChange,
    UserList,
    UserPut,
    UserRemove,
    UserRequest,
)
from broker.credentials import UsersFile
from broker.errors import AddressError, BrokerError, RolesFileError, UsersFileError
from broker.policy import BUILT_IN_ROLES
from broker.role_table import RoleTable
from broker.settings import BrokerSettings
from meshwire.identity import TenantId

__all__ = ["Rows", "address_of", "file_failures_told", "on_addresses", "on_roles", "on_users"]

Rows = list[dict[str, Any]]


def on_users(users: UsersFile, request: UserRequest) -> Rows:
    """Raises UsersFileError for a user that is not there."""
    match request:
        case UserList():
            return [
                {"name": user.name, "tenant": user.tenant.value, "roles": sorted(user.roles)}
                for user in users.listing()
            ]
        case UserPut():
            users.put(request.name, request.password_hash, tenant=TenantId(request.tenant), roles=request.roles)
            return []
    if request.name not in users.names():
        raise UsersFileError("no such user", evidence=request.name, fix="see `meshwire user list`", code="MW-BRK-004")
    match request:
        case UserChange():
            users.set_roles(request.name, request.roles)
        case UserRemove():
            users.remove(request.name)
    return []


def on_roles(table: RoleTable, request: RoleRequest) -> Rows:
    """Raises RolesFileError for a role that may not be, or is not there."""
    match request:
        case RoleList():
            return [
                {
                    "name": str(name),
                    "subscribe": list(rule.subscribe),
                    "publish": list(rule.publish),
                    "password_only": rule.password_only,
                    "built_in": name in BUILT_IN_ROLES,
                }
                for name, rule in sorted(table.rules.items())
            ]
        case RolePut():
            table.add(
                request.name,
                subscribe=request.subscribe,
                publish=request.publish,
                password_only=request.password_only,
            )
        case RoleRemove():
            if request.name not in table.own_names:
                raise RolesFileError(
                    "no such role", evidence=request.name, fix="see `meshwire role list`", code="MW-BRK-014"
                )
            table.remove(request.name)
    return []


def on_addresses(book: AddressBook, settings: BrokerSettings, request: AddressRequest) -> Rows:
    """Raises AddressError for an address that is not valid, does not fit the others or the plan, or is not there."""
    match request:
        case AddressList():
            return [_row(item) for item in book if request.tenant in (None, item.tenant)]
        case AddressPut():
            _check_plan(book, settings, request.definition)
            book.put(request.definition)
            return []
    known = book.of(request.tenant, request.name)
    if known is None:
        raise AddressError(
            "no such address",
            evidence=f"{request.name} of tenant {request.tenant}",
            fix="see `meshwire address list`",
            code="MW-BRK-021",
        )
    match request:
        case AddressShow():
            return [_row(known)]
        case AddressChange():
            book.put(address_of(known.model_dump() | request.fields))
        case AddressRemove():
            book.remove(known.tenant, known.name)
    return []


def address_of(fields: dict[str, Any]) -> Address:
    """An address with these fields. Raises AddressError."""
    try:
        return Address.model_validate(fields)
    except ValidationError as error:
        raise invalid(error, str(fields["name"])) from None


@contextlib.contextmanager
def file_failures_told() -> Iterator[None]:
    """What the system refuses becomes a BrokerError."""
    try:
        yield
    except OSError as error:
        raise BrokerError(
            "the file can't be written", evidence=str(error), fix="look at its folder's permissions and the free space"
        ) from None


def _row(item: Address) -> dict[str, Any]:
    return item.model_dump(mode="json", exclude_none=True) | {"filter": item.topic_filter}


def _check_plan(book: AddressBook, settings: BrokerSettings, address: Address) -> None:
    tenant = address.tenant
    most = settings.plan.get(tenant, settings.default_plan).max_addresses
    if most is not None and book.of(tenant, address.name) is None and len(book.in_tenant(tenant)) >= most:
        raise AddressError(
            "the tenant's plan allows no more addresses",
            evidence=f"{tenant}: {most}",
            fix="remove one, or give the tenant another plan",
            code="MW-BRK-022",
        )
