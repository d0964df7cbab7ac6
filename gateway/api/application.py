"""The application: which routers there are. Further parts of the gateway hook theirs in through `first` and `more`."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI

from gateway.api import audit, console_users, devices, health, inventory, metrics, observations, tenants, tokens
from gateway.api.callers import Callers
from gateway.api.front import Front
from gateway.api.health import Status
from gateway.api.limits import Limits
from gateway.api.openapi import describe
from gateway.api.preconditions import Preconditions
from gateway.api.problems import PROBLEMS, install_problems
from gateway.api_settings import ApiSettings
from gateway.credentials import Credentials
from gateway.registry import Registry
from gateway.statistics import Statistics
from meshwire import __version__
from meshwire.tokens import SigningKeys

__all__ = ["create_app"]


def create_app(
    registry: Registry,
    keys: SigningKeys,
    credentials: Credentials,
    status: Status,
    *,
    first: Iterable[APIRouter] = (),
    more: Iterable[APIRouter] = (),
    callers: Callers | None = None,
) -> FastAPI:
    """Put the API together.

    Args:
        registry: tenants, devices, clients.
        keys: sign and verify tokens.
        credentials: verify client secrets.
        status: gives what the status page shows.
        first: routers of other parts that see a request before those of the API do.
        more: routers of other parts; their routes take `Caller` or `Admin` (`callers.py`) to know who asks.
        callers: authenticates requests, with their bounds; default: those of `[gateway.api]` as it comes.
    """
    if callers is None:
        callers = Callers(keys.public(), registry, Limits(ApiSettings(), Statistics()))
    app = FastAPI(
        title="meshwire gateway",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.callers = callers
    install_problems(app)
    app.add_middleware(Preconditions)
    app.add_middleware(Front, limits=callers.limits)
    for routes in (
        *first,
        tokens.router(keys, credentials, callers.limits),
        devices.router(registry),
        inventory.router(registry),
        observations.router(registry),
        tenants.router(registry),
        console_users.router(registry),
        audit.router(registry),
        health.router(status),
        metrics.router(status),
        *more,
    ):
        app.include_router(routes, responses=PROBLEMS)
    describe(app)
    return app
