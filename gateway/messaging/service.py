"""Accounts, instances and endpoints in the registry's database; every change is judged by `rules.py`, logged, and told
to the brokers before it returns.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, func, select

from gateway.messaging import rules
from gateway.messaging.announcements import Announcement, read_announcements
from gateway.messaging.errors import InUseError, MessagingError, UnknownError
from gateway.messaging.publication import accounts_path, document, publish
from gateway.messaging.rules import Account, AccountTree, Endpoint, Instance, Option, Scheme
from gateway.registry import Change, Registry, schema
from gateway.registry.database import SYSTEM
from meshwire.identity import INTERNAL_TENANT, TenantId
from meshwire.site import Site

__all__ = ["ROOT", "InstanceState", "MessagingService", "Picture", "closed_for", "read_picture"]

ROOT = INTERNAL_TENANT.value
"""The root account: the platform's own tenant."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything at one moment."""

    tree: AccountTree
    instances: Mapping[str, Instance]
    endpoints: tuple[Endpoint, ...]
    revision: int

    def account(self, id: str) -> Account:
        """An account; raises UnknownError."""
        if id not in self.tree:
            raise UnknownError("there is no such account", evidence=id, fix="see `meshwire account list`")
        return self.tree.accounts[id]

    def instance(self, name: str) -> Instance:
        """An instance; raises UnknownError."""
        if name not in self.instances:
            raise UnknownError("there is no such instance", evidence=name, fix="see `meshwire instance list`")
        return self.instances[name]

    def endpoint(self, id: str) -> Endpoint:
        """An endpoint; raises UnknownError."""
        for endpoint in self.endpoints:
            if endpoint.id == id:
                return endpoint
        raise UnknownError("there is no such endpoint", evidence=id, fix="see `meshwire endpoint list`")

    def endpoints_of(self, id: str) -> list[Endpoint]:
        """What an account's clients use: its own endpoints, else those of the nearest account above that has some."""
        for account in self.tree.path(id):
            own = [endpoint for endpoint in self.endpoints if endpoint.account == account.id]
            if own:
                return own
        return []


@dataclass(frozen=True, slots=True)
class InstanceState:
    """An instance and its nodes."""

    instance: Instance
    announced: bool
    """It tells what it can offer itself; else an administrator has said so."""
    nodes: tuple[Announcement, ...]
    state: str
    """running, stopped (its nodes have ended, or are silent), or unknown (it does not announce itself)."""


class MessagingService:
    """See the module; may be used from any thread.

    Args:
        registry: where accounts are, as its tenants.
        site: where brokers look, and announce themselves.
    """

    def __init__(self, registry: Registry, site: Site) -> None:
        self._registry = registry
        self._database = registry.database
        self._site = site
        self._telling = threading.Lock()
        self._told = -1

    # --- reading

    def picture(self) -> Picture:
        """Everything as it is now."""
        with self._database.reading() as connection:
            return self._picture(connection)

    def _picture(self, connection: Connection) -> Picture:
        return read_picture(connection)

    def instance_states(self, now_s: float | None = None) -> list[InstanceState]:
        """All instances with their nodes, those that have just announced themselves included."""
        self.discover()
        announcements = read_announcements(self._site, time.time() if now_s is None else now_s)
        with self._database.reading() as connection:
            rows = connection.execute(select(schema.instances).order_by(schema.instances.c.name)).all()
        states = []
        for row in rows:
            nodes = tuple(each for each in announcements if each.instance == row.name)
            state = "running" if nodes else "stopped" if row.announced else "unknown"
            states.append(InstanceState(_instance(row), row.announced, nodes, state))
        return states

    # --- instances

    def discover(self) -> None:
        """Take in what started instances say of themselves: new ones, and others when their listeners have changed."""
        said: dict[str, tuple[str, frozenset[Option]]] = {}
        for each in read_announcements(self._site, time.time()):
            _, options = said.get(each.instance, ("", frozenset()))
            said[each.instance] = (each.engine, options | frozenset(each.options))
        if not said:
            return
        with self._database.reading() as connection:
            known = {row.name: _instance(row) for row in connection.execute(select(schema.instances))}
        for name, (engine, possible) in said.items():
            told = Instance(
                name,
                engine,
                has_plain=Option.PLAIN in possible,
                has_tls=bool(possible & {Option.TLS, Option.MUTUAL}),
                has_mutual=Option.MUTUAL in possible,
                options=possible,
            )
            before = known.get(name)
            candidate = told if before is None else before.configured_as(told)
            if candidate == before:
                continue
            if rules.refuse_instance(candidate) is None:
                self._store_instance(candidate, "instance.announce", SYSTEM, announced=True, before=before)

    def add_instance(self, instance: Instance, *, by: str = SYSTEM) -> None:
        """Make an instance known that does not announce itself.

        Raises:
            MessagingError: the name is taken, or it breaks a rule.
        """
        self._must(rules.refuse_instance(instance), "the instance can't be added")
        if instance.name in self.picture().instances:
            raise MessagingError("the instance can't be added", evidence=f"{instance.name} exists", fix="change it")
        self._store_instance(instance, "instance.add", by, announced=False, before=None)

    def set_instance(
        self,
        name: str,
        *,
        title: str | None = None,
        options: frozenset[Option] | None = None,
        has_tls: bool | None = None,
        has_mutual: bool | None = None,
        by: str = SYSTEM,
    ) -> Instance:
        """Change what is given. What an instance tells of itself (TLS, mutual) can't be changed here.

        Raises:
            MessagingError: it breaks a rule, or an account's connection settings want what would no longer be offered.
        """
        picture = self.picture()
        before, announced = picture.instance(name), self._is_announced(name)
        if announced and (has_tls, has_mutual) != (None, None):
            raise MessagingError(
                "TLS can't be set here", evidence=f"{name} announces itself", fix="configure its listeners"
            )
        after = replace(
            before,
            title=before.title if title is None else title,
            has_tls=before.has_tls if has_tls is None else has_tls,
            has_mutual=before.has_mutual if has_mutual is None else has_mutual,
        )
        after = replace(after, options=after.options & after.possible if options is None else options)
        self._must(rules.refuse_instance(after), "the instance can't be changed")
        for account in picture.tree.accounts.values():
            if picture.tree.instance(account.id) == name and account.options is not None:
                missing = account.options & before.options - after.options
                self._must(
                    f"the connection settings of {account.id} want {rules.words(missing)}" if missing else None,
                    "the instance can't be changed",
                )
        self._store_instance(after, "instance.set", by, announced=announced, before=before)
        return after

    def remove_instance(self, name: str, *, by: str = SYSTEM) -> None:
        """Forget an instance; raises MessagingError while accounts are assigned to it."""
        picture = self.picture()
        picture.instance(name)
        users = sorted(account.id for account in picture.tree.accounts.values() if account.instance == name)
        self._must(
            f"accounts are assigned to it: {', '.join(users)}" if users else None, "the instance can't be removed"
        )
        with self._database.changing(by) as change:
            change.connection.execute(delete(schema.instances).where(schema.instances.c.name == name))
            change.log("instance.remove", name)
        self.tell()

    def _is_announced(self, name: str) -> bool:
        with self._database.reading() as connection:
            query = select(schema.instances.c.announced).where(schema.instances.c.name == name)
            return bool(connection.scalar(query))

    def _store_instance(
        self, instance: Instance, action: str, by: str, *, announced: bool, before: Instance | None
    ) -> None:
        facts = _facts(instance)
        former = {} if before is None else {key: was for key, was in _facts(before).items() if was != facts[key]}
        with self._database.changing(by) as change:
            change.connection.execute(
                self._database.upsert(schema.instances, "name").values(
                    name=instance.name,
                    engine=instance.engine,
                    title=instance.title,
                    has_plain=instance.has_plain,
                    has_tls=instance.has_tls,
                    has_mutual=instance.has_mutual,
                    options=_text(instance.options),
                    announced=announced,
                )
            )
            change.log(action, instance.name, **facts, former=former)
        self.tell()

    # --- accounts

    def add_account(self, id: TenantId, *, parent: str = ROOT, title: str = "", by: str = SYSTEM) -> Account:
        """Make an account; on level one it is not assigned, below it inherits.

        Raises:
            MessagingError: it exists, or there is no such parent.
        """
        with self._database.changing(by) as change:
            picture = self._picture(change.connection)
            self._must(rules.refuse_account(picture.tree, id.value, parent), "the account can't be made")
            self._registry.include_tenant(change, id, title)
            self._store_node(change, Account(id.value, parent))
            change.log("account.add", id.value, id.value, parent=parent)
            made = self._picture(change.connection).account(id.value)
        self.tell()
        return made

    def assign(self, id: str, name: str, *, by: str = SYSTEM) -> Account:
        """Assign an account of level 0 or 1, and all that inherit from it, to an instance; also from another one.

        Raises:
            UnknownError: there is no such account, or no such instance.
            MessagingError: a rule forbids it.
        """
        self.discover()
        return self._reassign(id, name, by)

    def unassign(self, id: str, *, by: str = SYSTEM) -> Account:
        """Take the assignment away: every instance refuses the account and cuts its connections.

        Raises:
            MessagingError: it inherits, or is not assigned.
        """
        return self._reassign(id, None, by)

    def _reassign(self, id: str, name: str | None, by: str) -> Account:
        with self._database.changing(by) as change:
            picture = self._picture(change.connection)
            before = picture.account(id)
            if name is None:
                reason, what = rules.refuse_unassignment(picture.tree, id), "the account can't be un-assigned"
            else:
                if picture.tree.level(id) <= 1:
                    picture.instance(name)
                reason = rules.refuse_assignment(picture.tree, id, name, picture.instances)
                what = "the account can't be assigned"
            self._must(reason, what)
            after = replace(before, instance=name)
            self._store_node(change, after)
            action = "account.unassign" if name is None else "account.assign"
            change.log(action, id, id, former=before.instance, instance=name)
        self.tell()
        return after

    def set_options(self, id: str, options: frozenset[Option] | None, *, by: str = SYSTEM) -> Account:
        """Set an account's connection settings; None: what the accounts above have, or the instance offers.

        Raises:
            MessagingError: they are wider than what the instance offers.
        """
        with self._database.changing(by) as change:
            picture = self._picture(change.connection)
            before = picture.account(id)
            if options is not None:
                reason = rules.refuse_account_options(picture.tree, id, options, picture.instances)
                self._must(reason, "the connection settings can't be set")
            after = replace(before, options=options)
            self._store_node(change, after)
            former, now = (None if each.options is None else _text(each.options) for each in (before, after))
            change.log("account.options", id, id, former=former, options=now)
        self.tell()
        return after

    def _store_node(self, change: Change, account: Account) -> None:
        for tenant in (INTERNAL_TENANT, TenantId(account.id)):
            self._registry.include_tenant(change, tenant)
        change.connection.execute(
            self._database.upsert(schema.account_nodes, "tenant").values(
                tenant=account.id,
                parent=account.parent or ROOT,
                instance=account.instance,
                options=None if account.options is None else _text(account.options),
            )
        )

    # --- endpoints

    def add_endpoint(
        self, account: str, scheme: Scheme, domain: str, port: int, *, secure: bool = False, by: str = SYSTEM
    ) -> Endpoint:
        """Add an endpoint to an account; raises MessagingError when it can't be as it is."""
        endpoint = Endpoint(secrets.token_hex(4), account, scheme, domain.lower(), port, secure)
        with self._database.changing(by) as change:
            picture = self._picture(change.connection)
            picture.account(account)
            self._must(rules.refuse_endpoint(endpoint, picture.endpoints), "the endpoint can't be added")
            self._registry.include_tenant(change, TenantId(account))
            self._store_endpoint(change, endpoint)
            change.log("endpoint.add", endpoint.id, account, url=endpoint.url, secure=secure)
        return endpoint

    def set_endpoint(
        self,
        id: str,
        *,
        scheme: Scheme | None = None,
        domain: str | None = None,
        port: int | None = None,
        secure: bool | None = None,
        confirmed: bool = False,
        by: str = SYSTEM,
    ) -> Endpoint:
        """Change what is given of an endpoint.

        Raises:
            InUseError: somebody uses it, and the change was not confirmed.
            MessagingError: it can't be as it would be.
        """
        with self._database.changing(by) as change:
            picture = self._picture(change.connection)
            before = picture.endpoint(id)
            after = replace(
                before,
                scheme=before.scheme if scheme is None else scheme,
                domain=before.domain if domain is None else domain.lower(),
                port=before.port if port is None else port,
                secure=before.secure if secure is None else secure,
            )
            self._must(rules.refuse_endpoint(after, picture.endpoints), "the endpoint can't be changed")
            self._must_be_unused(change.connection, picture, before, "the endpoint is not changed", confirmed)
            self._store_endpoint(change, after)
            change.log("endpoint.set", id, after.account, former=before.url, url=after.url)
        return after

    def remove_endpoint(self, id: str, *, confirmed: bool = False, by: str = SYSTEM) -> None:
        """Delete an endpoint; raises InUseError when somebody uses it and it was not confirmed."""
        with self._database.changing(by) as change:
            picture = self._picture(change.connection)
            endpoint = picture.endpoint(id)
            self._must_be_unused(change.connection, picture, endpoint, "the endpoint is not deleted", confirmed)
            change.connection.execute(delete(schema.endpoints).where(schema.endpoints.c.id == id))
            change.log("endpoint.remove", id, endpoint.account, url=endpoint.url)

    def uses(self, id: str) -> list[str]:
        """Who uses an endpoint, a line each."""
        with self._database.reading() as connection:
            picture = self._picture(connection)
            return self._uses(connection, picture, picture.endpoint(id))

    def _must_be_unused(
        self, connection: Connection, picture: Picture, endpoint: Endpoint, what: str, confirmed: bool
    ) -> None:
        uses = self._uses(connection, picture, endpoint)
        if uses and not confirmed:
            raise InUseError(what, uses)

    def _uses(self, connection: Connection, picture: Picture, endpoint: Endpoint) -> list[str]:
        """Accounts that are served under it and have something that could use it."""
        connected: dict[str, int] = {}
        for node in read_announcements(self._site, time.time()):
            for account, clients in node.accounts.items():
                connected[account] = connected.get(account, 0) + clients
        devices = _counts(connection, schema.devices.c.tenant)
        parties = _counts(connection, schema.accounts.c.tenant)
        lines = []
        for id in sorted(picture.tree.accounts):
            has = [
                f"{number} {what}{'s' if number != 1 else ''}"
                for number, what in (
                    (connected.get(id, 0), "connected client"),
                    (devices.get(id, 0), "device"),
                    (parties.get(id, 0), "credential"),
                )
                if number
            ]
            if has and endpoint in picture.endpoints_of(id):
                lines.append(f"account {id}: {', '.join(has)}")
        return lines

    def _store_endpoint(self, change: Change, endpoint: Endpoint) -> None:
        change.connection.execute(
            self._database.upsert(schema.endpoints, "id").values(
                id=endpoint.id,
                account=endpoint.account,
                scheme=endpoint.scheme.value,
                domain=endpoint.domain,
                port=endpoint.port,
                secure=endpoint.secure,
            )
        )

    # --- brokers

    def keep(self) -> None:
        """What is to happen every second: started instances are noticed, and brokers hear what other processes changed.

        Raises:
            RegistryError: the database fails.
            OSError: the accounts document can't be written.
        """
        self.discover()
        self.tell()

    def tell(self) -> None:
        """Publish the accounts document when the database has changed since; raises OSError when that fails."""
        with self._telling:
            with self._database.reading() as connection:
                if self._database.revision(connection) == self._told:
                    return
                picture = self._picture(connection)
            publish(accounts_path(self._site), self.document(picture))
            self._told = picture.revision

    def document(self, picture: Picture | None = None) -> str:
        """The accounts document; see `publication.py`."""
        picture = picture or self.picture()
        standings = {id: picture.tree.standing(id, picture.instances) for id in picture.tree.accounts}
        return document(standings, picture.revision)

    @staticmethod
    def _must(reason: str | None, what: str) -> None:
        if reason is not None:
            raise MessagingError(what, evidence=reason, fix="mend that, and try again")


def read_picture(connection: Connection) -> Picture:
    """Everything as a transaction sees it."""
    revision = int(connection.execute(select(schema.state.c.revision)).scalar_one())
    nodes = {row.tenant: row for row in connection.execute(select(schema.account_nodes))}
    titles = {row.id: row.title for row in connection.execute(select(schema.tenants))}
    accounts = [
        Account(
            id,
            None if id == ROOT else nodes[id].parent if id in nodes else ROOT,
            titles.get(id, ""),
            nodes[id].instance if id in nodes else None,
            _options(nodes[id].options) if id in nodes else None,
        )
        for id in {ROOT, *titles}
    ]
    instances = {row.name: _instance(row) for row in connection.execute(select(schema.instances))}
    endpoints = connection.execute(select(schema.endpoints).order_by(schema.endpoints.c.account)).all()
    return Picture(AccountTree(accounts), instances, tuple(map(_endpoint, endpoints)), revision)


def closed_for(instance: str) -> Callable[[Connection], Mapping[str, str]] | None:
    """For `Registry`: reads which accounts an instance does not serve, and why; None: without a name it serves all."""
    if not instance:
        return None

    def closed(connection: Connection) -> dict[str, str]:
        picture = read_picture(connection)
        reasons = {id: rules.refuse_service(picture.tree, id, instance) for id in picture.tree.accounts}
        return {id: reason for id, reason in reasons.items() if reason is not None}

    return closed


def _counts(connection: Connection, column: Any) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(select(column, func.count()).group_by(column))}


def _options(text: str | None) -> frozenset[Option] | None:
    return None if text is None else frozenset(map(Option, text.split()))


def _text(options: Iterable[Option]) -> str:
    chosen = set(options)
    return " ".join(option.value for option in Option if option in chosen)


def _facts(instance: Instance) -> dict[str, object]:
    """What can change, for the audit log."""
    return {
        "engine": instance.engine,
        "title": instance.title,
        "plain": instance.has_plain,
        "tls": instance.has_tls,
        "mutual": instance.has_mutual,
        "options": _text(instance.options),
    }


def _instance(row: Any) -> Instance:
    return Instance(
        row.name,
        row.engine,
        row.title,
        has_plain=bool(row.has_plain),
        has_tls=bool(row.has_tls),
        has_mutual=bool(row.has_mutual),
        options=_options(row.options) or frozenset(),
    )


def _endpoint(row: Any) -> Endpoint:
    return Endpoint(row.id, row.account, Scheme(row.scheme), row.domain, row.port, bool(row.secure))
