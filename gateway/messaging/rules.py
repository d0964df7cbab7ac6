"""What may be assigned, configured and connected: pure decisions on plain records.

An account is assigned to one instance or to none. The root account and its children (level one) are assigned
explicitly; everybody below inherits and can't change it. An account's connection settings are a subset of what its
instance offers; an instance offers secure options only when TLS is configured on it. A decision is None, or the reason
why not, in words for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

__all__ = [
    "MOST_LEVELS",
    "Account",
    "AccountTree",
    "Endpoint",
    "Instance",
    "Option",
    "Scheme",
    "Standing",
    "is_domain",
    "refuse_account",
    "refuse_account_options",
    "refuse_assignment",
    "refuse_endpoint",
    "refuse_instance",
    "refuse_service",
    "refuse_unassignment",
    "words",
]

MOST_LEVELS: Final = 16
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")


class Option(StrEnum):
    """How a connection is protected."""

    PLAIN = "plain"
    """MQTT over TCP."""
    TLS = "tls"
    """MQTT over TLS."""
    MUTUAL = "mutual"
    """MQTT over TLS, and the client shows a certificate."""


class Scheme(StrEnum):
    """URI scheme of an endpoint."""

    MQTT = "mqtt"
    MQTTS = "mqtts"
    WS = "ws"
    WSS = "wss"

    @property
    def is_tls(self) -> bool:
        return self in (Scheme.MQTTS, Scheme.WSS)


@dataclass(frozen=True, slots=True)
class Instance:
    """A name bound to a broker, or to a network of brokers."""

    name: str
    engine: str = "embedded"
    title: str = ""
    has_tls: bool = False
    """TLS is enabled and configured on it."""
    has_mutual: bool = False
    """It asks clients for certificates."""
    options: frozenset[Option] = frozenset({Option.PLAIN})
    """What it offers to its accounts."""
    has_plain: bool = True
    """It has a listener without TLS."""

    @property
    def possible(self) -> frozenset[Option]:
        """What it could offer as it is configured."""
        configured = {
            Option.PLAIN: self.has_plain,
            Option.TLS: self.has_tls,
            Option.MUTUAL: self.has_tls and self.has_mutual,
        }
        return frozenset(option for option, there in configured.items() if there)

    def configured_as(self, told: Instance) -> Instance:
        """The same instance with the engine and the listeners that it tells of now. What these add is offered, what
        they can no longer do is not; what an administrator has taken out of the offer stays out.
        """
        kept, new = self.options & told.possible, told.possible - self.possible
        return replace(told, title=self.title, options=kept | new or told.possible)


@dataclass(frozen=True, slots=True)
class Account:
    """An account; its id is the tenant's."""

    id: str
    parent: str | None
    """None: the root account."""
    title: str = ""
    instance: str | None = None
    """Explicit assignment; below level one always None."""
    options: frozenset[Option] | None = None
    """Connection settings; None: those of the nearest account above that has some, else all that is offered."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address under which an account's devices and applications reach the service."""

    id: str
    account: str
    scheme: Scheme
    domain: str
    port: int
    secure: bool = False

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.domain}:{self.port}"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a broker needs to know of an account."""

    instance: str | None
    options: frozenset[Option]


class AccountTree:
    """All accounts, from the root down.

    Args:
        accounts: exactly one of them has no parent; the parents of the others are among them.
    """

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.accounts: Mapping[str, Account] = {account.id: account for account in accounts}
        self.root = next(account.id for account in self.accounts.values() if account.parent is None)

    def __contains__(self, id: object) -> bool:
        return id in self.accounts

    def path(self, id: str) -> list[Account]:
        """The account and those above it, up to the root."""
        path = [self.accounts[id]]
        while path[-1].parent is not None:
            path.append(self.accounts[path[-1].parent])
        return path

    def level(self, id: str) -> int:
        """0: the root; 1: its children."""
        return len(self.path(id)) - 1

    def children(self, id: str) -> list[Account]:
        """Direct children in the order of their ids."""
        return sorted((each for each in self.accounts.values() if each.parent == id), key=lambda each: each.id)

    def below(self, id: str) -> Iterator[Account]:
        """All descendants, each after its parent."""
        for child in self.children(id):
            yield child
            yield from self.below(child.id)

    def assigner(self, id: str) -> Account:
        """The account whose assignment counts for this one: itself on levels 0 and 1, else its ancestor on level 1."""
        path = self.path(id)
        return path[0] if len(path) <= 2 else path[-2]

    def instance(self, id: str) -> str | None:
        """The instance that serves the account; None: it is refused everywhere."""
        return self.assigner(id).instance

    def served_with(self, id: str) -> list[str]:
        """The account, and those that inherit its assignment."""
        inherits = [] if id == self.root else [account.id for account in self.below(id)]
        return [id, *inherits]

    def standing(self, id: str, instances: Mapping[str, Instance]) -> Standing:
        """Where the account is served, and how it may connect."""
        name = self.instance(id)
        if name is None:
            return Standing(None, frozenset())
        offered = instances[name].options if name in instances else frozenset()
        chosen = next((account.options for account in self.path(id) if account.options is not None), offered)
        return Standing(name, chosen & offered)


def words(options: Iterable[Option]) -> str:
    """Options for people, in their order."""
    return ", ".join(option.value for option in Option if option in set(options)) or "none"


def refuse_instance(instance: Instance) -> str | None:
    """Why an instance can't be as it is."""
    if _NAME.fullmatch(instance.name) is None:
        return f"instance name {instance.name!r} is not 1 to 64 of A-Z a-z 0-9 _ . - beginning with a letter or digit"
    if not instance.options:
        return "an instance offers at least one connection option"
    missing = instance.options - instance.possible
    if Option.PLAIN in missing:
        return f"plain needs a listener without TLS on instance {instance.name}, and there is none"
    if missing:
        return f"{words(missing)} needs TLS enabled and configured on instance {instance.name}, and it is not"
    return None


def refuse_account(tree: AccountTree, id: str, parent: str) -> str | None:
    """Why a new account can't be made below `parent`."""
    if id in tree:
        return f"account {id} exists"
    if parent not in tree:
        return f"there is no account {parent} to be its parent"
    if tree.level(parent) + 1 > MOST_LEVELS:
        return f"accounts are at most {MOST_LEVELS} levels deep"
    return None


def refuse_assignment(tree: AccountTree, id: str, name: str, instances: Mapping[str, Instance]) -> str | None:
    """Why an account can't be assigned to an instance."""
    if (reason := _inherits(tree, id)) is not None:
        return reason
    if name not in instances:
        return f"there is no instance {name}"
    current = tree.accounts[id].instance
    if current == name:
        return f"account {id} is assigned to {name} already"
    offered = instances[name].options
    for each in tree.served_with(id):
        chosen = tree.accounts[each].options
        if chosen is not None and (missing := chosen - offered):
            return f"the connection settings of {each} want {words(missing)}, which instance {name} does not offer"
    return None


def refuse_unassignment(tree: AccountTree, id: str) -> str | None:
    """Why an account's assignment can't be taken away."""
    if (reason := _inherits(tree, id)) is not None:
        return reason
    return None if tree.accounts[id].instance is not None else f"account {id} is not assigned to an instance"


def _inherits(tree: AccountTree, id: str) -> str | None:
    if tree.level(id) <= 1:
        return None
    return f"account {id} inherits the assignment of {tree.assigner(id).id}, and can't change it"


def refuse_service(tree: AccountTree, id: str, name: str) -> str | None:
    """Why an instance does not serve an account's devices."""
    assigned = tree.instance(id)
    if assigned is None:
        return f"account {id} is not assigned to a messaging service instance"
    return None if assigned == name else f"account {id} is assigned to instance {assigned}, this is {name}"


def refuse_account_options(
    tree: AccountTree, id: str, options: frozenset[Option], instances: Mapping[str, Instance]
) -> str | None:
    """Why an account can't have these connection settings."""
    name = tree.instance(id)
    if name is None:
        return f"account {id} is not assigned to an instance; assign it first"
    if not options:
        return "at least one connection option is needed; to keep the account out, un-assign it"
    if missing := options - instances[name].options:
        return f"instance {name} does not offer {words(missing)}; it offers {words(instances[name].options)}"
    return None


def refuse_endpoint(endpoint: Endpoint, others: Iterable[Endpoint]) -> str | None:
    """Why an endpoint can't be as it is."""
    if not is_domain(endpoint.domain):
        return f"{endpoint.domain!r} is no domain name such as broker.example.net"
    if not 1 <= endpoint.port <= 65_535:
        return f"port {endpoint.port} is not 1 to 65535"
    if endpoint.scheme.is_tls and not endpoint.secure:
        return f"schema {endpoint.scheme} is encrypted: it must be secure"
    if endpoint.secure and not endpoint.scheme.is_tls:
        return f"schema {endpoint.scheme} is not encrypted: use {endpoint.scheme}s for a secure endpoint"
    for other in others:
        if (other.account, other.url, other.id != endpoint.id) == (endpoint.account, endpoint.url, True):
            return f"account {endpoint.account} has the endpoint {endpoint.url} already"
    return None


def is_domain(text: str) -> bool:
    """Whether it can be the name of a host; addresses of IPv4 can, too."""
    return 0 < len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))
