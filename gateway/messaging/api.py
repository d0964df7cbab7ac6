"""`/api/messaging/instances`, `/api/accounts`, `/api/endpoints`: the messaging service over HTTP, for administrators.

What is in use is changed or deleted only with `confirm=true`; without it the answer is 409 with the list of uses.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.callers import Admin, tenant_id, who
from gateway.api.pages import Page
from gateway.api.tenants import Title
from gateway.messaging.endpoint_check import check_endpoint
from gateway.messaging.errors import MessagingError, UnknownError
from gateway.messaging.publishing import dns_records, refuse_address
from gateway.messaging.rules import Account, Endpoint, Instance, Option, Scheme
from gateway.messaging.service import ROOT, InstanceState, MessagingService, Picture

__all__ = ["router"]

Name = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Options = Annotated[list[Option], Field(max_length=3)]
Domain = Annotated[str, Field(max_length=253)]


class NodeAnswer(BaseModel):
    """A node of an instance that runs."""

    node: str
    engine: str
    version: str
    started: float
    listeners: list[dict[str, Any]]
    clients: int


class InstanceAnswer(BaseModel):
    """An instance."""

    name: str
    engine: str
    title: str
    state: str
    """running, stopped, or unknown: it does not announce itself."""
    announced: bool
    tls: bool
    mutual: bool
    options: list[Option]
    accounts: list[str]
    """Accounts that are assigned to it explicitly."""
    nodes: list[NodeAnswer]


class InstanceList(BaseModel):
    """Answer of `GET /api/messaging/instances`."""

    instances: list[InstanceAnswer]


class NewInstance(BaseModel):
    """An instance that does not announce itself, such as Mosquitto or RabbitMQ."""

    name: Name
    engine: Name
    title: Title = ""
    tls: bool = False
    mutual: bool = False
    options: Options = [Option.PLAIN]


class InstanceChange(BaseModel):
    """What is to change; what is left out stays."""

    title: Title | None = None
    tls: bool | None = None
    mutual: bool | None = None
    options: Options | None = None


class AccountAnswer(BaseModel):
    """An account."""

    id: str
    parent: str | None
    level: int
    title: str
    instance: str | None
    """Where it is served; null: nowhere."""
    inherits: bool
    """It has the assignment of the account above, and can't change it."""
    options: list[Option]
    """Connections that it may make."""
    ownOptions: list[Option] | None
    """Its own connection settings; null: those above."""


class AccountList(BaseModel):
    """The tree, each account after its parent."""

    accounts: list[AccountAnswer]


class NewAccount(BaseModel):
    """A new account; `parent` is the root account when it is left out."""

    id: str
    parent: str = ROOT
    title: Title = ""


class Assignment(BaseModel):
    """The instance that an account is assigned to."""

    instance: Name


class ConnectionSettings(BaseModel):
    """An account's own connection settings; null: those above, or all that the instance offers."""

    options: Options | None


class EndpointAnswer(BaseModel):
    """An endpoint."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    account: str
    schema_: Annotated[Scheme, Field(alias="schema")]
    domain: str
    port: int
    secure: bool
    url: str


class EndpointList(BaseModel):
    """Endpoints."""

    endpoints: list[EndpointAnswer]


class NewEndpoint(BaseModel):
    """A new endpoint."""

    schema_: Annotated[Scheme, Field(alias="schema")]
    domain: Domain
    port: Annotated[int, Field(ge=1, le=65_535)]
    secure: bool = False


class EndpointChange(BaseModel):
    """What is to change; what is left out stays."""

    schema_: Annotated[Scheme | None, Field(alias="schema")] = None
    domain: Domain | None = None
    port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    secure: bool | None = None


class Publishing(BaseModel):
    """How to make an endpoint reachable."""

    records: list[str]
    """DNS records as text of a zone file."""
    uses: list[str]


class CheckStep(BaseModel):
    """One step of a check."""

    step: str
    ok: bool
    seen: str
    fix: str


class CheckAnswer(BaseModel):
    """All steps up to the first that failed."""

    ok: bool
    steps: list[CheckStep]


class _Instances:
    """The operations on instances; each method is one route."""

    def __init__(self, service: MessagingService) -> None:
        self._service = service

    def list(self, admin: Admin, page: Page) -> InstanceList:
        """All instances; one that has just been started is among them by itself."""
        states, picture = page.of(self._service.instance_states(), _name), self._service.picture()
        return InstanceList(instances=[_instance(state, picture) for state in states])

    def show(self, name: str, admin: Admin) -> InstanceAnswer:
        """One instance."""
        for state in self._service.instance_states():
            if state.instance.name == name:
                return _instance(state, self._service.picture())
        raise UnknownError("there is no such instance", evidence=name, fix="see `meshwire instance list`")

    def add(self, body: NewInstance, admin: Admin) -> InstanceAnswer:
        """Make an instance known that does not announce itself."""
        instance = Instance(body.name, body.engine, body.title, body.tls, body.mutual, frozenset(body.options))
        self._service.add_instance(instance, by=who(admin))
        return self.show(body.name, admin)

    def change(self, name: str, body: InstanceChange, admin: Admin) -> InstanceAnswer:
        """Change what it offers; secure options need TLS configured on it."""
        options = None if body.options is None else frozenset(body.options)
        self._service.set_instance(
            name, title=body.title, options=options, has_tls=body.tls, has_mutual=body.mutual, by=who(admin)
        )
        return self.show(name, admin)

    def remove(self, name: str, admin: Admin) -> None:
        """Forget an instance to which no account is assigned."""
        self._service.remove_instance(name, by=who(admin))


class _Accounts:
    """The operations on accounts; each method is one route."""

    def __init__(self, service: MessagingService) -> None:
        self._service = service

    def list(self, admin: Admin, page: Page) -> AccountList:
        """The tree of accounts, each after its parent."""
        picture = self._service.picture()
        tree = picture.tree
        accounts = [tree.accounts[tree.root], *tree.below(tree.root)]
        shown = page.of(accounts, lambda account: account.id)
        return AccountList(accounts=[_account(account, picture) for account in shown])

    def add(self, body: NewAccount, admin: Admin) -> AccountAnswer:
        """Make an account; on level one it is refused by every instance until it is assigned."""
        made = self._service.add_account(tenant_id(body.id), parent=body.parent, title=body.title, by=who(admin))
        return _account(made, self._service.picture())

    def show(self, id: str, admin: Admin) -> AccountAnswer:
        """One account."""
        picture = self._service.picture()
        return _account(picture.account(id), picture)

    def assign(self, id: str, body: Assignment, admin: Admin) -> AccountAnswer:
        """Assign an account of level 0 or 1 to an instance, also from another one."""
        self._service.assign(id, body.instance, by=who(admin))
        return self.show(id, admin)

    def unassign(self, id: str, admin: Admin) -> AccountAnswer:
        """Take the assignment away: connections are cut, and every instance refuses the account."""
        self._service.unassign(id, by=who(admin))
        return self.show(id, admin)

    def settings(self, id: str, body: ConnectionSettings, admin: Admin) -> AccountAnswer:
        """Set how the account may connect: a subset of what its instance offers."""
        options = None if body.options is None else frozenset(body.options)
        self._service.set_options(id, options, by=who(admin))
        return self.show(id, admin)

    def endpoints(self, id: str, admin: Admin, page: Page) -> EndpointList:
        """What the account's clients use: its own endpoints, else those of the nearest account above."""
        picture = self._service.picture()
        picture.account(id)
        endpoints = page.of(picture.endpoints_of(id), lambda endpoint: endpoint.id)
        return EndpointList(endpoints=[_endpoint(endpoint) for endpoint in endpoints])

    def add_endpoint(self, id: str, body: NewEndpoint, admin: Admin) -> EndpointAnswer:
        """Add an endpoint to the account."""
        made = self._service.add_endpoint(id, body.schema_, body.domain, body.port, secure=body.secure, by=who(admin))
        return _endpoint(made)


class _Endpoints:
    """The operations on endpoints; each method is one route."""

    def __init__(self, service: MessagingService) -> None:
        self._service = service

    def list(self, admin: Admin, page: Page) -> EndpointList:
        """All endpoints."""
        endpoints = page.of(self._service.picture().endpoints, lambda endpoint: endpoint.id)
        return EndpointList(endpoints=[_endpoint(endpoint) for endpoint in endpoints])

    def show(self, id: str, admin: Admin) -> EndpointAnswer:
        """One endpoint."""
        return _endpoint(self._service.picture().endpoint(id))

    def change(self, id: str, body: EndpointChange, admin: Admin, confirm: bool = False) -> EndpointAnswer:
        """Change an endpoint; when it is in use, only with `confirm=true`."""
        changed = self._service.set_endpoint(
            id,
            scheme=body.schema_,
            domain=body.domain,
            port=body.port,
            secure=body.secure,
            confirmed=confirm,
            by=who(admin),
        )
        return _endpoint(changed)

    def remove(self, id: str, admin: Admin, confirm: bool = False) -> None:
        """Delete an endpoint; when it is in use, only with `confirm=true`."""
        self._service.remove_endpoint(id, confirmed=confirm, by=who(admin))

    def publishing(self, id: str, admin: Admin, address: str | None = None) -> Publishing:
        """How to publish the endpoint: DNS records (for `address`, the broker's), and who uses it."""
        endpoint = self._service.picture().endpoint(id)
        if address is not None and (reason := refuse_address(address)) is not None:
            raise MessagingError("there are no such records", evidence=reason, fix="give the broker's address")
        return Publishing(records=dns_records(endpoint, address), uses=self._service.uses(id))

    async def check(self, id: str, admin: Admin) -> CheckAnswer:
        """Try the endpoint from this machine: name, connection, certificate, MQTT."""
        steps = await check_endpoint(self._service.picture().endpoint(id))
        shown = [CheckStep(step=step.name, ok=step.ok, seen=step.seen, fix=step.fix) for step in steps]
        return CheckAnswer(ok=all(step.ok for step in steps), steps=shown)


def _instance(state: InstanceState, picture: Picture) -> InstanceAnswer:
    instance = state.instance
    return InstanceAnswer(
        name=instance.name,
        engine=instance.engine,
        title=instance.title,
        state=state.state,
        announced=state.announced,
        tls=instance.has_tls,
        mutual=instance.has_mutual,
        options=_ordered(instance.options),
        accounts=sorted(each.id for each in picture.tree.accounts.values() if each.instance == instance.name),
        nodes=[
            NodeAnswer(
                node=node.node,
                engine=node.engine,
                version=node.version,
                started=node.started,
                listeners=[listener.model_dump() for listener in node.listeners],
                clients=node.clients,
            )
            for node in state.nodes
        ],
    )


def _account(account: Account, picture: Picture) -> AccountAnswer:
    standing = picture.tree.standing(account.id, picture.instances)
    level = picture.tree.level(account.id)
    return AccountAnswer(
        id=account.id,
        parent=account.parent,
        level=level,
        title=account.title,
        instance=standing.instance,
        inherits=level > 1,
        options=_ordered(standing.options),
        ownOptions=None if account.options is None else _ordered(account.options),
    )


def _endpoint(endpoint: Endpoint) -> EndpointAnswer:
    return EndpointAnswer(
        id=endpoint.id,
        account=endpoint.account,
        schema_=endpoint.scheme,
        domain=endpoint.domain,
        port=endpoint.port,
        secure=endpoint.secure,
        url=endpoint.url,
    )


def _name(state: InstanceState) -> str:
    return state.instance.name


def _ordered(options: frozenset[Option]) -> list[Option]:
    return [option for option in Option if option in options]


def router(service: MessagingService) -> APIRouter:
    """The routes."""
    instances, accounts, endpoints = _Instances(service), _Accounts(service), _Endpoints(service)
    routes = APIRouter(tags=["messaging service"], prefix="/api")
    table: list[tuple[str, str, Any, int]] = [
        ("GET", "/messaging/instances", instances.list, 200),
        ("POST", "/messaging/instances", instances.add, 201),
        ("GET", "/messaging/instances/{name}", instances.show, 200),
        ("PATCH", "/messaging/instances/{name}", instances.change, 200),
        ("DELETE", "/messaging/instances/{name}", instances.remove, 204),
        ("GET", "/accounts", accounts.list, 200),
        ("POST", "/accounts", accounts.add, 201),
        ("GET", "/accounts/{id}", accounts.show, 200),
        ("PUT", "/accounts/{id}/assignment", accounts.assign, 200),
        ("DELETE", "/accounts/{id}/assignment", accounts.unassign, 200),
        ("PUT", "/accounts/{id}/connection-settings", accounts.settings, 200),
        ("GET", "/accounts/{id}/endpoints", accounts.endpoints, 200),
        ("POST", "/accounts/{id}/endpoints", accounts.add_endpoint, 201),
        ("GET", "/endpoints", endpoints.list, 200),
        ("GET", "/endpoints/{id}", endpoints.show, 200),
        ("PATCH", "/endpoints/{id}", endpoints.change, 200),
        ("DELETE", "/endpoints/{id}", endpoints.remove, 204),
        ("GET", "/endpoints/{id}/publishing", endpoints.publishing, 200),
        ("POST", "/endpoints/{id}/check", endpoints.check, 200),
    ]
    for method, path, call, status in table:
        noun = call.__self__.__class__.__name__.strip("_").lower()
        name = f"{noun}_{call.__name__}"
        routes.add_api_route(path, call, methods=[method], status_code=status, name=name)
    return routes
