"""Commands over HTTP: `…/devices/{id}/commands`, `…/commands`, `…/command-groups`; progress as an event stream.

A tenant sees and changes its own commands, an administrator all. A stored command is answered by 202 as soon as it is
on disk; a direct one, too, and with `wait=` by its outcome. Importing this module imports FastAPI.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from gateway.api.callers import Caller, device_id, is_admin, tenant_id
from gateway.api.event_streams import STREAMED, EventStreams, sent
from gateway.api.pages import MOST, say_next
from gateway.api.problems import problem
from gateway.commands.desk import CommandDesk, tenant_of
from gateway.commands.documents import Document, command_document, event_document, group_document
from gateway.commands.errors import CommandRefused, NoSuchDevice
from gateway.commands.orders import OrderBody, order_of
from gateway.commands.records import FINAL_STATES, Command, Event
from gateway.commands.store import Filter
from gateway.registry import Registry
from meshwire.identity import DeviceId, Principal

__all__ = ["router"]

SOLUTION: Final = "/api/solutions/{solution}"
LONGEST_WAIT_S: Final = 300.0

Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="seconds to wait for the command's end")]
Which = Annotated[Literal["open", "ended", "all"], Query(description="open: not ended")]


class Selection(BaseModel):
    """Which devices a group is: exactly one of the first three; `type` narrows `all` and `tag`."""

    devices: list[str] | None = Field(default=None, max_length=10_000)
    tag: str | None = None
    all: bool = False
    type: str | None = None
    tenant: str | None = None
    """For administrators."""


class GroupBody(BaseModel):
    """Body of `POST …/command-groups`."""

    select: Selection
    command: OrderBody


class Place(BaseModel):
    """Body of `PUT …/position`."""

    position: int = Field(ge=0)
    """0: the next one."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Which part of a list of commands."""

    after: Annotated[float | None, Query(ge=0, allow_inf_nan=False, description="what `next_page` says")] = None
    limit: Annotated[int, Query(ge=1, le=MOST)] = 1000


Part = Annotated[_Part, Depends()]
_THERE_BEFORE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "It has ended, or this id was there before", "content": {"application/json": {"schema": {}}}}
}


class _Commands:
    """The operations; each method is one route."""

    def __init__(self, desk: CommandDesk, registry: Registry, streams: EventStreams) -> None:
        self._desk = desk
        self._streams = streams
        self._registry = registry

    # --- one device

    async def submit(
        self, solution: str, id: str, body: OrderBody, caller: Caller, response: Response, wait: Wait = 0.0
    ) -> Response:
        """Command a device: 202 when accepted, 200 when this id was there before or the command has ended."""
        submission = await self._desk.submit(order_of(body), device_id(id), caller, "http")
        if submission.failure is not None:
            return problem(503, f"{submission.failure.reason}", code="MW-CMD-008", headers={"Retry-After": "10"})
        document = await self._after(submission.command, wait)
        status = 202 if submission.is_new and not document["final"] else 200
        place = f"{SOLUTION.format(solution=solution)}/devices/{submission.command.key.mac}/commands/"
        return JSONResponse(document, status, {"Location": place + submission.command.key.id})

    async def list_device(
        self, solution: str, id: str, request: Request, caller: Caller, page: Part, state: Which = "all"
    ) -> JSONResponse:
        """A device's commands: the youngest first; with `state=open` in the order in which the device gets them."""
        mac = self._own(id, caller)
        return await self._list(Filter(mac=mac, unfinished=_unfinished(state)), page, request, caller)

    async def list_all(
        self, solution: str, request: Request, caller: Caller, page: Part, state: Which = "open"
    ) -> JSONResponse:
        """Commands of the tenant's devices, the youngest first; of all devices for an administrator."""
        return await self._list(Filter(unfinished=_unfinished(state)), page, request, caller)

    async def _list(self, which: Filter, page: _Part, request: Request, caller: Principal) -> JSONResponse:
        which = replace(which, limit=page.limit + 1, after=page.after)
        found = await self._desk.select(which, caller)
        commands, headers = found[: page.limit], dict[str, str]()
        if len(found) > page.limit:
            say_next(headers, request, f"{await self._desk.place(commands[-1], which):.17g}")
        positions = self._desk.positions(commands)
        documents = [command_document(each, position=positions.get(each.key)) for each in commands]
        return JSONResponse({"commands": documents}, headers=headers)

    async def show(self, solution: str, id: str, command: str, caller: Caller, wait: Wait = 0.0) -> JSONResponse:
        """A command with its events; `wait` lets the answer wait for its end."""
        found = await self._desk.find(device_id(id), command, caller)
        return JSONResponse(await self._after(found, wait))

    async def cancel(self, solution: str, id: str, command: str, caller: Caller) -> JSONResponse:
        """Take a waiting command back; 409 when it was sent or has ended."""
        cancelled = await self._desk.cancel(device_id(id), command, caller)
        return JSONResponse(command_document(cancelled))

    async def move(self, solution: str, id: str, command: str, body: Place, caller: Caller) -> JSONResponse:
        """Give a waiting command another place in its device's queue."""
        moved = await self._desk.move(device_id(id), command, body.position, caller)
        return JSONResponse(command_document(moved, position=self._desk.position(moved)))

    async def events(self, solution: str, id: str, command: str, caller: Caller, request: Request) -> Response:
        """The command's events as they happen, to its final one (server-sent events; `Last-Event-ID` is honoured)."""
        found = await self._desk.find(device_id(id), command, caller)
        last = request.headers.get("Last-Event-ID", "0")
        source = self._desk.follow(found, int(last) if last.isdigit() else 0)
        return self._streams.answer(_event_lines(found, source), caller)

    async def _after(self, command: Command, wait_s: float) -> Document:
        """The command with its events, after its end or `wait_s`."""
        seen: list[Event] = []
        if wait_s and not command.is_final:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s), contextlib.aclosing(self._desk.follow(command)) as events:
                    async for event in events:
                        seen.append(event)
        seen = seen if seen and seen[-1].kind in FINAL_STATES else await self._desk.events(command)
        command = await self._desk.again(command)
        result = seen[-1] if seen and seen[-1].kind in FINAL_STATES else None
        document = command_document(command, position=self._desk.position(command), result=result)
        document["events"] = [event_document(command, event) for event in seen]
        return document

    def _own(self, id: str, caller: Principal) -> DeviceId:
        mac = device_id(id)
        device = self._registry.device(mac)
        if device is None or not (device.tenant == caller.tenant or is_admin(caller)):
            raise NoSuchDevice
        return mac

    # --- groups

    async def submit_group(self, solution: str, body: GroupBody, caller: Caller) -> JSONResponse:
        """Command several devices of one tenant: all or none is accepted."""
        macs, selector = self._selected(body.select, caller)
        group = await self._desk.submit_group(order_of(body.command), macs, selector, caller, "http")
        progress = await self._desk.progress(group)
        place = f"{SOLUTION.format(solution=solution)}/command-groups/{group.id}"
        return JSONResponse(group_document(group, progress), 202, {"Location": place})

    def _selected(self, selection: Selection, caller: Principal) -> tuple[list[DeviceId], str]:
        named = [selection.devices is not None, selection.tag is not None, selection.all]
        if named.count(True) != 1:
            raise CommandRefused("a group is chosen in one way", fix="give one of devices, tag and all")
        if selection.devices is not None:
            return [device_id(each) for each in dict.fromkeys(selection.devices)], f"{len(selection.devices)} devices"
        tenant = tenant_of(caller, tenant_id(selection.tenant) if selection.tenant is not None else None)
        devices = [each for each in self._registry.devices(tenant, selection.type, selection.tag) if each.enabled]
        words = f"tenant={tenant}" + (f" type={selection.type}" if selection.type is not None else "")
        if selection.tag is not None:
            words += f" tag={selection.tag}"
        if not devices:
            raise NoSuchDevice(words)
        return [each.mac for each in devices], words

    async def show_group(self, solution: str, group: str, caller: Caller, wait: Wait = 0.0) -> JSONResponse:
        """A group's progress, and its commands with their results."""
        found = await self._desk.group(group, caller)
        if wait:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait), contextlib.aclosing(self._desk.follow_group(found)) as steps:
                    async for _ in steps:
                        pass
        document = group_document(found, await self._desk.progress(found))
        results = await self._desk.results(found)
        positions = self._desk.positions(member for member, _ in results)
        document["commands"] = [
            command_document(member, position=positions.get(member.key), result=result) for member, result in results
        ]
        return JSONResponse(document)

    async def cancel_group(self, solution: str, group: str, caller: Caller) -> JSONResponse:
        """Take back what of a group still waits."""
        self._desk.check_party(caller)
        found = await self._desk.group(group, caller)
        cancelled = await self._desk.cancel_group(found, caller)
        return JSONResponse(group_document(found, await self._desk.progress(found)) | {"cancelled": cancelled})

    async def group_events(self, solution: str, group: str, caller: Caller) -> Response:
        """A group's progress each time that it has changed, until all its commands have ended (server-sent events)."""
        found = await self._desk.group(group, caller)

        async def lines() -> AsyncGenerator[str, None]:
            async with contextlib.aclosing(self._desk.follow_group(found)) as steps:
                async for progress in steps:
                    yield sent(group_document(found, progress), "progress")

        return self._streams.answer(lines(), caller)


def _unfinished(state: str) -> bool | None:
    return {"open": True, "ended": False}.get(state)


async def _event_lines(command: Command, source: AsyncGenerator[Event, None]) -> AsyncGenerator[str, None]:
    async with contextlib.aclosing(source) as events:
        async for event in events:
            yield sent(event_document(command, event), event.kind.value, event.number)


def router(desk: CommandDesk, registry: Registry, streams: EventStreams) -> APIRouter:
    """The routes.

    Args:
        desk: takes orders and knows what became of them.
        registry: which devices a group has.
        streams: bounds event streams.
    """
    commands = _Commands(desk, registry, streams)
    routes = APIRouter(tags=["commands"])
    of_device = f"{SOLUTION}/devices/{{id}}/commands"
    routes.add_api_route(of_device, commands.submit, methods=["POST"], status_code=202, responses=_THERE_BEFORE)
    routes.add_api_route(of_device, commands.list_device, methods=["GET"])
    routes.add_api_route(f"{of_device}/{{command}}", commands.show, methods=["GET"])
    routes.add_api_route(f"{of_device}/{{command}}", commands.cancel, methods=["DELETE"])
    routes.add_api_route(f"{of_device}/{{command}}/position", commands.move, methods=["PUT"])
    routes.add_api_route(
        f"{of_device}/{{command}}/events", commands.events, methods=["GET"], response_class=Response, responses=STREAMED
    )
    routes.add_api_route(f"{SOLUTION}/commands", commands.list_all, methods=["GET"])
    groups = f"{SOLUTION}/command-groups"
    routes.add_api_route(groups, commands.submit_group, methods=["POST"], status_code=202)
    routes.add_api_route(f"{groups}/{{group}}", commands.show_group, methods=["GET"])
    routes.add_api_route(f"{groups}/{{group}}", commands.cancel_group, methods=["DELETE"])
    routes.add_api_route(
        f"{groups}/{{group}}/events",
        commands.group_events,
        methods=["GET"],
        response_class=Response,
        responses=STREAMED,
    )
    return routes
