"""An event of a command as JSON: what is published on the response topic, and streamed over HTTP."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gateway.commands.records import State

__all__ = ["CommandEventBody"]


class CommandEventBody(BaseModel):
    """See the module's text; what does not apply is left out."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    id: str
    device: str = Field(pattern=r"^[0-9a-f]{16}$")
    event: State
    final: bool
    """Whether it is the command's last event."""
    number: int | None = Field(default=None, ge=1)
    """Counts the command's events; absent when the order was not accepted."""
    time: float
    """Unix seconds."""
    position: int | None = None
    """Commands of the device that come first."""
    hop: str | None = None
    """Where it failed."""
    reason: str | None = None
    success: bool | None = None
    """Whether the device's code is one of success."""
    code: str | None = None
    """CoAP code of the device's answer, such as 2.04."""
    contentFormat: int | None = None
    """CoAP Content-Format of the device's payload."""
    payload: str | None = None
    """The device's payload where it is text."""
    payloadHex: str | None = None
    expires: float | None = None
    """Unix seconds at which the command's time is over."""
    group: str | None = None
