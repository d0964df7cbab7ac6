"""What RabbitMQ's management plugin tells of a cluster's load: the figures that the rule for scaling looks at."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from broker.adapters.errors import EngineError
from broker.adapters.rabbitmq.scaling import Load

__all__ = ["read_load"]

ANSWER_WITHIN_S: Final = 10.0
AVERAGED: Final = "msg_rates_age=300&msg_rates_incr=10"
"""Rates of the last five minutes."""


def read_load(url: str, username: str, password: str) -> tuple[Load, int]:
    """The load of a cluster, and how many of its nodes run.

    Args:
        url: of the management plugin of any node, such as `http://127.0.0.1:15672`.
        username: a user made on RabbitMQ, with the tag monitoring.
        password: of the user.

    Raises:
        EngineError: the plugin can't be reached, or refuses the user.
    """

    def get(path: str) -> Any:
        token = base64.b64encode(f"{username}:{password}".encode()).decode()
        try:
            request = urllib.request.Request(f"{url.rstrip('/')}{path}", headers={"Authorization": f"Basic {token}"})
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            fix = "give a user made by `rabbitmqctl add_user`, with `rabbitmqctl set_user_tags NAME monitoring`"
            raise EngineError(
                "RabbitMQ does not tell its load", evidence=f"HTTP {error.code}", fix=fix, code="MW-ENG-010"
            ) from None
        except (OSError, ValueError) as error:
            fix = "enable rabbitmq_management, as `meshwire instance generate rabbitmq` does; ask on a node's machine"
            raise EngineError(
                "RabbitMQ's management plugin can't be reached",
                evidence=f"{url}: {error}",
                fix=fix,
                code="MW-ENG-010",
            ) from None

    overview = get(f"/api/overview?{AVERAGED}")
    nodes = [node for node in get("/api/nodes") if node.get("running")]
    figures = overview.get("message_stats") or {}
    memory = max((node["mem_used"] / node["mem_limit"] for node in nodes if node.get("mem_limit")), default=0.0)
    rate = _rate(figures, "publish") + _rate(figures, "deliver_get")
    return Load(rate, int(overview["object_totals"]["connections"]), memory), len(nodes)


def _rate(figures: Mapping[str, Any], name: str) -> float:
    details = figures.get(f"{name}_details") or {}
    return float(details.get("avg_rate", details.get("rate", 0.0)))
