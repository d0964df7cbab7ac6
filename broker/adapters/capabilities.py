"""What each broker can do, as one table, and the check that refuses a setting which the chosen broker can't honour.

A row is a feature, a cell says whether the broker has it, how, and whether that was tried here or is read in its
documentation. Only settings that were written down are checked: a default asks for nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from broker.adapters.errors import EngineRefuses
from broker.tenants import Plan

__all__ = ["CAPABILITIES", "Cell", "Engine", "Feature", "Refused", "Source", "check", "refusals"]


class Engine(StrEnum):
    """A broker and its release."""

    EMBEDDED = "embedded"
    MOSQUITTO = "mosquitto-2.0"
    RABBITMQ_3 = "rabbitmq-3.10"
    RABBITMQ_4 = "rabbitmq-4"
    EMQX = "emqx-5"
    HIVEMQ = "hivemq"
    VERNEMQ = "vernemq"


class Feature(StrEnum):
    """What may be asked of a broker; the value is what a person reads."""

    PASSWORD = "user and password"
    TOKEN = "JWT in the password field"
    REFUSED_SUBSCRIBE = "a refused SUBSCRIBE is told"
    REFUSED_PUBLISH = "a refused PUBLISH is told"
    QOS_2 = "QoS 2"
    MQTT_5 = "MQTT 5"
    SHARED = "shared subscriptions"
    DISCARD_NEW = "full queue drops the newest"
    DISCARD_OLDEST = "full queue drops the oldest"
    QOS_0_NOT_KEPT = "QoS 0 is not kept for an absent client"
    RETAINED_WILDCARD = "retained messages for wildcard subscriptions"
    DOLLAR_TOPICS = "wildcards spare $-topics"
    SURVIVES_RESTART = "sessions survive a restart"
    COMMIT_BEFORE_ACK = "stored before it is acknowledged"
    CLUSTER = "several nodes"
    RETAINED_CLUSTER = "retained messages on all nodes"
    LIVE_REVOCATION = "a revoked right ends live connections"
    PLANS = "plans of tenants"
    HOOKS = "hooks in Python"


class Source(StrEnum):
    """How we know."""

    TESTED = "tested"
    DOCUMENTED = "documentation"


@dataclass(frozen=True, slots=True)
class Cell:
    """One broker, one feature."""

    can: bool
    how: str = ""
    source: Source = Source.DOCUMENTED

    def __str__(self) -> str:
        answer = "yes" if self.can else "no"
        return f"{answer}: {self.how}" if self.how else answer


def _tested(can: bool, how: str = "") -> Cell:
    return Cell(can, how, Source.TESTED)


_F = Feature
_YES: Final = Cell(True)
_OURS: Final = {
    _F.PLANS: Cell(False, "the authority does not count connections and messages", Source.TESTED),
    _F.HOOKS: Cell(False, "they are called in the embedded broker's process", Source.TESTED),
}
"""What the embedded broker alone has."""

_EMBEDDED: Final = {
    **dict.fromkeys(Feature, _tested(True)),
    _F.REFUSED_PUBLISH: _tested(True, "MQTT 5: reason 0x87; 3.1.1: acknowledged and dropped"),
    _F.CLUSTER: _tested(False, "one process; move to RabbitMQ"),
    _F.RETAINED_CLUSTER: _tested(False, "one process"),
}
_MOSQUITTO: Final = {
    **dict.fromkeys(Feature, _tested(True)),
    **_OURS,
    _F.PASSWORD: _tested(True, "dynamic security"),
    _F.TOKEN: _tested(False, "the authority exchanges a token for a short-lived user; or mosquitto-go-auth"),
    _F.REFUSED_PUBLISH: _tested(False, "acknowledged and dropped"),
    _F.DISCARD_OLDEST: _tested(False, "it drops the newest only"),
    _F.SURVIVES_RESTART: _tested(True, "a snapshot every autosave_interval"),
    _F.COMMIT_BEFORE_ACK: _tested(False, "what came after the last snapshot is lost with a crash"),
    _F.CLUSTER: _tested(False, "one process"),
    _F.RETAINED_CLUSTER: _tested(False, "one process"),
    _F.LIVE_REVOCATION: _tested(True, "the authority changes users and roles on $CONTROL"),
}
_RABBITMQ_3: Final = {
    **_OURS,
    _F.PASSWORD: _tested(True, "authority"),
    _F.TOKEN: _tested(True, "authority"),
    _F.REFUSED_SUBSCRIBE: _tested(False, "it closes the connection"),
    _F.REFUSED_PUBLISH: _tested(False, "it closes the connection"),
    _F.QOS_2: _tested(False, "it acknowledges QoS 2 as QoS 1"),
    _F.MQTT_5: _tested(False, "3.1 and 3.1.1 only"),
    _F.SHARED: _tested(False, "it takes $share/… for a topic; the authority refuses it"),
    _F.DISCARD_NEW: _tested(False, "refusing the newest would close its publisher's connection"),
    _F.DISCARD_OLDEST: _tested(True, "policy max-length, overflow drop-head"),
    _F.QOS_0_NOT_KEPT: _tested(False, "a QoS 1 subscription keeps QoS 0 messages, too"),
    _F.RETAINED_WILDCARD: _tested(False, "only a subscription without wildcards gets them"),
    _F.DOLLAR_TOPICS: _tested(False, "# and + match $-topics; the authority refuses to publish there"),
    _F.SURVIVES_RESTART: _tested(True),
    _F.COMMIT_BEFORE_ACK: _tested(True, "quorum queues"),
    _F.CLUSTER: _tested(True, "quorum queues"),
    _F.RETAINED_CLUSTER: _tested(False, "each node has its own"),
    _F.LIVE_REVOCATION: _tested(True, "the authority takes the client id over"),
}
_RABBITMQ_4: Final = {
    **{feature: Cell(cell.can, cell.how) for feature, cell in _RABBITMQ_3.items()},
    _F.QOS_2: Cell(False, "a QoS 2 publisher is disconnected, reason 0x9B"),
    _F.MQTT_5: _YES,
    _F.SHARED: Cell(False, "it has none"),
    _F.QOS_0_NOT_KEPT: Cell(True, "own queue type"),
}
_HOOKED: Final = {
    **dict.fromkeys(Feature, _YES),
    **{feature: Cell(cell.can, cell.how) for feature, cell in _OURS.items()},
    _F.COMMIT_BEFORE_ACK: Cell(False, "not found in its documentation"),
}
_EMQX: Final = {
    **_HOOKED,
    _F.PASSWORD: Cell(True, "authority"),
    _F.TOKEN: Cell(True, "authority"),
    _F.DISCARD_NEW: Cell(False, "it drops the oldest"),
    _F.QOS_0_NOT_KEPT: Cell(True, "mqueue_store_qos0 = false"),
    _F.SURVIVES_RESTART: Cell(True, "durable sessions"),
    _F.LIVE_REVOCATION: Cell(True, "expire_at ends tokens; the authority takes the client id over"),
}
_HIVEMQ: Final = {
    **_HOOKED,
    _F.PASSWORD: Cell(True, "File RBAC extension, or the enterprise security extension"),
    _F.TOKEN: Cell(False, "needs the enterprise security extension"),
    _F.DISCARD_OLDEST: Cell(True, "strategy discard-oldest"),
    _F.LIVE_REVOCATION: Cell(False, "a changed file holds for new connections"),
}
_VERNEMQ: Final = {
    **_HOOKED,
    _F.PASSWORD: Cell(True, "authority"),
    _F.TOKEN: Cell(True, "authority"),
    _F.DISCARD_OLDEST: Cell(False, "it drops the newest"),
    _F.LIVE_REVOCATION: Cell(True, "asked for each message; the authority takes the client id over"),
}

CAPABILITIES: Final[Mapping[Engine, Mapping[Feature, Cell]]] = MappingProxyType(
    {
        Engine.EMBEDDED: _EMBEDDED,
        Engine.MOSQUITTO: _MOSQUITTO,
        Engine.RABBITMQ_3: _RABBITMQ_3,
        Engine.RABBITMQ_4: _RABBITMQ_4,
        Engine.EMQX: _EMQX,
        Engine.HIVEMQ: _HIVEMQ,
        Engine.VERNEMQ: _VERNEMQ,
    }
)

_COUNTED: Final = tuple(bound for bound in Plan.model_fields if bound != "max_addresses")
"""Bounds of a plan that the broker itself has to watch."""

_ASKS: Final[tuple[tuple[str, str | None, Feature], ...]] = (
    ("gateway.bridge.default_message_qos", "EXACTLY_ONCE", Feature.QOS_2),
    ("broker.limits.when_queue_is_full", "discard-new", Feature.DISCARD_NEW),
    ("broker.limits.when_queue_is_full", "discard-oldest", Feature.DISCARD_OLDEST),
    ("broker.durability", "fsync", Feature.COMMIT_BEFORE_ACK),
    ("broker.durability", "os", Feature.COMMIT_BEFORE_ACK),
    ("broker.default_token_roles", None, Feature.TOKEN),
    ("broker.tenant_default_token_roles", None, Feature.TOKEN),
    *((f"broker.default_plan.{bound}", None, Feature.PLANS) for bound in _COUNTED),
    *((f"broker.plan.*.{bound}", None, Feature.PLANS) for bound in _COUNTED),
    ("broker.hook", None, Feature.HOOKS),
)
"""Setting, the value that asks (None: any), what it asks for; `*` stands for any tenant."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A setting that can't be honoured."""

    setting: str
    feature: Feature
    reason: str

    def __str__(self) -> str:
        return f"{self.setting} asks for {self.feature.value!r}: {self.reason}"


def refusals(engine: Engine, tree: Mapping[str, object]) -> list[Refused]:
    """Every setting of a configuration that the broker can't honour.

    Args:
        engine: the broker.
        tree: what `meshwire.config.load_config` gave.
    """
    found: list[Refused] = []
    for pattern, value, feature in _ASKS:
        cell = CAPABILITIES[engine][feature]
        for setting, written in _lookup(tree, pattern):
            asks = written not in (None, {}, [], "") if value is None else written == value
            if asks and not cell.can:
                reason = f"{engine.value}: {cell.how or 'it has none'}"
                found.append(Refused(f"{setting} = {written!r}", feature, reason))
    return found


def check(engine: Engine, tree: Mapping[str, object]) -> None:
    """Raises EngineRefuses with every setting that the broker can't honour."""
    refused = refusals(engine, tree)
    if refused:
        raise EngineRefuses(
            f"{engine.value} can't honour the configuration",
            evidence="; ".join(map(str, refused)),
            fix="change these settings, or choose another broker (`meshwire instance show`)",
        )


def _lookup(tree: object, pattern: str, place: str = "") -> Iterator[tuple[str, object]]:
    """Every setting that a pattern stands for, with its value."""
    if not isinstance(tree, Mapping):
        return
    key, _, rest = pattern.partition(".")
    for name in list(tree) if key == "*" else [key]:
        value, where = tree.get(name), f"{place}{name}"
        if rest:
            yield from _lookup(value, rest, f"{where}.")
        else:
            yield where, value
