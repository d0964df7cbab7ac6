"""Devices in bulk: CSV and JSON texts read into devices, with a reason for each row that does not fit; and written.

Pure: what is stored already is not looked at here. A text is either taken whole or refused with every bad row named;
who wants the good rows all the same takes `Table.devices`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import RegistryError
from gateway.registry.records import Device, check_device_type, check_domain, check_tags
from meshwire.identity import DeviceId, IdentityError, TenantId

__all__ = ["COLUMNS", "BadRow", "Table", "read_csv", "read_json", "write_csv", "write_json"]

COLUMNS: Final = ("mac", "tenant", "type", "domain", "tags", "enabled")
MOST_ROWS: Final = 200_000
_TRUE: Final = frozenset({"", "1", "true", "yes", "on", "enabled"})
_FALSE: Final = frozenset({"0", "false", "no", "off", "disabled"})


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be taken."""

    line: int
    """Line of the text; in a JSON array: number of the entry, from 1."""
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """What a text holds."""

    devices: list[Device]
    lines: list[int]
    """For each device, where it stands."""
    bad: list[BadRow]


def read_csv(text: str, tenant: TenantId | None = None) -> Table:
    """Read a table with a heading line; column `mac` is needed, columns that we do not know are refused.

    Args:
        text: separated by commas or semicolons, with or without a byte order mark.
        tenant: owner of rows that name none.
    """
    text = text.removeprefix("\ufeff")
    heading = text.split("\n", 1)[0]
    delimiter = ";" if heading.count(";") > heading.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
    except csv.Error as error:
        return Table([], [], [BadRow(1, f"no CSV: {error}")])
    if reason := _wrong_heading(names):
        return Table([], [], [BadRow(1, reason)])
    return _table(_csv_rows(reader, names), tenant)


def _wrong_heading(names: list[str]) -> str:
    unknown = [name for name in names if name not in COLUMNS]
    if "mac" not in names:
        return f"the first line names no column mac; columns are {', '.join(COLUMNS)}"
    if unknown:
        return f"unknown column {unknown[0]!r}; columns are {', '.join(COLUMNS)}"
    return "a column is named twice" if len(set(names)) < len(names) else ""


def _csv_rows(reader: Any, names: list[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, f"no CSV: {error}"
            return
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            yield reader.line_num, f"{len(cells)} cells, the heading has {len(names)}"
            continue
        row: dict[str, Any] = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
        row["tags"] = row.get("tags", "").replace("|", " ").split()
        yield reader.line_num, row


def read_json(text: str, tenant: TenantId | None = None) -> Table:
    """Read an array of devices, an object with an array `devices`, or one device a line (JSON Lines).

    Keys are the columns of a CSV table; `id`, `deviceType` and `domainInfo.nic_macID` of the vendor's API serve, too.
    """
    try:
        tree = json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] != "{" or "\n" not in text.strip():
            return Table([], [], [BadRow(getattr(error, "lineno", 1), f"no JSON: {error}")])
        return _table(_json_lines(text), tenant)
    if isinstance(tree, dict):
        tree = tree["devices"] if isinstance(tree.get("devices"), list) else [tree]
    if not isinstance(tree, list):
        return Table([], [], [BadRow(1, "neither an array of devices nor an object with an array `devices`")])
    return _table(((number, _json_row(row)) for number, row in enumerate(tree, 1)), tenant)


def _json_lines(text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, _json_row(json.loads(line))
        except ValueError as error:
            yield number, f"no JSON: {error}"


_SHOWN_ONLY: Final = frozenset({"id", "deviceType", "domainInfo", "address", "seen", "created", "has_key"})
"""What a listing has beside the columns."""


def _json_row(row: object) -> Mapping[str, Any] | str:
    if not isinstance(row, dict):
        return "a device is an object"
    unknown = row.keys() - {*COLUMNS} - _SHOWN_ONLY
    if unknown:
        return f"unknown key {min(unknown)!r}; keys are {', '.join(COLUMNS)}"
    info = row.get("domainInfo")
    result = {name: row[name] for name in COLUMNS if row.get(name) is not None}
    if "mac" not in result:
        result["mac"] = (info.get("nic_macID") if isinstance(info, dict) else None) or row.get("id") or ""
    if "type" not in result and "deviceType" in row:
        result["type"] = row["deviceType"]
    return result


def _table(rows: Iterable[tuple[int, Mapping[str, Any] | str]], tenant: TenantId | None) -> Table:
    table, where = Table([], [], []), dict[DeviceId, int]()
    for line, row in rows:
        if len(table.devices) >= MOST_ROWS:
            table.bad.append(BadRow(line, f"more than {MOST_ROWS} devices; split the file"))
            break
        device = row if isinstance(row, str) else _device(row, tenant)
        if isinstance(device, str):
            table.bad.append(BadRow(line, device))
        elif device.mac in where:
            table.bad.append(BadRow(line, f"{device.mac} stands in line {where[device.mac]} already"))
        else:
            where[device.mac] = line
            table.devices.append(device)
            table.lines.append(line)
    return table


def _device(row: Mapping[str, Any], default: TenantId | None) -> Device | str:
    """The device of a row, or what is wrong with it."""
    for name in ("mac", "tenant", "type", "domain"):
        if not isinstance(row.get(name, ""), str):
            return f"{name} is no text"
    tags = row.get("tags") or []
    if isinstance(tags, str):
        tags = tags.split()
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return "tags is no array of texts"
    enabled = _truth(row.get("enabled", True))
    if enabled is None:
        return f"enabled is neither true nor false: {row['enabled']!r}"
    named = row.get("tenant") or (default.value if default is not None else "")
    if not named:
        return "no tenant is named"
    try:
        return Device(
            DeviceId.parse(row["mac"]),
            TenantId(named),
            check_device_type(row.get("type") or "MILLI"),
            check_domain(row.get("domain", "")),
            enabled,
            tags=check_tags(tags),
        )
    except IdentityError as error:
        return str(error)
    except RegistryError as error:
        return f"{error.what}: {error.evidence}"


def _truth(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def write_csv(devices: Iterable[Device]) -> str:
    """A table that `read_csv` reads."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for device in devices:
        enabled = "true" if device.enabled else "false"
        tags = " ".join(device.tags)
        writer.writerow([device.mac.value, device.tenant.value, device.type, device.domain, tags, enabled])
    return file.getvalue()


def write_json(devices: Iterable[Device]) -> str:
    """An array that `read_json` reads."""
    rows = [
        {
            "mac": device.mac.value,
            "tenant": device.tenant.value,
            "type": device.type,
            "domain": device.domain,
            "tags": list(device.tags),
            "enabled": device.enabled,
        }
        for device in devices
    ]
    return json.dumps(rows, indent=1) + "\n"
