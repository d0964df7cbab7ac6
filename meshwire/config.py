"""Where settings come from: command line > environment > TOML file > defaults.

This file decides how a file and `MESHWIRE__SECTION__KEY` variables become one nested mapping, and that
`${NAME}` in a text value is replaced by the environment variable. What the keys mean, their defaults and ranges
is each component's pydantic settings model, which validates the section it is given.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from meshwire.errors import ExitCode, MeshwireError

__all__ = ["CATALOGUE", "SECTIONS", "ConfigError", "load_config", "read_settings"]

SCHEMA_VERSION: Final = 1
SECTIONS: Final = ("gateway", "broker", "authority", "nic", "mesh")
"""What a file may hold, each section for one component: a process reads its own and leaves the others."""
ENV_PREFIX: Final = "MESHWIRE__"
QOS_ALIAS: Final = "gateway_coap_mqtt_bridge_default_message_qos"
"""Name under which an existing deployment sets `gateway.bridge.default_message_qos`."""

CATALOGUE: Final = {
    "MW-CFG-001": "The configuration file can't be read, or its schema_version is not one that this release knows.",
    "MW-CFG-002": "The configuration file is not valid TOML; the message names line and column.",
    "MW-CFG-003": "A value holds ${NAME}, and no environment variable of that name is set.",
    "MW-CFG-004": "A value has the wrong type or is out of range; `meshwire config print` shows what is expected.",
    "MW-CFG-005": "The file has a section that no component reads; usually a slip of the pen.",
}
"""Stable error codes of this package and what they mean; shown by `meshwire help CODE`."""

Tree = dict[str, object]
SettingsT = TypeVar("SettingsT", bound=BaseModel)


class ConfigError(MeshwireError):
    """The configuration can't be read or holds a wrong value."""

    default_code: ClassVar[str] = "MW-CFG-001"
    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


def load_config(path: Path | None, environment: Mapping[str, str] | None = None) -> Tree:
    """Read `path` (None: the file named by `$MESHWIRE_CONFIG`, or no file), then lay the environment over it.

    Raises:
        ConfigError: unreadable file, TOML error, unknown schema version or section, or an unset `${NAME}`.
    """
    environment = os.environ if environment is None else environment
    if path is None and (named := environment.get("MESHWIRE_CONFIG")):
        path = Path(named)
    tree = _read(path) if path is not None else {}
    version = tree.pop("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ConfigError(
            "configuration has an unknown schema_version",
            evidence=f"schema_version = {version!r} in {path}",
            fix=f"this release reads schema_version = {SCHEMA_VERSION}",
        )
    tree = cast("Tree", _expand(tree, environment))
    for name, value in environment.items():
        if name.startswith(ENV_PREFIX):
            _place(tree, [part.lower() for part in name[len(ENV_PREFIX) :].split("__")], value)
    _apply_qos_alias(tree, environment)
    if unknown := sorted(set(tree) - {*SECTIONS, "state_dir"}):
        raise ConfigError(
            "configuration has unknown sections",
            evidence=", ".join(name + _perhaps(name, SECTIONS) for name in unknown),
            fix=f"known sections: {', '.join(SECTIONS)}",
            code="MW-CFG-005",
        )
    return tree


def _perhaps(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (perhaps {near[0]})" if near else ""


def _read(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(
            "configuration file can't be read", evidence=str(error), fix="check the path given with --config"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            "configuration file is not valid TOML", evidence=f"{path}: {error}", fix="mend that line", code="MW-CFG-002"
        ) from None


_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _expand(value: object, environment: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _expand(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(
                "configuration names an environment variable that is not set",
                evidence=match[0],
                fix=f"set {match[1]} or write the value",
                code="MW-CFG-003",
            )
        return environment[match[1]]

    return _VARIABLE.sub(replacement, value)


def _place(tree: Tree, keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        branch = tree.setdefault(key, {})
        if not isinstance(branch, dict):
            branch = tree[key] = {}
        tree = cast("Tree", branch)
    tree[keys[-1]] = value


def _apply_qos_alias(tree: Tree, environment: Mapping[str, str]) -> None:
    """The alias may stand at the top level or in [gateway]; the product's own key wins over it."""
    gateway = tree.get("gateway")
    inner = gateway.pop(QOS_ALIAS, None) if isinstance(gateway, dict) else None
    value = environment.get(QOS_ALIAS.upper()) or tree.pop(QOS_ALIAS, None) or inner
    if value is None:
        return
    bridge = cast("Tree", cast("Tree", tree.setdefault("gateway", {})).setdefault("bridge", {}))
    bridge.setdefault("default_message_qos", value)


def read_settings(model: type[SettingsT], section: str, tree: Mapping[str, object], **overrides: object) -> SettingsT:
    """Validate one section into its component's model.

    Args:
        model: the pydantic model.
        section: the section's name, for messages.
        tree: what `load_config` gave.
        overrides: values of the command line; None means "not given".

    Raises:
        ConfigError: one line for each wrong value, with its full key.
    """
    values: Tree = dict(cast("Mapping[str, object]", tree.get(section, {})))
    for key, value in overrides.items():
        if value is not None:
            _place(values, key.split("__"), value)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            "configuration has wrong values",
            evidence="; ".join(_line(model, section, item) for item in error.errors()),
            fix="see `meshwire config print` for names, defaults and meaning",
            code="MW-CFG-004",
        ) from None


def _line(model: type[BaseModel], section: str, item: ErrorDetails) -> str:
    """What is wrong with one value."""
    key = ".".join([section, *map(str, item["loc"])])
    if item["type"] == "extra_forbidden":
        return f"{key}: no such setting{_perhaps(str(item['loc'][-1]), _names(model, item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"{key}: it has to be given"
    return f"{key}: {item['msg'].removeprefix('Value error, ')}"


def _names(model: type[BaseModel], way: tuple[int | str, ...]) -> Iterable[str]:
    """The settings that there are at a place; none where several kinds of section may stand."""
    for key in way:
        field = model.model_fields.get(str(key))
        inner = None if field is None else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return model.model_fields
