"""`/api/console-users`: the people who sign in at the console; for administrators.

A password is shown once, when it is made here, and never when somebody has chosen it. A new one, and removal, end every
session of the account.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from gateway.access import ADMIN_SCOPE
from gateway.api.callers import API_SCOPE, Admin, tenant_id, who
from gateway.api.pages import Page
from gateway.console_accounts import KIND, is_administrator, refuse_name, refuse_password
from gateway.hashing import new_secret
from gateway.registry import Account, Registry
from meshwire.identity import INTERNAL_TENANT

__all__ = ["router"]

Password = Annotated[str | None, Field(max_length=4096, description="default: one is made, and shown this once")]


class NewConsoleUser(BaseModel):
    """Somebody who is to sign in at the console."""

    name: str
    tenant: str | None = None
    """Whose data it sees; null: an administrator, who sees and changes everything."""
    password: Password = None


class NewPassword(BaseModel):
    """A password in the place of the former one."""

    password: Password = None


class ConsoleUserAnswer(BaseModel):
    """A console user, and its password when it was made here; it is shown this once."""

    name: str
    tenant: str | None
    password: str | None


class ConsoleUserRecord(BaseModel):
    """A console user."""

    name: str
    tenant: str | None
    """Null: an administrator."""
    created: float


class ConsoleUserList(BaseModel):
    """Answer of `GET /api/console-users`."""

    users: list[ConsoleUserRecord]


class _ConsoleUsers:
    """The operations; each method is one route."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def list(self, admin: Admin, page: Page, tenant: str | None = None) -> ConsoleUserList:
        """All who may sign in at the console, or a tenant's, in the order of their names."""
        of = None if tenant is None else tenant_id(tenant)
        users = [_shown(account) for account in self._registry.account_records(KIND, of)]
        users = [user for user in users if of is None or user.tenant == of.value]
        return ConsoleUserList(users=page.of(users, lambda user: user.name))

    def add(self, body: NewConsoleUser, admin: Admin) -> ConsoleUserAnswer:
        """Let somebody sign in: a tenant's user, or an administrator."""
        tenant = INTERNAL_TENANT if body.tenant is None else tenant_id(body.tenant)
        if (reason := refuse_name(body.name)) is not None:
            raise HTTPException(422, reason)
        if self._registry.account(body.name, KIND) is not None:
            raise HTTPException(409, f"console user {body.name} exists")
        scope = ADMIN_SCOPE if body.tenant is None else API_SCOPE
        password = _chosen(body.password)
        self._registry.add_account(body.name, password, tenant, (), kind=KIND, scope=scope, by=who(admin))
        return _answer(body.name, body.tenant, body.password, password)

    def show(self, name: str, admin: Admin) -> ConsoleUserRecord:
        """One console user."""
        return _shown(self._known(name))

    def renew(self, name: str, body: NewPassword, admin: Admin) -> ConsoleUserAnswer:
        """A new password; the former one no longer holds, and every session of the user ends."""
        user, password = _shown(self._known(name)), _chosen(body.password)
        self._registry.set_account(name, KIND, secret=password, by=who(admin))
        return _answer(name, user.tenant, body.password, password)

    def remove(self, name: str, admin: Admin) -> None:
        """Forget a console user; every session of it ends. Without any the console is set up anew."""
        self._known(name)
        self._registry.remove_account(name, KIND, by=who(admin))

    def _known(self, name: str) -> Account:
        account = self._registry.account(name, KIND)
        if account is None:
            raise HTTPException(404, "no such console user")
        return account


def _chosen(password: str | None) -> str:
    if password is None:
        return new_secret()
    if (reason := refuse_password(password)) is not None:
        raise HTTPException(422, reason)
    return password


def _answer(name: str, tenant: str | None, given: str | None, password: str) -> ConsoleUserAnswer:
    return ConsoleUserAnswer(name=name, tenant=tenant, password=password if given is None else None)


def _shown(account: Account) -> ConsoleUserRecord:
    tenant = None if is_administrator(account) else account.tenant.value
    return ConsoleUserRecord(name=account.name, tenant=tenant, created=account.created_s)


def router(registry: Registry) -> APIRouter:
    """The routes."""
    users = _ConsoleUsers(registry)
    routes = APIRouter(tags=["console users"], prefix="/api/console-users")
    routes.add_api_route("", users.list, methods=["GET"], name="list_console_users")
    routes.add_api_route("", users.add, methods=["POST"], status_code=201, name="add_console_user")
    routes.add_api_route("/{name}", users.show, methods=["GET"], name="show_console_user")
    routes.add_api_route("/{name}", users.remove, methods=["DELETE"], status_code=204, name="remove_console_user")
    routes.add_api_route("/{name}/password", users.renew, methods=["POST"], name="renew_console_password")
    return routes
