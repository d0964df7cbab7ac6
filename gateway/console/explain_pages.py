"""Where notifications are: the newest of a device or of a topic, or the one with a key, hop by hop; and where it ends,
the reason and what to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request, Response

from gateway.api.deliveries import Ask, DeliveryAnswer, RefusalAnswer
from gateway.console.ownership import device_of
from gateway.console.rendering import PageRoute, Pages
from gateway.console.rows import Row
from gateway.console.visitors import Visitor
from gateway.registry import Device, Registry
from meshwire.identity import DeviceId, IdentityError
from meshwire.topics import Branch, parse_topic

__all__ = ["Question", "deliveries_of", "question_of", "refusals_of", "router", "steps"]

MOST: Final = 20
NO_DEVICE: Final = "There is no such device: paste a MAC (16 hex digits), a topic, or the key of a message."
NOTHING: Final = "Nothing is known of it: it never came here, or so long ago that it is forgotten."
_READINGS: Final = (Branch.READ, Branch.ALERT, Branch.DECODED)

_CURES: Final = {
    "unknown-device": "provision it: `meshwire device add MAC --tenant TENANT`",
    "disabled-device": "enable it: `meshwire device set MAC --enable`",
    "outbox-full": "bring the broker back, or raise gateway.outbox.max_octets; the NIC keeps what it has",
    "malformed": "see the NIC's log: its request is not of the form the gateway takes",
    "oscore-required": "start the NIC with its key, --oscore-key FILE; it keeps what it has",
    "oscore-no-key": "make a key: `meshwire device provision MAC --out FILE`, and give it to the NIC",
    "oscore-wrong-key": "give the NIC the file of its latest key, or make one: `meshwire device provision MAC --renew`",
    "oscore-replay": "somebody sends recorded datagrams, or the NIC has lost its state: then renew its key",
    "no-receiver": "a direct reading; start a service that takes them, the NIC sends it again",
    "receivers-busy": "a direct reading; start more services that take them, the NIC sends it again",
    "no-answer": "a direct reading; see why its receivers do not acknowledge, the NIC sends it again",
    "broker-away": "a direct reading; bring the broker back, the NIC sends it again",
}
_WAITS: Final = {
    False: "its acknowledgement has not come; it is sent again",
    True: "its receivers have not answered; the NIC waits",
}
"""By whether a reading is direct."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was pasted."""

    device: str
    """A MAC in any form, or what stands where one should."""
    key: str | None = None
    """Of the one message that was asked for."""
    kind: str | None = None
    """The topic's last level: what the messages that were asked for tell of."""


def question_of(text: str) -> Question:
    """A topic such as `acme/read/0013500500470001/temp`, a message's key, or a MAC."""
    parsed = parse_topic(text)
    if parsed is not None:
        return Question(parsed.mac.value, kind=parsed.rest[-1] if parsed.branch in _READINGS else None)
    named, _, rest = text.partition("/")
    return Question(named, key=text if rest else None)


@dataclass(frozen=True, slots=True)
class Step:
    """One hop of a notification's way, for the page."""

    name: str
    at: float | None
    state: str
    """done, now, failed or open."""
    words: str


def router(pages: Pages, registry: Registry, row: Callable[[Device, float], Row], ask: Ask) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)

    @routes.get("/console/explain")
    async def explain(request: Request, what: str = "") -> Response:
        """Where notifications are: by MAC or topic the newest, by key the one."""
        visitor, what = await pages.visitor(request), what.strip()
        found: list[DeliveryAnswer] = []
        refusals: list[RefusalAnswer] = []
        nic, error, now_s = None, None, time.time()
        if what:
            question = question_of(what)
            try:
                device = device_of(registry, visitor, question.device)
                answers = await ask({"device": device.mac.value, "key": question.key, "limit": MOST})
                found = _of_kind(deliveries_of(answers, visitor), question.kind)
                if question.key is None:
                    nic, refusals = row(device, now_s), refusals_of(answers)
                if not found and not refusals:
                    error = NOTHING
            except HTTPException:
                refusals = await refused(visitor, question.device)
                error = None if refusals else NO_DEVICE
        return pages.page(
            "explain.html",
            visitor,
            what=what,
            nic=nic,
            found=[{"item": each, "steps": steps(each)} for each in found],
            refusals=refusals,
            error=error,
            cures=_CURES,
            now_s=now_s,
        )

    async def refused(visitor: Visitor, text: str) -> list[RefusalAnswer]:
        """What a NIC that nobody has was refused; for administrators, who may add it."""
        try:
            mac = DeviceId.parse(text)
        except IdentityError:
            return []
        if not visitor.is_admin:
            return []
        return refusals_of(await ask({"device": mac.value, "key": None, "limit": 1}))

    return routes


def _of_kind(items: list[DeliveryAnswer], kind: str | None) -> list[DeliveryAnswer]:
    """Those whose path ends so; all when none does: a device may name its kind in the payload alone."""
    return [item for item in items if item.path.rsplit("/", 1)[-1] == kind] or items


def steps(item: DeliveryAnswer) -> list[Step]:
    """A notification's way hop by hop; what failed is named where it failed."""
    is_lost = item.state in ("dropped", "refused")
    way = [Step("sampled at the board", item.sampled_at, "done", "the NIC's own clock")]
    if item.direct:
        way.append(Step("came to the gateway", item.received_at, "done", "a direct reading, which is not stored"))
    else:
        way.append(Step("stored in the gateway's outbox", item.received_at, "done", "and acknowledged to the NIC"))
    if item.published_at is not None:
        way.append(Step("sent to the broker", item.published_at, "done", ""))
    elif not is_lost:
        way.append(Step("sent to the broker", None, "now", "it waits for the broker; nothing is lost meanwhile"))
    if item.acknowledged_at is not None or item.state == "acknowledged":
        way.append(Step("taken by the broker", item.acknowledged_at, "done", ""))
    elif is_lost:
        way.append(Step(item.state, item.dropped_at, "failed", _cure(item.reason or "unknown")))
    elif item.published_at is not None:
        way.append(Step("taken by the broker", None, "now", _WAITS[item.direct]))
    return way


def _cure(reason: str) -> str:
    return f"{reason}: {_CURES.get(reason, 'see the gateway log of that time')}"


def deliveries_of(answers: Sequence[Mapping[str, Any]], visitor: Visitor) -> list[DeliveryAnswer]:
    """What the lanes have answered, as far as the visitor may see it, the newest first."""
    items = [DeliveryAnswer(**item) for answer in answers for item in answer.get("deliveries", ())]
    shown = [item for item in items if visitor.tenant is None or item.tenant == visitor.tenant.value]
    return sorted(shown, key=lambda item: -item.received_at)


def refusals_of(answers: Sequence[Mapping[str, Any]]) -> list[RefusalAnswer]:
    """What the lanes have refused."""
    return [RefusalAnswer(**item) for answer in answers for item in answer.get("refusals", ())]
