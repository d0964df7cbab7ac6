"""RabbitMQ's files from a few facts: `rabbitmq.conf`, `enabled_plugins`, `definitions.json`. Pure.

Every login is the authority's question first; no user is made on RabbitMQ itself (a definitions file keeps it from
making `guest`), and no AMQP listener unless one is asked for. The management plugin listens on the loopback alone.
Sessions are quorum queues in a cluster, because a classic queue lives on one node.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from broker.adapters.rabbitmq.addresses import EXCHANGE, address_definitions
from broker.adapters.rabbitmq.tls import NodeTls, tls_lines
from broker.addresses.address import Address

__all__ = ["PLUGINS", "RabbitNode", "definitions", "enabled_plugins", "rabbitmq_conf"]

PLUGINS: Final = ("rabbitmq_mqtt", "rabbitmq_web_mqtt", "rabbitmq_auth_backend_http")
AMQP_PLUGIN: Final = "rabbitmq_amqp1_0"
MANAGEMENT_PLUGIN: Final = "rabbitmq_management"


@dataclass(frozen=True, slots=True)
class RabbitNode:
    """What one node's configuration is made from.

    Args:
        authority_url: of the authority, with its secret, without `/hooks`.
        address: to listen on without TLS.
        mqtt_port, web_mqtt_port: TCP ports.
        amqp_port: TCP port of AMQP 1.0; None: no AMQP.
        tls: listeners with TLS besides; None: there are none.
        management_port: TCP port of the management plugin, on the loopback; None: without it.
        cluster: Erlang names of all nodes, this one among them; empty for a single node.
        session_expiry_s: how long a session outlives its connection.
        definitions_file: path as the node sees it.
    """

    authority_url: str
    address: str = "127.0.0.1"
    mqtt_port: int = 1883
    web_mqtt_port: int = 15675
    amqp_port: int | None = None
    tls: NodeTls | None = None
    management_port: int | None = 15672
    cluster: tuple[str, ...] = ()
    session_expiry_s: int = 604_800
    definitions_file: str = "/etc/rabbitmq/definitions.json"


def rabbitmq_conf(node: RabbitNode) -> str:
    """The main configuration file."""
    hooks = f"{node.authority_url}/hooks/rabbitmq"
    if node.amqp_port is None:
        amqp = ["# No AMQP: the only ways in are MQTT and MQTT over WebSocket.", "listeners.tcp = none", ""]
    else:
        amqp = ["# AMQP 1.0, with a login.", f"listeners.tcp.default = {node.address}:{node.amqp_port}"]
        amqp += ["auth_mechanisms.1 = PLAIN", "amqp1_0.default_user = none", "amqp1_0.default_vhost = /", ""]
    management: list[str] = []
    if node.management_port is not None:
        management = [
            "# Who is connected, and how loaded the nodes are: for the console and `meshwire instance advise`. It is",
            "# asked by a user made here (rabbitmqctl add_user, set_user_tags NAME monitoring); until then nobody can.",
            "auth_backends.2 = internal",
            "management.tcp.ip = 127.0.0.1",
            f"management.tcp.port = {node.management_port}",
            "",
        ]
    lines = [
        *amqp,
        "# Every login and every topic is the authority's decision.",
        "auth_backends.1 = http",
        "auth_http.http_method = post",
        *(f"auth_http.{name}_path = {hooks}/{name}" for name in ("user", "vhost", "resource", "topic")),
        "",
        *management,
        f"mqtt.listeners.tcp.default = {node.address}:{node.mqtt_port}",
        "mqtt.allow_anonymous = false",
        "mqtt.vhost = /",
        f"mqtt.exchange = {EXCHANGE}",
        f"mqtt.subscription_ttl = {node.session_expiry_s * 1000}",
        f"mqtt.durable_queue_type = {'quorum' if node.cluster else 'classic'}",
        "mqtt.tcp_listen_options.nodelay = true",
        "",
        f"web_mqtt.tcp.ip = {node.address}",
        f"web_mqtt.tcp.port = {node.web_mqtt_port}",
        "",
        *(tls_lines(node.tls, amqp=node.amqp_port is not None) if node.tls is not None else ()),
        f"load_definitions = {node.definitions_file}",
    ]
    if node.cluster:
        lines += ["", "cluster_formation.peer_discovery_backend = classic_config"]
        lines += [f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(node.cluster, 1)]
        lines += ["cluster_partition_handling = pause_minority"]
    return "\n".join(lines) + "\n"


def enabled_plugins(*, amqp: bool = False, management: bool = True) -> str:
    """The plug-in list, an Erlang term."""
    plugins = [*PLUGINS, *([AMQP_PLUGIN] if amqp else ()), *([MANAGEMENT_PLUGIN] if management else ())]
    return f"[{','.join(plugins)}].\n"


def definitions(
    max_queued_messages: int = 50_000, addresses: Iterable[Address] = (), *, replicated: bool = False
) -> str:
    """What exists from the first boot: the virtual host, the bound of a client's queue, and the queues of addresses.
    RabbitMQ drops the oldest message of a client's full queue; refusing the newest would cut its publisher off.
    """
    bound = {
        "vhost": "/",
        "name": "client-queue-bound",
        "pattern": "^mqtt-subscription-",
        "apply-to": "queues",
        "priority": 1,
        "definition": {"max-length": max_queued_messages, "overflow": "drop-head"},
    }
    value: dict[str, object] = {"vhosts": [{"name": "/"}], "users": [], "permissions": [], "policies": [bound]}
    value |= address_definitions(addresses, replicated=replicated)
    return json.dumps(value, indent=2) + "\n"
