"""The OpenAPI document: of each operation what it can answer, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.api import create_app
from gateway.api.live import router as live_router
from gateway.commands.api import router as commands_router
from gateway.credentials import Credentials
from gateway.messages.api import router as messages_router
from gateway.registry import Registry
from meshwire.site import Site


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    registry, nobody = Registry(None), Any
    more = (
        commands_router(nobody, registry, nobody),
        messages_router(nobody, nobody),
        live_router(registry, nobody, nobody),
    )
    folder: Path = tmp_path_factory.mktemp("openapi")
    app = create_app(registry, Site(folder).signing_keys(), Credentials(registry), dict, more=more)
    return app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_each_operation_says_what_it_does_and_how_it_fails(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) > 50 and len(set(names)) == len(names)
    problem = {"$ref": "#/components/schemas/Problem"}
    for path, method, operation in operations(document):
        label, summary = f"{method} {path}", operation["summary"]
        assert len(summary) > 7 and not summary.endswith(".") and "(" not in summary.partition(")")[2], label
        assert operation["description"] and operation["tags"], label
        for status, response in operation["responses"].items():
            if status >= "4" and (path, status) != ("/healthz/ready", "503"):
                assert response["content"] == {"application/problem+json": {"schema": problem}}, (label, status)
    assert document["components"]["schemas"]["Problem"]["required"] == ["title", "status"]
    assert len(json.dumps(document)) < 200_000, "each problem is told once"


def test_no_operation_names_a_problem_that_it_can_not_give(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        label, found = f"{method} {path}", set(operation["responses"])
        asks_for_a_token, takes_a_body = "security" in operation, "requestBody" in operation
        assert ({"401", "403"} <= found) is asks_for_a_token, label
        assert ({"413", "415"} <= found) is takes_a_body and (len({"413", "415"} & found) == 1) is False, label
        assert ("304" in found) is (method == "get"), label
        is_action = path.endswith(("/move", "/secret", "/password"))
        assert ("412" in found) is (method in ("put", "patch", "delete") or is_action), label
        assert "429" not in found or "Retry-After" in operation["responses"]["429"]["headers"], label
    assert "401" in document["paths"]["/api/tokens"]["post"]["responses"]


def test_event_streams_are_told_as_what_they_are(document: dict[str, Any]) -> None:
    streams = [(path, methods["get"]) for path, methods in document["paths"].items() if path.endswith("/events")]
    assert len(streams) == 5
    for path, operation in streams:
        assert set(operation["responses"]["200"]["content"]) == {"text/event-stream"}, path
        assert "Last-Event-ID" in [each["name"] for each in operation["parameters"]], path


def test_scripts_send_their_token_as_bearer(document: dict[str, Any]) -> None:
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    used = {name for _, _, operation in operations(document) for each in operation.get("security", ()) for name in each}
    assert used == set(document["components"]["securitySchemes"])
