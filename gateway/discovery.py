"""What there is: the gateway's own resources, and a directory of a tenant's devices and what they offer.

`/.well-known/core` (RFC 6690) is for everybody. `/rd-lookup/ep` and `/rd-lookup/res` (RFC 9176 section 6) and
`/rd/{mac}` need a session, or a token of the request's own, and tell of the tenant's devices alone. Devices do not
register their links: the gateway asks those that it has an address of for `/.well-known/core`, and remembers the
answers for a minute. One that gives no answer is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Final

from gateway.access import Access
from gateway.addresses import Address
from gateway.bodies import Devices
from gateway.device_failure import DeviceFailure
from gateway.exchange import Response
from gateway.registry import Device, Registry
from gateway.target import ACCESS_TOKEN
from meshwire.coap import CON, Message, codes, options
from meshwire.coap.link_format import Link, matches, parse_links, write_links
from meshwire.identity import DeviceId, IdentityError, Principal

__all__ = ["DEFAULT_DOMAIN", "Discovery"]

DEFAULT_DOMAIN: Final = "SG.YEL01.SSN.SSNSGS.NET"
"""Domain of host names that are told, where none is configured."""
DEVICE_PORT: Final = 4849
KEEP_S: Final = 60.0
AT_ONCE: Final = 16
"""Devices that are asked at the same time."""
MAX_COUNT: Final = 10_000
_LINK_FORMAT: Final = ((options.CONTENT_FORMAT, options.encode_uint(options.LINK_FORMAT)),)
_UNAUTHORIZED: Final = Response(codes.UNAUTHORIZED, b"gateway: open a session first (POST /sessions)")
_NOT_FOUND: Final = Response(codes.NOT_FOUND, b"gateway: no such device")
_OWN: Final = (
    Link("/sessions", (("rt", "meshwire.sessions"), ("title", "POST a token to open a session"))),
    Link("/.well-known/core", (("ct", "40"),)),
    Link("/rd-lookup/ep", (("rt", "core.rd-lookup-ep"), ("ct", "40"))),
    Link("/rd-lookup/res", (("rt", "core.rd-lookup-res"), ("ct", "40"))),
)
_PAGING: Final = frozenset({"page", "count"})
_OF_DEVICES: Final = frozenset({"ep", "et", "d"})
"""Query arguments of a resource look-up that choose devices; the others choose links."""


class Discovery:
    """See the module's text.

    Args:
        access: who asks, and whose devices are whose.
        registry: which devices there are.
        devices: asks them.
        now_s: a clock in seconds.
        domains: the first is the domain of host names that are told.
        timeout_s: how long a device may take to answer.
    """

    def __init__(
        self,
        access: Access,
        registry: Registry,
        devices: Devices,
        now_s: Callable[[], float],
        *,
        domains: Iterable[str],
        timeout_s: float,
    ) -> None:
        self._access = access
        self._registry = registry
        self._devices = devices
        self._now_s = now_s
        self._domain = next(iter(domains), DEFAULT_DOMAIN)
        self._timeout_s = timeout_s
        self._known: dict[DeviceId, tuple[float, list[Link]]] = {}

    def answers(self, path: tuple[str, ...]) -> bool:
        """Whether a path is one of the directory's."""
        return path in ((".well-known", "core"), ("rd-lookup", "ep"), ("rd-lookup", "res")) or (
            len(path) == 2 and path[0] == "rd"
        )

    def answer(self, request: Message, source: Address) -> Response | Coroutine[object, object, Response]:
        """Answer a GET, at once or later."""
        queries = [query for query in request.query() if query and not query.startswith(ACCESS_TOKEN)]
        path = request.path()
        if path == (".well-known", "core"):
            return _content(_page(_chosen(_OWN, queries), queries))
        token = next((query[len(ACCESS_TOKEN) :] for query in request.query() if query.startswith(ACCESS_TOKEN)), None)
        principal = self._access.principal(source, token)
        if principal is None:
            return _UNAUTHORIZED
        if path[0] == "rd":
            return self._one(principal, path[1])
        devices = self._access.devices(principal)
        if path[1] == "ep":
            return _content(_page(_chosen(map(self._endpoint, devices), queries), queries))
        return self._resources(devices, queries)

    # --- devices

    def _base(self, device: Device) -> str:
        return f"coap://{device.mac.host(device.domain or self._domain)}:{DEVICE_PORT}"

    def _endpoint(self, device: Device) -> Link:
        attributes = [("ep", device.mac.value), ("d", device.tenant.value), ("base", self._base(device))]
        if device.type:
            attributes.append(("et", device.type))
        return Link(f"/rd/{device.mac}", (*attributes, ("rt", "core.rd-ep")))

    def _one(self, principal: Principal, text: str) -> Response | Coroutine[object, object, Response]:
        try:
            device = self._access.device(principal, DeviceId.parse(text))
        except IdentityError:
            device = None
        return _NOT_FOUND if device is None else self._resources([device], [])

    # --- their resources

    async def _resources(self, devices: Iterable[Device], queries: list[str]) -> Response:
        of_devices = [query for query in queries if query.partition("=")[0] in _OF_DEVICES]
        of_links = [query for query in queries if query not in of_devices]
        chosen = [device for device in devices if all(matches(self._endpoint(device), query) for query in of_devices)]
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(device: Device) -> list[Link]:
            async with gate:
                return await self._links(device)

        found = await asyncio.gather(*map(ask, chosen))
        return _content(_page(_chosen((link for links in found for link in links), of_links), queries))

    async def _links(self, device: Device) -> list[Link]:
        """The device's links, made absolute; none when it gives no answer."""
        now = self._now_s()
        known = self._known.get(device.mac)
        if known is None or now - known[0] > KEEP_S:
            try:
                links = parse_links((await self._core(device)).payload.decode(errors="replace"))
            except (DeviceFailure, TimeoutError):
                return []
            known = self._known[device.mac] = now, links
        base = self._base(device)
        anchor = ("anchor", base)
        return [
            replace(link, target=base + link.target, attributes=(*link.attributes, anchor))
            for link in known[1]
            if link.target.startswith("/")
        ]

    async def _core(self, device: Device) -> Response:
        sighting = self._registry.sighting(device.mac)
        if sighting is None:
            raise DeviceFailure("it has not told its address yet")
        pairs = ((options.URI_PATH, b".well-known"), (options.URI_PATH, b"core"))
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        give_up = self._devices.start(
            Message(CON, codes.GET, 0, b"", pairs),
            sighting.address,
            lambda response: None if answer.done() else answer.set_result(response),
            lambda failure: None if answer.done() else answer.set_exception(failure),
            self._timeout_s,
        )
        try:
            response = await answer
        finally:
            give_up()
        if response.code != codes.CONTENT:
            raise DeviceFailure(codes.code_text(response.code))
        return response


def _chosen(links: Iterable[Link], queries: Iterable[str]) -> list[Link]:
    filters = [query for query in queries if query.partition("=")[0] not in _PAGING]
    return [link for link in links if all(matches(link, query) for query in filters)]


def _page(links: list[Link], queries: Iterable[str]) -> list[Link]:
    """RFC 9176 section 6.1: `count` links of page `page`."""
    wanted = {name: value for name, _, value in (query.partition("=") for query in queries) if name in _PAGING}
    count = int(wanted["count"]) if wanted.get("count", "").isdecimal() else MAX_COUNT
    page = int(wanted["page"]) if wanted.get("page", "").isdecimal() else 0
    return links[page * count : (page + 1) * count]


def _content(links: Iterable[Link]) -> Response:
    return Response(codes.CONTENT, write_links(links), _LINK_FORMAT)
