"""Addresses on RabbitMQ: from our definitions to its queues, bindings and arguments. Pure.

Decides what each type is there. MQTT and AMQP 1.0 meet at one topic exchange, where `/` is `.`: a message for an
address goes there whoever sends it. A queue and an anycast address are a queue bound to it, which AMQP 1.0 receivers
share; topic and multicast need no queue of their own, for every subscription makes one.
"""

from collections.abc import Iterable
from typing import Final

from broker.addresses.address import Address, AddressType

__all__ = ["EXCHANGE", "address_definitions", "routing_key"]

EXCHANGE: Final = "amq.topic"
VHOST: Final = "/"

Record = dict[str, object]


def routing_key(topic_filter: str) -> str:
    """The AMQP routing or binding key of an MQTT topic or filter."""
    return topic_filter.replace("/", ".").replace("+", "*")


def address_definitions(addresses: Iterable[Address], *, replicated: bool = False) -> Record:
    """`queues` and `bindings` of a definitions file; empty for no addresses.

    Args:
        replicated: for several nodes; a stored queue then lives on each of them.
    """
    listed = [item for item in addresses if item.type.is_competing]
    if not listed:
        return {}
    return {"queues": [_queue(item, replicated) for item in listed], "bindings": [_binding(item) for item in listed]}


def _queue(address: Address, replicated: bool) -> Record:
    arguments: Record = {}
    if address.type is AddressType.ANYCAST:
        arguments["x-message-ttl"] = 0  # a message that no receiver has credit for ends at once
    else:
        # Refusing the newest would cut its sender off, over MQTT as over AMQP 1.0, and that may be everybody's gateway.
        arguments |= {"x-max-length": address.max_messages, "x-overflow": "drop-head"}
        arguments["x-max-length-bytes"] = address.max_octets
        if address.max_ttl_s is not None:
            arguments["x-message-ttl"] = address.max_ttl_s * 1000
        if replicated:
            arguments |= {"x-queue-type": "quorum", "x-delivery-limit": address.max_deliveries}
    if address.dead_letter is not None:
        target = Address(tenant=address.tenant, name=address.dead_letter, type=AddressType.QUEUE)
        arguments |= {"x-dead-letter-exchange": EXCHANGE, "x-dead-letter-routing-key": routing_key(target.topic_filter)}
    name = routing_key(address.topic_filter)
    return {"name": name, "vhost": VHOST, "durable": True, "auto_delete": False, "arguments": arguments}


def _binding(address: Address) -> Record:
    key = routing_key(address.topic_filter)
    place: Record = {"source": EXCHANGE, "vhost": VHOST, "destination": key, "destination_type": "queue"}
    return {**place, "routing_key": key, "arguments": {}}
