"""What the load client is to do, and what came of it."""

from __future__ import annotations

import resource
from dataclasses import dataclass

__all__ = ["Job", "LoadError", "Outcome", "processor_s"]


class LoadError(Exception):
    """The broker lost, repeated or reordered a message, or stopped."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do to the broker at 127.0.0.1:`port`.

    Args:
        publishers: each to a topic of its own.
        subscribers: each to all topics.
        window: messages one publisher has on the way at most.
        seconds: duration of the measurement, after `warm_up_s`.
        foreign_filters: subscriptions of one more client that match nothing.
        idle: clients that only stay connected; then nothing is published and `seconds` is how long they stay.
        keep_session: the subscriber connects with Clean Session 0.
        ping: one message at a time, its round trips are reported in ms.
        certificates: folder with `ca.crt`, `client.crt` and `client.key`; then connections with mutual TLS are made and
            ended, several at a time, and `messages` counts them.
    """

    port: int
    qos: int = 0
    publishers: int = 1
    subscribers: int = 1
    window: int = 1_000
    seconds: float = 1.0
    warm_up_s: float = 0.3
    foreign_filters: int = 0
    idle: int = 0
    keep_session: bool = False
    ping: bool = False
    certificates: str | None = None
    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Args:
        messages: delivered during the measurement, over all subscribers.
        seconds: how long it was.
        client_load: share of its core this process used.
        p50_ms, p99_ms: of the round trips of a ping job.
    """

    messages: int
    seconds: float
    client_load: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0


def processor_s() -> float:
    """Processor time this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
