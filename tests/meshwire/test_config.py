from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from meshwire.config import ConfigError, load_config, read_settings


class Bridge(BaseModel):
    default_message_qos: str = "AT_LEAST_ONCE"


class Settings(BaseModel):
    port: int = Field(5683, ge=0, le=65535)
    bridge: Bridge = Bridge()


def write(folder: Path, text: str) -> Path:
    path = folder / "meshwire.toml"
    path.write_text(text)
    return path


def test_command_line_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    path = write(tmp_path, "[gateway]\nport = 1\n[gateway.bridge]\ndefault_message_qos = 'A'\n")
    tree = load_config(path, {})
    assert read_settings(Settings, "gateway", tree).port == 1
    tree = load_config(path, {"MESHWIRE__GATEWAY__PORT": "2"})
    assert read_settings(Settings, "gateway", tree).port == 2
    assert read_settings(Settings, "gateway", tree, port=3).port == 3
    assert read_settings(Settings, "gateway", tree, bridge__default_message_qos="B").bridge.default_message_qos == "B"
    assert read_settings(Settings, "gateway", load_config(None, {})).port == 5683


ALIAS = "gateway_coap_mqtt_bridge_default_message_qos"


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        (f"{ALIAS} = 'EXACTLY_ONCE'", {}),
        (f"[gateway]\n{ALIAS} = 'EXACTLY_ONCE'", {}),
        ("", {ALIAS.upper(): "EXACTLY_ONCE"}),
        ("", {"MESHWIRE__GATEWAY__BRIDGE__DEFAULT_MESSAGE_QOS": "EXACTLY_ONCE"}),
    ],
)
def test_the_qos_has_a_second_name(tmp_path: Path, text: str, environment: dict[str, str]) -> None:
    tree = load_config(write(tmp_path, text), environment)
    assert read_settings(Settings, "gateway", tree).bridge.default_message_qos == "EXACTLY_ONCE"


def test_environment_variables_are_expanded_in_values(tmp_path: Path) -> None:
    path = write(tmp_path, "[broker]\nhosts = ['${HOST_A}', 'x${HOST_A}y']")
    assert load_config(path, {"HOST_A": "h"}) == {"broker": {"hosts": ["h", "xhy"]}}


@pytest.mark.parametrize(
    ("text", "code", "evidence"),
    [
        ("[gateway\n", "MW-CFG-002", "line 1"),
        ("schema_version = 9", "MW-CFG-001", "9"),
        ("a = '${UNSET_NAME}'", "MW-CFG-003", "UNSET_NAME"),
        ("[gateway]\nport = 70000", "MW-CFG-004", "gateway.port"),
        ("[gateway]\nport = 'x'\nbridge = 1", "MW-CFG-004", "gateway.bridge"),
    ],
)
def test_a_wrong_file_says_where_and_what_to_do(tmp_path: Path, text: str, code: str, evidence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(Settings, "gateway", load_config(write(tmp_path, text), {}))
    assert caught.value.code == code
    assert evidence in caught.value.evidence
    assert caught.value.fix
    assert caught.value.exit_code == 3


def test_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml"):
        load_config(tmp_path / "no.toml", {})
