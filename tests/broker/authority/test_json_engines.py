"""EMQX, VerneMQ and mosquitto-go-auth: requests after their documentation, and the answers it asks for."""

import json
from typing import Any

import pytest

from broker.authority.emqx import EmqxHooks
from broker.authority.go_auth import GoAuthHooks
from broker.authority.http import Request, Response
from broker.authority.vernemq import HOOK_HEADER, VerneHooks

READS, FOREIGN = "acme/read/#", "globex/read/#"
REQUEST_TOPIC = "acme/cmd/001350050047dd92/req/1"
TOKEN = "token:acme:BUBBLE_UP_READ_CONSUMER:2000.9"


def body(value: object, **headers: str) -> Request:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Request("POST", "/", named, json.dumps(value).encode())


def read(response: Response) -> Any:
    assert response.content_type == "application/json"
    return json.loads(response.body)


class TestEmqx:
    async def test_a_token_gets_its_list_of_rights_and_its_end(self, bench: Any) -> None:
        fields = {"username": "notused", "password": TOKEN, "clientid": "c1", "peerhost": "10.0.0.1"}
        response = await EmqxHooks(bench.admissions).answer("authn", body(fields))
        assert (response.status, read(response)) == (
            200,
            {
                "result": "allow",
                "is_superuser": False,
                "client_attrs": {"tenant": "acme"},
                "acl": [
                    {"permission": "allow", "action": "subscribe", "topic": READS},
                    {"permission": "allow", "action": "subscribe", "topic": "acme/decoded/#"},
                    {"permission": "deny", "action": "all", "topic": "#"},
                ],
                "expire_at": 2000,
            },
        )

    async def test_a_password_has_no_end(self, bench: Any) -> None:
        fields = {"username": "alice", "password": "a", "clientid": "c1"}
        answer = read(await EmqxHooks(bench.admissions).answer("authn", body(fields)))
        assert "expire_at" not in answer
        assert {"permission": "allow", "action": "publish", "topic": "acme/cmd/+/req/+"} in answer["acl"]

    @pytest.mark.parametrize(
        "change", [{"password": "x"}, {"clientid": ""}, {"clientid": None}, {"username": 7}, {"password": None}]
    )
    async def test_a_denial_is_said_with_200(self, bench: Any, change: dict[str, object]) -> None:
        fields = {"username": "alice", "password": "a", "clientid": "c1"} | change
        response = await EmqxHooks(bench.admissions).answer("authn", body(fields))
        assert (response.status, read(response)) == (200, {"result": "deny"})

    @pytest.mark.parametrize(
        ("action", "topic", "result"),
        [
            ("subscribe", READS, "allow"),
            ("subscribe", f"$share/g/{READS}", "allow"),
            ("subscribe", FOREIGN, "deny"),
            ("subscribe", "#", "deny"),
            ("publish", REQUEST_TOPIC, "allow"),
            ("publish", READS, "deny"),
            ("all", REQUEST_TOPIC, "deny"),
            ("", REQUEST_TOPIC, "deny"),
        ],
    )
    async def test_earlier_releases_ask_for_each_topic(self, bench: Any, action: str, topic: str, result: str) -> None:
        hooks = EmqxHooks(bench.admissions)
        await hooks.answer("authn", body({"username": "alice", "password": "a", "clientid": "c1"}))
        question = {"username": "alice", "clientid": "c1", "action": action, "topic": topic}
        assert read(await hooks.answer("authz", body(question))) == {"result": result}
        assert read(await hooks.answer("other", body(question))) == {"result": "deny"}


class TestVerneMQ:
    REGISTER = {  # noqa: RUF012
        "peer_addr": "127.0.0.1",
        "peer_port": 8888,
        "username": "alice",
        "password": "a",
        "mountpoint": "",
        "client_id": "c1",
    }

    async def ask(self, bench: Any, hook: str, fields: object) -> Any:
        response = await VerneHooks(bench.admissions).answer(body(fields, **{HOOK_HEADER: hook}))
        assert response.status == 200
        return read(response)

    @pytest.mark.parametrize("suffix", ["", "_m5"])
    async def test_register_publish_and_subscribe(self, bench: Any, suffix: str) -> None:
        ok, denied = {"result": "ok"}, {"result": {"error": "not_allowed"}}
        register = self.REGISTER | ({"clean_start": True, "properties": {}} if suffix else {"clean_session": False})
        assert await self.ask(bench, f"auth_on_register{suffix}", register) == ok
        assert await self.ask(bench, f"auth_on_register{suffix}", register | {"password": "b"}) == denied
        publish = {
            "username": "alice",
            "client_id": "c1",
            "mountpoint": "",
            "qos": 1,
            "topic": REQUEST_TOPIC,
            "retain": False,
        }
        assert await self.ask(bench, f"auth_on_publish{suffix}", publish) == ok
        assert await self.ask(bench, f"auth_on_publish{suffix}", publish | {"topic": "globex/read/x/y"}) == denied
        assert await self.ask(bench, f"auth_on_publish{suffix}", publish | {"client_id": "c9"}) == denied
        topics = [{"topic": READS, "qos": 1}, {"topic": FOREIGN, "qos": 2}]
        subscribe = {"username": "alice", "client_id": "c1", "mountpoint": "", "topics": topics}
        judged = [{"topic": READS, "qos": 1}, {"topic": FOREIGN, "qos": 135 if suffix else 128}]
        answer = {"result": "ok"} | ({"modifiers": {"topics": judged}} if suffix else {"topics": judged})
        assert await self.ask(bench, f"auth_on_subscribe{suffix}", subscribe) == answer

    @pytest.mark.parametrize("topics", [None, [], "acme/read/#", [READS], [{"topic": 1, "qos": 1}], [{"topic": READS}]])
    async def test_a_subscribe_without_readable_topics_is_denied(self, bench: Any, topics: object) -> None:
        await self.ask(bench, "auth_on_register", self.REGISTER)
        fields = {"username": "alice", "client_id": "c1", "topics": topics}
        assert await self.ask(bench, "auth_on_subscribe", fields) == {"result": {"error": "not_allowed"}}

    @pytest.mark.parametrize("hook", ["", "on_register", "auth_on_unsubscribe", "auth_on_register_m6"])
    async def test_other_hooks_are_denied(self, bench: Any, hook: str) -> None:
        assert await self.ask(bench, hook, self.REGISTER) == {"result": {"error": "not_allowed"}}


class TestGoAuth:
    async def ask(self, bench: Any, question: str, fields: dict[str, object]) -> int:
        response = await GoAuthHooks(bench.admissions).answer(question, body(fields))
        assert read(response) == {"ok": response.status == 200, "error": "" if response.status == 200 else "denied"}
        return response.status

    async def test_a_user_and_its_topics(self, bench: Any) -> None:
        user = {"username": "alice", "password": "a", "clientid": "c1"}
        assert await self.ask(bench, "user", user) == 200
        assert await self.ask(bench, "user", user | {"password": "b"}) == 403
        assert await self.ask(bench, "superuser", {"username": "alice"}) == 403
        acl: dict[str, object] = {"username": "alice", "clientid": "c1"}
        table = [
            (1, "acme/read/x/y", 200),
            (1, "globex/read/x/y", 403),
            (2, REQUEST_TOPIC, 200),
            (2, "acme/read/x/y", 403),
            (3, REQUEST_TOPIC, 403),
            (4, READS, 200),
            (4, "#", 403),
            (5, READS, 403),
            ("", READS, 403),
        ]
        for access, topic, status in table:
            assert await self.ask(bench, "acl", acl | {"acc": access, "topic": topic}) == status, (access, topic)
        assert await self.ask(bench, "acl", acl | {"acc": 4, "topic": READS, "clientid": "c2"}) == 403

    async def test_the_fields_may_come_as_a_form(self, bench: Any) -> None:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        form = b"username=alice&password=a&clientid=c1"
        assert (await GoAuthHooks(bench.admissions).answer("user", Request("POST", "/", headers, form))).status == 200
