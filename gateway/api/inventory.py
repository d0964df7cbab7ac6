"""`/api/devices`: the registry's devices for administration: list, show, set, move, import, export.

A tenant's token sees and changes that tenant's devices; the scope `admin`, all of them. Devices of others are answered
like unknown ones. `/api/solutions/{solution}/devices` (`devices.py`) is what the vendor's clients use.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from gateway.api.callers import Admin, Caller, device_id, is_admin, tenant_id, who
from gateway.api.pages import MOST, say_next
from gateway.api.problems import problem
from gateway.registry import Device, Registry
from gateway.registry.importing import import_devices
from gateway.registry.transfer import BadRow, Table, read_csv, read_json, write_csv, write_json
from meshwire.identity import DeviceId, Principal, TenantId

__all__ = ["owned_device", "router"]

MOST_OCTETS: Final = 32 << 20
"""Longest text that is imported."""
MOST_REASONS: Final = 1000
"""Refused rows that an answer names."""

Tags = Annotated[list[str], Field(max_length=32)]


class DeviceRecord(BaseModel):
    """A device as the registry knows it."""

    mac: str
    tenant: str
    type: str
    domain: str
    tags: list[str]
    enabled: bool
    created: float
    """Unix seconds."""
    address: str | None = None
    seen: float | None = None
    """Unix seconds of its last sign of life."""
    has_key: bool = False
    """Whether it has an OSCORE key."""


class DeviceRecords(BaseModel):
    """A page of devices; header `next_page` is the URL of the next one."""

    devices: list[DeviceRecord]


class NewRecord(BaseModel):
    """A device to provision."""

    mac: str
    tenant: str | None = None
    """Default: the token's own."""
    type: str = "MILLI"
    domain: str = ""
    tags: Tags = []
    enabled: bool = True


class DeviceChange(BaseModel):
    """What is to change; what is left out stays."""

    type: str | None = None
    domain: str | None = None
    tags: Tags | None = None
    enabled: bool | None = None


class Move(BaseModel):
    """Where a device goes."""

    tenant: str


class RefusedRow(BaseModel):
    """A row that was not taken."""

    line: int
    reason: str


class ImportAnswer(BaseModel):
    """What was stored."""

    added: int
    changed: int
    refused: list[RefusedRow]


def owned_device(registry: Registry, caller: Principal, text: str) -> Device:
    """The device that a caller named, if it is the caller's; 404 for unknown and foreign ones alike."""
    device = registry.record(device_id(text))
    if device is None or not (device.tenant == caller.tenant or is_admin(caller)):
        raise HTTPException(404, "no such device")
    return device


def shown(registry: Registry, device: Device) -> DeviceRecord:
    """A device for JSON."""
    sighting = registry.sighting(device.mac)
    return DeviceRecord(
        mac=device.mac.value,
        tenant=device.tenant.value,
        type=device.type,
        domain=device.domain,
        tags=list(device.tags),
        enabled=device.enabled,
        created=device.created_s,
        address=None if sighting is None else str(sighting.address),
        seen=None if sighting is None else sighting.seen_s,
        has_key=bool(device.sealed_key),
    )


def _scope(caller: Principal, tenant: str | None) -> TenantId | None:
    """Whose devices are asked for: None: everybody's."""
    if is_admin(caller):
        return None if tenant is None else tenant_id(tenant)
    if tenant not in (None, caller.tenant.value):
        raise HTTPException(403, "token has no scope admin")
    return caller.tenant


class _Inventory:
    """The operations; each method is one route."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def list(
        self,
        request: Request,
        response: Response,
        caller: Caller,
        tenant: str | None = None,
        type: str | None = None,
        tag: str | None = None,
        enabled: bool | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 1000,
    ) -> DeviceRecords:
        """Devices in the order of their MACs; `after` is the MAC before the page."""
        first = DeviceId("0" * 16) if after is None else device_id(after)
        devices = [
            device
            for device in self._registry.devices(_scope(caller, tenant), type, tag)
            if (after is None or device.mac > first) and enabled in (None, device.enabled)
        ]
        if len(devices) > limit:
            say_next(response.headers, request, devices[limit - 1].mac.value)
        return DeviceRecords(devices=[shown(self._registry, device) for device in devices[:limit]])

    def add(self, body: NewRecord, caller: Caller) -> DeviceRecord:
        """Provision a device, or replace what is known of it."""
        tenant = _scope(caller, body.tenant) or caller.tenant
        device = self._registry.add_device(
            device_id(body.mac),
            tenant,
            type=body.type,
            domain=body.domain,
            tags=body.tags,
            enabled=body.enabled,
            by=who(caller),
        )
        return shown(self._registry, device)

    def show(self, mac: str, caller: Caller) -> DeviceRecord:
        """One device."""
        return shown(self._registry, owned_device(self._registry, caller, mac))

    def change(self, mac: str, body: DeviceChange, caller: Caller) -> DeviceRecord:
        """Change type, domain, tags; disable or enable. A disabled device is answered like an unknown one."""
        device = owned_device(self._registry, caller, mac)
        changed = self._registry.set_device(
            device.mac, type=body.type, domain=body.domain, tags=body.tags, enabled=body.enabled, by=who(caller)
        )
        return shown(self._registry, changed)

    def remove(self, mac: str, caller: Caller) -> None:
        """Forget a device."""
        self._registry.remove_device(owned_device(self._registry, caller, mac).mac, by=who(caller))

    def move(self, mac: str, body: Move, admin: Admin) -> DeviceRecord:
        """Give a device to another tenant, which must be known. What was received before stays with the former one."""
        device = owned_device(self._registry, admin, mac)
        moved = self._registry.move_device(device.mac, tenant_id(body.tenant), by=who(admin))
        return shown(self._registry, moved)

    async def take(
        self,
        request: Request,
        caller: Caller,
        tenant: str | None = None,
        good_rows_only: bool = False,
        try_only: bool = False,
    ) -> Response:
        """Provision many devices from CSV (`text/csv`), a JSON array or JSON Lines; all rows or none by default."""
        scope = _scope(caller, tenant)
        text = await _text(request)
        is_csv = request.headers.get("content-type", "").split(";")[0].strip().lower() == "text/csv"

        def work() -> Response:
            table = (read_csv if is_csv else read_json)(text, scope or caller.tenant)
            if not is_admin(caller):
                table = _only_of(table, caller.tenant)
            done = import_devices(
                self._registry, table, good_rows_only=good_rows_only, try_only=try_only, by=who(caller)
            )
            if done.refused and not good_rows_only:
                errors = [{"pointer": f"line {row.line}", "detail": row.reason} for row in done.refused[:MOST_REASONS]]
                detail = f"{len(done.refused)} rows can't be taken, nothing is stored; the first: "
                return problem(422, detail + f"{errors[0]['pointer']}: {errors[0]['detail']}", errors=errors)
            refused = [RefusedRow(line=row.line, reason=row.reason) for row in done.refused[:MOST_REASONS]]
            answer = ImportAnswer(added=done.added, changed=done.changed, refused=refused)
            return JSONResponse(answer.model_dump())

        return await asyncio.to_thread(work)

    def give(
        self,
        caller: Caller,
        tenant: str | None = None,
        type: str | None = None,
        tag: str | None = None,
        format: Literal["csv", "json"] = "csv",
    ) -> Response:
        """All devices as a file that `import` takes."""
        devices = self._registry.devices(_scope(caller, tenant), type, tag)
        if format == "csv":
            return Response(write_csv(devices), media_type="text/csv")
        return Response(write_json(devices), media_type="application/json")


def _only_of(table: Table, tenant: TenantId) -> Table:
    """A tenant's token provisions its own devices: other rows are bad ones."""
    kept = Table([], [], list(table.bad))
    for device, line in zip(table.devices, table.lines, strict=True):
        if device.tenant == tenant:
            kept.devices.append(device)
            kept.lines.append(line)
        else:
            kept.bad.append(BadRow(line, f"the token is not of tenant {device.tenant}"))
    return kept


async def _text(request: Request) -> str:
    octets = bytearray()
    async for chunk in request.stream():
        octets += chunk
        if len(octets) > MOST_OCTETS:
            raise HTTPException(413, f"longer than {MOST_OCTETS >> 20} MiB; split the file")
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise HTTPException(422, f"no UTF-8 text: {error}") from None


def router(registry: Registry) -> APIRouter:
    """The routes."""
    inventory = _Inventory(registry)
    routes = APIRouter(tags=["device registry"], prefix="/api/devices")
    body = {"schema": {"type": "string"}}
    taken = {"requestBody": {"required": True, "content": {"text/csv": body, "application/json": {}}}}
    routes.add_api_route("", inventory.list, methods=["GET"], name="list_device_records")
    routes.add_api_route("", inventory.add, methods=["POST"], status_code=201, name="add_device_record")
    routes.add_api_route("/export", inventory.give, methods=["GET"], name="export_devices", response_class=Response)
    routes.add_api_route(
        "/import",
        inventory.take,
        methods=["POST"],
        name="import_devices",
        response_model=ImportAnswer,
        openapi_extra=taken,
    )
    routes.add_api_route("/{mac}", inventory.show, methods=["GET"], name="show_device_record")
    routes.add_api_route("/{mac}", inventory.change, methods=["PATCH"], name="change_device_record")
    routes.add_api_route("/{mac}", inventory.remove, methods=["DELETE"], status_code=204, name="remove_device_record")
    routes.add_api_route("/{mac}/move", inventory.move, methods=["POST"], name="move_device_record")
    return routes
