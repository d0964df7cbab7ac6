"""`/api/messages`: publish, and consume in one request; `/api/consumers`: consume and acknowledge in steps.

Annotations are not postponed here: FastAPI looks at those of methods.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Iterator
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from gateway.api.callers import Caller, Token
from gateway.api.event_streams import STREAMED, EventStreams, sent
from gateway.api.problems import PROBLEMS
from gateway.messages.bodies import ConsumerAnswer, MessageBody, Messages, NewConsumer, PublishAnswer, Settled, Settling
from gateway.messages.consumer import Consumer, Held, Settlement
from gateway.messages.desk import MessageDesk
from gateway.messages.errors import ConsumerEnded, MessageError
from gateway.messages.link import Visitor
from meshwire.identity import TenantId
from meshwire.mqtt import Properties, Publish, ReasonCode
from meshwire.topics import TopicError, address_topic, validate_filter, validate_topic

__all__ = ["router"]

LONGEST_WAIT_S: Final = 300.0
STREAM_CREDIT: Final = 100
FORM: Final = "application/x-www-form-urlencoded"
"""What curl says when nobody has said what the body is."""

Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="longest wait in seconds")]
Topic = Annotated[str | None, Query(max_length=65_535, description="topic to publish to")]
Filter = Annotated[str | None, Query(max_length=65_535, description="topic filter, such as acme/read/#")]
AddressName = Annotated[
    str | None, Query(max_length=256, description="an address of the caller's tenant, in its place")
]
Count = Annotated[int, Query(ge=1, le=1000, description="answer as soon as so many are there")]
Qos = Annotated[int, Query(ge=0, le=1)]

ResultT = TypeVar("ResultT")


class _Messages:
    """The operations; each method is one route."""

    def __init__(self, desk: MessageDesk, streams: EventStreams) -> None:
        self._desk = desk
        self._streams = streams

    async def publish(
        self,
        request: Request,
        caller: Caller,
        token: Token,
        topic: Topic = None,
        address: AddressName = None,
        qos: Qos = 1,
        retain: bool = False,
        ttl: Annotated[int | None, Query(ge=1, le=0xFFFF_FFFE, description="life in seconds")] = None,
        responseTopic: Annotated[str | None, Query(max_length=65_535)] = None,
        correlation: Annotated[str | None, Query(pattern=r"^([0-9A-Fa-f]{2})*$", max_length=1024)] = None,
        property: Annotated[list[str] | None, Query(description="NAME=VALUE, an MQTT 5 user property")] = None,
        wait: Wait = 10.0,
    ) -> PublishAnswer:
        """Publish the body, octet for octet, in the caller's name."""
        name = _place(caller.tenant, topic, address)
        with _unfit():
            validate_topic(name)
            if responseTopic is not None:
                validate_topic(responseTopic)
        described = request.headers.get("Content-Type")
        properties = Properties(
            message_expiry_interval=ttl,
            content_type=None if described == FORM else described,
            response_topic=responseTopic,
            correlation_data=None if correlation is None else bytes.fromhex(correlation),
            user_properties=tuple(_pair(each) for each in property or ()),
        )
        message = Publish(name, await request.body(), qos, retain, properties=properties)
        code = await self._desk.publish(token, message, wait)
        kept = "kept" if code == ReasonCode.NO_MATCHING_SUBSCRIBERS else "taken"
        return PublishAnswer(topic=name, outcome=kept if qos else "sent")

    async def take(
        self,
        request: Request,
        caller: Caller,
        token: Token,
        filter: Filter = None,
        address: AddressName = None,
        qos: Qos = 1,
        count: Count = 1,
        wait: Wait = 30.0,
    ) -> Response:
        """Receive at most `count` messages; they are acknowledged when the answer has been written."""
        name = _place(caller.tenant, filter, address)
        consumer = await self._open(caller.tenant, Visitor(token, credit=count), name, qos)
        try:
            found = await _unless_gone(request, consumer.fetch(after=0, count=count, most=count, wait_s=wait))
        except BaseException:
            await self._desk.close(consumer)
            raise
        accepted = tuple(each.number for each in found or ())
        if found is None:  # nobody is there to read the answer
            await self._desk.close(consumer)
            return Response(status_code=204)
        goodbye = BackgroundTask(self._desk.close, consumer, accepted)
        return JSONResponse(_messages(found, consumer).model_dump(exclude_none=True), background=goodbye)

    async def stream(
        self, caller: Caller, token: Token, filter: Filter = None, address: AddressName = None, qos: Qos = 1
    ) -> StreamingResponse:
        """Receive as server-sent events until the client leaves; each is acknowledged when it has been written."""
        name = _place(caller.tenant, filter, address)
        consumer = await self._open(caller.tenant, Visitor(token, credit=STREAM_CREDIT), name, qos)
        try:
            return self._streams.answer(self._acknowledging(consumer), caller)
        except HTTPException:
            await self._desk.close(consumer)
            raise

    async def open(self, body: NewConsumer, caller: Caller, token: Token) -> ConsumerAnswer:
        """Make a consumer: it holds messages until they are acknowledged."""
        if body.keep and body.name is None:
            raise MessageError("keep needs a name", evidence=f"keep = {body.keep}", fix="name the consumer")
        visitor = Visitor(token, "" if body.name is None else f"http-{body.name}", body.credit, body.keep)
        consumer = await self._open(caller.tenant, visitor, _place(caller.tenant, body.filter, body.address), body.qos)
        idle_s = self._desk.settings.idle_s
        return ConsumerAnswer(id=consumer.id, filter=consumer.topic_filter, credit=body.credit, idleS=idle_s)

    async def fetch(
        self,
        id: str,
        caller: Caller,
        token: Token,
        after: Annotated[int, Query(ge=0, description="number of the last message that is known")] = 0,
        count: Count = 1,
        most: Annotated[int, Query(ge=1, le=1000, description="at most so many")] = 100,
        wait: Wait = 30.0,
    ) -> Response:
        """Messages that are not acknowledged, with higher numbers than `after`."""
        consumer = self._desk.find(id, token)
        found = await consumer.fetch(after=after, count=min(count, most), most=most, wait_s=wait)
        return JSONResponse(_messages(found, consumer).model_dump(exclude_none=True))

    async def events(
        self, request: Request, id: str, caller: Caller, token: Token, after: int = 0
    ) -> StreamingResponse:
        """The same as server-sent events; `Last-Event-ID` counts like `after`."""
        last = request.headers.get("Last-Event-ID", "")
        consumer = self._desk.find(id, token)
        after = int(last[:18]) if last.isascii() and last.isdigit() else after
        return self._streams.answer(_events_of(consumer, after), caller)

    async def acknowledge(self, id: str, body: Settling, caller: Caller, token: Token) -> Settled:
        """Settle messages; the broker then gives the consumer others."""
        consumer = self._desk.find(id, token)
        settled = consumer.settle(body.accepted)
        settled += consumer.settle(body.refused, Settlement.REFUSED)
        return Settled(settled=settled + consumer.settle(body.unreadable, Settlement.UNREADABLE))

    async def close(self, id: str, caller: Caller, token: Token) -> None:
        """End a consumer; what it has not acknowledged goes back, and its session is not kept."""
        await self._desk.close(self._desk.find(id, token))

    # --- inside

    async def _open(self, tenant: TenantId, visitor: Visitor, topic_filter: str, qos: int) -> Consumer:
        with _unfit():
            plain = topic_filter.split("/", 2)[-1] if topic_filter.startswith("$share/") else topic_filter
            validate_filter(plain)
        return await self._desk.open(tenant, visitor, topic_filter, qos)

    async def _acknowledging(self, consumer: Consumer) -> AsyncGenerator[str, None]:
        """Events; the one before is settled when the next is asked for: then it has been written."""
        try:
            async for number, event in _numbered(consumer, 0):
                yield event
                consumer.settle([] if number is None else [number])
        finally:
            await asyncio.shield(self._desk.close(consumer))


def router(desk: MessageDesk, streams: EventStreams) -> APIRouter:
    """The routes.

    Args:
        desk: reaches the broker.
        streams: bounds event streams.
    """
    routes, messages = APIRouter(tags=["messages"], prefix="/api"), _Messages(desk, streams)
    body: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    received: dict[int | str, dict[str, Any]] = {200: {"model": Messages}}
    routes.add_api_route(
        "/messages", messages.publish, methods=["POST"], responses=_also(502, 504), openapi_extra={"requestBody": body}
    )
    routes.add_api_route("/messages", messages.take, methods=["GET"], responses=received | _also(410, 502))
    routes.add_api_route(
        "/messages/events", messages.stream, methods=["GET"], response_class=Response, responses=STREAMED
    )
    routes.add_api_route(
        "/consumers", messages.open, methods=["POST"], status_code=201, name="open_consumer", responses=_also(502)
    )
    routes.add_api_route("/consumers/{id}", messages.close, methods=["DELETE"], status_code=204, name="close_consumer")
    routes.add_api_route("/consumers/{id}/messages", messages.fetch, methods=["GET"], responses=received | _also(410))
    routes.add_api_route(
        "/consumers/{id}/events", messages.events, methods=["GET"], response_class=Response, responses=STREAMED
    )
    routes.add_api_route("/consumers/{id}/acknowledge", messages.acknowledge, methods=["POST"])
    return routes


def _also(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: further problems of a route."""
    return {status: PROBLEMS[404] | {"description": HTTPStatus(status).phrase} for status in statuses}


def _place(tenant: TenantId, topic: str | None, address: str | None) -> str:
    """The topic or filter that was named, or that of an address."""
    if (topic is None) == (address is None):
        raise MessageError(
            "name a topic (to receive: a filter) or an address", evidence="none, or both", fix="name one"
        )
    return address_topic(tenant.value, address) if address is not None else str(topic)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


@contextlib.contextmanager
def _unfit() -> Iterator[None]:
    try:
        yield
    except TopicError as error:
        raise MessageError("not a topic", evidence=str(error), fix="see MQTT 5.0 section 4.7") from None


def _messages(found: list[Held], consumer: Consumer) -> Messages:
    return Messages(messages=[MessageBody.of(each) for each in found], dropped=consumer.dropped)


async def _unless_gone(request: Request, work: Awaitable[ResultT]) -> ResultT | None:
    """What `work` gives; None when the client has gone before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return None if tasks[1].done() else tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()


async def _numbered(consumer: Consumer, after: int) -> AsyncGenerator[tuple[int | None, str], None]:
    """Events and the numbers of their messages, until the consumer ends."""
    while True:
        try:
            found = await consumer.fetch(after=after, count=1, most=STREAM_CREDIT, wait_s=LONGEST_WAIT_S)
        except ConsumerEnded as error:
            yield None, sent({"reason": error.evidence}, "end")
            return
        for each in found:
            after = each.number
            yield after, sent(MessageBody.of(each).model_dump(exclude_none=True), "message", after)


async def _events_of(consumer: Consumer, after: int) -> AsyncGenerator[str, None]:
    async for _, event in _numbered(consumer, after):
        yield event
