"""A trial cluster in the list of instances: its nodes are announced while they take connections, new ones as well."""

import asyncio
from collections.abc import Callable

from broker.adapters.rabbitmq.nodes import PrivateCluster
from broker.adapters.rabbitmq.scaling import serve_sizes
from broker.authority.nodes import NodeWatch
from broker.authority.settings import EngineNode
from meshwire.site import Site

__all__ = ["serve_announced"]


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
        return [EngineNode(name=node.name, port=node.mqtt_port) for node in list(cluster.nodes)]

    watching = asyncio.create_task(NodeWatch(instance, "rabbitmq", release, nodes, site).run())
    try:
        await asyncio.to_thread(serve_sizes, cluster, is_stopped)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
