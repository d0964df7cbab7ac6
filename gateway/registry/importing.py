"""Storing what `transfer.py` has read: all rows or, when asked for, the good ones; each refused row with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.registry.database import SYSTEM
from gateway.registry.registry import Registry
from gateway.registry.transfer import BadRow, Table

__all__ = ["Imported", "import_devices"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it."""

    added: int
    changed: int
    """Devices that were there already, and have now what the row says."""
    refused: list[BadRow]
    """In the order of lines. Unless the good rows were asked for, nothing is stored when there is one."""


def import_devices(
    registry: Registry, table: Table, *, good_rows_only: bool = False, try_only: bool = False, by: str = SYSTEM
) -> Imported:
    """Provision the devices of a table.

    Args:
        registry: where they go.
        table: what was read.
        good_rows_only: store good rows though others are bad; default: all rows or none.
        try_only: store nothing, only say what would come of it.
        by: who, for the audit log.
    """
    refused, fitting, known = list(table.bad), [], 0
    for device, line in zip(table.devices, table.lines, strict=True):
        before = registry.record(device.mac)
        if before is not None and before.tenant != device.tenant:
            refused.append(BadRow(line, f"{device.mac} is taken; move it first: meshwire device move"))
            continue
        known += before is not None
        fitting.append(device)
    refused.sort(key=lambda row: row.line)
    if refused and not good_rows_only:
        return Imported(0, 0, refused)
    if not try_only:
        registry.add_devices(fitting, by=by)
    return Imported(len(fitting) - known, known, refused)
