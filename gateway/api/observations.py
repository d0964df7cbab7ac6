"""Observations and device templates, as the vendor's clients store and read them (dialect part F).

Pages end at `limit` or at 1 MB; header `next_page` is the URL of the next one, as the vendor's client expects it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from gateway.api.bodies import JsonObject
from gateway.api.callers import Caller, who
from gateway.api.inventory import owned_device
from gateway.api.pages import say_next
from gateway.registry import Registry
from gateway.registry.observations import Observation, Observations
from gateway.registry.templates import SYSTEM_TEMPLATES, Templates
from meshwire.identity import DeviceId, TenantId

__all__ = ["router"]

SOLUTION: Final = "/api/solutions/{solution}"
MOST_AT_ONCE: Final = 10_000
_TAG: Final = re.compile(r"[^\s,]{1,64}")


class NewObservations(BaseModel):
    """Body of `POST …/observations`."""

    observations: Annotated[list[JsonObject], Field(min_length=1, max_length=MOST_AT_ONCE)]


class Stored(BaseModel):
    """How many were stored."""

    stored: int


class _Observations:
    """The operations; each method is one route."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = Observations(registry.database)

    def add(self, solution: str, id: str, body: NewObservations, caller: Caller) -> Stored:
        """Store observations of a device: objects with `timestamp` (ISO 8601) and anything else."""
        device = owned_device(self._registry, caller, id)
        now_s = datetime.now(UTC).timestamp()
        observations = [_observation(device.mac, each, now_s) for each in body.observations]
        self._store.add(device.tenant, observations)
        return Stored(stored=len(observations))

    def of_tenant(
        self,
        solution: str,
        request: Request,
        caller: Caller,
        limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
        after: Annotated[int, Query(ge=0, lt=1 << 63)] = 0,
        from_: Annotated[str | None, Query(alias="from")] = None,
        to: str | None = None,
        tags: str | None = None,
    ) -> Response:
        """Observations of all devices of the token's tenant, in the order in which they were stored."""
        return self._page(request, caller.tenant, None, limit, after, from_, to, tags)

    def of_device(
        self,
        solution: str,
        id: str,
        request: Request,
        caller: Caller,
        limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
        after: Annotated[int, Query(ge=0, lt=1 << 63)] = 0,
        from_: Annotated[str | None, Query(alias="from")] = None,
        to: str | None = None,
        tags: str | None = None,
    ) -> Response:
        """Observations of one device, in the order in which they were stored."""
        device = owned_device(self._registry, caller, id)
        return self._page(request, device.tenant, device.mac, limit, after, from_, to, tags)

    def _page(
        self,
        request: Request,
        tenant: TenantId,
        mac: DeviceId | None,
        limit: int,
        after: int,
        from_: str | None,
        to: str | None,
        tags: str | None,
    ) -> Response:
        page = self._store.page(
            tenant,
            mac=mac,
            after=after,
            limit=limit,
            from_s=None if from_ is None else _time(from_, "from"),
            to_s=None if to is None else _time(to, "to"),
            tags=[] if tags is None else _tags(tags.split(",")),
        )
        headers: dict[str, str] = {}
        if page.after is not None:
            say_next(headers, request, page.after)
        # The bodies are JSON texts already, each as it was stored.
        return Response(f'{{"observations":[{",".join(page.bodies)}]}}', headers=headers, media_type="application/json")


def _observation(mac: DeviceId, body: dict[str, Any], now_s: float) -> Observation:
    stamp = body.get("timestamp")
    tags = body.get("tags", [])
    if isinstance(tags, str):
        tags = tags.split(",")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise HTTPException(422, "tags: an array of texts is expected")
    return Observation(mac, now_s if stamp is None else _time(stamp, "timestamp"), tuple(_tags(tags)), body)


def _tags(tags: list[str]) -> list[str]:
    cleaned = [tag.strip() for tag in tags if tag.strip()]
    for tag in cleaned:
        if _TAG.fullmatch(tag) is None:
            raise HTTPException(422, f"tags: {tag[:80]!r} is not 1 to 64 characters without blanks and commas")
    return cleaned


def _time(value: object, name: str) -> float:
    """Unix seconds of an ISO 8601 text, or of a number: seconds, or milliseconds when it is large."""
    text = str(value)
    try:
        if re.fullmatch(r"\d{1,16}(\.\d{1,9})?", text):
            number = float(text)
            return number / 1000 if number >= 1e11 else number
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise HTTPException(422, f"{name}: {text[:80]!r} is no time such as 2016-09-14T00:21:40.000Z") from None


class _Templates:
    """Device templates; each method is one route."""

    def __init__(self, registry: Registry) -> None:
        self._store = Templates(registry.database)

    def all(self, solution: str, caller: Caller) -> dict[str, list[dict[str, Any]]]:
        """Templates of the token's tenant."""
        return {"deviceTemplates": self._store.all(caller.tenant)}

    def system(self, caller: Caller) -> dict[str, list[dict[str, Any]]]:
        """Templates of the device types that the product knows."""
        return {"deviceTemplates": [*SYSTEM_TEMPLATES]}

    def add(self, solution: str, body: JsonObject, caller: Caller) -> dict[str, Any]:
        """Store a template."""
        id = body.get("id")
        return self._store.put(caller.tenant, id if isinstance(id, str) else None, body, by=who(caller))

    def show(self, solution: str, id: str, caller: Caller) -> dict[str, Any]:
        """One template of the token's tenant."""
        for template in self._store.all(caller.tenant):
            if template["id"] == id:
                return template
        raise HTTPException(404, "no such template")

    def put(self, solution: str, id: str, body: JsonObject, caller: Caller) -> dict[str, Any]:
        """Store or replace a template."""
        return self._store.put(caller.tenant, id, body, by=who(caller))


def router(registry: Registry) -> APIRouter:
    """The routes."""
    observations, templates = _Observations(registry), _Templates(registry)
    routes = APIRouter(tags=["observations"])
    device = f"{SOLUTION}/devices/{{id}}/observations"
    routes.add_api_route(device, observations.add, methods=["POST"], status_code=201, name="add_observations")
    for path, call, name in (
        (device, observations.of_device, "list_device_observations"),
        (f"{SOLUTION}/observations", observations.of_tenant, "list_observations"),
    ):
        routes.add_api_route(path, call, methods=["GET"], name=name, response_class=Response)
    plain = f"{SOLUTION}/devicetemplates"
    routes.add_api_route(plain, templates.all, methods=["GET"], name="list_templates")
    routes.add_api_route(plain, templates.add, methods=["POST"], status_code=201, name="add_template")
    routes.add_api_route(f"{plain}/{{id}}", templates.show, methods=["GET"], name="show_template")
    routes.add_api_route(f"{plain}/{{id}}", templates.put, methods=["PUT"], name="put_template")
    routes.add_api_route("/api/tenants/systemTenant/devicetemplates", templates.system, methods=["GET"])
    return routes
