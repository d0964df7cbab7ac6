"""What the feed of a whole gateway looks at: its broker, the instances, its alarms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from gateway.console.alarms import alarms
from gateway.console.pulse import Pulse
from gateway.messaging.service import MessagingService

__all__ = ["site_alarms", "site_states"]


def site_states(status: Callable[[], Mapping[str, Any]], messaging: MessagingService) -> Mapping[str, dict[str, Any]]:
    """The broker and each messaging instance, as connections tell of them; asks the database."""
    bridge = status()["bridge"]
    states: dict[str, dict[str, Any]] = {}
    if bridge["enabled"]:
        states["broker"] = {"state": "connected" if bridge["connected"] else "away"}
    for each in messaging.instance_states():
        clients = sum(node.clients for node in each.nodes)
        states[f"instance {each.instance.name}"] = {"state": each.state, "clients": clients}
    return states


def site_alarms(pulse: Pulse, offline: int) -> Mapping[str, dict[str, Any]]:
    """What deserves attention now, with evidence and what to do."""
    sample = pulse.samples[-1] if pulse.samples else pulse.take()
    return {alarm.what: asdict(alarm) for alarm in alarms(sample, offline)}
