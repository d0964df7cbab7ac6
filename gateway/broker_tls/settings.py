"""Section `[gateway.bridge.tls]`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["BridgeTlsSettings"]


class BridgeTlsSettings(BaseModel):
    """`[gateway.bridge.tls]`: TLS 1.2 or newer to the broker; its files are read again for each connection."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    enabled: bool = False
    """Whether the broker's port speaks TLS (mqtts); the port stays what `gateway.bridge.port` says."""
    ca_file: Path | None = None
    """PEM file with the authorities that may have signed the broker's certificate; none: the system's trust store."""
    certificate_file: Path | None = None
    """PEM file with our certificate chain, for brokers that ask for one (mutual TLS)."""
    key_file: Path | None = None
    """PEM file with its key, not encrypted; default: in the certificate's file."""
    server_name: str = ""
    """Name that the broker's certificate has to carry, and that is sent as SNI; default: `gateway.bridge.host`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = [name for name in ("ca_file", "certificate_file", "key_file", "server_name") if getattr(self, name)]
        if given and not self.enabled:
            raise ValueError(f"{', '.join(given)} without enabled = true: the broker would be spoken to in the clear")
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file needs certificate_file")
        return self
