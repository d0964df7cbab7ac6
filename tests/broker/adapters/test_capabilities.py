"""What each broker can do, and the refusal of settings that it can't honour."""

import pytest

from broker.adapters.capabilities import CAPABILITIES, Engine, Feature, Source, check, refusals
from broker.adapters.errors import EngineRefuses
from meshwire.errors import ExitCode

EXACTLY_ONCE = {"gateway": {"bridge": {"default_message_qos": "EXACTLY_ONCE"}}}
DISCARD_NEW = {"broker": {"limits": {"when_queue_is_full": "discard-new"}}}
DISCARD_OLDEST = {"broker": {"limits": {"when_queue_is_full": "discard-oldest"}}}
FSYNC = {"broker": {"durability": "fsync"}}
DEFAULT_ROLES = {"broker": {"default_token_roles": ["BUBBLE_UP_READ_CONSUMER"]}}


def test_every_broker_has_a_cell_for_every_feature() -> None:
    assert set(CAPABILITIES) == set(Engine)
    for engine, cells in CAPABILITIES.items():
        assert set(cells) == set(Feature), engine


def test_every_no_says_why() -> None:
    for engine, cells in CAPABILITIES.items():
        assert [feature for feature, cell in cells.items() if not cell.can and not cell.how] == [], engine


def test_only_brokers_that_run_here_are_called_tested() -> None:
    tested = {
        engine for engine, cells in CAPABILITIES.items() if any(c.source is Source.TESTED for c in cells.values())
    }
    assert tested == {Engine.EMBEDDED, Engine.MOSQUITTO, Engine.RABBITMQ_3}


@pytest.mark.parametrize(
    ("engine", "tree", "feature"),
    [
        (Engine.RABBITMQ_3, EXACTLY_ONCE, Feature.QOS_2),
        (Engine.RABBITMQ_4, EXACTLY_ONCE, Feature.QOS_2),
        (Engine.RABBITMQ_3, DISCARD_NEW, Feature.DISCARD_NEW),
        (Engine.EMQX, DISCARD_NEW, Feature.DISCARD_NEW),
        (Engine.MOSQUITTO, DISCARD_OLDEST, Feature.DISCARD_OLDEST),
        (Engine.MOSQUITTO, FSYNC, Feature.COMMIT_BEFORE_ACK),
        (Engine.MOSQUITTO, DEFAULT_ROLES, Feature.TOKEN),
        (Engine.HIVEMQ, DEFAULT_ROLES, Feature.TOKEN),
        (Engine.RABBITMQ_3, {"broker": {"plan": {"acme": {"max_connections": 0}}}}, Feature.PLANS),
        (Engine.MOSQUITTO, {"broker": {"default_plan": {"max_messages_per_s": 5.0}}}, Feature.PLANS),
        (Engine.EMQX, {"broker": {"hook": {"notes": {}}}}, Feature.HOOKS),
    ],
)
def test_a_setting_that_cant_be_honoured_is_refused_with_the_reason(
    engine: Engine, tree: dict[str, object], feature: Feature
) -> None:
    (refused,) = refusals(engine, tree)
    assert refused.feature is feature
    assert engine.value in refused.reason
    with pytest.raises(EngineRefuses) as caught:
        check(engine, tree)
    assert caught.value.exit_code is ExitCode.CONFIGURATION
    assert feature.value in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "tree"),
    [
        (Engine.RABBITMQ_3, {}),
        (Engine.RABBITMQ_3, {"gateway": {"bridge": {"default_message_qos": "AT_LEAST_ONCE"}}}),
        (Engine.RABBITMQ_3, DISCARD_OLDEST),
        (Engine.RABBITMQ_3, FSYNC),
        (Engine.RABBITMQ_3, {"gateway": "no table"}),
        (Engine.RABBITMQ_3, {"broker": {"plan": {"acme": {"max_addresses": 3}}}}),
        (Engine.EMBEDDED, {"broker": {"plan": {"acme": {"max_connections": 3}}, "hook": {"notes": {}}}}),
        (Engine.MOSQUITTO, EXACTLY_ONCE),
        (Engine.MOSQUITTO, DISCARD_NEW),
        (Engine.MOSQUITTO, {"broker": {"default_token_roles": []}}),
        *((Engine.EMBEDDED, tree) for tree in (EXACTLY_ONCE, DISCARD_NEW, DISCARD_OLDEST, FSYNC, DEFAULT_ROLES)),
    ],
)
def test_what_can_be_honoured_or_is_a_default_passes(engine: Engine, tree: dict[str, object]) -> None:
    check(engine, tree)
