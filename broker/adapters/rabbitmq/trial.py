"""A trial cluster in the list of instances: its nodes are announced while they take connections, new ones as well."""

import asyncio
from collections.abc import Callable

from broker.adapters.rabbitmq.node import LaunchedNode
from broker.adapters.rabbitmq.nodes import PrivateCluster
from broker.adapters.rabbitmq.scaling import serve_sizes
from broker.authority.nodes import NodeWatch
from broker.authority.settings import EngineNode
from broker.settings import ListenerKind
from meshwire.site import Site

__all__ = ["announced_listener", "serve_announced"]


async def serve_announced(
    cluster: PrivateCluster, instance: str, release: str, site: Site, is_stopped: Callable[[float], bool]
) -> None:
    """Gives the cluster the size that is asked for, and announces its nodes, until stopped.

    Args:
        cluster: started.
        instance: name of the messaging service instance that it is.
        release: of RabbitMQ.
        site: where it is announced.
        is_stopped: waits so many seconds, on a thread; True: end.
    """

    def nodes() -> list[EngineNode]:
        return [announced_listener(node) for node in list(cluster.nodes)]

    watching = asyncio.create_task(NodeWatch(instance, "rabbitmq", release, nodes, site).run())
    try:
        await asyncio.to_thread(serve_sizes, cluster, is_stopped)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def announced_listener(node: LaunchedNode) -> EngineNode:
    """Where tenants come in: on a node with TLS the plain ports are for the loopback's own (gateway, authority)."""
    if node.tls is None:
        return EngineNode(name=node.name, port=node.mqtt_port)
    return EngineNode(name=node.name, kind=ListenerKind.MQTTS, port=node.tls.ports.mqtts, mutual=node.tls.is_mutual)
