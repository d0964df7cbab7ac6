"""Request format of VerneMQ's webhooks, 3.1.1 and `_m5` (verified against documentation).

The hook's name is in the header `vernemq-hook`; the answer is always status 200 with a `result`. A SUBSCRIBE gets the
verdict for each filter: 128 (3.1.1) or 135 (5.0) in the place of the QoS.
"""

from collections.abc import Iterable
from typing import Final

from broker.authority.admissions import Admissions, Admitted
from broker.authority.fields import JsonObject, json_response, object_of, text
from broker.authority.http import Request, Response

__all__ = ["DENY", "HOOK_HEADER", "VerneHooks"]

ENGINE: Final = "vernemq"
HOOK_HEADER: Final = "vernemq-hook"
OK: Final = json_response({"result": "ok"})
DENY: Final = json_response({"result": {"error": "not_allowed"}})
REFUSED_V3: Final = 0x80
REFUSED_V5: Final = 0x87


class VerneHooks:
    """`auth_on_register`, `auth_on_publish`, `auth_on_subscribe`, each with and without `_m5`.

    Args:
        admissions: judges.
    """

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions

    async def answer(self, request: Request) -> Response:
        """Any other hook is denied."""
        name = request.headers.get(HOOK_HEADER, "")
        fields = object_of(request)
        match name.removesuffix("_m5"):
            case "auth_on_register":
                return await self._register(fields)
            case "auth_on_publish":
                return self._publish(fields)
            case "auth_on_subscribe":
                return self._subscribe(fields, is_v5=name.endswith("_m5"))
        return DENY

    async def _register(self, fields: JsonObject) -> Response:
        client_id = text(fields, "client_id")
        admitted = await self._admissions.admit(ENGINE, client_id, text(fields, "username"), text(fields, "password"))
        return OK if isinstance(admitted, Admitted) else DENY

    def _publish(self, fields: JsonObject) -> Response:
        rights = self._admissions.rights(ENGINE, text(fields, "client_id"), text(fields, "username"))
        return OK if rights.may_publish(text(fields, "topic")) else DENY

    def _subscribe(self, fields: JsonObject, *, is_v5: bool) -> Response:
        rights = self._admissions.rights(ENGINE, text(fields, "client_id"), text(fields, "username"))
        refused = REFUSED_V5 if is_v5 else REFUSED_V3
        topics = [
            {"topic": topic, "qos": qos if rights.may_subscribe(topic) else refused}
            for topic, qos in _wanted(fields.get("topics"))
        ]
        if not topics:
            return DENY
        return json_response({"result": "ok"} | ({"modifiers": {"topics": topics}} if is_v5 else {"topics": topics}))


def _wanted(topics: object) -> Iterable[tuple[str, int]]:
    for item in topics if isinstance(topics, list) else ():
        if isinstance(item, dict) and isinstance(item.get("topic"), str) and isinstance(item.get("qos"), int):
            yield item["topic"], item["qos"]
