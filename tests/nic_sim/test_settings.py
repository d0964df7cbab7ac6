"""Settings: the syntax of observe entries, addresses, and what a Milli board has no room for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from meshwire.config import load_config, read_settings
from nic_sim.observation import Delivery
from nic_sim.settings import HostPort, NicSettings, parse_observe

MAC = "00:13:50:05:00:47:DD:92"


@pytest.mark.parametrize(
    ("text", "path", "query", "delivery"),
    [
        ("snsr/arduino/temp", "snsr/arduino/temp", "sens", None),
        ("/snsr/arduino/temp", "snsr/arduino/temp", "sens", None),
        ("snsr/arduino/temp?sens,both", "snsr/arduino/temp", "sens", Delivery.BOTH),
        ("snsr/arduino/temp,coap", "snsr/arduino/temp", "sens", Delivery.COAP),
        ("snsr/x?", "snsr/x", None, None),
        ("snsr/x?a=1&b,2", "snsr/x", "a=1&b,2", None),
        ("snsr/x?a=1,mqtt", "snsr/x", "a=1", Delivery.MQTT),
    ],
)
def test_observe_entries(text: str, path: str, query: str | None, delivery: Delivery | None) -> None:
    entry = parse_observe(text)
    assert (entry.path, entry.query, entry.delivery) == (path, query, delivery)


@pytest.mark.parametrize(
    "text",
    [
        "arduino/temp",
        "snsr",
        "snsr/",
        "snsr//x",
        "snsr/a b",
        "snsr/" + "x" * 60,
        "snsr/x?" + "q" * 128,
        "snsr/x?a b",
        "",
    ],
)
def test_wrong_entries(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_observe(text)


def make(**values: Any) -> NicSettings:
    return NicSettings.model_validate({"mac": MAC} | values)


def test_defaults() -> None:
    settings = make()
    assert settings.mac == "001350050047dd92"
    assert str(settings.gateway_address) == "[::1]:5683"
    assert str(settings.listen_address) == "[::]:4849"
    assert settings.delivery is Delivery.MQTT
    assert settings.board.link.poll_period_s == 1.0
    assert make(profile="milli").board.link.poll_period_s == 5.0
    assert make(profile="milli", poll_s=2).board.link.poll_period_s == 2.0
    assert make(profile="milli").board.link.fetch_before_release


def test_observe_as_tables_texts_or_one_text() -> None:
    tables = make(observe=[{"path": "snsr/a/b", "delivery": "both"}, "snsr/c/d?x"])
    assert [(e.path, e.query, e.delivery) for e in tables.observe] == [
        ("snsr/a/b", "sens", Delivery.BOTH),
        ("snsr/c/d", "x", None),
    ]
    assert [e.path for e in make(observe="snsr/a/b snsr/c/d").observe] == ["snsr/a/b", "snsr/c/d"]


WRONG: list[dict[str, Any]] = [
    {"mac": "00"},
    {"gateway": "http://x"},
    {"gateway": "coap://x/path"},
    {"gateway": "coap://"},
    {"gateway": "coap://x:99999"},
    {"listen": "nonsense:port"},
    {"poll_s": 0},
    {"profile": "arduino"},
    {"wake": "dtr"},
    {"uplink_queue": 0},
    {"observe": ["snsr/a/b", "snsr/a/b"]},
    {"observe": [f"snsr/a/{n}" for n in range(17)]},
    {"profile": "milli", "observe": ["snsr/a/b", "snsr/a/b?x"]},
    {"profile": "milli", "observe": [f"snsr/a/{n}" for n in range(5)]},
    {"profile": "milli", "observe": ["snsr/" + "x" * 35]},
    {"colour": "red"},
]


@pytest.mark.parametrize("values", WRONG)
def test_wrong_settings(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(**values)


def test_longest_path_on_a_milli_board() -> None:
    assert make(profile="milli", observe=["snsr/" + "x" * 34]).observe[0].board_path_octets == 35


def test_configuration_file_and_environment(tmp_path: Any) -> None:
    file = tmp_path / "nic.toml"
    file.write_text(f'[nic]\nmac = "{MAC}"\n[[nic.observe]]\npath = "snsr/a/b"\nquery = ""\n')
    tree = load_config(file, {"MESHWIRE__NIC__POLL_S": "2.5"})
    settings = read_settings(NicSettings, "nic", tree, listen="127.0.0.1:0")
    assert (settings.observe[0].path, settings.observe[0].query) == ("snsr/a/b", None)
    assert settings.poll_s == 2.5
    assert settings.listen_address == HostPort(host="127.0.0.1", port=0)
