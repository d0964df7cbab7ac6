"""A crawl of the running gateway from its own OpenAPI document (schemathesis): nothing fails inside, and every answer
is one that the document names, and looks as it says. Seeded: the same requests every time.

Half of the requests name what there is, else nearly all would be answered 404. What is not asked here: streams, which
do not end; what reaches out to the network; and operations that would take away what later ones need.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from patience import PATIENCE_S
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.api_settings import ApiSettings
from gateway.gateway import Gateway
from gateway.settings import BridgeSettings, GatewaySettings
from meshwire.identity import DeviceId, Role, TenantId
from meshwire.logs import configure_logging
from meshwire.site import Site

MAC = "001350050047dc9a"
KNOWN = {
    "mac": MAC,
    "solution": "sandbox",
    "/api/solutions/": MAC,
    "/api/tenants/": "acme",
    "/api/accounts/": "acme",
    "/api/messaging/": "main",
    "/api/aliases/": "there",
    "/api/packages/": "WmRoot",
}
"""What there is, by the name of a parameter in the path, or by what the path begins with."""
LEFT_OUT = re.compile(
    r".*/events|.*/(endpoints/\{id\}/check|aliases/\{name\}/test)"
    r"|DELETE /api/(solutions/.*/devices/\{id\}|devices/\{mac\}|accounts/.*)|POST /api/devices/\{mac\}/move"
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MISSING = {503}
"""Not our fault: there is no broker and no device here."""


TOO_LONG = {414, 431}
"""The server's own answers, to a URL or headers above 64 KiB: no operation's, so the document does not name them."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A gateway in a thread of its own: address and headers of an administrator's requests."""
    configure_logging(logging.ERROR)
    site = Site(tmp_path_factory.mktemp("crawl"))
    gateway = Gateway(
        GatewaySettings(
            port=0,
            http="127.0.0.1:0",
            bridge=BridgeSettings(enabled=False),
            api=ApiSettings(requests_per_s=0, address_requests_per_s=0, login_failures=1_000_000),
        ),
        site,
    )
    gateway.registry.add_device(DeviceId(MAC), TenantId("acme"))
    loop, ended = asyncio.new_event_loop(), threading.Event()
    ready = threading.Event()

    async def serve() -> None:
        task = asyncio.current_task()
        assert task is not None
        loop.call_soon(asyncio.ensure_future, tell_ready())
        with contextlib.suppress(asyncio.CancelledError):
            await gateway.run()

    async def tell_ready() -> None:
        await gateway.ready.wait()
        ready.set()

    serving = loop.create_task(serve())
    thread = threading.Thread(target=lambda: (loop.run_until_complete(serving), ended.set()))
    thread.start()
    assert ready.wait(PATIENCE_S)
    token = site.signing_keys().issue(
        TenantId("acme"), [Role.COMMAND_CLIENT], now=time.time(), ttl_s=7200, scope="api admin"
    )
    yield f"http://127.0.0.1:{gateway.http_port}", {"Authorization": token}
    loop.call_soon_threadsafe(serving.cancel)
    thread.join(PATIENCE_S)
    assert ended.is_set()
    loop.close()


@pytest.mark.parametrize("examples", [2, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_nothing_fails_inside_and_every_answer_is_as_the_document_says(
    running: tuple[str, dict[str, str]], examples: int
) -> None:
    address, headers = running
    session = requests.Session()
    session.auth = Administrator(headers["Authorization"])
    make_what_is_known(session, address, headers)
    document = session.get(f"{address}/api/openapi.json", timeout=PATIENCE_S).json()
    assert document["openapi"].startswith("3.1")
    schema = schemathesis.openapi.from_dict(document)
    wrong: dict[str, str] = {}
    asked: Counter[int] = Counter()
    for result in schema.get_all_operations():
        operation = result.ok()
        if LEFT_OUT.fullmatch(operation.path) or LEFT_OUT.fullmatch(operation.label):
            continue

        @seed(7)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=st.one_of(
                *(operation.as_strategy(mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE))
            ),
            is_known=st.booleans(),
        )
        def crawl(case: Case, is_known: bool) -> None:
            if is_known:
                name_what_is_known(case)
            if "wait" in (case.query or {}):
                case.query["wait"] = "0"
            response = case.call(base_url=address, session=session, headers=headers, timeout=PATIENCE_S)
            asked[response.status_code] += 1
            if response.status_code in MISSING | TOO_LONG:
                return
            case.validate_response(response, checks=CHECKS)

        try:
            crawl()
        except (Exception, FailureGroup) as error:
            wrong[operation.label] = str(error)[:1500]
    print(f"{sum(asked.values())} requests: {dict(sorted(asked.items()))}")
    assert not wrong, "\n\n".join(f"{label}: {words}" for label, words in wrong.items())
    assert sum(asked.values()) > 60 * examples
    assert asked[401] < sum(asked.values()) / 20
    assert sum(asked[status] for status in TOO_LONG) < sum(asked.values()) / 50
    assert asked[200] > 20 and not [status for status in asked if status >= 500 and status not in MISSING]


class Administrator(requests.auth.AuthBase):
    """Has the last word about the token: who may what is tested elsewhere."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._token
        return request


def make_what_is_known(session: requests.Session, address: str, headers: dict[str, str]) -> None:
    for path, body in [
        ("/api/messaging/instances", {"name": "main", "engine": "mosquitto"}),
        ("/api/aliases", {"name": "there", "host": "tcp://127.0.0.1:1"}),
    ]:
        assert session.post(address + path, json=body, headers=headers, timeout=PATIENCE_S).status_code in (201, 409)


def name_what_is_known(case: Case) -> None:
    for name in case.path_parameters or {}:
        found = KNOWN.get(name) or next(
            (known for prefix, known in KNOWN.items() if case.path.startswith(prefix)), None
        )
        if found is not None:
            case.path_parameters[name] = found
