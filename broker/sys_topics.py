"""The `$SYS/broker/…` tree: what Mosquitto tells, under its names and with its meaning, and what only we know besides.
Readable by ADMIN and OPERATOR alone (policy).
"""

from collections.abc import Iterator
from importlib import metadata

from broker.addresses.control import figures_of
from broker.engine import Engine
from broker.load import Load
from broker.statistics import Statistics
from meshwire.topics import BROKER_FIGURES

__all__ = ["SysTopics"]

Figures = dict[str, int | str]


class SysTopics:
    """See the module.

    Args:
        engine: holds sessions, subscriptions, retained messages, tenants, addresses.
        statistics: counters; they count from the start of the broker.
    """

    def __init__(self, engine: Engine, statistics: Statistics) -> None:
        self._engine = engine
        self._statistics = statistics
        self._loads: dict[str, Load] = {}
        self._told_at_s = 0.0
        self._version = f"meshwire {metadata.version('meshwire')}"

    def tell(self, uptime_s: float) -> Iterator[tuple[str, str]]:
        """(topic, text) of every figure, `uptime_s` after the start; to be called every now and then, as loads are
        reckoned from call to call.
        """
        figures: Figures = {"version": self._version, "uptime": f"{int(uptime_s)} seconds"}
        figures |= self._clients()
        figures |= self._messages()
        figures |= self._load(uptime_s)
        figures |= self._connections()
        figures |= _queues(self._engine)
        figures |= _addresses(self._engine)
        for name, value in figures.items():
            yield f"{BROKER_FIGURES}/{name}", str(value)

    def _clients(self) -> Figures:
        """Sessions: of the connected, and of those that are away."""
        statistics, total = self._statistics, len(self._engine.sessions)
        connected = statistics.clients_connected
        return {
            "clients/total": total,
            "clients/connected": connected,
            "clients/active": connected,
            "clients/disconnected": total - connected,
            "clients/inactive": total - connected,
            "clients/maximum": statistics.clients_maximum,
            "clients/expired": statistics.sessions_expired,
        }

    def _messages(self) -> Figures:
        """Packets, messages among them, and what is held for somebody."""
        engine, statistics = self._engine, self._statistics
        inflight = sum(session.inflight_count for session in engine.sessions.values())
        stored = len(engine.retained) + engine.tenants.total.queued_messages + inflight
        shared = engine.subscriptions.tree.shared_count
        figures: Figures = {
            "messages/received": statistics.packets_received,
            "messages/sent": statistics.packets_sent,
            "messages/stored": stored,
            "store/messages/count": stored,
            "store/commits": statistics.commits,
            "bytes/received": statistics.octets_received,
            "bytes/sent": statistics.octets_sent,
            "publish/messages/received": sum(statistics.messages_received),
            "publish/messages/sent": sum(statistics.messages_sent),
            "publish/messages/dropped": statistics.dropped_at_bounds,
            "publish/bytes/received": sum(statistics.payload_octets_received),
            "publish/bytes/sent": sum(statistics.payload_octets_sent),
            "retained messages/count": len(engine.retained),
            "subscriptions/count": len(engine.subscriptions.tree) - shared,
            "shared_subscriptions/count": shared,
            "subscriptions/refused": statistics.subscriptions_refused,
            "queues/inflight": inflight,
        }
        for qos in range(3):
            figures[f"publish/bytes/received/qos{qos}"] = statistics.payload_octets_received[qos]
            figures[f"publish/bytes/sent/qos{qos}"] = statistics.payload_octets_sent[qos]
            figures[f"publish/messages/received/qos{qos}"] = statistics.messages_received[qos]
            figures[f"publish/messages/sent/qos{qos}"] = statistics.messages_sent[qos]
        figures |= {f"publish/messages/dropped/{reason}": count for reason, count in statistics.drops.items()}
        return figures

    def _load(self, uptime_s: float) -> Figures:
        """Events per minute."""
        statistics = self._statistics
        counters = {
            "messages/received": statistics.packets_received,
            "messages/sent": statistics.packets_sent,
            "publish/received": sum(statistics.messages_received),
            "publish/sent": sum(statistics.messages_sent),
            "publish/dropped": statistics.dropped_at_bounds,
            "bytes/received": statistics.octets_received,
            "bytes/sent": statistics.octets_sent,
            "connections": statistics.connects_received,
            "sockets": statistics.connections_accepted,
        }
        elapsed_s, self._told_at_s = uptime_s - self._told_at_s, uptime_s
        figures: Figures = {}
        for name, count in counters.items():
            load = self._loads.setdefault(name, Load())
            if elapsed_s > 0.0:
                load.update(count, elapsed_s)
            figures |= {f"load/{name}/{period}": f"{average:.2f}" for period, average in load.averages.items()}
        return figures

    def _connections(self) -> Figures:
        """How connections stand, and why they ended or were refused."""
        statistics, failures = self._statistics, self._engine.hooks.failures
        figures: Figures = {
            "connections/open": statistics.connections_open,
            "connections/paused": statistics.pauses,
        }
        figures |= {f"connections/ended/{reason}": count for reason, count in statistics.endings.items()}
        figures |= {f"connections/refused/{cause}": count for cause, count in statistics.logins_refused.items()}
        figures |= {f"hooks/failures/{name}": count for name, count in failures.items()}
        return figures


def _queues(engine: Engine) -> Figures:
    """Depths: of all clients together, of the longest queue, and by tenant."""
    total = engine.tenants.total
    figures: Figures = {
        "queues/messages": total.queued_messages,
        "queues/bytes": total.queued_octets,
        "queues/level": f"{engine.tenants.level:.3f}",
        "queues/longest": max((len(session.queue) for session in engine.sessions.values()), default=0),
    }
    for tenant, account in engine.tenants.items():
        figures[f"tenants/{tenant}/connections"] = account.connections
        figures[f"tenants/{tenant}/queued messages"] = account.queued_messages
        figures[f"tenants/{tenant}/queued bytes"] = account.queued_octets
    return figures


def _addresses(engine: Engine) -> Figures:
    """What addresses hold and have counted."""
    figures: Figures = {}
    for live in engine.addresses:
        for name, value in figures_of(live).items():
            figures[f"addresses/{live.address.tenant}/{live.address.name}/{name}"] = value
    return figures
