"""A decoded notification as SenML JSON (RFC 8428): one pack, a record for each value."""

from __future__ import annotations

import json
import re
from typing import Final

from pydantic import BaseModel, ConfigDict

from gateway.decoders import Decoded
from meshwire.notification import Notification

__all__ = ["SENML_CONTENT_TYPE", "SenmlRecord", "senml_json"]

SENML_CONTENT_TYPE: Final = "application/senml+json"

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.:/-]")


class SenmlRecord(BaseModel):
    """One record of a pack, as far as `senml_json` uses them (RFC 8428 section 4)."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    bn: str | None = None
    """Base name, in the first record."""
    bt: float | None = None
    """Base time in Unix seconds, in the first record."""
    n: str
    u: str | None = None
    """Unit (RFC 8428 section 12.1)."""
    v: float | None = None
    vs: str | None = None
    vb: bool | None = None


def senml_json(notification: Notification, decoded: Decoded) -> bytes:
    """The pack: base name `urn:dev:mac:{mac}:{path}/` (RFC 9039), base time of board or NIC, then the values."""
    path = _NOT_IN_NAMES.sub("_", notification.path)
    base_time = notification.time_s if decoded.time_s is None else decoded.time_s
    first: dict[str, object] = {"bn": f"urn:dev:mac:{notification.device}:{path}/", "bt": base_time}
    records: list[dict[str, object]] = []
    for measurement in decoded.values:
        record: dict[str, object] = {"n": measurement.name}
        if measurement.unit is not None:
            record["u"] = measurement.unit
        record["vs" if isinstance(measurement.value, str) else "v"] = measurement.value
        records.append(record)
    if not records:
        # A pack needs a value (RFC 8428 section 4.2): that there was a message at all.
        records.append({"n": "received", "vb": True})
    records[0] = first | records[0]
    return json.dumps(records, ensure_ascii=False, separators=(",", ":")).encode()
