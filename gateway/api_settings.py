"""Settings of the HTTP API's bounds: `[gateway.api]`. Beside `settings.py`, so that reading them imports no FastAPI."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ApiSettings"]


class ApiSettings(BaseModel):
    """`[gateway.api]`: how much one caller of the HTTP API may ask for."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    requests_per_s: float = Field(default=100.0, ge=0)
    """Requests a second of one account (a client, or the tenant of a token that names none); 0: any number."""
    burst: int = Field(default=1_000, ge=1)
    """Requests that an account may send at once after a pause."""
    address_requests_per_s: float = Field(default=200.0, ge=0)
    """Requests a second from one address, console included; of IPv6, from one /64; 0: any number."""
    address_burst: int = Field(default=2_000, ge=1)
    """Requests that may come at once from an address after a pause."""
    login_failures: int = Field(default=10, ge=1)
    """Wrong secrets or tokens from one address before it has to wait; three times as many for one name."""
    login_pause_s: float = Field(default=10.0, gt=0)
    """One more try is free after so many seconds."""
    max_body_octets: int = Field(default=1 << 20, ge=1024)
    """Longest body of a request; imports of devices and packages may have 32 MiB."""
    max_streams: int = Field(default=200, ge=0)
    """Event streams (`/api/events`) at once."""
    max_streams_per_account: int = Field(default=10, ge=1)
    """Event streams of one account at once."""
