"""The AsyncAPI document: valid by the official schema, in step with builders, models and roles."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from broker.policy import BUILT_IN_ROLES, permissions_of
from gateway.asyncapi import BrokerAddress, asyncapi_document
from gateway.asyncapi.channels import CHANNELS
from gateway.asyncapi.payloads import MESSAGES
from meshwire.identity import INTERNAL_TENANT, LoginKind, Principal, Role, TenantId
from meshwire.topics import Branch

OFFICIAL = Path(__file__).parents[2] / "vectors" / "asyncapi-3.0.0.json.gz"
"""`schemas/3.0.0-without-$id.json` of npm's @asyncapi/specs 6.11.1 (Apache-2.0), without white space."""
DOCUMENT = asyncapi_document(BrokerAddress("127.0.0.1", 1883))
VALUES = {"tenant": "acme", "mac": "0123456789abcdef", "command": "my-1"}


def sample(address: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: VALUES.get(match[1], "x"), address)


@pytest.fixture(scope="module")
def official() -> Any:
    return jsonschema_rs.validator_for(json.loads(gzip.decompress(OFFICIAL.read_bytes())))


def test_the_document_is_valid_by_the_official_schema(official: Any) -> None:
    official.validate(DOCUMENT)
    assert not official.is_valid(DOCUMENT | {"channels": {"x": {"nonsense": 1}}}), "the schema judges"


def test_what_is_referred_to_exists() -> None:
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT))
    assert len(references) > 40
    for reference in references:
        place: Any = DOCUMENT
        for part in reference.split("/"):
            place = place[part]


def test_nothing_is_described_that_no_channel_has() -> None:
    assert {name for channel in CHANNELS.values() for name in channel.messages} == set(MESSAGES)
    parameters = {name for channel in CHANNELS.values() for name in re.findall(r"\{(\w+)\}", channel.address)}
    assert parameters == set(DOCUMENT["components"]["parameters"])


def test_every_branch_of_the_scheme_has_a_channel() -> None:
    assert set(Branch) <= {channel.address.split("/")[1] for channel in CHANNELS.values()}


def test_payload_schemas_are_schemas() -> None:
    for kind in MESSAGES.values():
        for schema in filter(None, (kind.payload, kind.headers)):
            jsonschema_rs.meta.validate(schema)


def party(role: Role, tenant: TenantId) -> Principal:
    rule = BUILT_IN_ROLES[role]
    return Principal("x", tenant, frozenset({role}), LoginKind.PASSWORD if rule.password_only else LoginKind.TOKEN)


@pytest.mark.parametrize("name", DOCUMENT["operations"])
def test_the_roles_that_are_named_and_no_others_of_a_tenant_may(name: str) -> None:
    operation = DOCUMENT["operations"][name]
    channel = DOCUMENT["channels"][operation["channel"]["$ref"].rsplit("/", 1)[-1]]
    topic = sample(channel["address"])
    tenant = INTERNAL_TENANT if topic.startswith(f"{INTERNAL_TENANT}/") else TenantId("acme")
    for role in Role:
        if role is Role.ADMIN and not topic.startswith("$"):
            continue  # may all, and is named where nobody else may
        permissions = permissions_of(party(role, tenant))
        may = permissions.may_receive(topic) if operation["action"] == "send" else permissions.may_publish(topic)
        is_ours = role is Role.GATEWAY and may  # the site's own side of commands
        assert may == (role.value in operation["x-roles"]) or is_ours, (role, topic)
