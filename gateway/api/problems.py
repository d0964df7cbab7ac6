"""Errors of the HTTP API as problem documents (RFC 9457), with our stable `code` beside the standard members."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gateway.api.methods import methods_of
from gateway.errors import GatewayError
from gateway.messaging.errors import InUseError
from meshwire.errors import MeshwireError

__all__ = ["PROBLEMS", "Problem", "install_problems", "problem"]

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 10

_log = structlog.get_logger(__name__)


class Problem(BaseModel):
    """A problem document (RFC 9457 section 3)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    code: str | None = None
    """Stable code that `meshwire help CODE` explains."""
    errors: list[dict[str, Any]] | None = None
    """For a body or query that does not fit: where (`pointer`) and why (`detail`), one entry each."""


_PROBLEM: Final = {"$ref": f"#/components/schemas/{Problem.__name__}"}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}
    for status in (400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 503)
}
"""For the OpenAPI document (`openapi.py`): the answers that routes may give."""
PROBLEMS[304] = {"description": "The reader has it already (If-None-Match)"}


def problem(
    status: int,
    detail: str | None,
    *,
    code: str | None = None,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response."""
    document = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, code=code, errors=errors)
    # It may quote what came in, lone surrogates included: those are shown as escapes.
    text = json.dumps(jsonable_encoder(document, exclude_none=True), ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(errors="backslashreplace"), status, dict(headers or {}), media_type=MEDIA_TYPE)


def install_problems(app: FastAPI) -> None:
    """Make every error of the application a problem document."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers, detail = dict(error.headers or {}), str(error.detail)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = allowed = ", ".join(methods_of(app.routes, request.scope))
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
            detail = f"{request.method[:20]} is not possible here; these are: {allowed}"
        elif detail == HTTPStatus.NOT_FOUND.phrase:
            detail = f"there is no such path: {request.url.path[:200]}; /api/openapi.json names those of the API"
        return problem(error.status_code, detail, headers=headers)

    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [{"pointer": _pointer(each["loc"]), "detail": each["msg"]} for each in error.errors()]
        detail = "; ".join(f"{each['pointer']}: {each['detail']}" for each in errors[:5])
        return problem(422, detail, errors=errors)

    async def foreseen(request: Request, error: Exception) -> Response:
        assert isinstance(error, MeshwireError)
        status = error.http_status if isinstance(error, GatewayError) else 409
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        errors = [{"pointer": "uses", "detail": use} for use in error.uses] if isinstance(error, InUseError) else None
        return problem(status, str(error), code=error.code, errors=errors, headers=headers)

    async def unforeseen(request: Request, error: Exception) -> Response:
        _log.error("a request failed", method=request.method, path=request.url.path, exc_info=error)
        return problem(500, "the gateway failed; its log says how")

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(MeshwireError, foreseen)
    app.add_exception_handler(Exception, unforeseen)


def _pointer(location: tuple[int | str, ...]) -> str:
    """Where in the request: `body/domainInfo/nic_macID`, `query/limit`."""
    return "/".join(map(str, location))
