"""Who may use which route of the gateway's HTTP application: one entry for every route there is.

`test_api_authorization.py` takes the routes from the application itself: a route without an entry fails it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

OWN, FOREIGN, UNKNOWN = "001350050047dc9a", "001350050047dd92", "00135005000000ff"
COMMAND = "c1"
"""A command of this id waits for the own device and for the foreign one; `{group}` has one of each, too."""


class Who(StrEnum):
    """Whom a route lets in."""

    OPEN = "anybody"
    TENANT = "a token of a tenant, for what is the tenant's own; the scope admin for everything"
    COMMANDER = "the same, but only with a role that may command"
    ADMIN = "a token with the scope admin"
    PAGE_OPEN = "any browser"
    PAGE = "somebody signed in, for what is the tenant's own; administrators for everything"
    PAGE_ADMIN = "a signed-in administrator; for others the page does not exist"


@dataclass(frozen=True)
class Entry:
    """What to expect of a route.

    `at` fills the path; `{target}` in path values, query and body stands for what may be own, foreign or unknown: a
    device's MAC, or the id of a group. `lists`: the answer names devices or tenants, and must not name foreign ones.
    """

    who: Who
    at: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    body: Any = None
    form: Mapping[str, str] | None = None
    upload: str = ""
    """The form's field with a file, which makes it a form of parts (RFC 7578)."""
    ok: tuple[int, ...] = (200,)
    spoils: bool = False
    """What was there has to be put back afterwards."""
    lists: bool = False
    names: str = "device"
    """What `{target}` is: device, group or tenant."""
    alike: int = 404
    """What foreign and unknown ones are answered, octet for octet the same."""


def admin(**at: str) -> Entry:
    """A route for administrators; what comes of the request itself does not matter here."""
    return Entry(Who.ADMIN, at, body={})


S = {"solution": "sandbox"}
MINE = {"id": "{target}"}
ORDER = {"method": "GET", "path": "snsr/arduino/temp?sens", "mode": "stored", "ttl": 600}

API: dict[str, Entry] = {
    "GET /api/openapi.json": Entry(Who.OPEN),
    "GET /api/asyncapi.json": Entry(Who.OPEN),
    # No secret is named: comparing one takes its time, and test_api.py does.
    "POST /api/tokens": Entry(Who.OPEN, body={"clientId": "x"}, ok=(422,)),
    "POST /tokens": Entry(Who.OPEN, body={"clientId": "x"}, ok=(422,)),
    "GET /healthz": Entry(Who.OPEN),
    "GET /healthz/live": Entry(Who.OPEN),
    "GET /healthz/ready": Entry(Who.OPEN),
    "GET /readyz": Entry(Who.OPEN),
    "GET /metrics": Entry(Who.OPEN),
    # --- devices
    "GET /api/devices": Entry(Who.TENANT, lists=True),
    "POST /api/devices": Entry(Who.TENANT, body={"mac": "{target}"}, ok=(201,), alike=0),
    "GET /api/devices/export": Entry(Who.TENANT, lists=True),
    "POST /api/devices/import": Entry(Who.TENANT, query="try_only=true", body=[{"mac": OWN}], ok=(200, 422)),
    "GET /api/devices/{mac}": Entry(Who.TENANT, {"mac": "{target}"}),
    "PATCH /api/devices/{mac}": Entry(Who.TENANT, {"mac": "{target}"}, body={"tags": ["x"]}),
    "DELETE /api/devices/{mac}": Entry(Who.TENANT, {"mac": "{target}"}, ok=(204,), spoils=True),
    "POST /api/devices/{mac}/key": Entry(Who.TENANT, {"mac": "{target}"}, body={"renew": True}, ok=(201,)),
    "DELETE /api/devices/{mac}/key": Entry(Who.TENANT, {"mac": "{target}"}, ok=(204,)),
    "POST /api/devices/{mac}/move": admin(mac=UNKNOWN),
    "GET /api/solutions/{solution}/devices": Entry(Who.TENANT, S, ok=(200, 404), lists=True),
    "GET /api/solutions/{solution}/devices/": Entry(Who.TENANT, S, ok=(200, 404), lists=True),
    "POST /api/solutions/{solution}/devices": Entry(
        Who.TENANT, S, body={"domainInfo": {"nic_macID": "{target}"}}, ok=(201,), alike=0
    ),
    "POST /api/solutions/{solution}/devices/": Entry(
        Who.TENANT, S, body={"domainInfo": {"nic_macID": "{target}"}}, ok=(201,), alike=0
    ),
    "DELETE /api/solutions/{solution}/devices/{id}": Entry(Who.TENANT, S | MINE, spoils=True),
    # --- observations and templates
    "POST /api/solutions/{solution}/devices/{id}/observations": Entry(
        Who.TENANT, S | MINE, body={"observations": [{"tags": ["x"]}]}, ok=(201,)
    ),
    "GET /api/solutions/{solution}/devices/{id}/observations": Entry(Who.TENANT, S | MINE),
    "GET /api/solutions/{solution}/observations": Entry(Who.TENANT, S, lists=True),
    "GET /api/solutions/{solution}/devicetemplates": Entry(Who.TENANT, S, lists=True),
    "POST /api/solutions/{solution}/devicetemplates": Entry(Who.TENANT, S, body={"deviceType": "X"}, ok=(201,)),
    "GET /api/solutions/{solution}/devicetemplates/{id}": Entry(Who.TENANT, S | {"id": "t0"}, ok=(404,)),
    "PUT /api/solutions/{solution}/devicetemplates/{id}": Entry(Who.TENANT, S | {"id": "t1"}, body={}),
    "GET /api/tenants/systemTenant/devicetemplates": Entry(Who.TENANT),
    # --- where notifications are
    "GET /api/deliveries": Entry(Who.TENANT, query="device={target}", alike=200),
    "GET /api/losses": Entry(Who.TENANT, lists=True),
    "GET /api/audit": Entry(Who.TENANT, lists=True),
    "GET /api/events": Entry(Who.TENANT, query="kind=alarm&device={target}"),
    # --- commands
    "POST /api/solutions/{solution}/devices/{id}/commands": Entry(Who.COMMANDER, S | MINE, body=ORDER, ok=(202,)),
    "GET /api/solutions/{solution}/devices/{id}/commands": Entry(Who.TENANT, S | MINE),
    "GET /api/solutions/{solution}/commands": Entry(Who.TENANT, S, lists=True),
    "GET /api/solutions/{solution}/devices/{id}/commands/{command}": Entry(Who.TENANT, S | MINE | {"command": COMMAND}),
    "DELETE /api/solutions/{solution}/devices/{id}/commands/{command}": Entry(
        Who.COMMANDER, S | MINE | {"command": COMMAND}, spoils=True
    ),
    "PUT /api/solutions/{solution}/devices/{id}/commands/{command}/position": Entry(
        Who.COMMANDER, S | MINE | {"command": COMMAND}, body={"position": 0}
    ),
    "GET /api/solutions/{solution}/devices/{id}/commands/{command}/events": Entry(
        Who.TENANT, S | MINE | {"command": COMMAND}
    ),
    "POST /api/solutions/{solution}/command-groups": Entry(
        Who.COMMANDER, S, body={"select": {"devices": ["{target}"]}, "command": ORDER}, ok=(202,)
    ),
    "GET /api/solutions/{solution}/command-groups/{group}": Entry(Who.TENANT, S | {"group": "{target}"}, names="group"),
    "DELETE /api/solutions/{solution}/command-groups/{group}": Entry(
        Who.COMMANDER, S | {"group": "{target}"}, names="group"
    ),
    "GET /api/solutions/{solution}/command-groups/{group}/events": Entry(
        Who.TENANT, S | {"group": "{target}"}, names="group"
    ),
    # --- MQTT messages; the broker, which is away here, judges what a caller may
    "POST /api/messages": Entry(Who.TENANT, query="topic=acme/x", body="x", ok=(503,)),
    "GET /api/messages": Entry(Who.TENANT, query="filter=acme/x", ok=(503,)),
    "GET /api/messages/events": Entry(Who.TENANT, query="filter=acme/x", ok=(503,)),
    "POST /api/consumers": Entry(Who.TENANT, body={"filter": "acme/x"}, ok=(503,)),
    "DELETE /api/consumers/{id}": Entry(Who.TENANT, {"id": "x"}, ok=(404,)),
    "GET /api/consumers/{id}/messages": Entry(Who.TENANT, {"id": "x"}, ok=(404,)),
    "GET /api/consumers/{id}/events": Entry(Who.TENANT, {"id": "x"}, ok=(404,)),
    "POST /api/consumers/{id}/acknowledge": Entry(Who.TENANT, {"id": "x"}, body={}, ok=(404,)),
    # --- for administrators
    "GET /api/status": admin(),
    "GET /api/tenants": admin(),
    "POST /api/tenants": admin(),
    "GET /api/tenants/{id}": admin(id="acme"),
    "PATCH /api/tenants/{id}": admin(id="acme"),
    "DELETE /api/tenants/{id}": admin(id="nobody"),
    "GET /api/clients": admin(),
    "POST /api/clients": admin(),
    "GET /api/clients/{id}": admin(id="nobody"),
    "PATCH /api/clients/{id}": admin(id="nobody"),
    "DELETE /api/clients/{id}": admin(id="nobody"),
    "POST /api/clients/{id}/secret": admin(id="nobody"),
    "GET /api/console-users": admin(),
    "POST /api/console-users": admin(),
    "GET /api/console-users/{name}": admin(name="nobody"),
    "DELETE /api/console-users/{name}": admin(name="nobody"),
    "POST /api/console-users/{name}/password": admin(name="nobody"),
    "GET /api/messaging/instances": admin(),
    "POST /api/messaging/instances": admin(),
    "GET /api/messaging/instances/{name}": admin(name="nowhere"),
    "PATCH /api/messaging/instances/{name}": admin(name="nowhere"),
    "DELETE /api/messaging/instances/{name}": admin(name="nowhere"),
    "GET /api/accounts": admin(),
    "POST /api/accounts": admin(),
    "GET /api/accounts/{id}": admin(id="acme"),
    "PUT /api/accounts/{id}/assignment": admin(id="acme"),
    "DELETE /api/accounts/{id}/assignment": admin(id="nobody"),
    "PUT /api/accounts/{id}/connection-settings": admin(id="acme"),
    "GET /api/accounts/{id}/endpoints": admin(id="acme"),
    "POST /api/accounts/{id}/endpoints": admin(id="acme"),
    "GET /api/endpoints": admin(),
    "GET /api/endpoints/{id}": admin(id="e1"),
    "PATCH /api/endpoints/{id}": admin(id="e1"),
    "DELETE /api/endpoints/{id}": admin(id="e1"),
    "GET /api/endpoints/{id}/publishing": admin(id="e1"),
    "POST /api/endpoints/{id}/check": admin(id="e1"),
    "POST /api/aliases/{name}/test": admin(name="nowhere"),
    "GET /api/packages/{name}/export": admin(name="nothing"),
    "POST /api/packages/import": admin(),
    "GET /api/lab/boards": admin(),
    "GET /api/lab/boards/{mac}": admin(mac=UNKNOWN),
    "PUT /api/lab/boards/{mac}": admin(mac=UNKNOWN),
}
API["POST /api/aliases/export"] = admin()
for plural in ("aliases", "triggers", "packages"):
    API |= {
        f"GET /api/{plural}": admin(),
        f"POST /api/{plural}": admin(),
        f"GET /api/{plural}/{{name}}": admin(name="nothing"),
        f"PATCH /api/{plural}/{{name}}": admin(name="nothing"),
        f"DELETE /api/{plural}/{{name}}": admin(name="nothing"),
        f"POST /api/{plural}/{{name}}/enable": admin(name="nothing"),
        f"POST /api/{plural}/{{name}}/disable": admin(name="nothing"),
    }
for plural in ("truststores", "keystores"):
    API |= {
        f"GET /api/{plural}": admin(),
        f"POST /api/{plural}": admin(),
        f"GET /api/{plural}/{{name}}": admin(name="nothing"),
        f"DELETE /api/{plural}/{{name}}": admin(name="nothing"),
    }


def page_admin(form: Mapping[str, str] | None = None, **at: str) -> Entry:
    """A page, or a form, for administrators."""
    return Entry(Who.PAGE_ADMIN, at, form=form, ok=())


T = {"tenant": "{target}"}
M = {"mac": "{target}"}


def affairs(
    form: Mapping[str, str] | None = None, query: str = "", *, ok: tuple[int, ...] = (200, 404, 409, 503)
) -> Entry:
    """A page about the broker's own affairs, of one tenant; there is no broker here, and the page says so."""
    return Entry(Who.PAGE, query=query, form=form, ok=ok, names="tenant")


PAGES: dict[str, Entry] = {
    "GET /console/static/{tag}/{name}": Entry(Who.PAGE_OPEN, {"tag": "x", "name": "console.css"}),
    "GET /console/setup": Entry(Who.PAGE_OPEN, ok=(303,)),
    "POST /console/setup": Entry(
        Who.PAGE_OPEN, form={"name": "eve", "password": "x" * 12, "again": "x" * 12}, ok=(303,)
    ),
    "GET /console/sign-in": Entry(Who.PAGE_OPEN),
    "POST /console/sign-in": Entry(Who.PAGE_OPEN, form={"name": "ada", "password": "wrong"}, ok=(403, 429)),
    "POST /console/sign-out": Entry(Who.PAGE, form={}, ok=(303,), spoils=True),
    "GET /console": Entry(Who.PAGE_OPEN, ok=(303,)),
    "GET /console/": Entry(Who.PAGE, ok=(200, 303)),
    "GET /console/live": page_admin(),
    "GET /console/start": page_admin(),
    "GET /console/start/live": page_admin(),
    "GET /console/start/ports": page_admin(),
    "POST /console/start/look": page_admin({"port": "nonsense"}),
    "POST /console/start/devices": page_admin({"mac": "x"}),
    "GET /console/mesh": Entry(Who.PAGE, lists=True),
    "GET /console/mesh/live": Entry(Who.PAGE, lists=True),
    "GET /console/network": Entry(Who.PAGE, lists=True),
    "GET /console/network/{mac}": Entry(Who.PAGE, M),
    "GET /console/network/{mac}/frames": Entry(Who.PAGE, M),
    "GET /console/network/{mac}/frames/live": Entry(Who.PAGE, M),
    "GET /console/network/{mac}/commands/live": Entry(Who.PAGE, M),
    "GET /console/network/{mac}/frames.pcapng": Entry(Who.PAGE, M, ok=(404,)),
    "GET /console/network/{mac}/link": Entry(Who.PAGE, M),
    "GET /console/network/{mac}/readings": Entry(Who.PAGE, M),
    "GET /console/network/{mac}/readings.json": Entry(Who.PAGE, M),
    "GET /console/network/{mac}/resources/{whose}": Entry(Who.PAGE, M | {"whose": "nic"}),
    "GET /console/network/{mac}/observe": Entry(Who.PAGE, M, query="path=sys/time"),
    "POST /console/network/{mac}/commands": Entry(
        Who.PAGE, M, form={"method": "GET", "path": "x", "mode": "stored", "ttl": "60"}
    ),
    "POST /console/network/{mac}/commands/{command}/cancel": Entry(
        Who.PAGE, M | {"command": COMMAND}, form={}, ok=(303,), spoils=True
    ),
    "POST /console/network/{mac}/commands/cancel": Entry(Who.PAGE, M, form={}, ok=(303,), spoils=True),
    "GET /console/network/{mac}/software": Entry(Who.PAGE, M),
    "POST /console/network/{mac}/software": Entry(
        Who.PAGE, M, form={"path": "sys/fw", "ttl": "60"}, upload="image", spoils=True
    ),
    "GET /console/explain": Entry(Who.PAGE, query="what={target}", alike=200),
    "GET /console/clients": page_admin(),
    "POST /console/clients": page_admin({"tenant": "/"}),
    "POST /console/clients/remove": page_admin({"id": "nobody"}),
    "GET /console/people": page_admin(),
    "POST /console/people": page_admin({"name": ""}),
    "POST /console/people/remove": page_admin({"name": "nobody"}),
    "GET /console/password": Entry(Who.PAGE),
    "POST /console/password": Entry(Who.PAGE, form={"current": "wrong"}, ok=(422,)),
    "GET /console/messaging": Entry(Who.PAGE, ok=(200, 303)),
    "POST /console/messaging/accounts": page_admin({"id": "/"}),
    "GET /console/messaging/accounts/{id}": page_admin(id="acme"),
    "POST /console/messaging/accounts/{id}/assign": page_admin({"instance": "nowhere"}, id="acme"),
    "POST /console/messaging/accounts/{id}/unassign": page_admin({}, id="nobody"),
    "POST /console/messaging/accounts/{id}/options": page_admin({}, id="nobody"),
    "POST /console/messaging/accounts/{id}/endpoints": page_admin({}, id="nobody"),
    "POST /console/messaging/accounts/{id}/endpoints/{endpoint}": page_admin({}, id="acme", endpoint="e1"),
    "POST /console/messaging/accounts/{id}/endpoints/{endpoint}/remove": page_admin({}, id="acme", endpoint="e1"),
    "POST /console/messaging/accounts/{id}/endpoints/{endpoint}/check": page_admin({}, id="acme", endpoint="e1"),
    "GET /console/messaging/addresses": affairs(query="tenant={target}"),
    "POST /console/messaging/addresses": affairs(T | {"name": "a", "type": "queue"}),
    "GET /console/messaging/address": affairs(query="name=a&tenant={target}"),
    "POST /console/messaging/address": affairs(T | {"name": "a"}),
    "POST /console/messaging/address/remove": affairs(T | {"name": "a"}),
    "GET /console/messaging/connections": affairs(query="tenant={target}"),
    "POST /console/messaging/connections/kick": affairs(T | {"client": "x", "login": "y"}),
    "GET /console/messaging/topics": affairs(query="tenant={target}"),
    "GET /console/messaging/client": affairs(query="tenant={target}"),
    "POST /console/messaging/client/token": affairs(T | {"role": "x"}, ok=(200, 404, 409, 422, 503)),
    "GET /console/{rest:path}": Entry(Who.PAGE, {"rest:path": "nowhere"}, ok=(404,)),
    "GET /console/aliases": page_admin(),
    "POST /console/aliases": page_admin({}),
    "POST /console/aliases/{name}/enable": page_admin({}, name="nothing"),
    "POST /console/aliases/{name}/disable": page_admin({}, name="nothing"),
    "POST /console/aliases/{name}/remove": page_admin({}, name="nothing"),
    "POST /console/aliases/{name}/test": page_admin({}, name="nothing"),
}
