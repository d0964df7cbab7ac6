"""The files of a foreign broker from our users file, our settings and the site's secrets.

An engine that asks the authority needs no users. Mosquitto's dynamic security and HiveMQ's File RBAC hold users of
their own, with hashes that can't be made from ours: their users get new passwords, written beside the files; the
gateway's is the site's secret, so that the gateway needs no change.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from broker.adapters import hivemq
from broker.adapters.emqx import EmqxConf, emqx_conf
from broker.adapters.go_auth import GoAuthConf, go_auth_conf
from broker.adapters.hivemq import credentials_xml
from broker.adapters.mosquitto import dynsec
from broker.adapters.mosquitto.configuration import MosquittoConf, mosquitto_conf
from broker.adapters.mosquitto.dynsec import MosquittoUser, dynsec_document
from broker.adapters.rabbitmq.configuration import RabbitNode, definitions, enabled_plugins, rabbitmq_conf
from broker.adapters.rabbitmq.tls import NodeTls, TlsFiles
from broker.adapters.vernemq import VerneConf, vernemq_conf
from broker.addresses.address import Address
from broker.policy import BUILT_IN_ROLES, RoleRule
from meshwire.identity import Principal, TenantId

__all__ = ["GENERATORS", "Facts", "example_facts", "generate"]

AMQP_PORT: Final = 5672
EVERYWHERE: Final = "0.0.0.0"
EXAMPLE_SECRET: Final = "the-secret-of-the-authority"


@dataclass(frozen=True, slots=True)
class Facts:
    """What files are generated from.

    Args:
        secret: the authority's.
        authority_host, authority_port: where the authority listens, as the engine sees it.
        users: password users with passwords in the clear.
        control_user: name and password of the user who changes Mosquitto's users.
        cluster: Erlang names of RabbitMQ's nodes; empty for one node.
        amqp: RabbitMQ speaks AMQP 1.0 as well.
        addresses: whose queues RabbitMQ makes.
        tls: RabbitMQ speaks TLS as well.
        plain_host: where RabbitMQ listens without TLS.
        rules: the role table.
        salt: makes salts of as many octets as the engine takes.
    """

    secret: str
    authority_host: str = "127.0.0.1"
    authority_port: int = 8099
    users: tuple[MosquittoUser, ...] = ()
    control_user: tuple[str, str] = ("meshwire-control", "")
    cluster: tuple[str, ...] = ()
    amqp: bool = False
    addresses: tuple[Address, ...] = ()
    tls: TlsFiles | None = None
    plain_host: str = EVERYWHERE
    rules: Mapping[str, RoleRule] = field(default_factory=lambda: BUILT_IN_ROLES)
    salt: Callable[[int], bytes] = secrets.token_bytes

    @property
    def authority_url(self) -> str:
        return f"http://{self.authority_host}:{self.authority_port}"


def example_facts() -> Facts:
    """What the examples under `deploy/` are made from: no secret is one, no salt is random."""
    users = (
        MosquittoUser("gateway", "the-gateways-password", roles=("GATEWAY",)),
        _example_user("acme-dashboard", "acme", ("BUBBLE_UP_READ_CONSUMER", "COMMAND_CLIENT")),
        _example_user("globex-dashboard", "globex", ("BUBBLE_UP_READ_CONSUMER",)),
    )
    nodes = tuple(f"rabbit@node{number}" for number in (1, 2, 3))
    control = ("meshwire-control", "the-control-users-password")
    return Facts(
        EXAMPLE_SECRET, users=users, control_user=control, cluster=nodes, salt=lambda octets: bytes(range(octets))
    )


def _example_user(name: str, tenant: str, roles: tuple[str, ...]) -> MosquittoUser:
    return MosquittoUser(name, f"the-password-of-{name}", TenantId(tenant), roles)


def with_new_passwords(users: Iterable[Principal], gateway_password: str) -> tuple[MosquittoUser, ...]:
    """Users of the users file, each with a new password but the gateway."""
    return tuple(
        MosquittoUser(
            user.name,
            gateway_password if user.name == "gateway" else secrets.token_urlsafe(24),
            user.tenant,
            tuple(sorted(user.roles)),
        )
        for user in users
    )


def passwords_json(users: Iterable[MosquittoUser]) -> str:
    """The passwords in the clear, to be handed over and then deleted."""
    return json.dumps({user.name: user.password for user in users}, indent=2) + "\n"


def _mosquitto(facts: Facts) -> dict[str, str]:
    document = dynsec_document(facts.users, facts.control_user, facts.rules, lambda: facts.salt(dynsec.SALT_OCTETS))
    return {"mosquitto.conf": mosquitto_conf(MosquittoConf()), "dynamic-security.json": document}


def _hivemq(facts: Facts) -> dict[str, str]:
    return {"credentials.xml": credentials_xml(facts.users, facts.rules, lambda: facts.salt(hivemq.SALT_OCTETS))}


def _rabbitmq(facts: Facts) -> dict[str, str]:
    node = RabbitNode(f"{facts.authority_url}/{facts.secret}", address=facts.plain_host, cluster=facts.cluster)
    if facts.amqp:
        node = replace(node, amqp_port=AMQP_PORT)
    files: dict[str, str] = {}
    if facts.tls is not None:
        node = replace(node, tls=NodeTls(facts.tls.is_mutual, address=EVERYWHERE))
        files = facts.tls.by_name()
    return files | {
        "rabbitmq.conf": rabbitmq_conf(node),
        "enabled_plugins": enabled_plugins(amqp=facts.amqp),
        "definitions.json": definitions(addresses=facts.addresses, replicated=bool(facts.cluster)),
    }


def _go_auth(facts: Facts) -> dict[str, str]:
    conf = GoAuthConf(facts.secret, facts.authority_host, facts.authority_port)
    return {"go-auth.conf": go_auth_conf(conf)}


GENERATORS: Final[dict[str, Callable[[Facts], dict[str, str]]]] = {
    "mosquitto": _mosquitto,
    "mosquitto-go-auth": _go_auth,
    "rabbitmq": _rabbitmq,
    "emqx": lambda facts: {"emqx.conf": emqx_conf(EmqxConf(facts.authority_url, facts.secret))},
    "vernemq": lambda facts: {"vernemq.conf": vernemq_conf(VerneConf(f"{facts.authority_url}/{facts.secret}"))},
    "hivemq": _hivemq,
}
"""By engine: from facts to file names and texts."""


def generate(engine: str, facts: Facts) -> dict[str, str]:
    """File names and texts for one engine; raises KeyError for an unknown one."""
    return GENERATORS[engine](facts)
