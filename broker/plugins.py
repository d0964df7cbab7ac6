"""Custom code on the broker's events: connect, disconnect, publish, subscribe, delivered, dropped.

Decides how hooks are found (entry points of group `meshwire.broker.hooks`, those that the configuration names), how
they are called, and that a hook that fails harms nobody: its exception is logged and counted, the message goes on.
Hooks are called in the event loop and must return at once; what takes time belongs into a queue and a thread of their
own. They see what happens; they do not decide: who may do what is the policy's business.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Final

import structlog

from broker.errors import HookError

__all__ = ["BrokerHook", "Client", "Hooks", "load_hooks"]

GROUP: Final = "meshwire.broker.hooks"
CONTAINED: Final = (Exception, SystemExit, asyncio.CancelledError)
"""What foreign code may raise without harm: by the last two it would end the broker, or half of a loop turn."""
LOGGED_EVERY: Final = 1_000
"""Of the failures of one hook and event, the first and then each so many-th is worth a line in the log."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Client:
    """Whose session an event is about."""

    tenant: str
    client_id: str
    login: str
    """password, token or certificate."""


class BrokerHook:
    """Derive from this and override what is of interest; the rest costs nothing."""

    def on_connect(self, client: Client) -> None:
        """A client was accepted; its CONNACK is on its way."""

    def on_disconnect(self, client: Client, reason: str) -> None:
        """Its connection is gone: `client` (it said good-bye), `network`, or why the broker ended it."""

    def on_subscribe(self, client: Client, topic_filter: str, qos: int) -> None:
        """A subscription was granted."""

    def on_publish(self, client: Client | None, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """A message was accepted, before it is handed to subscribers; None: a will or a message of the broker."""

    def on_delivered(self, client: Client, topic: str, qos: int) -> None:
        """A client acknowledged a message (QoS 1, 2), or it was written to its connection (QoS 0)."""

    def on_dropped(self, client: Client | None, topic: str | None, reason: str, count: int) -> None:
        """Messages did not reach a client, or nobody at all (client None); reasons are those of the statistics."""


EVENTS: Final = ("connect", "disconnect", "subscribe", "publish", "delivered", "dropped")


class Hooks:
    """All hooks of a broker.

    Args:
        hooks: by name; each event goes to those that override its method, in this order.
    """

    def __init__(self, hooks: Mapping[str, BrokerHook] | None = None) -> None:
        self.failures: Counter[str] = Counter()
        """By `name/event`."""
        self._hooks = dict(hooks or {})
        listeners = {event: self._listeners(event) for event in EVENTS}
        self.connect: Sequence[tuple[str, Callable[..., None]]] = listeners["connect"]
        self.disconnect: Sequence[tuple[str, Callable[..., None]]] = listeners["disconnect"]
        self.subscribe: Sequence[tuple[str, Callable[..., None]]] = listeners["subscribe"]
        self.publish: Sequence[tuple[str, Callable[..., None]]] = listeners["publish"]
        self.delivered: Sequence[tuple[str, Callable[..., None]]] = listeners["delivered"]
        self.dropped: Sequence[tuple[str, Callable[..., None]]] = listeners["dropped"]

    def _listeners(self, event: str) -> tuple[tuple[str, Callable[..., None]], ...]:
        method = f"on_{event}"
        inherited = getattr(BrokerHook, method)
        return tuple(
            (f"{name}/{event}", getattr(hook, method))
            for name, hook in self._hooks.items()
            if getattr(type(hook), method, inherited) is not inherited
        )

    def fire(self, listeners: Sequence[tuple[str, Callable[..., None]]], *arguments: object) -> None:
        """Calls one event's listeners; none of them can do harm by raising."""
        for name, listener in listeners:
            try:
                listener(*arguments)
            except CONTAINED as error:  # the top of foreign code
                self.failures[name] += 1
                if self.failures[name] % LOGGED_EVERY == 1:
                    _log.warning("hook failed", hook=name, failures=self.failures[name], error=repr(error))


def load_hooks(wanted: Mapping[str, Mapping[str, object]]) -> dict[str, BrokerHook]:
    """Makes the hooks that the configuration names.

    Args:
        wanted: by entry point name, with the keyword arguments of its factory.

    Raises:
        HookError: there is no such entry point, or it can't be made.
    """
    known = {item.name: item for item in metadata.entry_points(group=GROUP)}
    hooks: dict[str, BrokerHook] = {}
    for name, arguments in wanted.items():
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise HookError(
                "there is no such hook",
                evidence=f"{name}; installed: {there}",
                fix=f"install the package with this entry point of group {GROUP}",
            )
        try:
            hook = known[name].load()(**arguments)
        except CONTAINED as error:  # the top of foreign code
            raise HookError("a hook can't be made", evidence=f"{name}: {error!r}", fix="see its package") from error
        hooks[name] = hook
    return hooks
