"""`meshwire config print|check|schema`: the configuration in force, commented; validation; JSON Schema.

This file decides which settings model stands behind which section; the models and the meaning of their fields are
each component's own.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated, Final, cast

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from meshwire.config import load_config, read_settings

__all__ = ["SECTIONS", "app"]

app = typer.Typer(
    add_completion=False, help="The configuration: print it, check it, describe it.", no_args_is_help=True
)

SECTIONS: Final = {
    "gateway": "gateway.settings:GatewaySettings",
    "broker": "broker.settings:BrokerSettings",
    "authority": "broker.authority.settings:AuthoritySettings",
    "nic": "nic_sim.settings:NicSettings",
}
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file", envvar="MESHWIRE_CONFIG")]


def _model(section: str) -> type[BaseModel]:
    module, name = SECTIONS[section].split(":")
    return cast("type[BaseModel]", getattr(importlib.import_module(module), name))


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="the same as --config FILE")] = None,
    config: ConfigOption = None,
) -> None:
    """Validate the file and the environment; exit code 3 when something is wrong."""
    config = file or config
    tree = load_config(config)
    for section in SECTIONS:
        if section in tree:
            read_settings(_model(section), section, tree)
    typer.echo(f"configuration is valid: {config or 'defaults and environment'}")


@app.command("print")
def show(config: ConfigOption = None) -> None:
    """Print the effective configuration as commented TOML; secrets are never shown."""
    tree = load_config(config)
    typer.echo("schema_version = 1")
    for section in SECTIONS:
        model = _model(section)
        values = read_settings(model, section, tree) if section in tree or not _required(model) else None
        typer.echo("")
        for line in [f"[{section}]", *_toml_lines(section, model, values)]:
            # A section with required values that nobody gave is shown as comment, so that the output stays valid.
            typer.echo(line if values is not None or line.startswith("#") or not line else f"# {line}")


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    properties = {section: _model(section).model_json_schema() for section in SECTIONS}
    typer.echo(json.dumps({"type": "object", "properties": properties}, indent=2))


def _required(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


def _toml_lines(section: str, model: type[BaseModel], values: BaseModel | None) -> list[str]:
    """A section's own keys first, its sub-sections after them, as TOML wants it."""
    lines: list[str] = []
    nested: list[str] = []
    for name, field in model.model_fields.items():
        value = getattr(values, name) if values is not None else field.default
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            below = _toml_lines(f"{section}.{name}", inner, value if isinstance(value, BaseModel) else None)
            nested += ["", f"[{section}.{name}]", *below]
            continue
        lines += _comment(field)
        lines.append(_toml_pair(name, value))
    return lines + nested


def _comment(field: FieldInfo) -> list[str]:
    return [f"# {line.strip()}" for line in (field.description or "").splitlines() if line.strip()]


def _toml_pair(name: str, value: object) -> str:
    if value is None or field_is_unset(value):
        return f"# {name} ="
    if "password" in name or "secret" in name:
        return f'{name} = "********"' if not name.endswith("_file") else f"{name} = {json.dumps(str(value))}"
    return f"{name} = {_toml_value(value)}"


def field_is_unset(value: object) -> bool:
    """Whether pydantic says that a required value was not given."""
    return type(value).__name__ == "PydanticUndefinedType"


def _toml_value(value: object) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{json.dumps(str(k))} = {_toml_value(v)}" for k, v in value.items() if v is not None)
            + " }"
        )
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)
