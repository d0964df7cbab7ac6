"""MQTT connection aliases: a list with states, a form of the fields, the walk to the broker, enable and disable."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import SecretStr

from gateway.aliases.catalogue import Kind
from gateway.aliases.errors import AliasError, FieldProblem, InvalidAlias
from gateway.aliases.records import AliasSettings
from gateway.aliases.service import AliasService
from gateway.aliases.store import build
from gateway.aliases.trial import Step, walk
from gateway.console.rendering import Form, PageRoute, Pages
from gateway.console.visitors import Visitor

__all__ = ["router"]

PLACE: Final = "/console/aliases"
_GROUPS: Final = {
    "Connection": (
        "name", "description", "package", "host", "client_id", "clean_session", "connect_timeout_s", "keep_alive_s",
    ),
    "Last will": (
        "will_enabled", "will_qos", "will_retained", "will_topic", "will_payload", "on_connect_payload",
        "on_disconnect_payload",
    ),
    "Security": ("username", "password", "password_file", "truststore", "keystore", "key_alias"),
}  # fmt: skip
"""The fields of the form; publishing rules and the size of the queue are set by `meshwire alias` and the API."""


def _fields() -> dict[str, list[dict[str, Any]]]:
    """What the form shows for each field: its kind, its default and its own description."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for title, names in _GROUPS.items():
        for name in names:
            field = AliasSettings.model_fields[name]
            default = field.get_default()
            kind = "checkbox" if isinstance(default, bool) else "number" if isinstance(default, int) else "text"
            if name == "password":
                kind = "password"
            label = name.replace("_s", ", seconds") if name.endswith("_s") else name
            groups.setdefault(title, []).append(
                {
                    "name": name,
                    "label": label.replace("_", " ").capitalize().replace("qos", "QoS"),
                    "kind": kind,
                    "default": default if isinstance(default, str | int) else "",
                    "hint": (field.description or "").replace("\n", " "),
                    "required": field.is_required(),
                }
            )
    return groups


FIELDS: Final = _fields()
LABELS: Final = {field["name"]: field["label"] for fields in FIELDS.values() for field in fields}


def router(pages: Pages, service: AliasService) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=PageRoute)
    store = service.store

    def listing(
        visitor: Visitor,
        *,
        status: int = 200,
        error: AliasError | None = None,
        problems: Mapping[str, str] | None = None,
        values: Mapping[str, str] | None = None,
        walked: tuple[str, list[Step]] | None = None,
    ) -> Response:
        catalogue = store.catalogue
        aliases = [
            {
                "alias": alias,
                "live": service.state(Kind.ALIAS, name),
                "declared": (Kind.ALIAS, name) in catalogue.declared,
            }
            for name, alias in sorted(catalogue.aliases.items())
        ]
        return pages.page(
            "aliases.html",
            visitor,
            status=status,
            error=error,
            aliases=aliases,
            groups=FIELDS,
            problems=problems or {},
            labels=LABELS,
            values=values,
            walked=walked,
            stores={"truststore": sorted(catalogue.truststores), "keystore": sorted(catalogue.keystores)},
        )

    async def act(request: Request, what: Any) -> Response:
        """One change; what does not fit is said with its field."""
        await pages.administrator(request)
        form = await pages.form(request)
        try:
            await asyncio.to_thread(what, form)
        except InvalidAlias as error:
            problems = {each.field: _in_words(each) for each in error.problems}
            return listing(form.visitor, status=422, problems=problems, values=form.fields)
        except AliasError as error:
            typed = form.fields if "host" in form.fields else None  # the buttons of the list bring none
            return listing(form.visitor, status=409, error=error, values=typed)
        await service.apply()
        return pages.go(PLACE)

    @routes.get(PLACE)
    async def aliases(request: Request) -> Response:
        return listing(await pages.administrator(request))

    @routes.post(PLACE)
    async def add(request: Request) -> Response:
        """Save; enabling is a separate act."""
        return await act(request, lambda form: store.add(build(Kind.ALIAS, _values(form))))

    @routes.post(f"{PLACE}/{{name}}/enable")
    async def enable(request: Request, name: str) -> Response:
        return await act(request, lambda form: store.set_enabled(Kind.ALIAS, name, enabled=True))

    @routes.post(f"{PLACE}/{{name}}/disable")
    async def disable(request: Request, name: str) -> Response:
        return await act(request, lambda form: store.set_enabled(Kind.ALIAS, name, enabled=False))

    @routes.post(f"{PLACE}/{{name}}/remove")
    async def remove(request: Request, name: str) -> Response:
        return await act(request, lambda form: store.remove(Kind.ALIAS, name))

    @routes.post(f"{PLACE}/{{name}}/test")
    async def test(request: Request, name: str) -> Response:
        """Walk to the broker: name, connection, certificate, CONNECT, CONNACK."""
        await pages.administrator(request)
        form = await pages.form(request)
        try:
            alias = store.catalogue.alias(name)
        except AliasError as error:
            return listing(form.visitor, status=404, error=error)
        steps = await asyncio.to_thread(lambda: list(walk(alias, store.catalogue, store.site, store.environment)))
        return listing(form.visitor, walked=(name, steps))

    return routes


def _in_words(problem: FieldProblem) -> str:
    """A pattern says nothing to people; the field's own description is beside it."""
    return "It is not of this form." if problem.message.startswith("String should match pattern") else problem.message


def _values(form: Form) -> dict[str, Any]:
    """The form's fields as a record takes them; empty ones keep their defaults."""
    values: dict[str, Any] = {}
    for field in (each for group in FIELDS.values() for each in group):
        name, text = field["name"], form.text(field["name"])
        if field["kind"] == "checkbox":
            values[name] = bool(text)
        elif field["kind"] == "number" and text:
            values[name] = int(text) if text.lstrip("-").isdigit() else text
        elif text:
            values[name] = SecretStr(text) if name == "password" else text
    return values
