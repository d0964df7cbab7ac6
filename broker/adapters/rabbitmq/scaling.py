"""Growing and shrinking a RabbitMQ cluster on this machine while it runs, and the rule that says when.

The process that runs the nodes (`meshwire instance trial`) is their parent and does the work, one node at a time;
whoever wants another size writes it into the cluster's folder and waits for the answer there.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.adapters.errors import EngineError
from broker.adapters.rabbitmq.nodes import SMALLEST_CLUSTER, PrivateCluster

__all__ = ["Capacity", "Load", "ask_for_size", "serve_sizes", "wanted_nodes"]

WANTED: Final = "wanted.json"
STATE: Final = "cluster.json"
LOOK_S: Final = 0.2
LARGEST_CLUSTER: Final = 7
CAPACITY_LEFT: Final = 0.5
"""A node is taken away only when the others would be loaded no more than this."""


# --- the rule -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a cluster, averaged over some minutes."""

    messages_per_s: float
    """Published and delivered together."""
    connections: int
    memory: float = 0.0
    """Of the fullest node, as a fraction of its high watermark; above it RabbitMQ stops all publishers."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one node is to carry at most; measure yours, these are cautious."""

    messages_per_s: float = 5_000.0
    connections: int = 10_000
    memory: float = 0.7
    """One node more is wanted when the fullest has more than that."""


def wanted_nodes(load: Load, nodes: int, capacity: Capacity = Capacity()) -> int:
    """How many nodes there should be: one more while any is overloaded, one fewer when the rest would be half idle.

    One step at a time, because each copies queues and so adds load; and with a wide gap between the two thresholds, so
    that a load at the border does not make the cluster swing.

    Args:
        load: of the whole cluster.
        nodes: there are now.
        capacity: of one node.
    """
    share = max(load.messages_per_s / capacity.messages_per_s, load.connections / capacity.connections)
    if nodes < SMALLEST_CLUSTER:
        return SMALLEST_CLUSTER
    if share > nodes or load.memory > capacity.memory:
        return min(nodes + 1, LARGEST_CLUSTER)
    fits = math.ceil(share / CAPACITY_LEFT) <= nodes - 1 and load.memory <= capacity.memory * CAPACITY_LEFT
    return nodes - 1 if fits and nodes > SMALLEST_CLUSTER else nodes


# --- doing it -------------------------------------------------------------------------------------------------------


def write_state(cluster: PrivateCluster, error: str = "") -> None:
    """For whoever asks: the nodes there are, and why there are no others."""
    nodes = [
        {
            "name": node.name,
            "mqtt_port": node.mqtt_port,
            "web_mqtt_port": node.web_mqtt_port,
            "amqp_port": node.amqp_port,
        }
        for node in cluster.nodes
    ]
    _write(cluster.folder / STATE, {"size": len(cluster.nodes), "nodes": nodes, "error": error})


def serve_sizes(cluster: PrivateCluster, is_stopped: Callable[[float], bool]) -> None:
    """Gives the cluster the size that is asked for, until stopped.

    Args:
        cluster: started.
        is_stopped: waits so many seconds; True: end.
    """
    wanted = cluster.folder / WANTED
    wanted.unlink(missing_ok=True)
    write_state(cluster)
    while not is_stopped(LOOK_S):
        if wanted.exists():
            size = int(json.loads(wanted.read_text())["size"])
            try:
                _step_to(cluster, size)
                write_state(cluster)
            except EngineError as error:
                write_state(cluster, str(error))
            wanted.unlink()


def _step_to(cluster: PrivateCluster, size: int) -> None:
    while len(cluster.nodes) < size:
        cluster.add_node()
    while len(cluster.nodes) > size:
        cluster.remove_node(cluster.nodes[-1])


def ask_for_size(folder: Path, size: int, timeout_s: float) -> list[dict[str, object]]:
    """Asks the process that runs the nodes for another size, and waits; returns the nodes as that process knows them.

    Raises:
        EngineError: nobody runs a cluster there, it does not get done in time, or a step failed.
    """
    state = folder / STATE
    if not state.exists():
        raise EngineError(
            "no cluster is run from this folder",
            evidence=str(folder),
            fix="start `meshwire instance trial --directory` with it",
            code="MW-ENG-007",
        )
    _write(folder / WANTED, {"size": size})
    end = time.monotonic() + timeout_s
    while (folder / WANTED).exists():
        if time.monotonic() > end:
            raise EngineError(
                "the cluster has not got its size in time", evidence=f"{timeout_s:.0f} s", code="MW-ENG-007"
            )
        time.sleep(LOOK_S)
    told = json.loads(state.read_text())
    if told["error"]:
        raise EngineError("the cluster has not got its size", evidence=told["error"], code="MW-ENG-009")
    nodes: list[dict[str, object]] = told["nodes"]
    return nodes


def _write(path: Path, value: object) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(value))
    draft.replace(path)
