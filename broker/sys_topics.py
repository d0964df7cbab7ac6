"""The `$SYS/broker/…` tree: names as users of Mosquitto know them where the meaning is the same. Readable by ADMIN
alone (policy).
"""

from collections.abc import Iterator
from importlib import metadata

from broker.addresses.control import figures_of
from broker.engine import Engine
from broker.statistics import Statistics
from meshwire.topics import BROKER_FIGURES

__all__ = ["sys_topics"]


def sys_topics(engine: Engine, statistics: Statistics, uptime_s: float) -> Iterator[tuple[str, str]]:
    """(topic, text) of every figure; the counters count from the start of the broker."""
    figures: dict[str, int | str] = {
        "version": f"meshwire {metadata.version('meshwire')}",
        "uptime": f"{int(uptime_s)} seconds",
        "clients/connected": statistics.clients_connected,
        "clients/disconnected": len(engine.sessions) - statistics.clients_connected,
        "clients/total": len(engine.sessions),
        "connections/open": statistics.connections_open,
        "bytes/received": statistics.octets_received,
        "bytes/sent": statistics.octets_sent,
        "publish/messages/received": sum(statistics.messages_received),
        "publish/messages/sent": sum(statistics.messages_sent),
        "publish/messages/dropped": sum(statistics.drops.values()),
        "retained messages/count": len(engine.retained),
        "subscriptions/count": len(engine.subscriptions),
        "subscriptions/refused": statistics.subscriptions_refused,
    }
    figures |= _queues(engine)
    figures |= _addresses(engine)
    figures |= {
        "publish/bytes/received": sum(statistics.payload_octets_received),
        "publish/bytes/sent": sum(statistics.payload_octets_sent),
        "store/commits": statistics.commits,
        "connections/paused": statistics.pauses,
    }
    for qos in range(3):
        figures[f"publish/bytes/received/qos{qos}"] = statistics.payload_octets_received[qos]
        figures[f"publish/bytes/sent/qos{qos}"] = statistics.payload_octets_sent[qos]
        figures[f"publish/messages/received/qos{qos}"] = statistics.messages_received[qos]
        figures[f"publish/messages/sent/qos{qos}"] = statistics.messages_sent[qos]
    figures |= {f"publish/messages/dropped/{reason}": count for reason, count in statistics.drops.items()}
    figures |= {f"connections/ended/{reason}": count for reason, count in statistics.endings.items()}
    figures |= {f"connections/refused/{cause}": count for cause, count in statistics.logins_refused.items()}
    figures |= {f"hooks/failures/{name}": count for name, count in engine.hooks.failures.items()}
    for name, value in figures.items():
        yield f"{BROKER_FIGURES}/{name}", str(value)


def _queues(engine: Engine) -> dict[str, int | str]:
    """Depths: of all clients together, of the longest queue, and by tenant."""
    total = engine.tenants.total
    figures: dict[str, int | str] = {
        "queues/messages": total.queued_messages,
        "queues/bytes": total.queued_octets,
        "queues/level": f"{engine.tenants.level:.3f}",
        "queues/longest": max((len(session.queue) for session in engine.sessions.values()), default=0),
        "queues/inflight": sum(session.inflight_count for session in engine.sessions.values()),
    }
    for tenant, account in engine.tenants.items():
        figures[f"tenants/{tenant}/connections"] = account.connections
        figures[f"tenants/{tenant}/queued messages"] = account.queued_messages
        figures[f"tenants/{tenant}/queued bytes"] = account.queued_octets
    return figures


def _addresses(engine: Engine) -> dict[str, int | str]:
    """What addresses hold and have counted."""
    figures: dict[str, int | str] = {}
    for live in engine.addresses:
        for name, value in figures_of(live).items():
            figures[f"addresses/{live.address.tenant}/{live.address.name}/{name}"] = value
    return figures
