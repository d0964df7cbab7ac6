"""The OpenAPI document: what FastAPI gathers from the routes, and what it can't know of them.

Every route is included with all problems that there may be (`problems.PROBLEMS`); here those go that this operation
can't give: 304 is for GET, 412 for what can have a condition, 413 and 415 for what takes a body, 401 and 403 for what
asks for a token.
"""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.api.event_streams import EVENT_STREAM
from gateway.api.preconditions import is_conditional
from gateway.api.problems import Problem

__all__ = ["describe"]

_ABOUT: Final = """\
Devices, tenants, commands, messages and the messaging service of one site. What holds for every route, such as who may
use it, pages of lists, conditional requests and bounds, is in `docs/reference/http-api.md`."""
_TOKEN: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "`POST /api/tokens` gives one. Without `Bearer` before it, too, as the vendor's clients write it.",
}
_LOGIN: Final = "/api/tokens"
_TEXT: Final = {"type": "string"}
_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "401": {"WWW-Authenticate": {"description": "`Bearer`, where a token is asked for", "schema": _TEXT}},
    "412": {"ETag": {"description": "of what there is now", "schema": _TEXT}},
    "429": {"Retry-After": {"description": "in seconds", "schema": _TEXT}},
    "503": {"Retry-After": {"description": "in seconds", "schema": _TEXT}},
}
_LAST_EVENT: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "id of the last event that the reader has: go on after it",
    "schema": _TEXT,
}
_SENTENCE: Final = re.compile(r"(.{8,}?)[.;:](\s|$)")
_OPEN: Final = re.compile(r" \([^)]*$")
"""A bracket that the end of a sentence leaves open."""


def describe(app: FastAPI) -> None:
    """Let the application give this document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _mended(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=_ABOUT,
                    routes=app.routes,
                    servers=[{"url": "/"}],
                    license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
                )
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _mended(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]
    components["schemas"][Problem.__name__] = Problem.model_json_schema()
    components["securitySchemes"] = dict.fromkeys(components["securitySchemes"], _TOKEN)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _mend(path, method, operation)
    return document


def _mend(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for status in _impossible(path, method, operation):
        responses.pop(status, None)
    for status, headers in _HEADERS.items():
        if status in responses:
            responses[status] = {**responses[status], "headers": headers}
    if EVENT_STREAM in responses.get("200", {}).get("content", {}):
        operation.setdefault("parameters", []).append(_LAST_EVENT)
    words = " ".join(operation.get("description", "").split())
    if (sentence := _SENTENCE.match(words)) is not None:
        operation["summary"] = _OPEN.sub("", sentence[1])


def _impossible(path: str, method: str, operation: dict[str, Any]) -> set[str]:
    """Problems that an operation can't give."""
    possible = {
        "304": method == "get",
        "412": is_conditional(method.upper(), path),
        "413": "requestBody" in operation,
        "415": "requestBody" in operation,
        "401": "security" in operation or path == _LOGIN,
        "403": "security" in operation,
    }
    return {status for status, is_possible in possible.items() if not is_possible}
