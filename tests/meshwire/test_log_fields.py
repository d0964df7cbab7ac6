"""The fields of log lines are the documented ones, and a line per message is not built unless it is wanted."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from broker import message_log
from broker.outlet import SessionKey
from meshwire import logs
from meshwire.identity import LoginKind
from meshwire.mqtt import Properties, Publish

ROOT = Path(__file__).parents[2]
PACKAGES = ("meshwire", "sensor_sim", "nic_sim", "gateway", "broker", "hardware")
METHODS = {"debug", "info", "warning", "error", "exception", "bind"}
OTHER_NAMES = {"device", "device_id", "nic", "client", "account", "tenant_id", "mac_address", "message_id", "password"}


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()
    logs._lowest = logging.INFO


def fields_in_use() -> set[str]:
    sources = (path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    nodes = (node for text in sources if "_log" in text for node in ast.walk(ast.parse(text)))
    calls = (node for node in nodes if isinstance(node, ast.Call) and _logs(node.func))
    return {each.arg for call in calls for each in call.keywords if each.arg is not None}


def _logs(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute) or function.attr not in METHODS:
        return False
    return ast.unparse(function.value).rpartition(".")[2] in ("_log", "log")


def test_what_names_somebody_has_one_name() -> None:
    used = fields_in_use()
    assert not used & OTHER_NAMES
    page = (ROOT / "docs" / "reference" / "logs.md").read_text().partition("## Fields")[2].partition("\n## ")[0]
    documented = {name for row in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE) for name in re.findall(r"\w+", row)}
    assert documented - used == {"id", "exception", "logger"} - used


def test_the_level_of_the_environment_is_stronger(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure_logging(logging.WARNING, io.StringIO())
    assert not logs.tells_messages()
    monkeypatch.setenv("MESHWIRE_LOG_LEVEL", "DEBUG")
    logs.configure_logging(logging.WARNING, io.StringIO())
    assert logs.tells_messages()
    monkeypatch.setenv("MESHWIRE_LOG_LEVEL", "nonsense")
    logs.configure_logging(logging.WARNING, io.StringIO())
    assert not logs.tells_messages()


@pytest.mark.parametrize(
    ("topic", "named"),
    [
        ("acme/read/0013500500470001/temp", {"tenant": "acme", "mac": "0013500500470001", "key": "k/1"}),
        ("acme/cmd/0013500500470001/req/x7", {"tenant": "acme", "mac": "0013500500470001", "id": "x7", "key": "k/1"}),
        ("acme/other", {"tenant": "ssni", "key": "k/1"}),
    ],
)
def test_the_broker_names_the_message_and_not_what_is_in_it(topic: str, named: dict[str, str]) -> None:
    said = io.StringIO()
    logs.configure_logging(logging.DEBUG, said)
    properties = Properties(user_properties=(("key", "k/1"), ("other", "a secret")))
    packet = Publish(topic, b"the payload", qos=1, packet_id=1, properties=properties)
    message_log.received(SessionKey("ssni", LoginKind.PASSWORD, "gw"), packet, topic)
    line = json.loads(said.getvalue())
    assert named.items() <= line.items() and line["client_id"] == "gw" and line["octets"] == 11
    assert "secret" not in said.getvalue() and "payload" not in said.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_only_the_caller_knows_is_in_the_line(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWIRE_LOG_FORMAT", form)
    said = io.StringIO()
    logs.configure_logging(logging.INFO, said)
    with structlog.contextvars.bound_contextvars(mac="0013500500470001"):
        structlog.get_logger().info("port opened")
    assert "0013500500470001" in said.getvalue()
