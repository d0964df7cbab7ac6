"""Commands, events and groups as JSON: the same over HTTP, CoAP and MQTT, and in `meshwire command --json`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from gateway.blocks import MAX_PAYLOAD_OCTETS
from gateway.commands.errors import CommandError
from gateway.commands.event_body import CommandEventBody
from gateway.commands.records import FINAL_STATES, Command, Event, Group, State, target_text
from meshwire.coap import Message, codes, options
from meshwire.identity import DeviceId

__all__ = ["Document", "answer_document", "command_document", "event_document", "group_document", "refusal_document"]

Document = dict[str, object]
_DECIMALS: Final = 3


def command_document(command: Command, *, position: int | None = None, result: Event | None = None) -> Document:
    """A command.

    Args:
        command: as it is now.
        position: its place while it waits.
        result: its final event, when it has one and it is known.
    """
    request = command.request
    document: Document = {
        "id": command.key.id,
        "device": command.key.mac.value,
        "tenant": command.key.tenant.value,
        "state": command.state.value,
        "final": command.is_final,
        "mode": command.mode.value,
        "method": codes.code_text(request.code),
        "path": target_text(request),
        **_sent_payload(request),
        "created": round(command.created_s, _DECIMALS),
        "expires": round(command.expires_s, _DECIMALS),
        "attempts": command.attempts,
        "by": {
            "via": command.origin.via,
            "principal": command.origin.principal,
            "tenant": command.origin.tenant.value,
        },
    }
    if command.idempotent:
        document["idempotent"] = True
    if command.group is not None:
        document["group"] = command.group
    if position is not None:
        document["position"] = position
    if result is not None:
        document["result"] = _outcome(result)
    return document


def event_document(command: Command, event: Event) -> Document:
    """An event, as it appears on the response topic."""
    document: Document = {
        "id": command.key.id,
        "device": command.key.mac.value,
        "event": event.kind.value,
        "final": event.kind in FINAL_STATES,
        "number": event.number,
        "time": round(event.at_s, _DECIMALS),
        **_outcome(event),
    }
    if event.kind in (State.ACCEPTED, State.QUEUED):
        document["expires"] = round(command.expires_s, _DECIMALS)
    if command.group is not None:
        document["group"] = command.group
    return _event(document)


def refusal_document(mac: DeviceId, id: str, error: CommandError, at_s: float) -> Document:
    """An event for an order that was not accepted: there is no command."""
    return _event(
        {
            "id": id,
            "device": mac.value,
            "event": State.FAILED.value,
            "final": True,
            "time": round(at_s, _DECIMALS),
            "hop": "gateway",
            "reason": str(error),
        }
    )


def _event(document: Document) -> Document:
    return CommandEventBody.model_validate(document).model_dump(mode="json", exclude_unset=True)


def _outcome(event: Event) -> Document:
    document: Document = {}
    if event.position is not None:
        document["position"] = event.position
    if event.hop is not None:
        document["hop"] = event.hop
    if event.reason is not None:
        document["reason"] = event.reason
    if event.answer is not None:
        document.update(answer_document(event.answer))
    return document


def answer_document(answer: Message) -> Document:
    """A device's answer."""
    return {"success": codes.is_success(answer.code), "code": codes.code_text(answer.code), **_payload(answer)}


def _sent_payload(request: Message) -> Document:
    """A payload that goes in blocks is named by its digest: nobody reads an image in a list of commands."""
    if len(request.payload) <= MAX_PAYLOAD_OCTETS:
        return _payload(request)
    digest = hashlib.sha256(request.payload).hexdigest()
    return {"payloadOctets": len(request.payload), "payloadSha256": digest, **_payload(replace(request, payload=b""))}


def _payload(message: Message) -> Document:
    """Text where it is text; the octets always, unless there are none."""
    document: Document = {}
    content_format = message.uint(options.CONTENT_FORMAT)
    if content_format is not None:
        document["contentFormat"] = content_format
    if not message.payload:
        return document
    try:
        text = message.payload.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and (text.isprintable() or "\n" in text):
        document["payload"] = text
    document["payloadHex"] = message.payload.hex()
    return document


def group_document(group: Group, progress: dict[str, int]) -> Document:
    """A group and how far it is."""
    ended = sum(count for state, count in progress.items() if State(state) in FINAL_STATES)
    total = sum(progress.values())
    return {
        "id": group.id,
        "tenant": group.tenant.value,
        "selector": group.selector,
        "created": round(group.created_s, _DECIMALS),
        "by": {"via": group.origin.via, "principal": group.origin.principal, "tenant": group.origin.tenant.value},
        "devices": total,
        "ended": ended,
        "final": ended == total,
        "states": progress,
    }
