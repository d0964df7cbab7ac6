"""`/api/aliases`, `/api/triggers`, `/api/packages`, `/api/truststores`, `/api/keystores`: for administrators.

Passwords go in and never come out. A change is in force when its answer comes. Annotations are not postponed here:
FastAPI looks at those of routes that are made in a loop.
"""

import asyncio
import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Body, HTTPException, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, SecretStr

from gateway.aliases.catalogue import Kind, PasswordMissing, Record
from gateway.aliases.causes import subject_of
from gateway.aliases.errors import AliasError, FieldProblem, InvalidAlias
from gateway.aliases.records import AliasSettings, PackageSettings, TriggerSettings
from gateway.aliases.store import AliasStore, build
from gateway.aliases.transfer import export_aliases, export_package, import_document
from gateway.aliases.trial import walk
from gateway.api.bodies import JsonObject
from gateway.api.callers import Admin
from gateway.api.pages import Page

__all__ = ["AliasDesk", "router"]

_NOT_FOUND = "MW-ALI-002"
Fields = Annotated[JsonObject, Body(description="Fields to change; those not named stay.")]


class StoreBody(BaseModel):
    """A keystore or truststore; `content` is the PEM text, or a PKCS#12 file in base64."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = ""
    content: str = ""
    system: bool = False
    """Truststores only: trust the operating system's authorities, too."""
    password: SecretStr | None = None
    password_file: str = ""
    """On the gateway's machine."""


class Names(BaseModel):
    """Body of `POST /api/aliases/export`."""

    model_config = ConfigDict(extra="forbid")

    names: list[str] = []


@contextmanager
def _answers() -> Iterator[None]:
    """Our errors as answers: 422 with a message a field, 404, 409."""
    try:
        yield
    except InvalidAlias as error:
        raise _unfit(error.problems) from None
    except AliasError as error:
        if error.code == _NOT_FOUND:
            raise HTTPException(404, str(error)) from None
        raise


def _unfit(problems: Sequence[FieldProblem]) -> RequestValidationError:
    return RequestValidationError(
        [{"loc": ("body", *each.field.split(".")), "msg": each.message, "type": "value_error"} for each in problems]
    )


class AliasDesk(Protocol):
    """What the routes need: a gateway's `AliasService`, or a store that no gateway works with."""

    @property
    def store(self) -> AliasStore:
        """What there is."""
        ...

    async def apply(self) -> None:
        """Bring what runs in line with the store."""
        ...

    def state(self, kind: Kind, name: str) -> dict[str, object] | None:
        """How an alias or trigger is; None: nothing runs."""
        ...


class _Api:
    """What the routes have in common."""

    def __init__(self, service: AliasDesk) -> None:
        self.service = service
        self.store = service.store

    @property
    def catalogue(self) -> Any:
        return self.store.catalogue

    async def do(self, act: Any) -> None:
        """One change, off the event loop; what runs follows before the answer."""
        with _answers():
            await asyncio.to_thread(act)
        await self.service.apply()

    async def change(self, kind: Kind, name: str, act: Any) -> dict[str, object]:
        """One change; gives what is saved now."""
        await self.do(act)
        return self.shown(kind, name)

    def shown(self, kind: Kind, name: str) -> dict[str, object]:
        """A record without its secrets."""
        with _answers():
            record = self.catalogue.find(kind, name)
        origin = "file" if (kind, name) in self.catalogue.declared else "store"
        values: dict[str, object] = record.model_dump(mode="json") | {"origin": origin}
        if kind in (Kind.ALIAS, Kind.TRIGGER):
            values["live"] = self.service.state(kind, name)
            values["problems"] = {each.field: each.message for each in self.store.check(record)}
        elif kind is not Kind.PACKAGE:
            values["holds"] = self._held(kind, name)
        return values

    def _held(self, kind: Kind, name: str) -> list[dict[str, str]]:
        try:
            if kind is Kind.TRUSTSTORE:
                anchors, _ = self.catalogue.anchors(name, self.store.environment)
                return [{"subject": subject_of(each), "ends": each.not_valid_after_utc.isoformat()} for each in anchors]
            entries = self.catalogue.key_entries(name, self.store.environment).values()
        except (AliasError, PasswordMissing):
            return []
        return [{"alias": e.alias, "subject": subject_of(e.certificate), "ends": e.ends.isoformat()} for e in entries]


def router(service: AliasDesk) -> APIRouter:
    """The routes."""
    routes = APIRouter()
    api = _Api(service)
    for kind, plural, model in (
        (Kind.ALIAS, "aliases", AliasSettings),
        (Kind.TRIGGER, "triggers", TriggerSettings),
        (Kind.PACKAGE, "packages", PackageSettings),
    ):
        _records(routes, api, kind, plural, model)
    for kind, plural in ((Kind.TRUSTSTORE, "truststores"), (Kind.KEYSTORE, "keystores")):
        _stores(routes, api, kind, plural)

    @routes.post("/api/aliases/{name}/test", tags=["aliases"])
    async def test_alias(name: str, admin: Admin) -> dict[str, object]:
        """Walk to the broker from where the gateway runs."""
        with _answers():
            alias = service.store.catalogue.alias(name)
        store = service.store
        steps = await asyncio.to_thread(lambda: list(walk(alias, store.catalogue, store.site, store.environment)))
        return {
            "ok": steps[-1].is_ok,
            "steps": [
                {"step": s.name, "ok": s.is_ok, "ms": round(s.took_ms, 1), "evidence": s.evidence}
                | ({} if s.is_ok else {"code": s.code, "cause": s.cause, "fix": s.fix})
                for s in steps
            ],
        }

    @routes.post("/api/aliases/export", tags=["aliases"])
    async def export_some(body: Names, admin: Admin) -> dict[str, object]:
        """Aliases with their triggers and truststores, without secrets; no name: all."""
        with _answers():
            return await asyncio.to_thread(export_aliases, service.store, body.names)

    @routes.get("/api/packages/{name}/export", tags=["packages"])
    async def export(name: str, admin: Admin) -> dict[str, object]:
        """A package with all that it holds, without secrets."""
        with _answers():
            return await asyncio.to_thread(export_package, service.store, name)

    @routes.post("/api/packages/import", tags=["packages"])
    async def import_package(document: Annotated[JsonObject, Body()], admin: Admin) -> dict[str, object]:
        """Save what an export holds; tells what is missing here, by name and field."""
        with _answers():
            missing = await asyncio.to_thread(import_document, service.store, document)
        await service.apply()
        return {"missing": {name: {each.field: each.message for each in found} for name, found in missing.items()}}

    return routes


def _records(routes: APIRouter, api: _Api, kind: Kind, plural: str, model: type[BaseModel]) -> None:
    """List, add, show, replace, change, remove, enable, disable."""

    @routes.get(f"/api/{plural}", tags=[plural], name=f"list_{plural}")
    async def list_all(admin: Admin, page: Page) -> list[dict[str, object]]:
        """All, with their live state."""
        return [api.shown(kind, name) for name in page.of(sorted(api.catalogue.of(kind)), str)]

    @routes.post(f"/api/{plural}", status_code=201, tags=[plural], name=f"add_{kind}")
    async def add(body: model, admin: Admin) -> dict[str, object]:  # type: ignore[valid-type]
        """Save a new one; every field has to fit."""
        return await api.change(kind, body.name, lambda: api.store.add(body))  # type: ignore[attr-defined]

    @routes.get(f"/api/{plural}/{{name}}", tags=[plural], name=f"show_{kind}")
    async def show(name: str, admin: Admin) -> dict[str, object]:
        """All fields; passwords are never shown."""
        return api.shown(kind, name)

    @routes.patch(f"/api/{plural}/{{name}}", tags=[plural], name=f"change_{kind}")
    async def change(name: str, fields: Fields, admin: Admin) -> dict[str, object]:
        """Save single fields."""
        return await api.change(kind, name, lambda: api.store.change(kind, name, fields))

    @routes.delete(f"/api/{plural}/{{name}}", status_code=204, tags=[plural], name=f"remove_{kind}")
    async def remove(name: str, admin: Admin) -> Response:
        """Forget it."""
        await api.do(lambda: api.store.remove(kind, name))
        return Response(status_code=204)

    for verb, enabled in (("enable", True), ("disable", False)):
        _switch(routes, api, kind, f"/api/{plural}/{{name}}/{verb}", plural, enabled=enabled)


def _switch(routes: APIRouter, api: _Api, kind: Kind, path: str, plural: str, *, enabled: bool) -> None:
    @routes.post(path, tags=[plural], name=f"{'enable' if enabled else 'disable'}_{kind}")
    async def switch(name: str, admin: Admin) -> dict[str, object]:
        """Enable or disable; enabling asks that every field fits."""
        return await api.change(kind, name, lambda: api.store.set_enabled(kind, name, enabled=enabled))


def _stores(routes: APIRouter, api: _Api, kind: Kind, plural: str) -> None:
    @routes.get(f"/api/{plural}", tags=[plural], name=f"list_{plural}")
    async def list_all(admin: Admin, page: Page) -> list[dict[str, object]]:
        """All, with what they hold."""
        return [api.shown(kind, name) for name in page.of(sorted(api.catalogue.of(kind)), str)]

    @routes.post(f"/api/{plural}", status_code=201, tags=[plural], name=f"add_{kind}")
    async def add(body: StoreBody, admin: Admin) -> dict[str, object]:
        """Save a new one."""
        values = body.model_dump(exclude={"content"} | (set() if kind is Kind.TRUSTSTORE else {"system"}))
        octets = _octets(body.content)

        def save() -> Record:
            draft = api.store.draft(octets)
            try:
                file = str(draft) if octets else ""
                return api.store.add(build(kind, values | {"file": file}), copying=octets or None)
            finally:
                draft.unlink()

        return await api.change(kind, body.name, save)

    @routes.get(f"/api/{plural}/{{name}}", tags=[plural], name=f"show_{kind}")
    async def show(name: str, admin: Admin) -> dict[str, object]:
        """What it holds; passwords and keys are never shown."""
        return api.shown(kind, name)

    @routes.delete(f"/api/{plural}/{{name}}", status_code=204, tags=[plural], name=f"remove_{kind}")
    async def remove(name: str, admin: Admin) -> Response:
        """Forget it."""
        await api.do(lambda: api.store.remove(kind, name))
        return Response(status_code=204)


def _octets(content: str) -> bytes:
    if "-----BEGIN" in content:
        return content.encode()
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:
        raise _unfit([FieldProblem("content", "has to be PEM, or PKCS#12 in base64")]) from None
