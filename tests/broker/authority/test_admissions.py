"""Who is let in to a foreign engine, whose client id it is, and what ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from broker.accounts import Accounts
from broker.adapters.takeover import ENDER
from broker.authority.admissions import Admitted, Denial, Denied
from broker.authority.settings import ClientIdRule
from broker.policy import NOTHING
from broker.role_table import RoleTable
from meshwire.identity import TenantId

TOKEN = "token:acme:BUBBLE_UP_READ_CONSUMER:2000"
READS = "acme/read/#"


async def admit(bench: Any, client_id: str, username: str, password: str, engine: str = "rabbitmq") -> Any:
    return await bench.admissions.admit(engine, client_id, username, password)


async def test_a_password_and_a_token_are_let_in_with_their_rights(bench: Any) -> None:
    assert isinstance(await admit(bench, "c1", "alice", "a"), Admitted)
    assert isinstance(await admit(bench, "c2", "notused", TOKEN), Admitted)
    assert bench.admissions.rights("rabbitmq", "c1", "alice").may_subscribe(READS)
    assert bench.admissions.rights("rabbitmq", "c2", "notused").may_subscribe(READS)
    assert not bench.admissions.rights("rabbitmq", "c2", "notused").may_subscribe("globex/read/#")


@pytest.mark.parametrize(
    ("client_id", "username", "password", "cause"),
    [
        ("c1", "alice", "wrong", Denial.CREDENTIALS),
        ("c1", "nobody", "a", Denial.CREDENTIALS),
        ("c1", "alice", "", Denial.CREDENTIALS),
        ("", "alice", "a", Denial.NO_CLIENT_ID),
        ("c1", ENDER, "wrong", Denial.CREDENTIALS),
        ("c1", ENDER, TOKEN, Denial.CREDENTIALS),
    ],
)
async def test_others_are_denied(bench: Any, client_id: str, username: str, password: str, cause: Denial) -> None:
    denied = await admit(bench, client_id, username, password)
    assert isinstance(denied, Denied)
    assert denied.cause is cause
    assert bench.admissions.rights("rabbitmq", client_id, username) == NOTHING


async def test_a_token_under_the_gateways_name_gets_no_rights_of_the_gateway(bench: Any) -> None:
    await admit(bench, "gw-1", "gateway", "gw")
    await admit(bench, "evil", "gateway", TOKEN)
    assert not bench.admissions.rights("rabbitmq", "evil", "gateway").may_publish("acme/read/x/y")
    assert bench.admissions.rights("rabbitmq", "gw-1", "gateway").may_publish("acme/read/x/y")


async def test_the_gateways_client_id_is_not_given_to_a_token_of_the_gateways_tenant(bench: Any) -> None:
    await admit(bench, "gw-1", "gateway", "gw")
    denied = await admit(bench, "gw-1", "gateway", "token:ssni:ADMIN:2000")
    assert isinstance(denied, Denied)
    assert denied.cause is Denial.CLIENT_ID_TAKEN


async def test_another_tenants_client_id_is_denied_also_after_a_restart(make: Any) -> None:
    bench = make()
    await admit(bench, "c1", "bob", "b")
    bench.client_ids.close()
    again = make()
    denied = await admit(again, "c1", "alice", "a")
    assert isinstance(denied, Denied)
    assert denied.cause is Denial.CLIENT_ID_TAKEN
    assert isinstance(await admit(again, "c1", "alice", "a", engine="emqx"), Admitted)
    assert isinstance(await admit(again, "c1", "bob", "b"), Admitted)


@pytest.mark.parametrize(
    ("client_id", "is_own"),
    [
        ("acme", True),
        ("acme:app", True),
        ("acme.app", True),
        ("acme/app", True),
        ("acme-app", False),
        ("acmeapp", False),
        ("globex:app", False),
        (":acme", False),
    ],
)
async def test_with_the_prefix_rule_a_client_id_begins_with_its_tenant(make: Any, client_id: str, is_own: bool) -> None:
    bench = make(ClientIdRule.PREFIX)
    assert isinstance(await admit(bench, client_id, "alice", "a"), Admitted) is is_own


async def test_unknown_clients_and_other_user_names_have_no_rights(bench: Any) -> None:
    await admit(bench, "c1", "alice", "a")
    assert bench.admissions.rights("rabbitmq", "c2", "alice") == NOTHING
    assert bench.admissions.rights("rabbitmq", "c1", "gateway") == NOTHING
    assert bench.admissions.rights("emqx", "c1", "alice") == NOTHING
    assert not bench.admissions.may_use("rabbitmq", "c2", "alice")


async def test_rights_end_with_the_token_and_the_connection_is_ended_but_not_its_session(bench: Any) -> None:
    await admit(bench, "c2", "notused", TOKEN)
    bench.clock[0] = 1_999.0
    await bench.admissions.sweep()
    assert bench.ended.calls == []
    bench.clock[0] = 2_000.0
    assert bench.admissions.rights("rabbitmq", "c2", "notused") == NOTHING
    await bench.admissions.sweep()
    assert bench.ended.calls == [("c2", False)]
    await bench.admissions.sweep()
    assert len(bench.ended.calls) == 1


@pytest.mark.parametrize("change", ["role taken", "removed", "new password"])
async def test_a_changed_user_has_no_rights_until_the_next_login_and_its_session_ends(bench: Any, change: str) -> None:
    await admit(bench, "c1", "alice", "a")
    if change == "removed":
        bench.users.remove("alice")
    else:
        roles = () if change == "role taken" else ("BUBBLE_UP_READ_CONSUMER", "COMMAND_CLIENT")
        bench.users.add("alice", "new", tenant=TenantId("acme"), roles=roles)
    assert bench.admissions.rights("rabbitmq", "c1", "alice") == NOTHING
    await bench.admissions.sweep()
    assert bench.ended.calls == [("c1", True)]


async def test_what_could_not_be_ended_is_tried_again_and_bars_the_next_login(bench: Any) -> None:
    await admit(bench, "c1", "alice", "a")
    bench.users.add("alice", "a", tenant=TenantId("acme"), roles=("COMMAND_CLIENT",))
    bench.ended.fails = True
    await bench.admissions.sweep()
    denied = await admit(bench, "c1", "alice", "a")
    assert isinstance(denied, Denied)
    assert denied.cause is Denial.NOT_ENDED
    bench.ended.fails = False
    await bench.admissions.sweep()
    assert bench.ended.calls == [("c1", True)]
    assert isinstance(await admit(bench, "c1", "alice", "a"), Admitted)


async def test_who_comes_back_with_fewer_rights_finds_no_session(bench: Any) -> None:
    await admit(bench, "c2", "n", "token:acme:BUBBLE_UP_READ_CONSUMER,COMMAND_CLIENT:2000")
    await admit(bench, "c2", "n", "token:acme:BUBBLE_UP_READ_CONSUMER,COMMAND_CLIENT,PRESENCE_CONSUMER:2000")
    assert bench.ended.calls == []
    await admit(bench, "c2", "n", "token:acme:COMMAND_CLIENT:2000")
    assert bench.ended.calls == [("c2", True)]


@pytest.mark.parametrize(
    ("rule", "calls"),
    [
        ({"subscribe": ("{tenantId}/a/#", "{tenantId}/b"), "publish": ("{tenantId}/p",)}, []),
        ({"subscribe": ("{tenantId}/b",), "publish": ("{tenantId}/p",)}, [("c1", True)]),
        ({"subscribe": ("{tenantId}/a/#",), "publish": ("{tenantId}/p/q",)}, [("c1", False)]),
        (None, [("c1", True)]),
    ],
)
async def test_a_changed_role_holds_for_who_is_connected(
    bench: Any, tmp_path: Path, rule: dict[str, Any] | None, calls: list[tuple[str, bool]]
) -> None:
    elsewhere = RoleTable(tmp_path / "roles.json")
    elsewhere.add("OWN", subscribe=("{tenantId}/a/#",), publish=("{tenantId}/p",))
    bench.users.add("carol", "c", tenant=TenantId("acme"), roles=("OWN",))
    await bench.admissions.sweep()
    await admit(bench, "c1", "carol", "c")
    if rule is None:
        elsewhere.remove("OWN")
    else:
        elsewhere.add("OWN", **rule)
    await bench.admissions.sweep()
    assert bench.ended.calls == calls
    assert bench.admissions.rights("rabbitmq", "c1", "carol").may_subscribe("acme/b") is (not calls)


async def test_a_tenant_with_too_many_client_ids_loses_its_oldest_with_the_session(make: Any) -> None:
    bench = make(most=2)
    await admit(bench, "b1", "bob", "b")
    for number in range(3):
        bench.clock[0] += 1
        await admit(bench, f"a{number}", "alice", "a")
    await bench.admissions.sweep()
    assert bench.ended.calls == [("a0", True)]
    assert isinstance(await admit(bench, "a0", "bob", "b"), Admitted)
    assert isinstance(await admit(bench, "b1", "alice", "a"), Denied)


async def test_the_sessions_ender_may_take_any_client_id_and_nothing_else(bench: Any) -> None:
    await admit(bench, "c1", "bob", "b")
    assert isinstance(await admit(bench, "c1", ENDER, "ender-secret"), Admitted)
    assert bench.admissions.may_use("rabbitmq", "c1", ENDER)
    assert bench.admissions.rights("rabbitmq", "c1", ENDER) == NOTHING
    assert bench.admissions.rights("rabbitmq", "c1", "bob").may_subscribe("globex/read/#")


async def test_without_a_secret_there_is_no_ender(make: Any) -> None:
    bench = make(ender_secret="")
    assert isinstance(await admit(bench, "c1", ENDER, ""), Denied)
    assert not bench.admissions.may_use("rabbitmq", "c1", ENDER)


async def test_accounts_of_other_instances_are_denied_and_cut(make: Any, tmp_path: Path) -> None:
    def publish(instance: str | None) -> None:
        tree = {"acme": {"instance": instance, "options": []}}
        (tmp_path / "draft").write_text(json.dumps({"schema_version": 1, "accounts": tree}))
        (tmp_path / "draft").replace(tmp_path / "accounts.json")

    publish("rabbit")
    bench = make(accounts=Accounts(tmp_path / "accounts.json", "rabbit"))
    assert isinstance(await admit(bench, "c1", "alice", "a"), Admitted)
    assert isinstance(await admit(bench, "gw-1", "gateway", "gw"), Admitted), "the platform's own user"
    denied = await admit(bench, "c2", "bob", "b")
    assert isinstance(denied, Denied) and denied.cause is Denial.ACCOUNT
    assert denied.detail == "account globex is not assigned to a messaging service instance"
    publish(None)
    await bench.admissions.sweep()
    assert bench.ended.calls == [("c1", False)]
    assert bench.admissions.rights("rabbitmq", "c1", "alice") == NOTHING
    denied = await admit(bench, "c1", "alice", "a")
    assert isinstance(denied, Denied) and denied.cause is Denial.ACCOUNT
    assert bench.admissions.rights("rabbitmq", "gw-1", "gateway").may_publish("acme/read/x/y")
