"""What `meshwire user`, `role` and `address` ask for; the same records go to a running broker and to its files."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from broker.addresses.address import Address
from meshwire.identity import IdentityError, TenantId

__all__ = [
    "AddressChange",
    "AddressList",
    "AddressPut",
    "AddressRemove",
    "AddressRequest",
    "AddressShow",
    "Envelope",
    "Request",
    "RoleList",
    "RolePut",
    "RoleRemove",
    "RoleRequest",
    "UserChange",
    "UserList",
    "UserPut",
    "UserRemove",
    "UserRequest",
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UserPut(_Request):
    """Add or replace a user."""

    verb: Literal["user.put"] = "user.put"
    name: str
    password_hash: str = Field(pattern=r"^\$argon2id\$", repr=False)
    """Made by whoever asks: the password itself goes nowhere."""
    tenant: str
    roles: tuple[str, ...]

    @field_validator("tenant")
    @classmethod
    def _is_tenant(cls, value: str) -> str:
        try:
            return TenantId(value).value
        except IdentityError as error:
            raise ValueError(str(error)) from None


class UserChange(_Request):
    """Give a user other roles."""

    verb: Literal["user.set"] = "user.set"
    name: str
    roles: tuple[str, ...]


class UserList(_Request):
    verb: Literal["user.list"] = "user.list"


class UserRemove(_Request):
    verb: Literal["user.remove"] = "user.remove"
    name: str


class RolePut(_Request):
    """Add or replace a role."""

    verb: Literal["role.put"] = "role.put"
    name: str
    subscribe: tuple[str, ...]
    publish: tuple[str, ...]
    password_only: bool


class RoleList(_Request):
    verb: Literal["role.list"] = "role.list"


class RoleRemove(_Request):
    verb: Literal["role.remove"] = "role.remove"
    name: str


class AddressPut(_Request):
    """Add or replace an address."""

    verb: Literal["address.put"] = "address.put"
    definition: Address


class AddressChange(_Request):
    """Change fields of an address."""

    verb: Literal["address.set"] = "address.set"
    tenant: str
    name: str
    fields: dict[str, str | int | None]


class AddressList(_Request):
    verb: Literal["address.list"] = "address.list"
    tenant: str | None = None
    """None: of all tenants."""


class AddressShow(_Request):
    verb: Literal["address.show"] = "address.show"
    tenant: str
    name: str


class AddressRemove(_Request):
    verb: Literal["address.remove"] = "address.remove"
    tenant: str
    name: str


UserRequest = UserPut | UserChange | UserList | UserRemove
RoleRequest = RolePut | RoleList | RoleRemove
AddressRequest = AddressPut | AddressChange | AddressList | AddressShow | AddressRemove
Request = Annotated[UserRequest | RoleRequest | AddressRequest, Field(discriminator="verb")]


class Envelope(_Request):
    """A request, and the file that it is about: a broker with other files has nothing to do with it."""

    file: Path
    request: Request
