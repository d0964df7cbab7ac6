"""The generated files: they are the examples under `deploy/`, and they say what the policy says."""

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.adapters.__main__ import app
from broker.adapters.generation import GENERATORS, example_facts, generate
from broker.adapters.mosquitto.dynsec import MosquittoUser, dynsec_document, role_record
from broker.addresses.address import Address
from broker.addresses.book import AddressBook
from broker.authority.vernemq import HOOK_HEADER
from broker.policy import BUILT_IN_ROLES, RoleRule
from meshwire.identity import LoginKind, TenantId

DEPLOY = Path(__file__).parents[3] / "deploy"
ACME = TenantId("acme")


@pytest.mark.parametrize("engine", GENERATORS)
def test_the_examples_are_what_the_generator_makes(engine: str) -> None:
    for name, text in generate(engine, example_facts()).items():
        assert (DEPLOY / engine / name).read_text() == text, f"deploy/{engine}/{name}"


@pytest.mark.parametrize("engine", ["emqx", "vernemq", "hivemq", "mosquitto-go-auth"])
def test_what_was_not_run_says_so(engine: str) -> None:
    for text in generate(engine, example_facts()).values():
        assert "verified against documentation" in text


def test_a_role_becomes_one_role_for_each_tenant_and_the_rest_is_denied() -> None:
    users = [MosquittoUser(f"u{n}", "p", TenantId(t), ("COMMAND_CLIENT",)) for n, t in enumerate(("acme", "b", "acme"))]
    document = json.loads(dynsec_document(users, ("control", "c")))
    assert {role["rolename"] for role in document["roles"]} == {
        "dynamic-security-control",
        "COMMAND_CLIENT@acme",
        "COMMAND_CLIENT@b",
    }
    assert document["defaultACLAccess"] == {
        "publishClientSend": False,
        "publishClientReceive": False,
        "subscribe": False,
        "unsubscribe": True,
    }
    assert all(acl["allow"] for role in document["roles"] for acl in role["acls"])


def test_a_tenants_user_is_bound_to_its_name_as_client_id_and_an_internal_one_is_not() -> None:
    users = [MosquittoUser("alice", "p", ACME, ("COMMAND_CLIENT",)), MosquittoUser("gateway", "p", roles=("GATEWAY",))]
    by_name = {one["username"]: one for one in json.loads(dynsec_document(users, ("control", "c")))["clients"]}
    assert by_name["alice"]["clientid"] == "alice"
    assert "clientid" not in by_name["gateway"]


def test_unknown_roles_and_a_tokens_password_roles_grant_nothing() -> None:
    assert role_record("NOBODY", ACME) is None
    assert role_record("ADMIN", ACME, LoginKind.TOKEN) is None
    assert role_record("ADMIN", ACME) is not None
    token_user = MosquittoUser("acme:x", "p", ACME, ("ADMIN", "GATEWAY"), LoginKind.TOKEN)
    document = json.loads(dynsec_document([token_user], ("control", "c")))
    assert document["clients"][1]["roles"] == []


def test_the_rules_are_the_policys() -> None:
    record = role_record(
        "X", ACME, rules={"X": RoleRule(subscribe=("{tenantId}/a/#", "$SYS/#"), publish=("{tenantId}/b",))}
    )
    assert record is not None
    assert [(acl["acltype"], acl["topic"]) for acl in record["acls"]] == [  # type: ignore[attr-defined]
        ("publishClientSend", "acme/b"),
        ("publishClientReceive", "acme/a/#"),
        ("publishClientReceive", "$SYS/#"),
        ("subscribePattern", "acme/a/#"),
        ("subscribePattern", "$SYS/#"),
        ("subscribePattern", "$share/+/acme/a/#"),
    ]
    for role in BUILT_IN_ROLES:
        assert role_record(role, ACME) is not None


def test_passwords_are_pbkdf2_of_64_octets() -> None:
    document = json.loads(dynsec_document([MosquittoUser("a", "secret", ACME)], ("c", "c"), new_salt=lambda: b"salt"))
    user = document["clients"][1]
    expected = hashlib.pbkdf2_hmac("sha512", b"secret", b"salt", user["iterations"])
    assert base64.b64decode(user["password"]) == expected
    assert base64.b64decode(user["salt"]) == b"salt"


def test_hivemqs_file_is_well_formed_and_names_its_escaped_users() -> None:
    facts = example_facts()
    root = ElementTree.fromstring(generate("hivemq", facts)["credentials.xml"].encode())
    assert [name.text for name in root.findall("./users/user/name")] == [user.name for user in facts.users]
    roles = {role.findtext("id") for role in root.findall("./roles/role")}
    assert {identity.text for identity in root.findall("./users/user/roles/id")} <= roles


def test_vernemq_registers_both_families_of_hooks() -> None:
    text = generate("vernemq", example_facts())["vernemq.conf"]
    hooks = re.findall(r"\.hook = (\S+)", text)
    assert sorted(hooks) == sorted(
        f"auth_on_{what}{suffix}" for what in ("register", "publish", "subscribe") for suffix in ("", "_m5")
    )
    assert HOOK_HEADER == "vernemq-hook"


def test_the_command_writes_files_that_only_the_owner_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "state"))
    for engine in GENERATORS:
        done = CliRunner().invoke(app, ["generate", engine, "--directory", str(tmp_path / engine)])
        assert done.exit_code == 0, done.output
        for line in done.output.splitlines():
            assert Path(line).stat().st_mode & 0o777 == 0o600


def test_amqp_comes_with_the_queues_of_the_sites_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHWIRE_STATE", str(tmp_path / "state"))
    book = AddressBook(tmp_path / "state" / "broker" / "addresses.json")
    book.put(Address.model_validate({"tenant": "acme", "name": "orders", "type": "queue"}))
    for arguments, there in (((), False), (("--amqp",), True)):
        done = CliRunner().invoke(app, ["generate", "rabbitmq", "--directory", str(tmp_path / "files"), *arguments])
        assert done.exit_code == 0, done.output
        texts = {name: (tmp_path / "files" / name).read_text() for name in ("rabbitmq.conf", "enabled_plugins")}
        assert ("rabbitmq_amqp1_0" in texts["enabled_plugins"]) is there
        assert ("listeners.tcp.default = 0.0.0.0:5672" in texts["rabbitmq.conf"]) is there
        assert ("auth_mechanisms.1 = PLAIN" in texts["rabbitmq.conf"]) is there
        made = json.loads((tmp_path / "files" / "definitions.json").read_text())
        assert [queue["name"] for queue in made.get("queues", [])] == ["acme.address.orders"] * there


def test_the_table_is_shown_for_people_and_for_programs() -> None:
    done = CliRunner().invoke(app, ["show", "--json", "--engine", "rabbitmq-3.10"])
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert {
        name: value
        for name, value in rows[[row["feature"] for row in rows].index("QoS 2")].items()
        if name in rows[0] and name not in ("how", "source")
    } == {"engine": "rabbitmq-3.10", "feature": "QoS 2", "can": False}
    assert "shared" in CliRunner().invoke(app, ["show", "--engine", "embedded"]).output
