"""Fields of hook requests, read without trust: forms and JSON objects."""

import json
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from broker.authority.http import Request, Response

__all__ = ["Form", "JsonObject", "form_of", "json_response", "object_of", "text"]

Form = Mapping[str, str]
JsonObject = Mapping[str, object]

MAX_FIELDS = 64


def form_of(request: Request) -> Form:
    """The form fields, whether they stand in the body (POST) or behind the path (GET).

    Raises:
        ValueError: no UTF-8, too many fields, or a name that stands twice.
    """
    encoded = request.body.decode() or urlsplit(request.target).query
    pairs = parse_qsl(encoded, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def object_of(request: Request) -> JsonObject:
    """The body as a JSON object.

    Raises:
        ValueError: it is something else.
    """
    try:
        value: object = json.loads(request.body)
    except RecursionError:
        raise ValueError("body is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("body is no JSON object")
    return value


def text(fields: JsonObject, name: str) -> str:
    """A text field; "" when it is absent, null or no text."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def json_response(value: JsonObject, status: int = 200) -> Response:
    """An object as answer."""
    return Response(status, json.dumps(value, separators=(",", ":")).encode(), "application/json")
